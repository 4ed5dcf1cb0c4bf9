from collections.abc import Callable
from typing import Final

from .calls import UnaryCalls
from .flow import FlowControl
from .stream import Event
from .table import ChannelTable

LONG_FRAME: Final = 16384
MAX_PIECES: Final = 64

class FrameReader:
    max_frame: int
    is_within: bool
    is_stopped: bool
    def __init__(
        self,
        table: ChannelTable,
        flow: FlowControl,
        calls: UnaryCalls,
        handle: Callable[[int, int, bytes, list[Event]], None],
    ) -> None: ...
    def lacking(self) -> int: ...
    def kept(self) -> list[bytes | bytearray | memoryview]: ...
    def stop(self) -> None: ...
    def read_rest(self, data: bytes, events: list[Event]) -> int: ...
    def read(self, data: bytes, position: int, events: list[Event]) -> None: ...
