from typing import Any, Final

from .deploy import Creation

SOURCES: Final[tuple[str, ...]]

def resolve(creation: Creation, plan: dict[str, Any]) -> dict[str, Any]: ...
