"""A server's limits on its clients, and the account of what it holds for them."""

from __future__ import annotations

import attrs

from pycomnet.channels.memory import CONNECTION_MEMORY, SERVER_MEMORY
from pycomnet.errors import Overloaded
from pycomnet.net.eager import BULK_SIZE
from pycomnet.ranges import check_fields
from pycomnet.services.binary import BlockLimits
from pycomnet.services.server.sessions import SessionLimits

#: Requests longer than this are checked for their method before their arguments are decoded;
#: shorter ones can't become large.
PEEK = 4096


@attrs.frozen(kw_only=True)
class ServerLimits:
    """A server's limits, on all clients together and on each of them.

    :ivar running: calls that run at a time, of methods that do not return at once.
    :ivar threads: calls of methods with ``thread=True`` that run at a time; others wait.
    :ivar queued: calls that wait for their turn; further ones are refused.
    :ivar held: bytes of the requests of all calls that wait, run or have come in part, and of their
        blocks that are in memory; further calls are refused. They are part of ``memory``.
    :ivar request: bytes of a call's structured arguments; and of all those of a batch.
    :ivar batch: calls in a batch.
    :ivar items: elements, keys and values of a call's structured arguments, at all depths: a byte
        can be an empty dict, which takes a hundred bytes of memory, so a million of those take 100
        MB.
    :ivar channels: calls, streams and blocks that one client may have open at a time.
    :ivar connections: clients at a time.
    :ivar read: bytes that are read from one client before others have their turn: where many small
        calls could come at once, a flood of them would keep the others waiting for that long.
    :ivar channel_memory: bytes that are held for one client on channels that nobody has taken.
    :ivar memory: bytes that are held for all clients together: on channels, of requests, and of
        results that they do not read. Above that, the client for which most is held loses them.
    :ivar keepalive: seconds of silence after which a client is asked whether it is still there.
    :ivar blocks: limits on the binary data that comes with a call.
    :ivar once_answers: calls with a key, of methods with ``once``, whose answers are kept; further
        ones are refused.
    :ivar once_bytes: bytes of those answers.
    :ivar once_share: the part of both that one user may have; all who have not logged in are one.
    :ivar once_time: seconds for which they are kept at least; they are at most kept twice as long.
    :ivar sessions: limits on the sessions of stateful interfaces.
    """

    running: int = 1000
    threads: int = 20
    queued: int = 10_000
    held: int = 256 << 20
    request: int = 64 << 20
    batch: int = 10_000
    items: int = 1 << 20
    channels: int = 16_384
    connections: int = 65_536
    read: int = BULK_SIZE
    channel_memory: int = CONNECTION_MEMORY
    memory: int = SERVER_MEMORY
    keepalive: float | None = 60.0
    once_answers: int = 100_000
    once_bytes: int = 64 << 20
    once_time: float = 3600.0
    once_share: float = 0.5
    blocks: BlockLimits = attrs.Factory(BlockLimits)
    sessions: SessionLimits = attrs.Factory(SessionLimits)

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    @property
    def most_batched(self) -> int:
        """The most calls in a batch: each is two of its items, and there are some more."""
        return min(self.batch, self.items // 3)

    @property
    def longest_run(self) -> int:
        """The most bytes of a run of several calls: each item takes a byte at least."""
        return min(PEEK, self.items)


@attrs.define
class HeldBytes:
    """Counts the bytes of requests that wait, run, or have arrived in part.

    The encoded size is counted: decoded, they may take several times the memory.
    """

    most: int
    size: int = 0
    #: those of incomplete requests
    partial: int = 0

    def is_full(self) -> bool:
        """Whether more is held than is allowed."""
        return self.size > self.most

    def no_room(self, size: int = 0) -> Overloaded:
        """The error for a caller whose arguments can't be held."""
        text = f"the server holds requests of {self.size} bytes; the limit is {self.most}"
        return Overloaded(f"{text}, and this one has {size}" if size else text)
