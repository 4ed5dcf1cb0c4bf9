"""How a benchmark ends when a signal comes: its processes and directories go with it.

What starts some is in a ``with`` or ``try`` block that ends them. A signal ends these blocks, as an
exception does: in a program by :func:`stoppable`, in a coroutine of the reactor by :func:`react`.
Without them SIGTERM ends a program at once, and Ctrl-C the reactor without its coroutines.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this program as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    yield
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def react(main: Callable[[Any], Coroutine[Any, Any, int | None]]) -> NoReturn:
    """Run a coroutine in the reactor, and exit: with its status, or 128 plus the signal's number.

    SIGTERM, SIGHUP and Ctrl-C cancel it.

    :param main: called with the reactor. None is status 0. It may raise SystemExit.
    """

    from pycomnet.cli.program import run_command  # the program may have put it on the path

    async def run(program: CommandProgram) -> int:
        program.ending = ""
        try:
            return await main(program.reactor) or 0
        except SystemExit as ended:
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
                return 1
            return ended.code or 0

    run_command(run)


__all__ = ["react", "stoppable"]
