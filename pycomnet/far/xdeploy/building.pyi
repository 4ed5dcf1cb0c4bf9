from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

from ..channel import FarChannel
from .deploy import Creation
from .lookup import Lock

MAX_OUTPUT: Final = 1048576
HOOK: Final[str]

class HookFailed(Exception):
    name: str
    status: int
    output: str
    def __init__(self, name: str, status: int, output: str) -> None: ...

def build_sdist(
    creation: Creation, build: dict[str, Any], identity: str, place: str, lock: Lock
) -> str: ...
def receive_file(channel: FarChannel, path: str, digest: str, size: int) -> None: ...
def unpack(path: str, target: str) -> str: ...
def hook_argv(
    python: str, source: str, target: str, backend: str, backend_path: Sequence[str]
) -> list[str]: ...
def run(
    argv: Sequence[str],
    directory: str,
    name: str,
    output: str,
    channel: FarChannel,
    more: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    held: Sequence[Lock] = (),
) -> None: ...
def read_output(file: IO[bytes]) -> str: ...
def import_paths(source: str, backend_path: Sequence[str]) -> list[str]: ...
