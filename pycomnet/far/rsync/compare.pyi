from collections.abc import Sequence
from typing import Any

from .attributes import Attributes

SHORT: int
USEFUL: int

class Comparison:
    attributes: Attributes
    def __init__(self, receiver: Any) -> None: ...
    def compare(self, message: Sequence[Any]) -> list[Any]: ...
