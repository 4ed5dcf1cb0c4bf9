"""Environments at real far sides: made, shared, swapped, removed; and what goes wrong."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet import xdeploy
from pycomnet.test.disks import small_disk
from pycomnet.test.needs import missing, needs
from pycomnet.test.processes import still_there, versioned_python
from pycomnet.test.system.nearby import PATIENCE, near
from pycomnet.test.xdeploy.packages import project, sdist, wheel
from pycomnet.xdeploy.farcode import ask
from pycomnet.xdeploy.interpreter import own_interpreter
from pycomnet.xdeploy.plan import PackageIndex
from pycomnet.xdeploy.requirements import Requirements
from pycomnet.xdeploy.resolve import Resolver
from pycomnet.xdeploy.wheelcache import WheelCache

#: Seconds for what has pip, or Java, run on a busy machine.
LONG = 3 * PATIENCE
#: Programs that make environments, and print what they see as JSON.
BLOCKING = str(Path(__file__).with_name("venv_blocking.py"))
CREATOR = str(Path(__file__).with_name("venv_creator.py"))


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[Any]:
    """A group."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor, output=lambda output: None)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and a pip that asks nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)


class Place:
    """Where a test's packages and environments are.

    :ivar index: a directory of wheels and sdists.
    :ivar root: the far side's directory.
    """

    def __init__(self, path: Path) -> None:
        self.index = path / "index"
        self.root = path / "root"
        self.index.mkdir()
        self.steps: list[xdeploy.VenvProgress] = []

    def options(self, **changes: Any) -> dict[str, Any]:
        """The options of most tests."""
        return {
            "index": self.index,
            "directory": str(self.root),
            "progress": self.steps.append,
            **changes,
        }

    @property
    def stages(self) -> list[str]:
        """What was reported, each stage once."""
        return list(dict.fromkeys(step.stage for step in self.steps))

    def environments(self) -> list[str]:
        """The environments that are there."""
        return sorted(os.listdir(self.root / "environments"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An index with ``alpha``, which needs ``beta`` and has a script."""
    made = Place(tmp_path)
    wheel(
        made.index,
        "alpha",
        files={"alpha.py": "import sys, beta\ndef main():\n    print(sys.prefix)\n"},
        requires=("beta>=1",),
        entry_points="[console_scripts]\nalpha = alpha:main\n",
    )
    wheel(made.index, "beta")
    wheel(made.index, "beta", "2.0")
    return made


def describe() -> list[str]:
    """What far code sees of its environment."""
    import os
    import subprocess
    import sys

    import alpha  # type: ignore[import-not-found]

    said = subprocess.check_output(["alpha"], universal_newlines=True)
    return [sys.prefix, os.getcwd(), os.path.dirname(alpha.__file__), said.strip()]


async def failure(coroutine: Any, kind: type[xdeploy.DeploymentFailed]) -> Any:
    """The error that this ends with."""
    with pytest.raises(kind) as caught:
        await coroutine
    return caught.value


@pytest_twisted.ensureDeferred
async def test_gateway_in_an_environment(place: Place, group: Any) -> None:
    """The gateway's Python, directory, scripts and imports are the environment's."""
    gateway = await group.makegateway("popen")
    inside = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **place.options())
    prefix, directory, imported, said = await inside.call(describe)
    assert prefix == directory == said
    assert prefix.startswith(str(place.root))
    assert imported.startswith(prefix)
    assert inside.group is group
    assert place.stages == ["resolve", "send", "compile", "install", "ready"]


@pytest_twisted.ensureDeferred
async def test_asks_no_index_again(place: Place, group: Any) -> None:
    """An environment that is there needs no index; the order of requirements does not matter."""
    gateway = await group.makegateway("popen")
    options = place.options()
    first = await xdeploy.create_venv(gateway, "work", "alpha\nbeta==1.0", **options)
    place.index.rename(place.index.with_name("gone"))
    place.steps.clear()
    again = await xdeploy.create_venv(gateway, "work", ["Beta == 1.0  # old", "Alpha"], **options)
    assert place.stages == ["ready"]
    assert (first.made, again.made) == (True, False)
    assert again.identity == first.identity
    other = await xdeploy.create_venv(gateway, "other", "beta==1.0\nalpha", **options)
    assert other.identity == first.identity
    assert other.packages == {"alpha": "1.0", "beta": "1.0"}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("far", [False, True])
async def test_constraints_choose_versions(place: Place, group: Any, far: bool) -> None:
    """Of what is needed they say the version, and what is not needed is not installed."""
    gateway = await group.makegateway("popen")
    options = place.options(far=far, index=str(place.index))
    limits = ["beta<2  # the older one", "gamma==1.0"]
    made = await xdeploy.create_venv(gateway, "work", "beta", constraints=limits, **options)
    assert made.packages == {"beta": "1.0"}
    free = await xdeploy.create_venv(gateway, "work", "beta", **options)
    assert (free.packages, free.made) == ({"beta": "2.0"}, True)
    with pytest.raises(xdeploy.DeploymentFailed):
        await xdeploy.create_venv(gateway, "work", "beta>=2", constraints=limits, **options)


@pytest_twisted.ensureDeferred
async def test_upgrade_asks_the_index(place: Place, group: Any) -> None:
    """``upgrade`` asks the index; without it, what was resolved before is used."""
    gateway = await group.makegateway("popen")
    options = place.options()
    wheel(place.index, "beta", "3.0")
    first = await xdeploy.create_venv(gateway, "work", "beta", **options)
    wheel(place.index, "beta", "4.0")
    kept = await xdeploy.create_venv(gateway, "other", "beta", **options)
    newer = await xdeploy.create_venv(gateway, "work", "beta", **place.options(upgrade=True))
    assert [each.packages["beta"] for each in (first, kept, newer)] == ["3.0", "3.0", "4.0"]


@pytest_twisted.ensureDeferred
async def test_asks_only_the_given_index(place: Place, group: Any, monkeypatch: Any) -> None:
    """Packages of the index that pip is configured for are not taken when another one is given."""
    other = place.index.with_name("other")
    wheel(other, "beta", "9.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(other))
    gateway = await group.makegateway("popen")
    made = await xdeploy.create_venv(gateway, "work", "beta", **place.options())
    assert made.packages == {"beta": "2.0"}


@pytest_twisted.ensureDeferred
async def test_bare_python_without_network(place: Place, group: Any, tmp_path: Path) -> None:
    """The far Python needs no ensurepip, no pip and no network."""
    for name in ("ensurepip", "pip"):
        (tmp_path / "bare" / name).mkdir(parents=True)
        (tmp_path / "bare" / name / "__init__.py").write_text(f"raise ImportError('no {name}')")
    apart = ["unshare", "-n"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"]).returncode:
        missing("a process can't be taken off the network here")
    python = [*apart, sys.executable]
    gateway = await group.makegateway(
        "popen", python=python, fork=False, env={"PYTHONPATH": str(tmp_path / "bare")}
    )
    inside = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **place.options())
    assert (await inside.call(describe))[0].startswith(str(place.root))
    # It has no network, either.
    assert await inside.call(namespace) == await gateway.call(namespace) != namespace()


def namespace() -> str:
    """The network that a process is in."""
    import os

    return os.readlink("/proc/self/ns/net")


@pytest_twisted.ensureDeferred
async def test_wrapper_of_the_interpreter_is_kept(place: Place, group: Any, tmp_path: Path) -> None:
    """What a command does before it starts Python holds for the environment's gateway as well."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nWRAPPED=yes\nexport WRAPPED\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    gateway = await group.makegateway("popen", python=[str(wrapper)], fork=False)
    for options in ({}, {"python": sys.executable}):
        inside = await xdeploy.create_venv_gateway(
            gateway, "work", "alpha", **place.options(**options)
        )
        assert await inside.call("os:getenv", "WRAPPED") == "yes"
        assert (await inside.call(describe))[0].startswith(str(place.root))


@pytest_twisted.ensureDeferred
async def test_relative_index_is_the_one_that_is_meant(
    place: Place, group: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same relative path is another index in another directory."""
    gateway = await group.makegateway("popen")
    for number in ("1.0", "2.0"):
        wheel(tmp_path / number / "wheels", "mine", number)
        monkeypatch.chdir(tmp_path / number)
        made = await xdeploy.create_venv(
            gateway, f"work-{number}", "mine", **place.options(index="wheels")
        )
        assert made.packages == {"mine": number}


@pytest_twisted.ensureDeferred
async def test_nothing_is_built_for_a_far_side_that_is_not_trusted(
    place: Place, group: Any, tmp_path: Path
) -> None:
    """A hostile far side chooses what is built by its facts; so for one only wheels are taken."""
    log = tmp_path / "built here"
    code = f"open({str(log)!r}, 'w').close()"
    sdist(place.index, "native", code=code)
    wheel(place.index, "native", tag="cp27-cp27mu-win32")
    source = project(tmp_path / "project", "mine", requires=("beta",))
    gateway = await group.makegateway("popen//trusted=no")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "native", **place.options()),
        xdeploy.ResolutionFailed,
    )
    assert "not trusted" in str(problem)
    assert not log.exists()
    # A project was chosen here.
    made = await xdeploy.create_venv(gateway, "work", "alpha", **place.options(install=source))
    assert sorted(made.packages) == ["alpha", "beta", "mine"]
    trusted = await group.makegateway("popen")
    assert (await xdeploy.create_venv(trusted, "work", "native", **place.options())).made
    assert log.exists()


def versions() -> list[Any]:
    """The versions that are installed where this runs, and of what."""
    import sys
    from importlib.metadata import distributions

    own = [path for path in sys.path if path.startswith(sys.prefix)]  # PyPy brings some
    found = sorted((each.metadata["Name"], each.version) for each in distributions(path=own))
    return [sys.implementation.name, [list(each) for each in found]]


@needs("pypy3")
@pytest_twisted.ensureDeferred
async def test_another_python_gets_its_wheels(place: Place, group: Any) -> None:
    """For PyPy its own wheels are taken, and markers are evaluated for it."""
    wheel(
        place.index,
        "gamma",
        requires=(
            "beta; implementation_name == 'pypy'",
            "nowhere; implementation_name == 'cpython'",
        ),
    )
    wheel(place.index, "delta", "1.0")
    wheel(place.index, "delta", "2.0", tag="cp39-cp39-linux_x86_64")
    wheel(place.index, "delta", "3.0", python=">=3.99")
    gateway = await group.makegateway("popen//python=pypy3")
    inside = await xdeploy.create_venv_gateway(gateway, "work", "gamma\ndelta", **place.options())
    wanted = [["beta", "2.0"], ["delta", "1.0"], ["gamma", "1.0"]]
    assert await inside.call(versions) == ["pypy", wanted]
    near_by = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(near_by, "work", "gamma", **place.options()), xdeploy.ResolutionFailed
    )
    assert "nowhere" in str(problem)


@needs("pypy3")
@pytest_twisted.ensureDeferred
async def test_newest_pip_resolves_for_another_python(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest pip that the index has still lets itself be told of another interpreter."""
    argv = [sys.executable, "-m", "pip", "install", "-q", "--target", str(tmp_path / "pip"), "pip"]
    got = await deferToThread(
        subprocess.run, argv, capture_output=True, text=True, timeout=3 * PATIENCE
    )
    if got.returncode:
        missing(f"no index has pip: {got.stderr[-500:]}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "pip"))
    own = own_interpreter()
    older = attrs.evolve(
        own,
        version=(3, 8, 1),
        markers={**own.markers, "python_version": "3.8", "python_full_version": "3.8.1"},
    )
    wheel(place.index, "gamma", "1.0", tag="cp38-none-any", requires=("old; python_version<'3.9'",))
    wheel(place.index, "gamma", "2.0", python=">=3.9")
    wheel(place.index, "old")
    from twisted.internet import reactor

    resolver = Resolver(
        older,
        IReactorThreads(reactor),
        index=PackageIndex(str(place.index)),
        cache=WheelCache(tmp_path / "wheels"),
    )
    plan = await resolver.resolve(Requirements.of("gamma"))
    names = [file.name for file in plan.wheels]
    assert names == ["gamma-1.0-cp38-none-any.whl", "old-1.0-py3-none-any.whl"]


@needs("pypy3")
@pytest_twisted.ensureDeferred
async def test_interpreter_is_chosen(place: Place, group: Any) -> None:
    """``python=`` names the environment's interpreter; it is not started if it is there already."""
    gateway = await group.makegateway("popen")
    options = place.options(python="pypy3")
    inside = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **options)
    [name, found] = await inside.call(versions)
    assert (name, found) == ("pypy", [["alpha", "1.0"], ["beta", "2.0"]])
    before = len(group)
    again = await xdeploy.create_venv(gateway, "work", "alpha", **options)
    assert not again.made
    assert len(group) == before
    mine = await xdeploy.create_venv(gateway, "work", "alpha", **place.options())
    assert mine.identity != again.identity


@pytest_twisted.ensureDeferred
async def test_missing_wheel_is_named(place: Place, group: Any) -> None:
    """The error names the package that has no wheel for the far Python, and that Python."""
    wheel(place.index, "elsewhere", tag="cp27-cp27mu-win32")
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "beta\nelsewhere", **place.options()),
        xdeploy.ResolutionFailed,
    )
    assert "elsewhere" in str(problem)
    assert "CPython 3." in str(problem)
    assert place.environments() == []


@pytest.mark.parametrize("far", [False, True])
@pytest_twisted.ensureDeferred
async def test_hashes_decide_what_is_taken(place: Place, group: Any, far: bool) -> None:
    """Wherever pip looks: what has another hash is not installed, and projects of this machine
    are."""
    gateway = await group.makegateway("popen")
    own = project(place.index.parent / "own", "own")
    wanted = []
    for name, version in (("alpha", "1.0"), ("beta", "2.0")):
        [path] = place.index.glob(f"{name}-{version}-*.whl")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        wanted.append(f"{name}=={version} --hash=sha256:{digest}")
    options = place.options(far=far, index=str(place.index), install=[own])
    environment = await xdeploy.create_venv(gateway, "work", wanted, **options)
    python = str(Path(environment.path) / "bin" / "python")
    await deferToThread(subprocess.check_call, [python, "-c", "import alpha, beta, own"])
    wanted[1] = f"beta==2.0 --hash=sha256:{'0' * 64}"
    problem = await failure(
        xdeploy.create_venv(gateway, "work", wanted, **options), xdeploy.ResolutionFailed
    )
    assert "DO NOT MATCH THE HASHES" in problem.output


#: pyenv's, as what it has on the path may be a script that says that there is no such.
PYTHON_2 = versioned_python("2.7")


@pytest.mark.parametrize(
    "python",
    [
        pytest.param("jython", marks=needs("jython")),
        pytest.param(
            PYTHON_2 or "", marks=pytest.mark.skipif(PYTHON_2 is None, reason="pyenv has no 2.7")
        ),
    ],
    ids=["jython", "2.7"],
)
@pytest_twisted.ensureDeferred
async def test_old_pythons_refuse(python: str, place: Place, group: Any) -> None:
    """Jython and Python 2.7 refuse, and the error says what to do."""
    gateway = await group.makegateway("popen", python=python, timeout=LONG)
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "beta", **place.options()), xdeploy.EnvironmentRefused
    )
    assert "python=python3" in str(problem)
    made = await xdeploy.create_venv(
        gateway, "work", "beta", **place.options(python=sys.executable)
    )
    assert made.made


@pytest_twisted.ensureDeferred
async def test_directory_of_others_is_refused(place: Place, group: Any) -> None:
    """A directory that others may write to is refused."""
    place.root.mkdir()
    place.root.chmod(0o777)
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "beta", **place.options()), xdeploy.EnvironmentRefused
    )
    assert str(place.root) in str(problem)


# -- scripts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with blanks and 'quotes' and $dollars", "long" * 50])
@pytest_twisted.ensureDeferred
async def test_scripts_of_difficult_paths_start(name: str, place: Place, group: Any) -> None:
    """A script starts though the path to its Python has blanks, or is too long for ``#!``."""
    gateway = await group.makegateway("popen")
    place.root = place.root / name
    inside = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **place.options())
    assert (await inside.call(describe))[3].startswith(str(place.root))


@pytest_twisted.ensureDeferred
async def test_pip_accepts_it(place: Place, group: Any) -> None:
    """``pip check`` is content; ``pip uninstall`` removes by RECORD all that was installed."""
    files = {
        "zeta/__init__.py": "",
        "zeta/data.txt": "text",
        "zeta-1.0.data/scripts/zeta-run": "#!python\nimport zeta, sys; print(sys.prefix)\n",
        "zeta-1.0.data/scripts/zeta.sh": "#!/bin/sh\necho shell\n",
        "zeta-1.0.data/data/share/zeta/page": "page",
        "zeta-1.0.data/headers/zeta.h": "int zeta;",
        "zeta-1.0.data/purelib/zeta_extra.py": "",
    }
    wheel(place.index, "zeta", files=files, entry_points="[gui_scripts]\nz-gui = zeta:main\n")
    gateway = await group.makegateway("popen")
    made = await xdeploy.create_venv(gateway, "work", "alpha\nzeta", **place.options())
    environment = Path(made.path)
    assert (environment / "share/zeta/page").read_text() == "page"
    run = subprocess.run([environment / "bin/zeta-run"], capture_output=True, text=True)
    assert run.stdout == f"{made.path}\n"
    assert subprocess.check_output([environment / "bin/zeta.sh"]) == b"shell\n"

    def pip(*args: str) -> str:
        argv = [sys.executable, "-m", "pip", "--python", made.python, *args]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=LONG)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    assert "No broken requirements" in pip("check")
    assert "beta 2.0" in re.sub(" +", " ", pip("list"))
    before = {path for path in environment.rglob("*") if path.is_file()}
    kept = {path for path in before if "zeta" not in str(path.relative_to(environment))}
    kept = {path for path in kept if path.name != "z-gui"}
    assert len(before) - len(kept) >= 12
    pip("uninstall", "-y", "zeta")
    assert {path for path in environment.rglob("*") if path.is_file()} == kept


# -- several creators ----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_sixteen_creators_build_once(place: Place, group: Any, tmp_path: Path) -> None:
    """Four programs with four gateways each make the same at once: it is built once."""
    log = tmp_path / "builds"
    code = f"open({str(log)!r}, 'a').write('built')"
    sdist(place.index, "slow", requires=("alpha",), code=code)
    argv = (CREATOR, str(place.index), str(place.root), "slow\nbeta", "4")
    with near(*argv) as a, near(*argv) as b, near(*argv) as c, near(*argv) as d:
        found = [each.line(LONG) for each in (a, b, c, d)]
    made = [each for program in found for each in program]
    assert len(made) == 16
    assert sorted(each["made"] for each in made) == [False] * 15 + [True]
    assert len({each["identity"] for each in made}) == 1
    assert log.read_text() == "built"
    assert len(place.environments()) == 1


def request(place: Place) -> dict[str, Any]:
    """A request as the far side gets it."""
    return {
        "name": "work",
        "key": "other",
        "python": None,
        "root": str(place.root),
        "upgrade": False,
        "about": "{}",
        "look": False,
        "compile": True,
    }


@pytest_twisted.ensureDeferred
async def test_dead_creator_holds_nobody_up(place: Place, group: Any) -> None:
    """One that dies while it has the lock holds nobody up, and leaves nothing."""
    victim, heir = [await group.makegateway("popen") for _ in range(2)]
    pid = await victim.call("os:getpid")
    channel = ask(victim, request(place))
    assert "resolve" in await channel.receive()
    waits: defer.Deferred[None] = defer.Deferred()

    def step(progress: xdeploy.VenvProgress) -> None:
        if progress.stage == "waiting" and not waits.called:
            waits.callback(None)
            assert progress.detail == str(pid)
        place.steps.append(progress)

    creating = xdeploy.create_venv(heir, "work", "alpha", **place.options(progress=step))
    await waits
    os.kill(pid, signal.SIGKILL)
    assert (await creating).made
    assert place.stages[0] == "waiting"


@pytest_twisted.ensureDeferred
async def test_half_a_wheel_is_not_found(place: Place, group: Any) -> None:
    """What a creator had half received is not found, and not in the way."""
    victim, heir = [await group.makegateway("popen") for _ in range(2)]
    pid = await victim.call("os:getpid")
    path = wheel(place.index, "large", files={"large.bin": os.urandom(1 << 20)})
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    channel = ask(victim, request(place))
    assert "resolve" in await channel.receive()
    await channel.send({"wheels": [[path.name, digest, len(data)]], "builds": []})
    assert await channel.receive() == {"send": [digest]}
    await channel.send(data[: len(data) // 2])
    assert "progress" in await channel.receive()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(pycomnet.ConnectionLost):
        await channel.receive()
    assert os.listdir(place.root / "new") == [digest]
    assert os.listdir(place.root / "wheels") == place.environments() == []
    made = await xdeploy.create_venv(heir, "work", "large", **place.options())
    assert made.packages == {"large": "1.0"}
    assert os.listdir(place.root / "new") == []


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_the_build(place: Place, group: Any, tmp_path: Path) -> None:
    """Cancelling ends the build that runs for it, and the gateway can be used further."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    stuck = f"open({str(fifo)!r}, 'w').write(str(os.getpid())); import time; time.sleep(10000)"
    sdist(place.index, "stuck", code=stuck)
    gateway = await group.makegateway("popen")
    creating = xdeploy.create_venv(gateway, "work", "stuck", **place.options())
    pid = int(await deferToThread(fifo.read_text))
    creating.cancel()
    with pytest.raises(defer.CancelledError):
        await creating
    assert not await deferToThread(still_there, [pid], PATIENCE)
    made = await xdeploy.create_venv(gateway, "work", "alpha", **place.options())
    assert made.made


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_the_far_build(place: Place, group: Any, tmp_path: Path) -> None:
    """Cancelling ends a build at the far side, and gives back its locks."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    stuck = (
        "import os, sys, time; os.environ.get('FAR_SIDE') or sys.exit('not here'); "
        f"open({str(fifo)!r}, 'w').write(str(os.getpid())); time.sleep(10000)"
    )
    sdist(place.index, "stuck", code=stuck)
    gateway = await group.makegateway("popen", env={"FAR_SIDE": "1"})
    creating = xdeploy.create_venv(gateway, "work", "stuck", **place.options())
    pid = int(await deferToThread(fifo.read_text))
    creating.cancel()
    with pytest.raises(defer.CancelledError):
        await creating
    assert not await deferToThread(still_there, [pid], PATIENCE)
    made = await xdeploy.create_venv(gateway, "work", "alpha", **place.options())
    assert made.made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    path = tmp_path / "disk"
    path.mkdir()
    with small_disk(path, "2m"):
        yield path


@pytest_twisted.ensureDeferred
async def test_full_disk_leaves_nothing_half(place: Place, group: Any, disk: Path) -> None:
    """On a full disk there is an error that says so, nothing half made, and room again."""
    place.root = disk / "root"
    wheel(place.index, "large", files={"large.bin": os.urandom(3 << 20)})
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "beta\nlarge", **place.options()),
        xdeploy.DeploymentFailed,
    )
    assert "No space left on device" in str(problem)
    assert place.environments() == []
    assert os.listdir(place.root / "new") == []
    made = await xdeploy.create_venv(gateway, "work", "beta", **place.options())
    assert made.packages == {"beta": "2.0"}


# -- sdists --------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_compiler_error_arrives_whole(place: Place, group: Any) -> None:
    """If a build fails here and there, the error has all that the build there wrote."""
    sdist(place.index, "broken", fails=True)
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "broken", **place.options()), xdeploy.BuildFailed
    )
    assert "broken-1.0.tar.gz" in str(problem)
    assert "first line of the compiler" in problem.output
    assert "x" * 70000 in problem.output
    assert "last line: error: no such header" in problem.output
    assert await xdeploy.list(gateway, directory=str(place.root)) == []


#: The wheel's tag is that of the interpreter that builds it, with extension modules.
OWN_TAG = (
    "import sys; globals()['TAG'] = ('pp39-pypy39_pp73' if sys.implementation.name == 'pypy' "
    "else 'cp%d%d-cp%d%d' % (sys.version_info[:2] * 2)) + '-linux_x86_64'"
)


@needs("pypy3")
@pytest_twisted.ensureDeferred
async def test_unfit_wheel_is_built_there(place: Place, group: Any) -> None:
    """A wheel that fits not there is built there, offline, with what its build requires.

    Its ``pyproject.toml`` requires one package, and its backend asks for another.
    """
    code = f"import tool, generator; {OWN_TAG}"
    wheel(place.index, "tool")
    wheel(place.index, "generator")
    sdist(
        place.index,
        "native",
        code=code,
        build_requires=("tool",),
        asks=("generator>=1",),
        requires=("beta",),
    )
    gateway = await group.makegateway("popen//python=pypy3")
    inside = await xdeploy.create_venv_gateway(gateway, "work", "native", **place.options())
    assert await inside.call(versions) == ["pypy", [["beta", "2.0"], ["native", "1.0"]]]
    assert "build" in place.stages
    place.steps.clear()
    other = await xdeploy.create_venv(gateway, "other", "native\nalpha", **place.options())
    assert other.made
    assert [step.detail for step in place.steps if step.stage == "build"] == [], "built again"


@pytest_twisted.ensureDeferred
async def test_project_is_installed_into_a_gateway(
    place: Place, group: Any, tmp_path: Path
) -> None:
    """A project is installed into a gateway's environment, with its dependencies."""
    source = project(tmp_path / "project", "mine", requires=("alpha",))
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text("[core]\n")
    gateway = await group.makegateway("popen")
    inside = await xdeploy.create_venv_gateway(gateway, "work", "beta==1.0", **place.options())

    def before() -> list[str]:
        import beta  # type: ignore[import-not-found]

        return [beta.VERSION, beta.__file__]

    def after() -> list[str]:
        import os
        import subprocess
        import sys

        import mine  # type: ignore[import-not-found]

        code = "import mine; print(mine.VERSION)"
        said = subprocess.check_output([sys.executable, "-c", code], universal_newlines=True)
        script = subprocess.check_output(["alpha"], universal_newlines=True)
        return [mine.VERSION, mine.__file__, said.strip(), script.strip(), os.getcwd()]

    assert (await inside.call(before))[0] == "1.0"
    setup = xdeploy.SetupFile(source / "pyproject.toml")
    venv = await setup.sdist_remote_install(inside)
    assert venv.packages == {"alpha": "1.0", "beta": "1.0", "mine": "1.0"}
    version, where, said, script, directory = await inside.call(after)
    assert (version, said) == ("1.0", "1.0")
    assert where.startswith(venv.path)
    assert script == directory == venv.path
    assert (await inside.call(before))[0] == "1.0"
    again = await setup.sdist_remote_install(inside)
    assert (again.identity, again.made) == (venv.identity, False)
    (source / "mine.py").write_text("VERSION = 'changed'\n")
    changed = await setup.sdist_remote_install(inside)
    assert changed.identity != venv.identity
    fresh = await xdeploy.create_venv_gateway(
        gateway, "work", "beta==1.0", **place.options(install=source)
    )
    assert (await fresh.call(after))[0] == "changed"


@pytest_twisted.ensureDeferred
async def test_large_project_is_installed(place: Place, group: Any, tmp_path: Path) -> None:
    """An sdist of more than 100 MiB, with a repository in its directory."""
    sizes = tmp_path / "sizes"
    code = f"open({str(sizes)!r}, 'w').write(str(os.path.getsize('large.bin')))"
    source = project(tmp_path / "project", "mine", code=code)
    content = os.urandom(1 << 20)  # longer than what gzip looks back for
    (source / "large.bin").write_bytes(content * 101)
    (source / ".git").mkdir()
    (source / ".git" / "objects").write_bytes(bytes(1000))
    gateway = await group.makegateway("popen")
    made = await xdeploy.create_venv(gateway, "work", "", **place.options(install=[source]))
    assert made.packages == {"mine": "1.0"}
    assert int(sizes.read_text()) == 101 << 20, "it is built from its sdist"


@pytest_twisted.ensureDeferred
async def test_project_needs_an_environment(group: Any, tmp_path: Path) -> None:
    """A project is installed only where a gateway is in an environment."""
    source = project(tmp_path / "project", "mine")
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.SetupFile(source).sdist_remote_install(gateway), xdeploy.DeploymentFailed
    )
    assert "create_venv_gateway" in str(problem)


# -- names ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_name_is_swapped_and_removed(place: Place, group: Any) -> None:
    """A name that means another set is swapped; who is in the old one runs on, and it stays."""
    gateway = await group.makegateway("popen")
    old = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **place.options())
    new = await xdeploy.create_venv_gateway(gateway, "work", "beta==1.0", **place.options())
    where = {"directory": str(place.root)}
    [listed] = await xdeploy.list(gateway, **where)
    assert (listed.name, listed.requirements) == ("work", ("beta==1.0",))
    assert listed.packages == {"beta": "1.0"}
    assert len(place.environments()) == 2
    assert (await xdeploy.prune(gateway, **where)).environments == 0
    # Nothing of it was imported before.
    assert (await old.call(describe))[0].startswith(str(place.root))
    await old.exit()
    pruned = await xdeploy.prune(gateway, **where)
    assert (pruned.environments, pruned.wheels) == (1, 2)
    assert await xdeploy.remove(gateway, "work", **where)
    assert not await xdeploy.remove(gateway, "work", **where)
    assert await xdeploy.list(gateway, **where) == []
    assert len(place.environments()) == 1, "a gateway is in it"
    await new.exit()
    pruned = await xdeploy.prune(gateway, **where)
    assert (pruned.environments, pruned.wheels) == (1, 1)
    assert place.environments() == []
    assert os.listdir(place.root / "wheels") == []


@pytest_twisted.ensureDeferred
async def test_wheels_are_shared(place: Place, group: Any) -> None:
    """A wheel is sent to a host once, and its files take their space once."""
    gateway = await group.makegateway("popen")
    one = await xdeploy.create_venv(gateway, "one", "alpha", **place.options())
    place.steps.clear()
    two = await xdeploy.create_venv(gateway, "two", "beta", **place.options())
    assert "send" not in place.stages
    files = [next(Path(each.path).rglob("beta.py")) for each in (one, two)]
    assert files[0] != files[1]
    assert files[0].samefile(files[1])


@pytest_twisted.ensureDeferred
async def test_lost_interpreter_is_made_again(place: Place, group: Any, tmp_path: Path) -> None:
    """An environment whose interpreter is not what it was is made again."""
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    gateway = await group.makegateway("popen")
    options = place.options(python=str(python))
    first = await xdeploy.create_venv(gateway, "work", "beta", **options)
    assert not (await xdeploy.create_venv(gateway, "work", "beta", **options)).made
    (Path(first.path) / "bin" / "python").unlink()
    again = await xdeploy.create_venv(gateway, "work", "beta", **options)
    assert (again.made, again.identity) == (True, first.identity)


@pytest_twisted.ensureDeferred
async def test_far_pip_and_index_are_used(place: Place, group: Any) -> None:
    """With ``far`` the far machine's own pip and index are used."""
    sdist(place.index, "built", requires=("alpha",))
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(place.index)}
    gateway = await group.makegateway("popen", env=env)
    options = place.options(index=None, far=True)
    inside = await xdeploy.create_venv_gateway(gateway, "work", "built", **options)
    assert (await inside.call(describe))[0].startswith(str(place.root))
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "nowhere", **options), xdeploy.ResolutionFailed
    )
    assert "No matching distribution found for nowhere" in str(problem)
    sdist(place.index, "broken", fails=True)
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "broken", **options), xdeploy.BuildFailed
    )
    assert "no such header" in str(problem)


@pytest_twisted.ensureDeferred
async def test_far_pips_of_one_gateway_run_at_once(place: Place, group: Any) -> None:
    """Two environments that a gateway's pip makes at once are not in each other's way."""
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(place.index)}
    gateway = await group.makegateway("popen", env=env)
    options = place.options(index=None, far=True)
    made = await defer.gatherResults(
        [
            xdeploy.create_venv(gateway, name, requirements, **options)
            for name, requirements in (("one", "alpha"), ("two", "beta==1.0"))
        ]
    )
    assert [each.packages["beta"] for each in made] == ["2.0", "1.0"]


@pytest_twisted.ensureDeferred
async def test_wheel_that_leads_out_is_refused(place: Place, group: Any) -> None:
    """A wheel whose files would be written elsewhere is refused at the far side."""
    path = wheel(place.index, "evil")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside.py", "")
    gateway = await group.makegateway("popen")
    problem = await failure(
        xdeploy.create_venv(gateway, "work", "evil", **place.options()), xdeploy.EnvironmentRefused
    )
    assert "leads out" in str(problem)
    assert not list(place.root.rglob("outside.py"))


def test_blocking_twin_does_the_same(place: Place, tmp_path: Path) -> None:
    """The same without Deferreds."""
    source = project(tmp_path / "project", "mine")
    with near(BLOCKING, str(place.index), str(place.root), str(source)) as program:
        found = program.line(LONG)
        assert program.ended()[0] == 0
    assert found["prefix"].startswith(str(place.root))
    assert "ready" in found["stages"]
    assert found["listed"] == [["work", {"alpha": "1.0", "beta": "2.0", "mine": "1.0"}]]
    assert found["removed"]
    assert found["pruned"] == 1


def command(*args: str) -> subprocess.CompletedProcess[str]:
    """Run ``pycomnet venv``."""
    argv = [sys.executable, "-m", "pycomnet", "venv", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LONG)


def test_command_makes_and_runs(place: Place, tmp_path: Path) -> None:
    """``pycomnet venv`` makes one, runs commands in it, and says what it does."""
    where = ["--index", str(place.index), "--directory", str(place.root)]
    listed = tmp_path / "requirements.txt"
    listed.write_text("# what we need\nalpha\n")
    made = command("popen", "work", "-r", str(listed), *where)
    assert made.returncode == 0, made.stderr
    python = made.stdout.strip()
    assert python.startswith(str(place.root))
    assert "resolving" in made.stderr
    code = "import os, sys, alpha; print(os.getcwd()); print('x', file=sys.stderr); sys.exit(7)"
    ran = command("popen", "work", "alpha", *where, "--", "python", "-c", code)
    assert (ran.returncode, ran.stdout.strip()) == (7, str(Path(python).parents[1]))
    assert ran.stderr == "x\n"
    assert command("popen", "work", "alpha", *where, "--", "nowhere").returncode == 127
    kill = ["python", "-c", "import os; os.kill(os.getpid(), 15)"]
    assert command("popen", "work", "alpha", *where, "--", *kill).returncode == 128 + 15
    at = where[2:]
    listed_there = command("list", "popen", *at)
    assert re.fullmatch(r"work\t3\.\d+\.\S+\talpha 1\.0, beta 2\.0\n", listed_there.stdout)
    assert command("remove", "popen", "work", *at).returncode == 0
    assert command("remove", "popen", "work", *at).returncode == 1
    assert command("prune", "popen", *at).stdout.startswith("removed 0 environments and 2 wheels")
    source = project(tmp_path / "project", "mine")
    ran = command(
        "popen",
        "app",
        "--no-compile",
        "--install",
        str(source),
        *where,
        "--",
        "python",
        "-m",
        "mine",
    )
    assert ran.returncode == 0, ran.stderr


def test_command_says_why_not(place: Place, tmp_path: Path) -> None:
    """What it can't do it says, and exits with the status for that."""
    limits = tmp_path / "constraints.txt"
    limits.write_text("beta==9.0\n")
    where = ["--index", str(place.index), "--directory", str(place.root)]
    for args, status, said in (
        (["popen", "work", "nowhere"], 1, "nowhere"),
        (["popen", "work", "./here"], 1, "--install"),
        (["popen", "no/name"], 1, "no/name"),
        (["pipen", "work"], 2, "pipen"),
        (["popen", "work", "--"], 2, "COMMAND"),
        (["popen", "work", "-r", "/nowhere"], 2, "/nowhere"),
        (["popen", "work", "-c", "/nowhere"], 2, "'-c'"),
        (["popen", "work", "beta", "-c", str(limits)], 1, "nothing can be found for beta"),
        (["popen"], 2, "NAME"),
    ):
        ran = command(*where, *args)
        assert (ran.returncode, ran.stdout) == (status, "")
        assert said in ran.stderr
