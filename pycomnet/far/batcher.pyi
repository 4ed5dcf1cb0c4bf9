from _thread import get_ident as get_ident
from collections.abc import Callable
from mmap import mmap
from typing import Any, ClassVar, Final, TypeAlias

from .channel import FarChannel
from .writebuffer import WriteBuffer

MOST: Final[int]
MAX_PUTS: Final = 1024

_Put: TypeAlias = Callable[[mmap, int, bytes, bytes], None]

def may_batch() -> bool: ...
def _putting(size: int) -> _Put: ...

class Batcher:
    __slots__: ClassVar[tuple[str, ...]]
    channel: FarChannel
    memory: mmap
    shared: memoryview[int]
    begin: int
    end: int
    encode: Callable[[Any], bytes]
    owner: int
    pack: Callable[[Any, Any, Any], bytes]
    hook: Any
    options: Any
    size: int
    step: int
    head: bytes
    put: _Put | None
    busy: bool
    on: bool
    id: int
    credit: int
    limit: int
    def __init__(
        self,
        channel: FarChannel,
        write_buffer: WriteBuffer,
        encode: Callable[[Any], bytes],
        packing: tuple[Callable[[Any, Any, Any], bytes], Any, Any] | None = None,
    ) -> None: ...
    def expect(self, size: int) -> None: ...
    def count(self) -> int: ...
    def stop(self) -> None: ...
    def abandon(self) -> None: ...
