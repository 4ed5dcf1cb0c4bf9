from collections.abc import Sequence

from ..channel import FarChannel

def run(channel: FarChannel, argv: Sequence[str]) -> None: ...
