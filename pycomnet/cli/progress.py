"""The progress bar of ``pycomnet map``, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from twisted.internet.task import LoopingCall

from pycomnet.cli.linequeue import LineQueue
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.stdstreams import InputLines

#: Seconds between two updates of the bar.
INTERVAL = 0.1


def expected_lines(queue: LineQueue, source: InputLines) -> float | None:
    """Estimate the number of lines in all from the input's size; None if that is unknown."""
    if queue.ended:
        return queue.lines
    if not source.size or not source.taken:
        return None
    return max(queue.lines, round(queue.lines * source.size / source.taken))


@contextmanager
def shown_progress(
    program: CommandProgram, queue: LineQueue, source: InputLines
) -> Iterator[Progress]:
    """Show a bar while the body runs. The program's messages are printed above it."""
    progress = Progress(
        TextColumn("lines"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = progress.add_task("lines", total=None)

    def update() -> None:
        progress.update(task, completed=queue.done, total=expected_lines(queue, source))
        progress.refresh()

    def show_above(text: str) -> None:
        progress.console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)

    loop = LoopingCall(update)
    loop.clock = program.reactor
    progress.start()
    program.above = show_above
    try:
        loop.start(INTERVAL)
        yield progress
    finally:
        loop.stop()
        program.above = None
        update()
        progress.stop()
