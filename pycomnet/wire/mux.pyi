from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, type_check_only

from .calls import UnaryCalls
from .flow import FlowControl
from .lifecycle import Lifecycle
from .reader import FrameReader
from .scheduler import Scheduler
from .stream import EV_CALL as EV_CALL
from .stream import EV_CLOSED as EV_CLOSED
from .stream import EV_DATA as EV_DATA
from .stream import EV_END as EV_END
from .stream import EV_FAILED as EV_FAILED
from .stream import EV_GOAWAY as EV_GOAWAY
from .stream import EV_HELLO as EV_HELLO
from .stream import EV_OPENED as EV_OPENED
from .stream import EV_PONG as EV_PONG
from .stream import EV_REPLY as EV_REPLY
from .stream import EV_RUN as EV_RUN
from .stream import Event as Event
from .stream import Limits as Limits
from .stream import LocalError as LocalError
from .stream import ProtocolError as ProtocolError
from .stream import Stream as Stream
from .table import ChannelTable

_Buffer: TypeAlias = bytes | bytearray | memoryview

# The bound methods of the parts: as they stand there.
@type_check_only
class _Send(Protocol):
    def __call__(
        self, stream: Stream, payload: _Buffer, token: object = None, prefix: bytes = b""
    ) -> bool: ...

@type_check_only
class _DataToSend(Protocol):
    def __call__(self, limit: int = ...) -> bytes: ...

@type_check_only
class _PartsToSend(Protocol):
    def __call__(self, limit: int = ...) -> list[bytes | memoryview]: ...

@type_check_only
class _DemandRead(Protocol):
    def __call__(self, stream: Stream, demand: bool = True) -> None: ...

@type_check_only
class _Open(Protocol):
    def __call__(
        self, purpose: str, first: _Buffer | None = None, raw: bool = False, end: bool = False
    ) -> Stream: ...

@type_check_only
class _Close(Protocol):
    def __call__(self, stream: Stream, kind: int = 0, payload: bytes = b"") -> None: ...

@type_check_only
class _Call(Protocol):
    def __call__(self, purpose: str, first: bytes, app: Any = None) -> int: ...

class Mux:
    limits: Limits
    peer: dict[str, Any] | None
    last_taken: int | None
    streams: dict[int, Stream]
    table: ChannelTable
    was_opened: Callable[[int], bool]
    scheduler: Scheduler
    send: _Send
    send_now: Callable[[Stream, bytes], int]
    immediate: Callable[[Stream, bytes], bytes | None]
    unsend: Callable[[Stream, object], bool]
    has_data: Callable[[], bool]
    data_to_send: _DataToSend
    parts_to_send: _PartsToSend
    flow: FlowControl
    consumed: Callable[[Stream, int], None]
    demand_read: _DemandRead
    lifecycle: Lifecycle
    open: _Open
    end: Callable[[Stream], None]
    close: _Close
    resume: Callable[[int, int], None]
    restore: Callable[[int, str, bool, bool, int, int], Stream]
    calls: UnaryCalls
    expect_calls: Callable[[tuple[str, ...]], None]
    call: _Call
    cancel_call: Callable[[int], None]
    reply: Callable[[int, bytes], None]
    reply_on: Callable[[Stream, bytes], None]
    stream_of: Callable[[int], Stream | None]
    reader: FrameReader
    lacking: Callable[[], int]
    def __init__(
        self,
        initiator: bool,
        limits: Limits | None = None,
        info: dict[str, Any] | None = None,
        credential: bytes | None = None,
    ) -> None: ...
    @property
    def failed(self) -> ProtocolError | None: ...
    def ping(self, data: bytes) -> None: ...
    def goaway(self, code: str, message: str) -> None: ...
    def receive_data(self, data: bytes) -> list[Event]: ...

__all__ = [
    "EV_CALL",
    "EV_CLOSED",
    "EV_DATA",
    "EV_END",
    "EV_FAILED",
    "EV_GOAWAY",
    "EV_HELLO",
    "EV_OPENED",
    "EV_PONG",
    "EV_REPLY",
    "EV_RUN",
    "Limits",
    "LocalError",
    "Mux",
    "ProtocolError",
    "Stream",
]
