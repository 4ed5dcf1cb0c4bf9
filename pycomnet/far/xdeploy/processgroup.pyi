import subprocess
from collections.abc import Sequence
from typing import Any

CAN_WATCH: bool
LOOK: float

class ProcessGroup:
    process: subprocess.Popen[bytes]
    def __init__(self, argv: Sequence[str], **options: Any) -> None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...
