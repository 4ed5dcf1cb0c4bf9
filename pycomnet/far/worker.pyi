from collections.abc import Callable
from typing import Any, Final, TypeVar

from .channel import FarChannel
from .connection import _IO, FarConnection
from .live import Live
from .writebuffer import WriteBuffer

_T = TypeVar("_T")

GRACE: Final = 2.0
LOST_DESCRIPTOR: Final = 79

def interrupt_main() -> None: ...

class FarGateway(Live):
    id: str | None
    def __init__(self, worker: FarSide, id: str | None) -> None: ...
    def newchannel(self, raw: bool = False) -> FarChannel: ...
    def register_type(
        self,
        cls: type[_T],
        name: str,
        to_value: Callable[[_T], Any],
        from_value: Callable[[Any], _T],
    ) -> None: ...

class FarSide(Live):
    execmodel: str
    link: FarConnection
    def __init__(
        self,
        io: _IO,
        config: dict[str, Any],
        write_buffer: WriteBuffer | None = None,
        halt: Callable[[int], object] = ...,
        interrupt: Callable[[], object] = ...,
    ) -> None: ...
    def serve(self) -> None: ...
