"""The base class of the daemons' command-line options."""

from __future__ import annotations

import sys
from typing import Any

from twisted.python import usage


class DaemonOptions(usage.Options):
    """Options whose help has examples.

    Twisted makes one paragraph of the whole ``longdesc``. So it has only the daemon's purpose.

    :cvar epilog: the rest of the help, which is printed unchanged after the options.
    """

    epilog = ""

    def getUsage(self, width: Any = None) -> str:
        """The help, followed by the epilog."""
        return f"{super().getUsage(width).rstrip()}\n\n{self.epilog.strip()}\n"

    def opt_version(self) -> None:
        """Show the version and exit."""
        import pycomnet

        print(f"pycomnet {pycomnet.__version__}")
        sys.exit(0)
