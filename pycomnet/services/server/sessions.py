"""Sessions: the state that a stateful service keeps for each client, with limits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, MutableMapping
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import SessionTooLarge
from pycomnet.ranges import check_fields
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import ValueNotSendable, show_key

_measure = make_codec().encode


@attrs.frozen(kw_only=True)
class SessionLimits:
    """Limits on the sessions of a server.

    :ivar idle: seconds after its last use at which a session is dropped.
    :ivar size: bytes of one session, as its values would be encoded.
    :ivar count: the number of sessions; above it, the least recently used one is dropped.
    """

    idle: float = 600.0
    size: int = 1 << 16
    count: int = 10_000

    def __attrs_post_init__(self) -> None:
        check_fields(self)


class ClientSession(MutableMapping[str, Any]):
    """A client's session: a dict whose values could be sent, up to a size.

    :raises SessionTooLarge: what is put into it is too much.
    """

    __slots__ = ("_limit", "_sizes", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Session {list(self._values)}>"

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        size = _size(key, value)
        total = sum(self._sizes.values()) - self._sizes.get(key, 0) + size
        if total > self._limit:
            raise SessionTooLarge(f"a session of {total} bytes, the limit is {self._limit}")
        self._values[key] = value
        self._sizes[key] = size

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        del self._sizes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def measure(self) -> None:
        """Measure again: what is in it may have been changed where it is.

        :raises SessionTooLarge: it has become too much. It is empty then.
        """
        self._sizes = {key: _size(key, value) for key, value in self._values.items()}
        total = sum(self._sizes.values())
        if total > self._limit:
            self.clear()
            raise SessionTooLarge(f"a session had {total} bytes, the limit is {self._limit}")


def _size(key: str, value: Any) -> int:
    if not isinstance(key, str):
        raise TypeError(f"a session's keys are str, not {type(key).__name__}")
    try:
        return len(_measure([key, value]))
    except ValueNotSendable as problem:
        raise problem.renamed("[1]", f"session{show_key(key)}", value) from None


class Sessions:
    """All sessions of a server.

    :param reactor: for the time, and to expire sessions.
    """

    def __init__(self, limits: SessionLimits, reactor: IReactorTime) -> None:
        self._limits = limits
        self._reactor = reactor
        #: key -> the session and when it was last used; the least recently used comes first
        self._sessions: OrderedDict[Hashable, tuple[ClientSession, float]] = OrderedDict()
        self._sweep: Any = None

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: Hashable) -> ClientSession:
        """A client's session. A new one is made if there is none."""
        self._forget_old()
        found = self._sessions.pop(key, None)
        session = ClientSession(self._limits.size) if found is None else found[0]
        self._sessions[key] = session, self._reactor.seconds()
        if len(self._sessions) > self._limits.count:
            self._sessions.popitem(last=False)
        if self._sweep is None:
            self._sweep = self._reactor.callLater(self._limits.idle, self._swept)
        session.measure()
        return session

    def _forget_old(self) -> None:
        oldest = self._reactor.seconds() - self._limits.idle
        while self._sessions and next(iter(self._sessions.values()))[1] <= oldest:
            self._sessions.popitem(last=False)

    def _swept(self) -> None:
        self._sweep = None
        self._forget_old()
        if self._sessions:
            used = next(iter(self._sessions.values()))[1]
            delay = max(1.0, used + self._limits.idle - self._reactor.seconds())
            self._sweep = self._reactor.callLater(delay, self._swept)

    def close(self) -> None:
        """Forget all."""
        self._sessions.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
