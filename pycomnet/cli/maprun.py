"""One run of ``pycomnet map``: reads lines, lets gateways work on them, prints the results."""

from __future__ import annotations

from typing import Any

from pycomnet.cli.gatewayoutput import GatewayLines
from pycomnet.cli.linequeue import Line, LineQueue
from pycomnet.cli.options import not_started, start_gateways
from pycomnet.cli.program import END_TIMEOUT, CommandProgram
from pycomnet.cli.stdstreams import InputLines
from pycomnet.gateways.group import Group
from pycomnet.gateways.pool.scheduler import CannotBegin, NoGatewayLeft, WorkScheduler, all_of
from pycomnet.gateways.pool.workqueue import Failed
from pycomnet.gateways.spec import Spec

#: Results are written in pieces of about this many characters.
PRINTED = 1 << 16


class MapRun:
    """One run: reads lines, lets gateways work on them, and prints the results.

    :param source: where the lines are read.
    :param fail_fast: stop at the first line without a result.
    :param traceback: show the traceback of a line that fails.
    :param raw: print control characters in results unchanged, also to a terminal.
    """

    def __init__(
        self,
        program: CommandProgram,
        source: InputLines,
        fail_fast: bool,
        traceback: bool,
        raw: bool = False,
    ) -> None:
        self.source = source
        self.queue = LineQueue(self._failed)
        self._program = program
        self._fail_fast = fail_fast
        self._traceback = traceback
        self._raw = raw
        self._status = 0

    async def run(
        self,
        specs: list[Spec],
        target: dict[str, Any],
        jobs: int,
        replacements: int,
        lines: GatewayLines,
    ) -> int:
        """Start the gateways, and work until every line is done.

        :returns: the exit status that the command's help describes. Cancelling ends the gateways.
        """
        program, queue = self._program, self.queue
        group = Group(program.reactor, output=lines)
        try:
            gateways, failed = await start_gateways(group, specs)
            scheduler: WorkScheduler[Line] = WorkScheduler(
                queue, target, jobs, replacements, program.say, program.reactor, "line"
            )
            await all_of([self._read(scheduler), self._print(scheduler), scheduler.work(gateways)])
            if failed is not None:
                program.say(not_started(failed))
                self._status = 1
        except CannotBegin as problem:
            program.say(f"can't begin with {target['where']}:\n{problem}")
            return 2
        except NoGatewayLeft as problem:
            program.say(f"{problem}: stopped at line {queue.done + 1}")
            return 1
        finally:
            await group.close(END_TIMEOUT)
            lines.flush()
        return self._status

    def _failed(self, item: Line) -> None:
        if self._fail_fast:
            self.queue.stop_after(item)

    async def _read(self, scheduler: WorkScheduler[Line]) -> None:
        queue = self.queue
        while not queue.ended:
            if queue.full:
                await scheduler.changed.wait()
                continue
            lines = await self.source.next_lines()
            if queue.ended:
                return
            if lines:
                queue.add([line.decode("utf-8", "surrogateescape") for line in lines])
            else:
                queue.end()
            scheduler.changed.ring()

    async def _print(self, scheduler: WorkScheduler[Line]) -> None:
        queue = self.queue
        while not queue.finished:
            before = queue.done
            texts: list[str] = []
            size = 0
            for item, result in queue.results():
                if isinstance(result, str):
                    texts.append(result)
                    size += len(result)
                    if size > PRINTED:
                        break
                else:
                    self._report(item, result)
            if queue.done == before:
                await scheduler.changed.wait()
                continue
            waited = self._program.print_text("".join(f"{text}\n" for text in texts), self._raw)
            if waited is not None:
                await waited
            scheduler.changed.ring()
        self.source.stop()

    def _report(self, item: Line, failed: Failed) -> None:
        self._status = 1
        what = f"{failed.type}: {failed.message}" if failed.type else failed.message
        if self._traceback and failed.traceback:
            what = failed.traceback.rstrip("\n")
        self._program.say(f"line {item.number}: {what}")
