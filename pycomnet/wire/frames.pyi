from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any, Final

MAGIC: Final = b"PYCOMNET"
MARKER: Final = b"\nPYCOMNET-FAR-SIDE-1\n"
VERSION: Final = 1

HELLO: Final = 0
DATA: Final = 1
MORE: Final = 2
CREDIT: Final = 3
OPEN: Final = 4
END: Final = 5
CLOSE: Final = 6
PING: Final = 7
PONG: Final = 8
GOAWAY: Final = 9

NAMES: Final[tuple[str, ...]]

RAW: Final = 0x01
FIRST: Final = 0x02
FIRST_MORE: Final = 0x04
OPEN_END: Final = 0x08

NORMAL: Final = 0
ERROR: Final = 1
RESULT: Final = 2

HEADER: Final[Struct]
HEADER_SIZE: Final[int]
U32: Final[Struct]
U16: Final[Struct]

FRAGMENT: Final[int]
RAW_FRAGMENT: Final[int]
MAX_HELLO: Final[int]
FRAME_COST: Final[int]
WINDOW: Final[int]
WIDE_WINDOW: Final[int]
HOP_WINDOW: Final[int]
MEDIATED_WINDOW: Final[int]
MIN_WINDOW: Final[int]
MIN_FRAME: Final[int]
MAX_CREDIT: Final[int]
MIN_FRAGMENT: Final[int]
CHANNELS: Final[int]
MAX_VALUE: Final[int]
CONTROL: Final[int]
MAX_CHANNEL: Final[int]
RUN_VALUE: Final[int]
RUN: Final[int]
BIN32: Final[bytes]

MAX_ALIKE: Final = 256
HAS_ITER_UNPACK: Final[bool]
pack: Callable[[int, int, int], bytes]
unpack_from: Callable[..., tuple[int, int, int]]

def frame_cost(size: int) -> int: ...
def frame_room(credit: int) -> int: ...
def frame_costs(payloads: list[bytes]) -> list[int]: ...
def run_cost(size: int, count: int) -> int: ...
def frames_alike(kind: str, data: bytes, position: int, stop: int) -> Iterable[tuple[Any, ...]]: ...
def bin32(size: int) -> bytes: ...
def frame_name(ftype: int) -> str: ...
