import io
from typing import Final

from .connection import FarConnection

MAX_LINE: Final = 8192

class OutputChannel:
    def __init__(self, link: FarConnection) -> None: ...
    def write(self, number: int, data: bytes) -> None: ...
    def install(self) -> None: ...

class LineWriter(io.TextIOBase):
    encoding: str
    mode: str
    line_buffering: bool
    softspace: int
    name: str
    def __init__(self, output: OutputChannel, number: int, errors: str) -> None: ...
    # A property; that of io can be set.
    @property
    def errors(self) -> str: ...  # type: ignore[override]
    @property
    def buffer(self) -> io.BufferedWriter: ...
    def write(self, text: str) -> int: ...
    def reconfigure(self, **options: object) -> None: ...
