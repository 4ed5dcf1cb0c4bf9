"""``pycomnet demo``: a tour, with real work on real input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

#: The most gateways that it starts unasked.
MOST_GATEWAYS = 4


@click.command("demo", short_help="Take a tour: see it at work on this machine.")
@click.option(
    "--gateways",
    "number",
    metavar="N",
    type=click.IntRange(1, 64),
    help=f"How many to use. [default: one for each core, {MOST_GATEWAYS} at most]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Give up after so many seconds.",
)
def demo(number: int | None, timeout: float) -> None:
    """Take a tour: each step says what it does, shows the code that does it, and does it.

    At the end several gateways parse every module of the standard library. It takes some ten
    seconds, and the exit status is 0 if all went as it should.
    """
    from pycomnet.cli.program import TIMED_OUT, run_command

    async def main(program: CommandProgram) -> int:
        from pycomnet.cli.guide import Guide

        def give_up() -> None:
            program.say(f"--timeout: not done in {timeout:g} seconds")
            program.end(TIMED_OUT)

        timer = program.reactor.callLater(timeout, give_up)
        try:
            return await Guide(program, number or min(cores(), MOST_GATEWAYS)).run()
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
