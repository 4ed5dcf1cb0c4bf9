"""rsync against the real one, with other Pythons, over ssh, through hops, and with kills."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import HealthCheck
from hypothesis import strategies as st

import pycomnet
from pycomnet.far.rsync.files import TEMPORARY
from pycomnet.test.disks import small_disk
from pycomnet.test.needs import needs
from pycomnet.test.processes import still_there, versioned_python
from pycomnet.test.properties import given, settings
from pycomnet.test.rsync.kit import sync, tree_of, write
from pycomnet.test.system.daemons import COMMAND, PATIENCE, environment
from pycomnet.test.system.sshd import Sshd, sshd

#: Far Pythons, each with whether it has nanoseconds.
PYTHONS = {sys.executable: True, f"{sys.executable} -S -E": True, "pypy3": True, "jython": False}
PYTHONS["python2.7"] = False
NOON = 1700000000123456789
NEEDS_MOUNT = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("PYCOMNET_REQUIRE_ALL"),
    reason="only root can mount a small file system",
)
#: Seconds for a far side to start: Jython, on a busy machine.
START = 300


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[pycomnet.Group]:
    """A group."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[Sshd]:
    """An sshd for all tests here."""
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


# -- the real rsync ------------------------------------------------------------------------------

NAMES = [b"a", b"b", b"c.py", b"d.pyc", b"e f", "\u00e9".encode(), b"\xff", b"-n", b"*"]
LEAVES = st.one_of(
    st.tuples(
        st.just("file"),
        st.sampled_from([b"", b"one", b"two", b"x" * 5000, b"y" * 200000]),
        st.sampled_from([0o644, 0o600, 0o755, 0o444]),
        st.integers(1, 6),
    ),
    st.tuples(st.just("link"), st.sampled_from([b"a", b"../b", b"/nowhere", b"."])),
)
TREES = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), LEAVES, max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), st.one_of(LEAVES, inner), max_size=5),
    max_leaves=20,
)
PATTERNS = [
    *("*.py", "/a", "a/", "a/b", "/a/**", "**/b", "[ab]", "?", "c.*", "/a/***", "a/*/b", "*"),
    *("/b/", "a/**/b", "*.py[co]", "/*/a", "b/*", "**/a/", "**b", "a**", "[!a]", "/**/b"),
]


def make_tree(root: Path, tree: dict[bytes, Any]) -> None:
    """Make a tree. Its times are whole seconds, as rsync compares no less; those of files depend on
    their content, so that the quick check is right.
    """
    os.makedirs(root, exist_ok=True)
    _make(os.fsencode(root), tree)


def _make(directory: bytes, tree: dict[bytes, Any]) -> None:
    for name, what in tree.items():
        path = os.path.join(directory, name)
        if isinstance(what, dict):
            os.makedirs(path, exist_ok=True)
            _make(path, what)
        elif what[0] == "link":
            os.symlink(what[1], path)
            os.utime(path, (1550000000, 1550000000), follow_symlinks=False)
        else:
            _, content, mode, time = what
            write(path, content)
            os.chmod(path, mode)
            seconds = 1600000000 + time * 1000 + len(content) % 999 + content[:1].count(b"t")
            os.utime(path, (seconds, seconds))
    seconds = 1500000000 + len(tree)
    os.utime(directory, (seconds, seconds))


def rsync(*arguments: object) -> None:
    """Run the real one."""
    subprocess.run(
        ["rsync", "-a", "--delete", *map(str, arguments)], check=True, timeout=PATIENCE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def compare(base: Path, old: Any, new: Any, exclude: list[str], include: list[str]) -> None:
    """Fail unless we do to a tree what rsync does."""
    shutil.rmtree(base, ignore_errors=True)
    make_tree(base / "source", new)
    for name in ("ours", "theirs"):
        make_tree(base / name, old)
    # The rules in the same order: what is included comes first.
    rules = [f"--include={each}" for each in include] + [f"--exclude={each}" for each in exclude]
    rsync(*rules, f"{base}/source/", f"{base}/theirs/")
    done = sync(
        str(base / "source"), str(base / "ours"), delete=True, exclude=exclude, include=include
    )
    assert done["failed"] == {}
    ours, theirs = tree_of(str(base / "ours")), tree_of(str(base / "theirs"))
    for path in ours.keys() | theirs.keys():
        assert ours.get(path) == theirs.get(path), path
    again = sync(
        str(base / "source"), str(base / "ours"), delete=True, exclude=exclude, include=include
    )
    assert {kind: found for kind, found in again.items() if found and kind != "noted"} == {}


@needs("rsync")
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(old=TREES, new=TREES)
def test_as_rsync_does(tmp_path_factory: Any, old: Any, new: Any) -> None:
    """Whatever is there and whatever is sent, the result is that of ``rsync -a --delete``."""
    compare(tmp_path_factory.getbasetemp() / "trees", old, new, [], [])


@needs("rsync")
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    old=TREES,
    new=TREES,
    exclude=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    include=st.lists(st.sampled_from(PATTERNS), max_size=2),
)
def test_patterns_as_rsyncs(
    tmp_path_factory: Any, old: Any, new: Any, exclude: list[str], include: list[str]
) -> None:
    """Patterns match what rsync's match, for what is sent and for what is deleted."""
    base = tmp_path_factory.getbasetemp() / "patterns"
    make_tree(base / "source", new)
    for name in ("ours", "theirs"):
        make_tree(base / name, old)
    try:
        rules = [f"--include={each}" for each in include]
        rules += [f"--exclude={each}" for each in exclude]
        arguments = ["rsync", "-a", "--delete", *rules, f"{base}/source/", f"{base}/theirs/"]
        ran = subprocess.run(arguments, timeout=PATIENCE, capture_output=True)
        done = sync(
            str(base / "source"), str(base / "ours"), delete=True, exclude=exclude, include=include
        )
        if ran.returncode == 0 and b"cannot delete non-empty" not in ran.stdout + ran.stderr:
            assert done["failed"] == {}
            assert tree_of(str(base / "ours")) == tree_of(str(base / "theirs"))
    finally:
        shutil.rmtree(base)


# -- far Pythons, ssh, hops ----------------------------------------------------------------------


def fill(source: Path) -> None:
    """Make a source with some of everything."""
    for number in range(60):
        write(str(source / f"short{number % 6}" / f"{number}"), b"%d" % number * number, NOON)
    write(str(source / "long"), random.Random(1).randbytes(2000000), NOON)
    write(str(source / "middle"), random.Random(2).randbytes(70000), NOON)
    write(str(source / "empty"), b"", NOON)
    write(str(source / "\u00e9\u20ac" / "file"), b"content", NOON)
    os.link(source / "long", source / "short1" / "other name of long")
    os.symlink("../long", source / "short1" / "link")
    os.symlink(source / "middle", source / "absolute")
    os.chmod(source / "middle", 0o750)
    os.chmod(source / "short2", 0o555)


def seen(root: Path, nanoseconds: bool) -> dict[bytes, Any]:
    """A tree, without what this Python can't set, and with the links into it made relative."""
    found = {}
    for path, entry in tree_of(str(root)).items():
        if entry[0] == "link":
            found[path] = ("link", entry[1].replace(os.fsencode(root), b"ROOT"))
        else:
            time = entry[2] if nanoseconds else (entry[2] + 2000) // 1000000
            found[path] = (*entry[:2], time, *entry[3:])
    return found


async def goes_on(gateway: pycomnet.Gateway, base: Path, nanoseconds: bool = True) -> None:
    """A tree arrives, nothing is done twice, and changes arrive."""
    source, target = base / "source", base / "target"
    fill(source)
    run = pycomnet.RSync(source, hard_links=True, delete=True)
    run.add_target(gateway, target)

    async def once() -> pycomnet.TargetResult:
        result = await run.send()
        result.raise_for_failures()
        assert seen(target, nanoseconds) == seen(source, nanoseconds)
        return result.targets[0]

    first = await once()
    assert len(first.sent) == 64
    second = await once()
    assert (second.sent, second.made, second.changed, second.deleted) == ([], [], [], [])
    with open(source / "long", "r+b") as file:
        file.seek(1000000)
        file.write(b"changed")
    os.chmod(source / "middle", 0o600)
    os.remove(source / "short3" / "3")
    shutil.rmtree(source / "short4")
    third = await once()
    assert sorted(third.deleted) == ["short3/3", "short4"]
    assert third.sent == ["long"]
    assert "middle" in third.changed
    assert third.literal < 50000
    await comes_back(gateway, base, nanoseconds)


async def comes_back(gateway: pycomnet.Gateway, base: Path, nanoseconds: bool) -> None:
    """The tree can be fetched from there, and only what has changed comes again."""
    there, back = base / "target", base / "back"

    async def once() -> pycomnet.TargetResult:
        result = await pycomnet.fetch(gateway, there, back, hard_links=True, delete=True)
        result.raise_for_failures()
        assert seen(back, nanoseconds) == seen(there, nanoseconds)
        return result

    assert len((await once()).sent) == 53
    again = await once()
    assert (again.sent, again.made, again.changed, again.deleted) == ([], [], [], [])
    content = (there / "long").read_bytes()
    write(str(there / "long"), b"front" + content, NOON + 1000000)
    os.remove(there / "short5" / "5")
    changed = await once()
    assert (changed.sent, changed.deleted) == (["long"], ["short5/5"])
    assert changed.bytes_received < 100000


async def nothing_into_itself(gateway: pycomnet.Gateway, source: Path) -> None:
    """A destination in the source is refused, in both directions."""
    inside = source / "short1" / "inside"
    sync = pycomnet.RSync(source)
    sync.add_target(gateway, inside)
    (result,) = (await sync.send()).targets
    words = "the destination lies in the source, as 'short1/inside'"
    assert words in str(result.error)
    with pytest.raises(pycomnet.SyncError, match=words):
        await pycomnet.fetch(gateway, source, inside)
    assert not inside.exists()


@pytest.mark.parametrize(
    "python", [pytest.param(python, marks=needs(python.split()[0])) for python in PYTHONS]
)
@pytest_twisted.ensureDeferred
async def test_far_python(python: str, group: pycomnet.Group, tmp_path: Path) -> None:
    """Each Python can be a target."""
    # pyenv's first: what it has on the path may be a script that says that there is no such.
    command = versioned_python("2.7") or python if python == "python2.7" else python
    gateway = await group.makegateway(f"popen//python={command}//fork=no", timeout=START)
    await goes_on(gateway, tmp_path, PYTHONS[python])
    await nothing_into_itself(gateway, tmp_path / "source")


@pytest_twisted.ensureDeferred
async def test_ssh(server: Sshd, group: pycomnet.Group, tmp_path: Path) -> None:
    """A machine behind ssh can be a target."""
    await goes_on(await group.makegateway(server.spec(), timeout=START), tmp_path)


@pytest_twisted.ensureDeferred
async def test_hops(group: pycomnet.Group, tmp_path: Path) -> None:
    """A gateway behind gateways can be a target."""
    await group.makegateway("popen//id=one", timeout=START)
    await group.makegateway("popen//id=two//via=one", timeout=START)
    await goes_on(await group.makegateway("popen//via=two", timeout=START), tmp_path)


def test_command_over_ssh(server: Sshd, tmp_path: Path) -> None:
    """The command does what its page says."""
    fill(tmp_path / "source")
    write(str(tmp_path / "source" / "a.pyc"), b"")
    write(str(tmp_path / "target" / "old.py"), b"")
    target = f"{server.spec()}:{tmp_path}/target"
    command = [*COMMAND, "sync", str(tmp_path / "source"), target]

    def run(*options: str) -> list[str]:
        ran = subprocess.run(
            [*command, *options],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    lines = run("--delete", "--exclude", "*.pyc", "--dry-run", "--hard-links")
    assert "deleted old.py" in lines
    assert os.listdir(tmp_path / "target") == ["old.py"]
    lines = run("--delete", "--exclude", "*.pyc", "--hard-links")
    assert "sent long" in lines
    os.remove(tmp_path / "source" / "a.pyc")
    assert seen(tmp_path / "target", True) == seen(tmp_path / "source", True)
    lines = run("--delete", "--exclude", "*.pyc", "--hard-links")
    assert len(lines) == 1 and " entries, " in lines[0]


# -- kills ---------------------------------------------------------------------------------------

NEAR = """
import sys
from pycomnet.blocking import Group, RSync
source, target = sys.argv[1:]
with Group() as group:
    gateway = group.makegateway("popen", timeout=300)
    sync = RSync(source, delete=True)
    sync.add_target(gateway, target)
    print(gateway.info["pid"], flush=True)
    sync.send(timeout=300).raise_for_failures()
"""


def test_kills(tmp_path: Path) -> None:
    """Whenever either end is killed, each file is whole, old or new; and a rerun converges."""
    numbers = random.Random(3)
    source, target = tmp_path / "source", tmp_path / "target"
    allowed: dict[bytes, set[bytes]] = {}
    for turn in range(12):
        for name in ["long", "middle", *(f"short{number}" for number in range(200))]:
            size = {"long": 8000000, "middle": 200000}.get(name, 1000)
            path = source / name
            if path.exists() and turn % 2:
                content = path.read_bytes()
                at = numbers.randrange(size)
                content = content[:at] + b"%d" % turn + content[at:]
            else:
                content = numbers.randbytes(size)
            write(str(path), content, NOON + turn)
            allowed.setdefault(os.fsencode(name), set()).add(content)
        near = subprocess.Popen(
            [sys.executable, "-c", NEAR, str(source), str(target)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert near.stdout is not None
        far = int(near.stdout.readline())
        try:
            near.wait(numbers.random() * 0.5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(near.pid if turn % 3 else far, signal.SIGKILL)
        near.wait(PATIENCE)
        near.stdout.close()
        assert still_there([far]) == []  # until then it may change files
        if target.exists():
            for found, entry in tree_of(str(target)).items():
                if not found.startswith(TEMPORARY):
                    assert entry[3] in allowed[found], (turn, found)
    subprocess.run(
        [sys.executable, "-c", NEAR, str(source), str(target)],
        env=environment(), check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE,
    )  # fmt: skip
    assert tree_of(str(target)) == tree_of(str(source))


# -- a full disk ---------------------------------------------------------------------------------


@NEEDS_MOUNT
@pytest_twisted.ensureDeferred
async def test_disk_that_fills_in_mid_file(group: pycomnet.Group, tmp_path: Path) -> None:
    """What has room arrives; the rest fails with the reason, and its old content stays, whole."""
    source, disk = tmp_path / "source", tmp_path / "disk"
    target = disk / "target"
    numbers = random.Random(7)
    old = numbers.randbytes(300_000)
    disk.mkdir()
    gateway = await group.makegateway("popen")
    with small_disk(disk, "2m"):
        long = ("changed", "new")
        for name in long:
            write(f"{target}/{name}", old, NOON - 1)
        write(f"{source}/a", b"short", NOON)
        more = numbers.randbytes(5_000_000)
        write(f"{source}/changed", old[:150_000] + more + old[150_000:], NOON)
        write(f"{source}/new", more[:3_000_000], NOON)
        for number in range(40):
            write(f"{source}/many/{number}", numbers.randbytes(60_000), NOON)
        run = pycomnet.RSync(source, delete=True)
        run.add_target(gateway, target)
        (result,) = (await run.send()).targets
        assert result.error is None
        reasons = dict(result.failed)
        assert set(long) <= set(reasons)
        assert set(reasons.values()) == {"No space left on device"}
        assert (target / "a").read_bytes() == b"short"
        for name in long:
            assert (target / name).read_bytes() == old
        for path in (target / "many").iterdir():
            assert path.read_bytes() == (source / "many" / path.name).read_bytes()
        # With room, another run to the same gateway makes it equal.
        for name in long:
            write(f"{source}/{name}", b"short now", NOON)
        shutil.rmtree(target / "many")
        for number in range(20, 40):
            os.remove(source / "many" / str(number))
        (result,) = (await run.send()).targets
        assert result.failed == []
        assert tree_of(str(target)) == tree_of(str(source))


DROP_IN = """
import sys
import pycomnet.execnet as execnet
source, target = sys.argv[1:]
group = execnet.Group()
sync = execnet.RSync(source, verbose=False)
sync.add_target(group.makegateway("popen"), target, delete=True)
try:
    sync.send()
except OSError as problem:
    print(problem)
group.terminate(timeout=10)
"""


@NEEDS_MOUNT
def test_what_can_not_be_deleted_is_an_error_of_the_drop_in(tmp_path: Path) -> None:
    """It is not here, but it has not disappeared while it was sent."""
    source, target = tmp_path / "source", tmp_path / "target"
    write(f"{source}/a", b"content", NOON)
    busy = target / "busy"
    busy.mkdir(parents=True)
    with small_disk(busy, "1m"):
        ran = subprocess.run(
            [sys.executable, "-c", DROP_IN, str(source), str(target)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert "busy" in ran.stdout.split(":")[-2]
    assert os.strerror(errno.EBUSY) in ran.stdout
    assert (target / "a").read_bytes() == b"content"
