from collections.abc import Callable
from typing import Any, Final

OPTIONS: Final[int]
DUMP_NESTING: Final = 8
LOAD_NESTING: Final = 4
LOAD_NESTED: Final = 256
LAST: Final[str]

class RustCodec:
    name: str
    encode: Callable[[object], bytes]
    decode: Callable[[bytes | bytearray | memoryview], Any]
    decode_run: Callable[[list[bytes]], list[Any] | None]
    max_items: int
    packing: tuple[Callable[[object, Any, Any], bytes], Any, Any]
    def __init__(
        self,
        channel_type: type | tuple[type, ...] | None = None,
        dump_channel: Callable[[Any], int] | None = None,
        load_channel: Callable[[int], object] | None = None,
        max_items: int = ...,
    ) -> None: ...
