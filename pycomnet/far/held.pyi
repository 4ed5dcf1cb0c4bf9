from typing import Literal
from weakref import ref

from ..wire.stream import Stream
from .channel import FarChannel
from .connection import FarConnection

class HeldChannel:
    claimed: Literal[True]
    link: FarConnection
    stream: Stream
    channel: ref[FarChannel]
    def __init__(self, channel: FarChannel) -> None: ...
    def arrived(self, payload: bytes | memoryview, cost: int) -> None: ...
    def run_arrived(self, payloads: list[bytes], cost: int) -> None: ...
    def peer_ended(self) -> None: ...
    def peer_closed(self, kind: int, payload: bytes) -> None: ...
    def connection_lost(self, reason: str) -> None: ...

__all__ = ["HeldChannel"]
