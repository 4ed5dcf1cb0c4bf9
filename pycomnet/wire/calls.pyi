from collections.abc import Callable
from typing import Any, Final

from .lifecycle import Lifecycle
from .scheduler import Scheduler
from .stream import Event, Limits, Stream
from .table import ChannelTable

CLOSE_RESULT: Final[bytes]
MAX_HEADS: Final = 64
MAX_HEAD: Final = 200
REPLY_START: Final[int]
pack_result: Callable[[int, int, int, int], bytes]

class UnaryCalls:
    pending: dict[int, Any]
    received: dict[int, str]
    closed_early: dict[int, Stream]
    expected_heads: tuple[bytes, ...]
    def __init__(
        self, limits: Limits, table: ChannelTable, scheduler: Scheduler, lifecycle: Lifecycle
    ) -> None: ...
    def expect_calls(self, purposes: tuple[str, ...]) -> None: ...
    def call(self, purpose: str, first: bytes, app: Any = None) -> int: ...
    def cancel_call(self, id: int) -> None: ...
    def reply(self, id: int, payload: bytes) -> None: ...
    def reply_on(self, stream: Stream, payload: bytes) -> None: ...
    def stream_of(self, id: int) -> Stream | None: ...
    def stream_for_frame(self, id: int) -> Stream | None: ...
    def read_replies(
        self, id: int, data: bytes, position: int, stop: int, events: list[Event]
    ) -> int: ...
    def read_calls(
        self, id: int, data: bytes, position: int, stop: int, events: list[Event]
    ) -> int: ...
