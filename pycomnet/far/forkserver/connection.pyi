from collections.abc import Callable
from typing import Any, Final

from ...wire.mux import Mux
from ...wire.stream import Stream
from ...wire.values import PureCodec
from .loop import Loop

READ_SMALL: Final = 65536
READ_LARGE: Final = 1048576
CLOSED: Final = "it closed the connection"
ASK_EACH: Final = 3
MAX_PIECES: Final = 512
SHORT: Final = 16384

def grow(fd: int) -> None: ...
def would_block(error: OSError) -> bool: ...
def read_now(fd: int, size: int) -> bytes | None: ...

class ForkServerConnection:
    loop: Loop
    read_fd: int
    write_fd: int
    mux: Mux
    codec: PureCodec
    closed: bool
    ready: list[Callable[[], object]] | None
    heard: float
    silence: float | None
    def __init__(
        self,
        loop: Loop,
        read_fd: int,
        write_fd: int,
        initiator: bool,
        info: dict[str, Any],
        opened: Callable[[ForkServerConnection, Stream], object],
        over: Callable[[str], object],
    ) -> None: ...
    def send_from(self, stream: Stream, fd: int, length: int) -> bool: ...
    def receive(self, data: bytes) -> None: ...
    def when_ready(self, call: Callable[[], object]) -> None: ...
    def check_silence(self) -> float | None: ...
    def send(self, stream: Stream, payload: bytes, sent: Callable[[], object]) -> bool: ...
    def send_at_once(self, stream: Stream, payload: bytes) -> bool: ...
    def begin_with(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def over(self, reason: str) -> None: ...
    def tell(self, reason: str) -> None: ...
    def fail(self, stream: Stream, code: str, message: str) -> None: ...
