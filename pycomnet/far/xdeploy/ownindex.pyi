from typing import Any

from .deploy import Creation

def resolve(creation: Creation, plan: dict[str, Any]) -> dict[str, Any]: ...
