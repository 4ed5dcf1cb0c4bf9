from collections import deque
from typing import Any, ClassVar, Final, Literal, TypeAlias

from .assembly import Assembly

EV_DATA: Final = 0
EV_OPENED: Final = 1
EV_END: Final = 2
EV_CLOSED: Final = 3
EV_HELLO: Final = 4
EV_PONG: Final = 5
EV_GOAWAY: Final = 6
EV_FAILED: Final = 7
EV_RUN: Final = 8
EV_CALL: Final = 9
EV_REPLY: Final = 10

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
    | tuple[Literal[9], int, bytes]
    | tuple[Literal[10], Any, bytes]
    | tuple[Literal[8], Stream, list[bytes], int]
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
    items: int
    def __init__(
        self,
        window: int = ...,
        frame: int = ...,
        channels: int = ...,
        value: int = ...,
        control: int = ...,
        items: int = ...,
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
    read_demand: bool
    partial: Assembly | None
    partial_cost: int
    sending: bool
    receiving: bool
    ended: bool
    end_sent: bool
    close_sent: bool
    finish: tuple[int, bytes] | None
    head_size: int
    head: bytes
    def __init__(
        self, id: int, purpose: str, raw: bool, local: bool, credit: int, window: int
    ) -> None: ...
    def token_for_last(self, token: object) -> None: ...
    def stop_receiving(self) -> None: ...
    def held(self, window: int) -> int: ...
    def queued(self) -> int: ...
