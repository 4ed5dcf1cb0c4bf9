from collections.abc import Mapping
from typing import Any, Final, Protocol, type_check_only

from ...wire.stream import Stream
from ..connection import FileIO
from ..writebuffer import WriteBuffer
from .connection import ForkServerConnection
from .forker import Forker
from .hop import InnerForkServer
from .loop import Loop

STRAY_GRACE: Final = 1.0
KILL_AGAIN: Final = 0.02
NO_FORK: Final = 78

# What a fork server knows of a process that it has started.
@type_check_only
class _Child(Protocol):
    @property
    def pid(self) -> int: ...
    def reaped(self, number: int) -> None: ...

class ForkServer:
    loop: Loop
    children: dict[int, _Child]
    hops: dict[tuple[str, ...], InnerForkServer]
    upstream: ForkServerConnection
    forker: Forker
    def __init__(self, read_fd: int, write_fd: int, config: dict[str, Any]) -> None: ...
    def run(self) -> dict[str, Any] | None: ...
    def end(self) -> None: ...
    def refuse(self, peer: ForkServerConnection, stream: Stream) -> None: ...
    def start(
        self, peer: ForkServerConnection, stream: Stream, request: dict[str, Any]
    ) -> None: ...
    def start_failed(
        self, peer: ForkServerConnection, stream: Stream, error: Exception
    ) -> None: ...
    def spawn(
        self, argv: list[str], env: Mapping[str, str] | None
    ) -> tuple[int, int, int, int]: ...

class StartRequest:
    def __init__(
        self, fork_server: ForkServer, peer: ForkServerConnection, stream: Stream
    ) -> None: ...
    def data(self, payload: bytes, cost: int) -> None: ...
    def ended(self) -> None: ...
    def closed(self, kind: int, payload: bytes) -> None: ...

def become_child(fds: tuple[int, ...]) -> None: ...
def serve(config: dict[str, Any]) -> tuple[dict[str, Any], FileIO, WriteBuffer | None]: ...
