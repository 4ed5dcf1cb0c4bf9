from collections import deque
from typing import Any, ClassVar, Final, Literal, TypeAlias

EV_DATA: Final = 0
EV_OPENED: Final = 1
EV_END: Final = 2
EV_CLOSED: Final = 3
EV_HELLO: Final = 4
EV_PONG: Final = 5
EV_GOAWAY: Final = 6
EV_FAILED: Final = 7

_Buffer: TypeAlias = bytes | bytearray | memoryview

# A type checker that compares event[0] with one of the constants knows the rest.
Event: TypeAlias = (
    tuple[Literal[0], Stream, bytes | memoryview, int]
    | tuple[Literal[1], Stream]
    | tuple[Literal[2], Stream]
    | tuple[Literal[3], Stream, int, bytes]
    | tuple[Literal[4], dict[str, Any]]
    | tuple[Literal[5], bytes]
    | tuple[Literal[6], str, str]
    | tuple[Literal[7], ProtocolError]
)

class LocalError(Exception): ...

class ProtocolError(Exception):
    code: str
    message: str
    def __init__(self, code: str, message: str) -> None: ...

class Limits:
    window: int
    frame: int
    channels: int
    value: int
    control: int
    def __init__(
        self,
        window: int = ...,
        frame: int = ...,
        channels: int = ...,
        value: int = ...,
        control: int = ...,
    ) -> None: ...

class Stream:
    __slots__: ClassVar[tuple[str, ...]]
    id: int
    purpose: str
    raw: bool
    app: Any
    local: bool
    credit: int
    queue: deque[list[Any]]
    ready: bool
    window: int
    unacked: int
    half: int
    wanted: bool
    partial: list[bytes | memoryview] | None
    partial_size: int
    partial_cost: int
    sending: bool
    receiving: bool
    ended: bool
    end_sent: bool
    close_sent: bool
    finish: tuple[int, bytes] | None
    def __init__(
        self, id: int, purpose: str, raw: bool, local: bool, credit: int, window: int
    ) -> None: ...

class Mux:
    limits: Limits
    streams: dict[int, Stream]
    peer: dict[str, Any] | None
    failed: ProtocolError | None
    congested: bool
    sent: list[Any]
    _out: list[bytes | memoryview]
    _ready: deque[Stream]
    _tail: bytearray
    _control: int
    _local_open: int
    _peer_open: int
    _next_id: int
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
    def send(
        self, stream: Stream, payload: _Buffer, token: object = None, prefix: bytes = b""
    ) -> bool: ...
    def immediate(self, stream: Stream, payload: bytes) -> bytes | None: ...
    def unsend(self, stream: Stream, token: object) -> bool: ...
    def end(self, stream: Stream) -> None: ...
    def close(self, stream: Stream, kind: int = 0, payload: bytes = b"") -> None: ...
    def consumed(self, stream: Stream, cost: int) -> None: ...
    def want(self, stream: Stream, wanted: bool = True) -> None: ...
    def ping(self, data: bytes) -> None: ...
    def goaway(self, code: str, message: str) -> None: ...
    def _is_past(self, id: int) -> bool: ...
    def has_data(self) -> bool: ...
    def data_to_send(self, limit: int = ...) -> bytes: ...
    def parts_to_send(self, limit: int = ...) -> list[bytes | memoryview]: ...
    def receive_data(self, data: bytes) -> list[Event]: ...
