"""The ``pycomnet`` command. Importing this loads neither a reactor nor the command itself."""

from __future__ import annotations


def main() -> None:
    """Run the command line that the process was started with, and exit with its status."""
    from pycomnet.cli.app import run

    run()
