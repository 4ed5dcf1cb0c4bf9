from typing import Any

NAME: str

class Importer:
    files: dict[str, bytes]
    cache: str | None
    def __init__(self, files: dict[str, bytes], cache: str | None) -> None: ...
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any: ...

def cache_directory(name: str) -> str | None: ...
