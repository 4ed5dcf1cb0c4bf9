"""The cache of resolutions, downloads and built wheels, limited in age and size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pycomnet.text.logs import Logger
from pycomnet.xdeploy.interpreter import own_interpreter
from pycomnet.xdeploy.plan import FarBuild, Plan, SourceFile

log = Logger()

#: Seconds after which a file in the cache is removed that nobody has used since.
MAX_AGE = 30 * 86400
#: The most bytes of files in the cache: then those that were used least recently are removed.
MAX_BYTES = 4 << 30
#: Seconds for which a file stays in any case: another program may be sending it.
MIN_AGE = 3600
#: Seconds between two times that the cache is looked through.
BETWEEN_PRUNES = 86400


class WheelCache:
    """What was resolved and downloaded here before: files by their hash, plans by what was wanted.

    A file's time is that of its last use. Once a day, when a plan is added, files are removed that
    were not used for :data:`MAX_AGE`, and the least recently used ones beyond :data:`MAX_BYTES`.

    Whoever can write to it chooses what is installed. So it is for this user alone; and another
    user's caches, as with ``sudo`` that keeps ``HOME``, are not used.

    :param path: its directory; by default one below the user's caches.
    :param clock: the time of day, as the times of files.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = self._own() if path is None else Path(path)
        self._clock = clock

    def _own(self) -> Path:
        for caches in _caches():
            path = Path(caches, "pycomnet", "xdeploy")
            if _is_own(path):
                return path
        path = Path(tempfile.mkdtemp(prefix="pycomnet-xdeploy-"))
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        log.warn(
            "this user has no directory for caches of its own, so what is built and downloaded is "
            "kept only while it is used: set XDG_CACHE_HOME"
        )
        return path

    def prune(self) -> int:
        """Remove files that were not used for long, and the least recently used ones of too many.

        :returns: the bytes that were removed.
        """
        found = []
        for path in self.path.glob("*/**/*"):  # those in "new" as well, if a program died
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime, status.st_size, path))
        now = self._clock()
        total, removed = sum(size for _, size, _ in found), 0
        for used, size, path in sorted(found):
            if now - used < MIN_AGE or (now - used < MAX_AGE and total - removed <= MAX_BYTES):
                break
            with contextlib.suppress(OSError):
                path.unlink()
                removed += size
                if path.parent.parent.name == "files":
                    path.parent.rmdir()
        return removed

    def prune_daily(self) -> None:
        """Prune the cache, unless that was done within the last day."""
        stamp = self.path / "pruned"
        try:
            last = stamp.stat().st_mtime
        except OSError:
            last = 0.0
        if abs(self._clock() - last) >= BETWEEN_PRUNES:
            stamp.touch()
            self._used(stamp)
            self.prune()

    def _used(self, path: Path) -> None:
        now = self._clock()
        with contextlib.suppress(OSError):
            os.utime(path, (now, now))

    def add(self, path: Path) -> SourceFile:
        """Move a file into the cache."""
        digest = _hash_of(path)
        size = path.stat().st_size
        target = self.path / "files" / digest / path.name
        if not target.exists() or _hash_of(target) != digest:
            with self._part() as part:
                shutil.move(path, part)
                self._put(part, target)
        self._used(target)
        return SourceFile(target, digest, size)

    def forget(self, file: SourceFile) -> None:
        """Remove a file that is damaged; it is downloaded or built again when it is wanted."""
        file.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _part(self) -> Iterator[Path]:
        """A new file for what is not complete yet. Others may add the same.

        It is removed if the block fails, as on a full disk.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        if self.path.stat().st_mode & 0o077:
            self.path.chmod(0o700)
        new = self.path / "new"
        new.mkdir(exist_ok=True)
        fd, name = tempfile.mkstemp(dir=new)
        os.close(fd)
        try:
            yield Path(name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _put(self, part: Path, target: Path) -> None:
        """Move a complete file to its place."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.replace(target)
        except FileNotFoundError:  # its directory was empty, and was removed meanwhile
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)

    def read_plan(self, key: str) -> Plan | None:
        """The plan that was kept, if all its files are here."""
        found = self._read("plans", key)
        if found is None:
            return None
        try:
            return Plan(
                tuple(self._file(row) for row in found["wheels"]),
                tuple(
                    FarBuild(
                        self._file(build["sdist"]),
                        tuple(self._file(row) for row in build["wheels"]),
                        build["backend"],
                        tuple(build["paths"]),
                    )
                    for build in found["builds"]
                ),
            )
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def write_plan(self, key: str, plan: Plan) -> None:
        """Keep a plan, and prune the cache once a day."""
        self._write("plans", key, plan.as_map())
        self.prune_daily()

    def same_sdist(self, path: Path) -> SourceFile:
        """Take an sdist into the cache; if one with the same content was made before, return that.

        Two sdists of the same sources differ in times, and so in their hashes.
        """
        key = _content_hash(path)
        found = self._read("sdists", key)
        if found is not None:
            try:
                return self._file(found["sdist"])
            except (KeyError, TypeError, ValueError, OSError):
                pass
        sdist = self.add(path)
        self._write("sdists", key, {"sdist": sdist.row()})
        return sdist

    def read_built(self, sdist: SourceFile) -> SourceFile | None:
        """The wheel that was built of an sdist by this interpreter."""
        found = self._read("built", f"{sdist.sha256}-{own_interpreter().key[:32]}")
        try:
            return None if found is None else self._file(found["wheel"])
        except (KeyError, TypeError, ValueError, OSError):
            return None

    def write_built(self, sdist: SourceFile, wheel: SourceFile) -> None:
        """Remember which wheel this interpreter builds of an sdist."""
        key = f"{sdist.sha256}-{own_interpreter().key[:32]}"
        self._write("built", key, {"wheel": wheel.row()})

    def _file(self, row: list[Any]) -> SourceFile:
        name, digest, size = row
        path = self.path / "files" / digest / name
        if path.stat().st_size != size:
            raise ValueError(f"{path} has changed")
        self._used(path)
        return SourceFile(path, digest, size)

    def _read(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            path = self.path / kind / f"{key}.json"
            value = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            return None
        self._used(path)
        return value if isinstance(value, dict) else None

    def _write(self, kind: str, key: str, value: dict[str, Any]) -> None:
        with self._part() as part:
            part.write_text(json.dumps(value))
            self._used(part)
            self._put(part, self.path / kind / f"{key}.json")


def _caches() -> Iterator[str]:
    """Where this user's caches may be, the likeliest first."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        yield given
    yield os.path.expanduser("~/.cache")
    with contextlib.suppress(ImportError, KeyError):
        import pwd  # not on Windows

        yield os.path.join(pwd.getpwuid(os.geteuid()).pw_dir, ".cache")


def _is_own(path: Path) -> bool:
    """Whether a directory belongs to this user; if it is not there, what it would be made in."""
    if not hasattr(os, "geteuid"):
        return True  # Windows, where a user's directories are closed to others
    for each in (path, *path.parents):
        with contextlib.suppress(OSError):
            return path.is_absolute() and each.stat().st_uid == os.geteuid()
    return False


def _hash_of(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            found.update(piece)
    return found.hexdigest()


def _content_hash(path: Path) -> str:
    """A hash of the files in an sdist, without times and owners."""
    found = hashlib.sha256(path.name.encode())
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive.getmembers()}
        for name in sorted(members):
            member = members[name]
            kind = member.type.decode("ascii", "replace")
            found.update(f"\0{name}\0{kind}{member.mode & 0o111}\0{member.linkname}\0".encode())
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                with file:
                    for piece in iter(lambda opened=file: opened.read(1 << 20), b""):  # type: ignore[misc]
                        found.update(piece)
    return found.hexdigest()
