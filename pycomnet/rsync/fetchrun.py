"""One run of a fetch: carries messages between its receiver, in a thread, and the reactor."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import blockingCallFromThread

from pycomnet.channels.channel import Channel
from pycomnet.errors import PycomnetError
from pycomnet.far.rsync.compose import TooMuch
from pycomnet.far.rsync.entries import BadBatch
from pycomnet.rsync.fetchreceiver import FetchReceiver
from pycomnet.rsync.options import SyncError, SyncOptions
from pycomnet.rsync.result import EventKind, SyncEvent, TargetResult, shown_path
from pycomnet.rsync.targetchannels import carried, message_size

#: Bytes of messages that the far side has not read; then it is given up, as it replies to none.
UNREAD = 67108864
#: The bits of modes that are taken over: not that a program runs with its owner's rights, as the
#: owner is another one here.
MASK = 0o1777


@attrs.frozen
class FetchLimits:
    """How much the far side may send."""

    size: int | None
    entries: int | None


class FetchRun:
    """One run: the receiver's channels, in its thread, and its reports.

    :ivar receiving: fires when the receiver is done.
    """

    receiving: Deferred[Any]

    def __init__(
        self,
        channel: Channel,
        data: Channel,
        options: SyncOptions,
        result: TargetResult,
        report: Callable[[SyncEvent], object],
        limits: FetchLimits,
        reactor: IReactorFromThreads,
    ) -> None:
        self._channel = channel
        self._data = data
        self._options = options
        self._result = result
        self._report = report
        self._limits = limits
        self._reactor = reactor
        #: bytes that were sent and wait for credit
        self._unread = 0
        self._ended = threading.Event()

    # -- in the receiver's thread ----------------------------------------------------------------

    def receive(self, destination: bytes) -> None:
        """Receive all.

        :raises SyncError: the far side does not keep to the protocol, or can't go on.
        """
        try:
            message = self.next_message()
            match message:
                case ["root", int(mode), int(time), list(place)]:
                    pass
                case ["stopped", str(reason)]:
                    raise SyncError(f"{self._result.target}: {reason}")
                case _:
                    raise BadBatch(f"it began with {str(message)[:100]}")
            options = self._options
            asked = {
                "root": destination,
                "mode": mode,
                "time": time,
                "place": place,
                "rules": options.rules,
                "delete": options.delete,
                "dry_run": options.dry_run,
                "checksum": options.checksum,
                "owners": options.owners,
                "links": "keep" in (options.links, options.outside),
                "mask": 0o7777 if options.owners else MASK,
            }
            limits = self._limits
            FetchReceiver(self, asked, limits.size, limits.entries).run()
        except PycomnetError:
            raise
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise SyncError(f"{os.fsdecode(problem.filename or destination)}: {why}") from problem
        except TooMuch as problem:
            raise SyncError(f"more came than may come: {problem}") from None
        except (LookupError, TypeError, ValueError, OverflowError, struct.error) as problem:
            raise SyncError(f"the other end broke the protocol: {problem}") from problem

    def check(self) -> None:
        """Nothing, or an error if the run was ended."""
        if self._ended.is_set():
            raise SyncError("it was ended here")

    def next_message(self) -> Any:
        """The next message."""
        self.check()
        message = blockingCallFromThread(self._reactor, self._channel.receive)
        if not isinstance(message, list) or not message:
            raise BadBatch(f"{type(message).__name__} is no message")
        self._result.bytes_received += carried(message_size(message))
        return message

    def next_data(self) -> bytes:
        """The next bytes of the raw channel."""
        self.check()
        data: Any = blockingCallFromThread(self._reactor, self._data.receive)
        self._result.bytes_received += carried(len(data))
        return bytes(data)

    def put(self, message: list[Any]) -> None:
        """Send a message. It does not wait: the far side may wait for this end to receive."""
        size = carried(message_size(message))
        self._reactor.callFromThread(self._send, message, size)

    def compared(self, count: int) -> None:
        """``count`` more entries were compared."""
        self._result.entries += count

    def matched(self, size: int) -> None:
        """``size`` more bytes of a needed file have arrived."""
        self._result.matched += size

    def deletes_skipped(self) -> None:
        """Nothing is deleted, as the source could not be read completely."""
        self._result.deletes_skipped = True

    def note(self, kind: EventKind, path: bytes, reason: str = "") -> None:
        """Record what has happened to an entry, and report it to the user."""
        self._reactor.callFromThread(self.record, kind, path, reason)

    # -- in the reactor's thread -----------------------------------------------------------------

    def end(self) -> None:
        """Make the receiver end: its next call of :meth:`check`, or of a channel, fails."""
        self._ended.set()
        self._channel.close()
        self._data.close()

    def _send(self, message: list[Any], size: int) -> None:
        self._result.bytes_sent += size
        self._unread += size
        if self._unread > UNREAD and not self.receiving.called:
            problem = SyncError("the other end broke the protocol: it does not read what is sent")
            self.receiving.errback(problem)

        def sent(_: object) -> None:
            self._unread -= size

        sending: Deferred[Any] = self._channel.send(message)
        sending.addCallback(sent).addErrback(lambda _: None)

    def record(self, kind: EventKind, path: bytes, reason: str) -> None:
        """Put it into the result, and report it to the user."""
        if self.receiving.called:
            return  # the run was ended
        self._result.note(kind, shown_path(path), reason)
        try:
            self._report(SyncEvent(kind, self._result.target, shown_path(path), reason))
        except Exception as problem:
            if not self.receiving.called:
                self.receiving.errback(problem)
