"""Trees of and for other users: what may not be read or written there, and owners."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test.needs import missing

#: Another user, and another Python that it may run.
USER = 65534
PYTHON = "/usr/bin/python3"
OTHER = f"popen//python=setpriv --reuid={USER} --regid={USER} --clear-groups {PYTHON}//fork=no"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


#: Seconds for a far side to start, on a busy machine.
START = 300


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[pycomnet.Group]:
    """A group."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor)
    yield made
    await made.close()


def require_other() -> None:
    """Skip unless there is a Python for the other user."""
    if shutil.which("setpriv") is None or not os.access(PYTHON, os.X_OK):
        missing(f"setpriv or {PYTHON} is not installed")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        (path / "source").mkdir()
        yield path


@pytest_twisted.ensureDeferred
async def test_target_of_another_user(group: pycomnet.Group, base: Path) -> None:
    """What it may write is written, as that user; the rest has failed, with its path."""
    require_other()
    source, target = base / "source", base / "target"
    for name in ("mine", "theirs", "closed/inside", "new/file"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("new")
    target.mkdir()
    os.chown(target, USER, USER)
    (target / "theirs").write_text("old, of root")
    (target / "closed").mkdir()
    (target / "closed" / "stays").write_text("of root")
    gateway = await group.makegateway(OTHER, chdir="/", timeout=START)
    sync = pycomnet.RSync(source, delete=True)
    sync.add_target(gateway, target)
    (result,) = (await sync.send()).targets
    assert result.error is None
    # The directory is theirs, so a file of root in it can be replaced; one in root's can't be.
    assert sorted(result.sent) == ["mine", "new/file", "theirs"]
    assert {os.stat(target / name).st_uid for name in result.sent} == {USER}
    assert {path for path, _ in result.failed} == {"closed", "closed/inside", "closed/stays"}
    assert os.listdir(target / "closed") == ["stays"]


@pytest_twisted.ensureDeferred
async def test_source_of_another_user(group: pycomnet.Group, base: Path) -> None:
    """What it may not read has failed; nothing is deleted below, and the rest comes."""
    require_other()
    source, target = base / "source", base / "target"
    for name in ("open", "secret", "closed/inside"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    (source / "secret").chmod(0o600)
    (source / "closed").chmod(0o700)
    (target / "closed").mkdir(parents=True)
    (target / "closed" / "old").write_text("old")
    (target / "secret").write_text("as it was")
    gateway = await group.makegateway(OTHER, chdir="/", timeout=START)
    result = await pycomnet.fetch(gateway, source, target, delete=True)
    assert result.sent == ["open"]
    assert {path for path, _ in result.failed} == {"secret", "closed"}
    assert (target / "secret").read_text() == "as it was"
    assert os.listdir(target / "closed") == ["old"]
    assert result.deletes_skipped


@pytest_twisted.ensureDeferred
async def test_owners_converge_in_one_run(group: pycomnet.Group, base: Path) -> None:
    """With ``owners`` a file has its owner and its whole mode after one run, new or old."""
    source, target = base / "source", base / "target"
    target.mkdir()
    for name in ("new", "old"):
        path = source / name
        path.write_text("content")
        os.chown(path, USER, USER)
        path.chmod(0o4755)
        os.utime(path, ns=(10**18, 10**18))
    shutil.copy2(source / "old", target / "old")
    (target / "old").chmod(0o4755)  # what a change of the owner takes away
    gateway = await group.makegateway("popen", timeout=START)
    for changed in (["old"], []):
        sync = pycomnet.RSync(source, owners=True)
        sync.add_target(gateway, target)
        (result,) = (await sync.send()).targets
        result.raise_for_failures()
        assert [path for path in result.changed if path] == changed
        for name in ("new", "old"):
            status = os.stat(target / name)
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (USER, 0o4755)
