"""The progress bars of ``pycomnet sync``, on standard error: one for each target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.text import Text
from twisted.internet.task import LoopingCall

from pycomnet.cli.program import CommandProgram
from pycomnet.text.printable import visible_line

if TYPE_CHECKING:
    from pycomnet.rsync.result import TargetResult
    from pycomnet.rsync.rsync import RSync

#: Seconds between two updates of the bars.
INTERVAL = 0.1


class SyncBars:
    """The bars.

    :param results: returns the targets' results so far.
    :param console: shows the bars.
    """

    def __init__(self, results: Callable[[], list[TargetResult]], console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[files]} files"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._results = results
        self._tasks: list[TaskID] = []
        #: lines that are shown above the bars with the next update
        self._above: list[str] = []

    def show_above(self, text: str) -> None:
        """Show text above the bars."""
        self._above.append(text.rstrip("\n"))

    def update(self) -> None:
        """Show how far the targets are."""
        if self._above:
            text, self._above = "\n".join(self._above), []
            self.progress.console.print(Text.from_ansi(text), soft_wrap=True)
        for place, result in enumerate(self._results()):
            if place == len(self._tasks):
                shown = visible_line(result.target)
                self._tasks.append(self.progress.add_task(shown, total=None, files=0))
            done = min(result.done, result.needed)
            self.progress.update(
                self._tasks[place],
                completed=done,
                total=result.needed or None,
                files=len(result.sent),
            )
        self.progress.refresh()


@contextmanager
def shown_bars(program: CommandProgram, sync: RSync) -> Iterator[SyncBars]:
    """Show a bar for each target while the body runs, and the program's messages above."""
    bars = SyncBars(lambda: sync.results, Console(stderr=True))
    loop = LoopingCall(bars.update)
    loop.clock = program.reactor
    bars.progress.start()
    program.above = bars.show_above
    try:
        loop.start(INTERVAL)
        yield bars
    finally:
        loop.stop()
        program.above = None
        bars.update()
        bars.progress.stop()
