from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from .dumpformat import DataFormatError as DataFormatError
from .dumpformat import DumpError as DumpError
from .dumpformat import LoadError as LoadError
from .dumpformat import dumps as dumps
from .dumpformat import loads as loads
from .dumpformat import opcode as opcode
from .execmodel import ExecModel as ExecModel
from .execmodel import get_execmodel as get_execmodel

class TimeoutError(IOError): ...

WAITED: Final[str]
Channel: Any
RemoteError: Any
near: str

def begin(channel: Any, plain: type[Any], not_sendable: type[Exception], given: Any) -> None: ...

class NoPlugin:
    def __init__(self, package: str) -> None: ...
    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> ModuleSpec | None: ...
    def create_module(self, spec: ModuleSpec) -> None: ...
    def exec_module(self, module: ModuleType) -> None: ...

def restore_output() -> None: ...
def rinfo() -> dict[str, Any]: ...

class Channels:
    finished: bool
    def __init__(self, mux: Any) -> None: ...
    def channels(self) -> list[Any]: ...

def channel_class(plain: type[Any], not_sendable: type[Exception]) -> type[Any]: ...
def run(channel: Any, task: Any, given: Any, function_of: Any) -> None: ...

__all__ = [
    "Channel",
    "DataFormatError",
    "DumpError",
    "ExecModel",
    "LoadError",
    "NoPlugin",
    "RemoteError",
    "TimeoutError",
    "begin",
    "dumps",
    "get_execmodel",
    "loads",
    "opcode",
    "rinfo",
    "run",
]
