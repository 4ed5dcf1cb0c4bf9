from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Final

FIRST_LINE: Final[str]

class OwnImports:
    def __enter__(self) -> None: ...
    def __exit__(
        self, *info: type[BaseException] | BaseException | TracebackType | None
    ) -> None: ...
    def install(self) -> None: ...
    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None: ...
    # A loader, which only Python 2 has.
    def find_module(self, name: str, path: Sequence[str] | None = None) -> object | None: ...

own_imports: Final[OwnImports]

def give_back(safe: bool = False) -> None: ...
