"""What the command lines of the daemons have in common."""

from __future__ import annotations

import sys
from typing import Any

from twisted.python import usage


class DaemonOptions(usage.Options):
    """Options whose help has examples.

    Twisted makes one paragraph of all that ``longdesc`` has. So only what the daemon is for is
    there, and the rest follows it as it stands.

    :cvar epilog: that rest.
    """

    epilog = ""

    def getUsage(self, width: Any = None) -> str:
        """The whole help."""
        return f"{super().getUsage(width).rstrip()}\n\n{self.epilog.strip()}\n"

    def opt_version(self) -> None:
        """Show the version and exit."""
        import pycomnet

        print(f"pycomnet {pycomnet.__version__}")
        sys.exit(0)
