"""``pycomnet demo``: a tour of the package that does real work."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

#: The most gateways that the tour starts by default.
MOST_GATEWAYS = 4


@click.command("demo", short_help="Take a tour of what pycomnet does, on this machine.")
@click.option(
    "--gateways",
    "number",
    metavar="N",
    type=click.IntRange(1, 64),
    help=f"How many gateways to use. [default: one for each core, at most {MOST_GATEWAYS}]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Give up after this many seconds.",
)
def demo(number: int | None, timeout: float) -> None:
    """Take a tour: each step explains what it does, shows its code, and runs it.

    In the last step several gateways parse every module of the standard library. The tour takes
    about twenty seconds. The exit status is 0 if every step worked.
    """
    from pycomnet.cli.program import TIMED_OUT, run_command

    async def main(program: CommandProgram) -> int:
        from pycomnet.cli.tourrunner import TourRunner

        def give_up() -> None:
            program.say(f"--timeout: not done in {timeout:g} seconds")
            program.end(TIMED_OUT)

        timer = program.reactor.callLater(timeout, give_up)
        try:
            return await TourRunner(program, number or min(cores(), MOST_GATEWAYS)).run()
        finally:
            if timer.active():
                timer.cancel()

    run_command(main)


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
