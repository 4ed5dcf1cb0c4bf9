from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any

from ...wire.stream import Stream
from ..connection import FarConnection, FileIO

BEGIN: bytes
LEAVE: bytes
READ: bytes
BACK: bytes
LOOK_AGAIN: float
REST: int

class Prepared:
    read_fd: int
    write_fd: int
    memory_fd: int
    memory: mmap
    def __init__(self, asked: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...
    def read_snapshot(self) -> bytes: ...

class Program:
    prepared: Prepared
    main: FileIO
    read_fd: int
    write_fd: int
    gone: bool
    broken: bool
    def __init__(self, prepared: Prepared, main: FileIO) -> None: ...
    def read(self, busy: bool) -> bytes | None: ...
    def write(self, data: bytes, claim: Callable[[], object] | None = None) -> None: ...
    def is_replaced(self) -> bool: ...
    def close(self) -> None: ...

class LingeringIO(FileIO):
    main: FileIO
    def __init__(self, link: FarConnection) -> None: ...
    def turn(self, stream: Stream, prepared: Prepared | None) -> None: ...

def prepare(link: FarConnection, payload: bytes) -> Prepared | None: ...
