from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pycomnet.wire.mux import Limits

MAX_KEPT: int
HELD_MARGIN: int

class Kept:
    order: int
    number: int
    data: bytes
    long: bool
    def __init__(self, order: int, number: int, data: bytes, long: bool) -> None: ...
    @property
    def cost(self) -> int: ...

class ChannelRecord:
    COPIED: tuple[str, ...]
    id: int
    purpose: str
    raw: bool
    near: bool
    credit: int
    far_credit: int
    kept: deque[Kept]
    count: int
    taken: int
    size: int
    unkept: int
    swallow: int
    held: list[bytes]
    held_size: int
    begun: bool
    state: str
    done: bool
    known: bool
    def __init__(
        self, id: int, purpose: str, raw: bool, near: bool, credit: int, far_credit: int
    ) -> None: ...
    @property
    def cost(self) -> int: ...
    @property
    def is_for_program(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...

class Relay:
    keeps: bool
    limits: Limits
    far: dict[str, Any] | None
    to_far: list[bytes]
    to_program: list[bytes]
    records: dict[int, ChannelRecord]
    attached: bool
    goodbye: bool
    long_kept: int
    answers: dict[int, bytes | None]
    def __init__(self, max_kept: int = ..., keeps: bool = True) -> None: ...
    def attach(self) -> dict[str, Any]: ...
    def detach(self) -> None: ...
    def drop_part(self) -> None: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...
    def ask(self, purpose: str, value: Any = None) -> int: ...
    def confirm(self, taken: Mapping[int, int], done: Iterable[int] = ()) -> None: ...
    def from_program(self, data: bytes) -> None: ...
    def from_far(self, data: bytes) -> None: ...
