from collections.abc import Callable, Iterator
from struct import Struct

SMALLEST_BLOCK: int
LARGEST_BLOCK: int
STRONG: int
FOLLOWING: int
SUM: Struct
NO_ANCHOR: int
READ: int
PART: int
PART_BYTES: int
HOLE_BLOCKS: int
DIGESTS: int
WHOLE_DIGEST: int
SEEN: int

def block_size(size: int) -> int: ...
def check_block(block: int) -> None: ...
def choose_marker(read_at: Callable[[int, int], bytes], size: int, block: int) -> bytes: ...
def sums(
    read_at: Callable[[int, int], bytes],
    size: int,
    block: int,
    marker: bytes,
    digests: bytearray | None = None,
) -> Iterator[bytes]: ...
def view_of(data: bytes) -> bytes | memoryview: ...

class TreeDigest:
    def __init__(self, block: int) -> None: ...
    def update(self, data: bytes | memoryview) -> None: ...
    def add(self, digest: bytes, size: int) -> None: ...
    def hole(self, size: int) -> None: ...
    def digest(self) -> bytes: ...
