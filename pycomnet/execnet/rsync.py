"""execnet's RSync, on pycomnet's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.blocking.wrapper import to_blocking_api
from pycomnet.errors import PycomnetError
from pycomnet.execnet.gateway import Gateway

if TYPE_CHECKING:
    from pycomnet.rsync.result import SyncEvent


@attrs.frozen
class SyncPlace:
    """A directory at a gateway."""

    gateway: Gateway
    path: str
    finished: Callable[[], object] | None
    delete: bool


class RSync:
    """Makes directories at gateways equal to one here; or files, if it is a file.

    A subclass may have another :meth:`filter`.

    :param sourcedir: the directory here.
    :param callback: called with ``"list"``, the bytes of all files that are to be sent, and None;
        then with ``"ack"``, a file's size, and None when it has been sent.
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
        self._places: list[SyncPlace] = []

    def filter(self, path: str) -> bool:
        """Whether a file or directory takes part.

        :param path: its whole path here.
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

        :param finishedcallback: called when this target is finished.
        :param options: ``delete``: whether what is not here is deleted there.
        """
        unknown = options.keys() - {"delete"}
        if unknown:
            raise TypeError(
                f"invalid options: {', '.join(sorted(unknown))}; delete is the only one"
            )
        delete = bool(options.get("delete", False))
        self._places.append(SyncPlace(gateway, os.fspath(destdir), finishedcallback, delete))

    def send(self, raises: bool = True) -> None:
        """Make the targets equal to the directory here; each is one for this run only.

        :param raises: whether it is an error if there are none.
        :raises OSError: something could not be done.
        """
        places, self._places = self._places, []
        if not places:
            if raises:
                raise OSError("no targets available, maybe you are trying call send() twice?")
            return
        if os.path.isfile(self._sourcedir):
            self._send_file(places)
            return
        if self._callback is not None:
            result = self._run(places, None, dry_run=True)
            files = {path for target in result.targets for path in target.sent}
            self._callback("list", sum(map(self._size, files)), None)
        by_name = {f"{place.gateway.id}:{place.path}": place for place in places}

        def progress(event: SyncEvent) -> None:
            if event.kind == "sent":
                self._sent(by_name[event.target], event.path)

        try:
            result = self._run(places, progress)
            for target in result.targets:
                # What has disappeared meanwhile is no error.
                target.failed = [each for each in target.failed if self._is_there(each[0])]
            result.raise_for_failures()
        except PycomnetError as problem:
            raise OSError(str(problem)) from None

    def _sent(self, place: SyncPlace, path: str) -> None:
        if self._verbose:
            self._report_send_file(place.gateway, path)
        if self._callback is not None:
            self._callback("ack", self._size(path), None)

    def _send_file(self, places: list[SyncPlace]) -> None:
        """The source is one file: it becomes one at each target."""
        with open(self._sourcedir, "rb") as file:
            data = file.read()
            found = os.fstat(file.fileno())
        if self._callback is not None:
            self._callback("list", len(data), None)
        times = (found.st_atime, found.st_mtime)
        channels = [
            place.gateway.remote_exec(
                write_file, path=place.path, data=data, mode=found.st_mode & 0o777, times=times
            )
            for place in places
        ]
        for place, channel in zip(places, channels, strict=True):
            try:
                channel.waitclose()
            except (channel.RemoteError, EOFError) as problem:
                raise OSError(str(problem)) from None
            self._sent(place, "")
            if place.finished is not None:
                place.finished()

    def _run(
        self,
        places: list[SyncPlace],
        progress: Callable[[SyncEvent], object] | None,
        dry_run: bool = False,
    ) -> Any:
        # Imported here: pytest-xdist makes a subclass each time that it starts, and seldom uses it.
        from pycomnet.blocking.rsync import RSync as _RSync

        run = _RSync(self._sourcedir, takes=self._takes, dry_run=dry_run)
        for place in places:
            finished = None if dry_run else _without_argument(place.finished)
            place.gateway.wait_begun()
            inner = to_blocking_api(place.gateway.inner)
            run.add_target(inner, place.path, delete=place.delete, finished=finished)
        return run.send(progress)

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
        """Print that a file is sent; a subclass may say that in another way."""
        print(f"{gateway} <= {modified_rel_path}")


def write_file(channel, path, data, mode, times):  # type: ignore[no-untyped-def]
    """Runs at the target: write a file whole, or leave the old one."""
    import os

    directory = os.path.dirname(path)
    if directory and not os.path.isdir(directory):
        os.makedirs(directory)
    other = "%s.%d" % (path, os.getpid())  # noqa: UP031 - for any Python
    try:
        with open(other, "wb") as file:
            file.write(data)
        os.chmod(other, mode)
        os.utime(other, times)
        os.rename(other, path)
    except BaseException:
        if os.path.exists(other):
            os.remove(other)
        raise


def _without_argument(
    callback: Callable[[], object] | None,
) -> Callable[[object], object] | None:
    return None if callback is None else lambda _: callback()


__all__ = ["RSync"]
