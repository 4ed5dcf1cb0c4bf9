from collections import deque
from typing import Any, TypeAlias

from .stream import (
    EV_ANSWERED as EV_ANSWERED,
)
from .stream import (
    EV_ASKED as EV_ASKED,
)
from .stream import (
    EV_CLOSED as EV_CLOSED,
)
from .stream import (
    EV_DATA as EV_DATA,
)
from .stream import (
    EV_END as EV_END,
)
from .stream import (
    EV_FAILED as EV_FAILED,
)
from .stream import (
    EV_GOAWAY as EV_GOAWAY,
)
from .stream import (
    EV_HELLO as EV_HELLO,
)
from .stream import (
    EV_OPENED as EV_OPENED,
)
from .stream import (
    EV_PONG as EV_PONG,
)
from .stream import (
    EV_RUN as EV_RUN,
)
from .stream import (
    Event as Event,
)
from .stream import (
    Limits as Limits,
)
from .stream import (
    LocalError as LocalError,
)
from .stream import (
    ProtocolError as ProtocolError,
)
from .stream import (
    Stream as Stream,
)

_Buffer: TypeAlias = bytes | bytearray | memoryview

LONG: int
LONG_RUN: int

class Mux:
    limits: Limits
    streams: dict[int, Stream]
    questions: dict[int, Any]
    unanswered: dict[int, str]
    peer: dict[str, Any] | None
    failed: ProtocolError | None
    last_taken: int | None
    congested: bool
    sent: list[Any]
    out: list[bytes | memoryview]
    max_frame: int
    fragment: int
    raw_fragment: int
    ready: deque[Stream]
    waiting: deque[Stream]
    turns: dict[int, int]
    _tail: bytearray
    _pieces: list[Any] | None
    _control: int
    local_open: int
    peer_open: int
    next_id: int
    last_peer_id: int
    def __init__(
        self,
        initiator: bool,
        limits: Limits | None = None,
        info: dict[str, Any] | None = None,
        credential: bytes | None = None,
    ) -> None: ...
    def open(
        self, purpose: str, first: _Buffer | None = None, raw: bool = False, end: bool = False
    ) -> Stream: ...
    def resume(self, next_id: int, last_peer_id: int) -> None: ...
    def restore(
        self, id: int, purpose: str, raw: bool, ended: bool, credit: int, window: int
    ) -> Stream: ...
    def expect(self, purposes: tuple[str, ...]) -> None: ...
    def ask(self, purpose: str, first: bytes, app: Any = None) -> int: ...
    def stream_of(self, id: int) -> Stream | None: ...
    def withdraw(self, id: int) -> None: ...
    def reply(self, id: int, payload: bytes) -> None: ...
    def answer(self, stream: Stream, payload: bytes) -> None: ...
    def send(
        self, stream: Stream, payload: _Buffer, token: object = None, prefix: bytes = b""
    ) -> bool: ...
    def send_now(self, stream: Stream, payload: bytes) -> int: ...
    def immediate(self, stream: Stream, payload: bytes) -> bytes | None: ...
    def unsend(self, stream: Stream, token: object) -> bool: ...
    def end(self, stream: Stream) -> None: ...
    def close(self, stream: Stream, kind: int = 0, payload: bytes = b"") -> None: ...
    def consumed(self, stream: Stream, cost: int) -> None: ...
    def want(self, stream: Stream, wanted: bool = True) -> None: ...
    def ping(self, data: bytes) -> None: ...
    def goaway(self, code: str, message: str) -> None: ...
    def is_past(self, id: int) -> bool: ...
    def has_data(self) -> bool: ...
    def data_to_send(self, limit: int = ...) -> bytes: ...
    def parts_to_send(self, limit: int = ...) -> list[bytes | memoryview]: ...
    def lacking(self) -> int: ...
    def receive_data(self, data: bytes) -> list[Event]: ...
