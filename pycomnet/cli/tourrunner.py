"""Runs the steps of the tour, and shows what each does, its code and its results."""

from __future__ import annotations

import inspect
import re
import shutil
import signal
import statistics
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from pycomnet.cli import survey, tour, tourservice
from pycomnet.cli.program import END_TIMEOUT, CommandProgram, encode
from pycomnet.cli.tourdaemons import Daemons
from pycomnet.errors import PycomnetError
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group
from pycomnet.services.client.context import Context

#: How many round trips are measured.
ROUND_TRIPS = 1000
#: What is streamed: this many blocks of this many bytes.
BLOCKS, BLOCK = 64, 1 << 20
#: Seconds that one process may take for the whole library. If it would need more, it processes only
#: a part of the modules.
PATIENCE = 12.0
#: How many files are sent.
FILES = 500
#: Columns when standard output is not a terminal.
PLAIN_WIDTH = 100


class TourRunner:
    """Runs the tour.

    :param number: how many gateways to use.
    """

    def __init__(self, program: CommandProgram, number: int) -> None:
        self._program = program
        self._number = number
        self._step = 0
        tty = program.stdout.isatty()
        self._console = Console(
            file=_Out(program),  # type: ignore[arg-type]
            width=None if tty else PLAIN_WIDTH,
            highlight=False,
        )
        self._plain = not self._console.is_terminal

    async def run(self) -> int:
        """Run all steps; returns the exit status.

        :raises PycomnetError: a step did not give the expected result.
        """
        group = Group(self._program.reactor)
        try:
            gateways = await self._start(group)
            await self._round_trips(gateways[0])
            await self._stream(gateways[0])
            await self._output(gateways[0])
            await self._error(gateways[0])
            await self._files(gateways[0])
            await self._environment(gateways[0])
            await self._death(group)
            await self._http(group)
            await self._services()
            await self._cluster()
            await self._survey(gateways)
        finally:
            await group.close(END_TIMEOUT)
        self._console.print()
        self._say("That was it. Try it on your own work:")
        self._say("  pycomnet run --on 2xpopen YOUR_SCRIPT.py")
        self._say("  ls | pycomnet map --on 2xpopen os.path:getsize")
        self._say("  pycomnet --help")
        return 0

    # -- the steps -------------------------------------------------------------------------------

    async def _start(self, group: Group) -> list[Gateway]:
        self._begin(
            "Start gateways",
            "A gateway is a Python process and a connection to it. These are subprocesses of this "
            "one; nothing has to be installed in the Python that they run. A group makes them: "
            "group = pycomnet.Group(reactor).",
            tour.start,
        )
        begun = perf_counter()
        gateways = await tour.start(group, self._number)
        took = perf_counter() - begun
        expect(len({gateway.info["pid"] for gateway in gateways}) == self._number, "the same pid")
        for gateway in gateways:
            info = gateway.info
            self._result(
                f"{gateway.id}: {info['implementation']} {info['python']}, pid {info['pid']}"
            )
        self._result(f"{self._number} started in {took * 1000:.0f} ms")
        return gateways

    async def _round_trips(self, gateway: Gateway) -> None:
        self._begin(
            "Send values, receive values",
            "The first function's source is sent to the gateway and runs there; a channel leads to "
            "it. A channel carries Python values, and they arrive as what they were.",
            tour.echo,
            tour.round_trips,
        )
        channel = gateway.remote_exec(tour.echo)
        kinds = [None, 2**100, "text", b"bytes", (1, {2.5, "set"}), {"key": [1j, frozenset()]}]
        await tour.round_trips(channel, kinds)
        self._result("came back as they were: " + ", ".join(map(repr, kinds)))
        seconds = await tour.round_trips(channel, list(range(ROUND_TRIPS)))
        median = statistics.median(seconds) * 1e6
        self._result(f"a round trip takes {median:.0f} us (the median of {ROUND_TRIPS:,})")
        channel.close()

    async def _stream(self, gateway: Gateway) -> None:
        self._begin(
            "Stream",
            "send() waits while the receiver falls behind, so that buffers stay bounded however "
            "much is sent.",
            tour.produce,
            tour.consume,
        )
        begun = perf_counter()
        channel = gateway.remote_exec(tour.produce, blocks=BLOCKS, size=BLOCK)
        total = await tour.consume(channel)
        took = perf_counter() - begun
        expect(total == BLOCKS * BLOCK, f"{total} bytes came")
        self._result(
            f"{total / 1e6:.0f} MB in {took * 1000:.0f} ms: {total / took / 1e6:,.0f} MB a second"
        )

    async def _output(self, gateway: Gateway) -> None:
        self._begin(
            "Output",
            "What runs on a gateway can print. The output comes here: it is shown under the "
            "gateway's id, or given to a function as events.",
            tour.talk,
            tour.listen,
        )
        events = await tour.listen(gateway)
        expect({event.stream for event in events} == {1, 2}, f"the events were {events}")
        for event in events:
            self._result(repr(event))

    async def _error(self, gateway: Gateway) -> None:
        self._begin(
            "Exceptions",
            "call() runs a function on a gateway and returns its result. An exception there is "
            "raised here as a RemoteError, with the traceback of where it was raised.",
            tour.average,
            tour.fail,
        )
        error = await tour.fail(gateway)
        expect(error.type == "ZeroDivisionError", f"the error was {error.type}")
        self._result("average([1, 2, 6]) is 3, and average([]) raises this RemoteError:")
        self._panel(error.formatted.rstrip())

    async def _files(self, gateway: Gateway) -> None:
        self._begin(
            "Files",
            "A directory where a gateway is becomes equal to one here: what differs is sent, of "
            "long files only the parts. The other way round it is pycomnet.fetch.",
            tour.copy,
        )
        with TemporaryDirectory() as directory:
            source, target = Path(directory, "source"), Path(directory, "target")
            source.mkdir()
            for number in range(FILES):
                (source / f"{number}.txt").write_text(f"{number}\n" * number)
            begun = perf_counter()
            events = await tour.copy(gateway, str(source), str(target))
            took = perf_counter() - begun
            sent = sum(event.kind == "sent" for event in events)
            expect(sent == FILES, f"{sent} files were sent")
            self._result(f"{sent} files sent in {took * 1000:.0f} ms")
            (source / "7.txt").write_text("changed\n")
            events = await tour.copy(gateway, str(source), str(target))
            expect((target / "7.txt").read_text() == "changed\n", "it did not arrive")
        self._result(f"then one was changed: {events[0]}")

    async def _environment(self, gateway: Gateway) -> None:
        self._begin(
            "A virtual environment",
            "A gateway in an environment of its own, made where another gateway is. That machine "
            "needs neither pip nor a network.",
            tour.prefix,
            tour.in_environment,
        )
        if find_spec("packaging") is None:
            self._result("not here: pip install 'pycomnet[xdeploy]'")
            return
        with TemporaryDirectory() as directory:
            begun = perf_counter()
            found = await tour.in_environment(gateway, directory)
            took = perf_counter() - begun
            expect(found.startswith(directory), f"the prefix was {found}")
        self._result(f"made, with a gateway in it, in {took * 1000:.0f} ms: {found}")

    async def _death(self, group: Group) -> None:
        self._begin(
            "A gateway that dies",
            "When the process of a gateway dies, the error says how. Only what waited for this "
            "gateway fails; the others continue.",
            tour.die,
            tour.lose,
        )
        victim = await group.makegateway("popen//id=victim")
        error = await tour.lose(victim)
        expect(error.signal == signal.SIGKILL, f"the error was {error}")
        self._panel(str(error))
        await victim.exit()

    async def _http(self, group: Group) -> None:
        self._begin(
            "Through HTTP",
            "twistd pycomnet-http-exec runs far sides for HTTP clients. They authenticate with a "
            "token, proxies may be in between, and what is lost on the way is sent again.",
            tour.add_one,
            tour.through_http,
        )
        daemons = Daemons()
        try:
            spec = await daemons.start_mediator(self._program.reactor)
            begun = perf_counter()
            answer = await tour.through_http(group, spec)
            took = perf_counter() - begun
        finally:
            await daemons.close()
        expect(answer == 2, f"the answer was {answer}")
        where = spec.partition("//")[0]
        self._result(f"{where}: started, asked, answered {answer} and ended in {took:.2f} s")

    async def _services(self) -> None:
        self._begin(
            "Services",
            "A nameserver and a service run as separate processes: twistd pycomnet-nameserver, "
            "and twistd pycomnet-service with the name of a module. Here the service is killed "
            "during a call, and started again at another address.",
            tourservice.Tour,
            tour.survive,
        )
        daemons = Daemons()
        try:
            daemons.start_nameserver()
            daemons.start_service()
            working = daemons.start_workflow()
            async with Context(self._program.reactor, nameserver=daemons.nameserver) as context:
                service = await tour.find(context, daemons.check)

                def restart(pid: int) -> None:
                    daemons.kill(pid)
                    daemons.start_service()

                begun = perf_counter()
                first, second = await tour.survive(service, restart)
                took = perf_counter() - begun
                expect(first != second, f"pid {first} answered twice")
                self._result(f"pid {first} answered the first call and was killed in the second,")
                self._result(f"which pid {second} answered {took:.1f} s later")
                await self._events(context)
                await self._workflow(context, daemons, working)
        finally:
            await daemons.close()

    async def _events(self, context: Context) -> None:
        self._begin(
            "Publish and subscribe",
            "A generator that may block runs once for all subscribers, in a thread, as a service. "
            "A subscriber begins with what the publisher remembers. It is told what it misses, and "
            "finds a publisher that was started again.",
            inspect.unwrap(tourservice.ticks.function),
            tour.follow,
        )
        seen = await tour.follow(context, 5, 20)
        expect(seen == [*range(seen[0], seen[0] + 20)], f"the events were {seen}")
        self._result(f"{seen[0]}, {seen[1]}, ... {seen[-1]}: the last few, and those that followed")

    async def _workflow(self, context: Context, daemons: Daemons, pid: int) -> None:
        self._begin(
            "Workflows",
            "twistd pycomnet-workflow runs chains of calls to services, which the functions below "
            "or a JSON file describe. What a step returned is kept before the next one begins. So "
            "a run goes on though the workflow service is killed.",
            tour.visit,
            tour.outlive,
        )

        def restart() -> None:
            daemons.kill(pid)
            daemons.start_workflow()

        begun = perf_counter()
        run = await tour.outlive(context, restart)
        took = perf_counter() - begun
        expect(run["state"] == "done" and len(run["steps"]) == 2, f"the run was {run}")
        self._result(f"{run['id']} is done after {took:.1f} s, though pid {pid} was killed in it")

    async def _cluster(self) -> None:
        self._begin(
            "Several nameservers",
            "Two nameservers share three members of etcd. The member that leads is killed: what is "
            "registered is found all the time, and a registration waits for the next leader.",
            tour.outlive_leader,
            tour.leader_of,
        )
        if shutil.which("etcd") is None:
            self._result("not here: install etcd (on Debian: apt install etcd-server)")
            return
        if find_spec("hpack") is None:
            self._result("not here: pip install 'pycomnet[etcd]'")
            return
        daemons = Daemons()
        try:
            daemons.start_cluster()
            async with Context(self._program.reactor, nameserver=daemons.nameserver) as context:
                await tour.answering(context, daemons.check)

                def kill(name: str) -> None:
                    daemons.kill(daemons.members[name])

                secret = token_urlsafe()
                dead, leader, took = await tour.outlive_leader(context, secret, kill)
        finally:
            await daemons.close()
        expect(leader != dead, f"{dead} leads, and was killed")
        self._result(f"{dead} was killed: registered {took:.1f} s later; now {leader} leads")

    async def _survey(self, gateways: list[Gateway]) -> None:
        self._begin(
            "Real work",
            "Parse every module of the standard library (without its tests), on all gateways.",
            survey.survey_module,
            survey.survey,
        )
        paths = survey.library_modules()
        begun = perf_counter()
        found = await survey.survey(gateways, paths)
        together = perf_counter() - begun
        findings = survey.Findings.of(found)
        expect(len(found) == len(paths) > 0, f"{len(found)} of {len(paths)} modules were done")
        expect(findings.modules > len(paths) / 2, f"they can't be parsed: {findings.problems}")
        for table in findings.tables(self._plain):
            self._console.print(table)
        every = max(1, round(together * len(gateways) / PATIENCE))
        begun = perf_counter()
        again = await survey.survey(gateways[:1], paths[::every])
        alone = (perf_counter() - begun) * len(paths) / len(again)
        expect(all(found[path] == again[path] for path in again), "one process found other things")
        how = f" (by one in {every} modules)" if every > 1 else ""
        self._result(f"{len(gateways)} gateways: {together:.2f} s")
        self._result(f"one process:  {alone:.2f} s{how}: {alone / together:.1f} times as long")

    # -- showing ---------------------------------------------------------------------------------

    def _begin(self, title: str, text: str, *functions: Callable[..., Any]) -> None:
        self._step += 1
        self._console.print()
        if self._plain:
            self._say(f"{self._step}. {title}")
            self._say("-" * len(f"{self._step}. {title}"))
        else:
            self._console.print(Rule(f"{self._step}. {title}", align="left"))
        self._console.print(Text(text))
        self._console.print()
        self._code(functions)

    def _code(self, functions: Sequence[Callable[..., Any]]) -> None:
        code = "\n\n".join(source_of(function) for function in functions)
        if self._plain:
            self._say("".join(f"    {line}".rstrip() + "\n" for line in code.split("\n")))
        else:
            self._console.print(Syntax(code, "python", background_color="default"))
            self._console.print()

    def _result(self, text: str) -> None:
        self._console.print(Text(f"=> {text}", style="bold green"))

    def _panel(self, text: str) -> None:
        if self._plain:
            self._say("".join(f"   {line}\n" for line in text.split("\n")).rstrip("\n"))
        else:
            self._console.print(Panel(Text(text, style="red"), expand=False))

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def expect(condition: bool, otherwise: str) -> None:
    """Check the result of a step.

    :param otherwise: what went wrong if the condition is false.
    :raises PycomnetError: the condition is false.
    """
    if not condition:
        raise PycomnetError(f"the tour went wrong: {otherwise}")


def source_of(function: Callable[..., Any]) -> str:
    """A function's source, without comments for the type checker."""
    source = inspect.getsource(function).rstrip("\n")
    return re.sub(r"  # type: ignore\[.*?\]", "", source)


class _Out:
    """The file that rich writes to: standard output, without blocking or BrokenPipeError."""

    encoding = "utf-8"

    def __init__(self, program: CommandProgram) -> None:
        self._stream = program.stdout

    def write(self, text: str) -> int:
        self._stream.put(encode(text))
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()
