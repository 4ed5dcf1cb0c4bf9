"""The ``pycomnet`` command. Importing this loads neither a reactor nor the command itself."""

from __future__ import annotations


def main() -> None:
    """Run the command line that the process was started with, and exit with its status."""
    import os
    import signal

    # Before there is anything to end, Ctrl-C ends the command at once: while it is being imported,
    # while it reads its arguments, and again when all is done. Python's own way is a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
    from pycomnet.cli.app import run

    run()
