from collections.abc import Callable
from typing import Final

from ...wire.stream import Stream
from ..preamble import Preamble
from .connection import ForkServerConnection
from .loop import Loop
from .server import ForkServer

READ_BULK: Final = 262144
STDERR_READS: Final = 16

class Pipes:
    stream: Stream
    preamble: Preamble | None
    begun: Callable[[bytes], object] | None
    too_long: Callable[[], object] | None
    held: list[tuple[bytes, int]] | None
    closing: bool
    def __init__(
        self,
        loop: Loop,
        peer: ForkServerConnection,
        stream: Stream,
        write_fd: int,
        read_fd: int,
        first: bytes = b"",
        preamble: Preamble | None = None,
    ) -> None: ...
    def data(self, payload: bytes, cost: int) -> None: ...
    def move(self, fd: int, length: int, cost: int) -> bool: ...
    def release(self) -> None: ...
    def ended(self) -> None: ...
    def closed(self, kind: int, payload: bytes) -> None: ...
    def abandon(self) -> None: ...

class WorkerProcess:
    pid: int
    ended_with: int | None
    touched: bool
    def __init__(
        self,
        fork_server: ForkServer,
        peer: ForkServerConnection,
        stream: Stream,
        pid: int,
        stderr: int | None,
    ) -> None: ...
    def data(self, payload: bytes, cost: int) -> None: ...
    def ended(self) -> None: ...
    def closed(self, kind: int, payload: bytes) -> None: ...
    def reaped(self, number: int) -> None: ...
    def tell_end(self, number: int) -> None: ...

class Taken(WorkerProcess):
    def __init__(
        self,
        fork_server: ForkServer,
        peer: ForkServerConnection,
        stream: Stream,
        pid: int,
        stderr: int | None,
        pipes: Pipes,
        instead: Callable[[list[tuple[bytes, int]], bool], object],
    ) -> None: ...

class Booted(WorkerProcess):
    pipes: Pipes
    def __init__(
        self,
        fork_server: ForkServer,
        peer: ForkServerConnection,
        stream: Stream,
        pid: int,
        stderr: int | None,
        pipes: Pipes,
    ) -> None: ...

def kill_group(pid: int, number: int) -> None: ...
