"""The ``pycomnet`` command. Importing this loads neither a reactor nor the command itself."""

from __future__ import annotations


def main() -> None:
    """Run the command line that the process was started with, and exit with its status."""
    import os
    import signal

    # Ctrl-C ends the process at once while there are no gateways to end: during imports, while the
    # arguments are parsed, and after the command has cleaned up. Python's default is a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    from pycomnet.cli.app import run

    run()
