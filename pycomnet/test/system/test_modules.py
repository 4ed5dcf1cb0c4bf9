"""Modules that come from here: every Python, through hops, forked workers, hostile far sides."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.gateways import modules
from pycomnet.test.processes import versioned_python
from pycomnet.test.system.near_side import START

PYTHONS = ["same", "pypy3", "jython", "2.7", "3.6", "3.13"]


def found(name: str) -> str:
    """The interpreter of a name; it has to be there."""
    if name == "same":
        return sys.executable
    command = name if name.isalnum() else f"python{name}"
    # pyenv's first: what it has on the path may be a script that says that there is no such.
    path = versioned_python(name) or shutil.which(command)
    if path is None:
        # Of CPython's versions any are enough.
        if os.environ.get("PYCOMNET_REQUIRE_ALL") and name.isalnum():
            pytest.fail(f"{command} is not installed")
        pytest.skip(f"{command} is not installed")
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory: Any) -> Iterator[Any]:
    """A package that is on this side's path only: functions that use all of their modules."""
    top = tmp_path_factory.mktemp("modules")
    here = top / "sentpkg"
    (here / "inner" / "data").mkdir(parents=True)
    (here / "__init__.py").write_text("from . import settings\n")
    (here / "settings.py").write_text("FACTOR = 41\n")
    (here / "inner" / "data" / "text.txt").write_text("some data")
    (here / "inner" / "helpers.py").write_text("def double(n):\n    return n * 2\n")
    (here / "inner" / "__init__.py").write_text(
        """
from sentpkg.settings import FACTOR
from . import helpers
import pkgutil

def work(n):
    return helpers.double(n) + FACTOR

def talk(channel):
    for n in channel:
        channel.send(work(n))

def data():
    return pkgutil.get_data(__name__, "data/text.txt").decode("ascii")

def fails():
    raise ValueError("here")  # this line

def resources():
    import importlib.resources
    files = importlib.resources.files(__name__)
    names = sorted(each.name for each in files.iterdir() if not each.name.startswith("_"))
    with importlib.resources.as_file(files / "data" / "text.txt") as path:
        copy = path.read_text()
    return [names, (files / "data" / "text.txt").read_text(), copy, (files / "data").is_dir(),
            (files / "nope").is_file()]

class Counter(object):
    def __init__(self, start):
        self.value = start

    def add(self, n):
        self.value += n
        return self.value

counter = Counter(10)

def in_thread(n):
    import threading
    found = []

    def run():
        import sentpkg.later
        found.append(sentpkg.later.VALUE)

    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
"""
    )
    (here / "later.py").write_text("VALUE = 7\n")
    sys.path.insert(0, str(top))
    try:
        yield importlib.import_module("sentpkg.inner")
    finally:
        sys.path.remove(str(top))
        for name in [name for name in sys.modules if name.partition(".")[0] == "sentpkg"]:
            del sys.modules[name]


@pytest_twisted.async_yield_fixture
async def group(package: Any, tmp_path: Path) -> AsyncIterator[pycomnet.Group]:
    """A group that offers the package."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor, modules=["sentpkg"])
    yield made
    await made.close()


@pytest.mark.parametrize("name", PYTHONS)
@pytest_twisted.ensureDeferred
async def test_offered_package_works_on_each_python(
    name: str, package: Any, tmp_path: Path
) -> None:
    """Functions with all of their module, on each Python; tracebacks and data files."""
    from twisted.internet import reactor

    python = found(name)
    async with pycomnet.Group(reactor, modules=["sentpkg"]) as group:
        gateway = await group.makegateway(
            "popen", timeout=START, python=python, chdir=str(tmp_path)
        )
        assert await gateway.call(package.work, 4) == 49
        channel = gateway.remote_exec(package.talk)
        channel.send(1)
        assert await channel.receive() == 43
        assert await gateway.call(package.data) == "some data"
        assert await gateway.call(package.counter.add, 5) == 15
        assert await gateway.call(package.in_thread, 8) == [7] * 8
        with pytest.raises(pycomnet.RemoteError) as caught:
            await gateway.call(package.fails)
        assert 'raise ValueError("here")  # this line' in caught.value.formatted


@pytest_twisted.ensureDeferred
async def test_importlib_resources_finds_offered_files(
    group: pycomnet.Group, package: Any, tmp_path: Path
) -> None:
    """importlib.resources finds the package's files."""
    gateway = await group.makegateway("popen", chdir=str(tmp_path))
    assert await gateway.call(package.resources) == [
        ["data", "helpers.py"],
        "some data",
        "some data",
        True,
        False,
    ]


@pytest_twisted.ensureDeferred
async def test_offered_package_works_behind_other_gateways(
    group: pycomnet.Group, package: Any, tmp_path: Path
) -> None:
    """Behind another gateway, and behind that, likewise."""
    await group.makegateway("popen//id=one", chdir=str(tmp_path))
    await group.makegateway("popen//id=two//via=one", chdir=str(tmp_path))
    gateway = await group.makegateway("popen//via=two", chdir=str(tmp_path))
    assert await gateway.call(package.work, 4) == 49


@pytest_twisted.ensureDeferred
async def test_compiled_modules_are_not_sent_again(
    group: pycomnet.Group, package: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """What one worker has compiled others of this machine are not sent; what has changed, is."""
    asked: list[Any] = []
    answer = modules.ModuleOffer.answer

    def noted(self: Any, question: Any) -> Any:
        asked.append(question)
        return answer(self, question)

    monkeypatch.setattr(modules.ModuleOffer, "answer", noted)
    env = {"XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    # With python= the flags of this interpreter, such as -B, are not handed on.
    spec: dict[str, Any] = {"env": env, "chdir": str(tmp_path), "fork": True}
    spec["python"] = sys.executable
    for _ in range(3):
        gateway = await group.makegateway("popen", **spec)
        assert await gateway.call(package.work, 4) == 49
    sources = [question["source"] for question in asked if "source" in question]
    # One answer for each of the two directories.
    assert len(sources) == 2, sources
    settings = Path(package.__file__).parent.parent / "settings.py"
    settings.write_text("FACTOR = 1000\n")
    try:
        gateway = await group.makegateway("popen", **spec)
        assert await gateway.call(package.work, 4) == 1008
    finally:
        settings.write_text("FACTOR = 41\n")


@pytest_twisted.ensureDeferred
async def test_missing_offer_is_named_and_a_later_one_works(package: Any, tmp_path: Path) -> None:
    """Without an offer the error names it; with one that comes later it works."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen", chdir=str(tmp_path))
        with pytest.raises(pycomnet.CodeNotSendable, match=r"gateway.send_modules\('sentpkg'\)"):
            await gateway.call(package.work, 1)
        with pytest.raises(pycomnet.RemoteError, match="No module named 'sentpkg'"):
            await gateway.call("sentpkg.inner:work", 1)
        gateway.send_modules("sentpkg")  # not awaited: what follows it finds it
        assert await gateway.call(package.work, 1) == 43


@pytest_twisted.ensureDeferred
async def test_far_side_learns_nothing_that_was_not_offered(
    group: pycomnet.Group, tmp_path: Path
) -> None:
    """A far side that asks for what it was not offered learns nothing, and all goes on."""
    gateway = await group.makegateway("popen", chdir=str(tmp_path))

    def ask(channel: Any) -> None:
        for question in channel:
            asked = channel.link.open("module", channel.link.encode(question))
            try:
                channel.send(asked.receive(timeout=60))
            except asked.RemoteError as error:
                channel.send(error.message)

    channel = gateway.remote_exec(ask)
    for question, words in (
        ({"source": ["os"]}, "was not offered"),
        ({"list": "pycomnet"}, "was not offered"),
        ({"source": ["sentpkg.../../../etc/passwd"]}, "is no module's name"),
        ({"data": ["sentpkg", "../../../../../etc/passwd"]}, "is no path within"),
        ({"data": ["sentpkg", "/etc/passwd"]}, "is no path within"),
        (5, "not a valid request"),
    ):
        channel.send(question)
        assert words in await channel.receive()
    channel.send({"source": ["sentpkg.settings"]})
    assert await channel.receive() == {"sentpkg.settings": b"FACTOR = 41\n"}


@pytest_twisted.ensureDeferred
async def test_forked_child_that_imports_is_told_what_to_do(
    group: pycomnet.Group, package: Any, tmp_path: Path
) -> None:
    """A process that far code forks can't ask any more, and is told what to do."""
    gateway = await group.makegateway("popen", chdir=str(tmp_path))

    def fork(channel: Any) -> None:
        import os

        import sentpkg.settings  # type: ignore[import-not-found]

        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, b"%d " % sentpkg.settings.FACTOR)
                import sentpkg.inner  # type: ignore[import-not-found]
            except BaseException as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        channel.send(os.read(read, 10000))

    said = await gateway.remote_exec(fork).receive()
    assert said.startswith(b"41 sentpkg.inner has to come from the near side")
    assert said.endswith(b"import it before forking")


@pytest_twisted.ensureDeferred
async def test_extension_module_is_refused_by_name(
    group: pycomnet.Group, package: Any, tmp_path: Path
) -> None:
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    path = Path(package.__file__).parent.parent / f"speedups{suffix}"
    path.write_bytes(b"no library")
    try:
        # Where the package's directory is there, too, it is found in that.
        gateway = await group.makegateway("popen", chdir=str(tmp_path))
        with pytest.raises(pycomnet.RemoteError, match="speedups"):
            await gateway.call("sentpkg.speedups:x")
        elsewhere = "import sentpkg; sentpkg.__path__[:] = []; import sentpkg.speedups"
        with pytest.raises(pycomnet.RemoteError, match="install it where this runs"):
            await gateway.remote_exec(elsewhere).waitclose()
    finally:
        path.unlink()


def test_program_itself_can_be_offered(tmp_path: Path) -> None:
    """``__main__`` is offered as any module; blocking, with functions that use its globals."""
    script = tmp_path / "program.py"
    script.write_text(
        """
import json
from pycomnet.blocking import Group

OFFSET = 3

def helper(n):
    return n + OFFSET

def work(text):
    return helper(json.loads(text))

if __name__ == "__main__":
    group = Group(modules=["__main__"])
    gateway = group.makegateway("popen", chdir="/")
    print(gateway.call(work, "[4]"[1:2]))
    group.close()
"""
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.stdout == "7\n", ran.stderr
