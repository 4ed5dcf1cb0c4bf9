"""execnet's RSync, on pycomnet's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.blocking.wrapper import to_blocking_api
from pycomnet.errors import PycomnetError
from pycomnet.execnet.errors import RemoteError
from pycomnet.execnet.gateway import Gateway

if TYPE_CHECKING:
    from pycomnet.rsync.result import SyncEvent


#: Bytes of a piece in which a single file is sent.
PIECE = 1 << 20
#: Why a file that has disappeared can't be sent.
GONE = os.strerror(errno.ENOENT)


@attrs.frozen
class RSyncDestination:
    """A directory at a gateway. RSync's callbacks get it where execnet passes its channel.

    :ivar gateway: the gateway.
    """

    gateway: Gateway
    path: str
    finished: Callable[[], object] | None
    delete: bool


class RSync:
    """Makes directories at gateways equal to one here; or files, if that is a file.

    A subclass may override :meth:`filter`.

    :param sourcedir: the directory here.
    :param callback: for each target it is called with ``"list"`` and the bytes of all files that
        are to be sent; then with ``"ack"`` and a file's size when it has been sent. The third
        argument has the target's ``gateway``.
    :param verbose: whether each file that is sent is printed.
    """

    def __init__(
        self,
        sourcedir: str | os.PathLike[str],
        callback: Callable[[str, int, Any], object] | None = None,
        verbose: bool = True,
    ) -> None:
        self._sourcedir = os.fspath(sourcedir)
        self._callback = callback
        self._verbose = verbose
        self._targets: list[RSyncDestination] = []

    def filter(self, path: str) -> bool:
        """Whether a file or directory is sent.

        :param path: its absolute path here, or relative as ``sourcedir`` is.
        """
        return True

    def add_target(
        self,
        gateway: Gateway,
        destdir: str | os.PathLike[str],
        finishedcallback: Callable[[], object] | None = None,
        **options: Any,
    ) -> None:
        """Add a target for the next :meth:`send`.

        :param finishedcallback: called, in the thread of :meth:`send`, when this target is
            finished.
        :param options: ``delete``: whether what is not here is deleted there.
        """
        unknown = options.keys() - {"delete"}
        if unknown:
            raise TypeError(
                f"invalid options: {', '.join(sorted(unknown))}; delete is the only one"
            )
        delete = bool(options.get("delete", False))
        self._targets.append(
            RSyncDestination(gateway, os.fspath(destdir), finishedcallback, delete)
        )

    def send(self, raises: bool = True) -> None:
        """Make the targets equal to the directory here, and forget the targets.

        :param raises: whether it is an error if there are no targets.
        :raises OSError: something could not be done.
        """
        targets, self._targets = self._targets, []
        if not targets:
            if raises:
                raise OSError("no targets available, maybe you are trying call send() twice?")
            return
        try:
            for target in targets:
                # With main_thread_only other code may occupy the main thread: then this raises.
                target.gateway.remote_exec("").waitclose()
            if os.path.isfile(self._sourcedir):
                for target in targets:
                    self._send_file(target)
            else:
                for each in _distinct_names(targets):
                    self._send_directory(each)
        except (PycomnetError, RemoteError, EOFError) as problem:
            raise OSError(str(problem)) from None

    def _send_directory(self, targets: dict[str, RSyncDestination]) -> None:
        """Send to some targets; the keys are the names that events have for them."""
        if self._callback is not None:
            result = self._run(targets, None, dry_run=True)
            for each, target in zip(result.targets, targets.values(), strict=True):
                self._callback("list", sum(map(self._size, each.sent)), target)

        def progress(event: SyncEvent) -> None:
            target = targets[event.target]
            if event.kind == "sent":
                self._sent(target, event.path)
            elif event.kind == "finished" and not event.reason and target.finished is not None:
                target.finished()

        result = self._run(targets, progress)
        for each in result.targets:
            # A file that has disappeared here meanwhile is no error. One that could not be deleted
            # there is an error, though it does not exist here.
            each.failed = [
                (path, reason)
                for path, reason in each.failed
                if reason != GONE or self._is_there(path)
            ]
        result.raise_for_failures()

    def _run(
        self,
        targets: dict[str, RSyncDestination],
        progress: Callable[[SyncEvent], object] | None,
        dry_run: bool = False,
    ) -> Any:
        # Imported here: pytest-xdist makes a subclass each time that it starts, and seldom uses it.
        from pycomnet.blocking.rsync import RSync as _RSync

        run = _RSync(self._sourcedir, takes=self._takes, dry_run=dry_run)
        for target in targets.values():
            run.add_target(to_blocking_api(target.gateway.inner), target.path, delete=target.delete)
        return run.send(progress)

    def _sent(self, target: RSyncDestination, path: str) -> None:
        if self._verbose:
            self._report_send_file(target.gateway, path)
        if self._callback is not None:
            self._callback("ack", self._size(path), target)

    def _send_file(self, target: RSyncDestination) -> None:
        """The source is one file: it becomes one at the target."""
        with open(self._sourcedir, "rb") as file:
            found = os.fstat(file.fileno())
            if self._callback is not None:
                self._callback("list", found.st_size, target)
            times = (found.st_atime, found.st_mtime)
            channel = target.gateway.remote_exec(
                write_file, path=target.path, mode=found.st_mode & 0o777, times=times
            )
            # The far side asks for each piece, so a long file is never in memory as a whole.
            for _ in channel:
                channel.send(file.read(PIECE))
        channel.waitclose()
        self._sent(target, "")
        if target.finished is not None:
            target.finished()

    def _takes(self, path: str) -> bool:
        return bool(self.filter(os.path.join(self._sourcedir, path)))

    def _is_there(self, path: str) -> bool:
        return os.path.lexists(os.path.join(self._sourcedir, path))

    def _size(self, path: str) -> int:
        try:
            return os.path.getsize(os.path.join(self._sourcedir, path) if path else self._sourcedir)
        except OSError:
            return 0  # it has disappeared

    def _report_send_file(self, gateway: Gateway, modified_rel_path: str) -> None:
        """Print that a file was sent; a subclass may override this."""
        print(f"{gateway} <= {modified_rel_path}")


def write_file(channel, path, mode, times):  # type: ignore[no-untyped-def]
    """Runs at the target: replace a file by a whole new one, or leave the old one."""
    import os
    import tempfile

    directory = os.path.dirname(path)
    try:
        os.makedirs(directory or ".")
    except OSError:
        if not os.path.isdir(directory or "."):
            raise
    # A new file with an unpredictable name, which only this user can read until it is whole.
    handle, other = tempfile.mkstemp(prefix=".", dir=directory or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            while True:
                channel.send(None)
                data = channel.receive()
                if not data:
                    break
                file.write(data)
        os.chmod(other, mode)
        os.utime(other, times)
        os.rename(other, path)
    except BaseException:
        os.remove(other)
        raise


def _distinct_names(targets: list[RSyncDestination]) -> Iterator[dict[str, RSyncDestination]]:
    """Targets by their names in events. Gateways of two groups may have equal names.

    :returns: dictionaries in which each name occurs once.
    """
    while targets:
        found: dict[str, RSyncDestination] = {}
        left = []
        for target in targets:
            name = f"{target.gateway.id}:{target.path}"
            if found.setdefault(name, target) is not target:
                left.append(target)
        yield found
        targets = left


__all__ = ["RSync"]
