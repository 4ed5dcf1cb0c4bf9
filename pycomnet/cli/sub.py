"""``pycomnet sub``: subscribe to events, and show them."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import attrs
import click

from pycomnet.cli.publisheroptions import check_via
from pycomnet.cli.serviceoptions import Target, as_json, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

EPILOG = """\b
Examples:
  pycomnet sub org.example.orders
  pycomnet sub 'org.example.orders.eu.*' --count 10
  pycomnet sub 'org.example.orders.>' --json --since 5m | jq .value
  pycomnet sub --via nats://a:4222,b:4222 org.example.orders 'eu.*'

PATTERN is the publishers' interface, followed by a pattern of subjects: * stands for one part, > at
the end for all further parts. Quote it for the shell. In a pipe, each value is a line of JSON. On a
terminal there is a table of the subjects and their rates; --lines prints lines there as well.

With --via the events come through NATS, and no nameserver is used. Then PATTERN is the interface
alone, as NATS does not know where an interface's name ends, and SUBJECTS are patterns of subjects.
The options for credentials then apply to the NATS servers; tls:// requires TLS.

\b
Exit status:
  1          there is no such publisher, or it refuses the subscription
  2          a mistake on the command line
  128+N      signal N ended the command (Ctrl-C: 130)
"""
#: The most rows of the table, and seconds between two drawings of it.
ROWS, INTERVAL = 40, 0.5
#: The most characters of a value in the table, and the seconds over which a rate is measured.
SHOWN, RATE_TIME = 60, 5.0


@attrs.frozen
class SubOptions:
    """The options of the command, except those of :class:`Target`."""

    count: int | None
    in_json: bool
    lines: bool
    since: str | None
    last: int | None
    via: str | None


@click.command("sub", epilog=EPILOG, short_help="Subscribe to events, and show them.")
@target_options
@click.option("-n", "--count", metavar="N", type=click.IntRange(1), help="End after N events.")
@click.option("--json", "in_json", is_flag=True, help="Print each event with all its metadata.")
@click.option("--lines", is_flag=True, help="Print lines on a terminal as well, and no table.")
@click.option("--since", metavar="TIME", help="Begin with the events of this time: 90s, 5m, 2h.")
@click.option("--last", metavar="N", type=click.IntRange(0), help="Begin with the last N events.")
@click.option("--via", metavar="SERVERS", help="Through NATS: nats://HOST:PORT,tls://HOST:PORT...")
@click.argument("pattern")
@click.argument("subjects", metavar="[SUBJECTS]...", nargs=-1)
def sub(target: Target, pattern: str, subjects: tuple[str, ...], **options: Any) -> None:
    """Show the events of the publishers and subjects that PATTERN matches, as they come."""
    from pycomnet.cli.program import run_command

    how = SubOptions(**options)
    if how.via is None and subjects:
        raise click.UsageError("SUBJECTS need --via; without it, they are part of PATTERN")
    if how.via is not None:
        check_via(target)
    run_command(lambda program: show_events(program, target, pattern, subjects, how))


async def show_events(
    program: CommandProgram,
    target: Target,
    name: str,
    subjects: tuple[str, ...],
    options: SubOptions,
) -> int:
    """Subscribe and show the events; returns the exit status.

    :param name: the interface and a pattern of subjects; with ``--via`` the interface alone.
    :param subjects: with ``--via``: patterns of subjects.
    """
    from pycomnet.cli.publisheroptions import nats_settings, split_name
    from pycomnet.ext.pubsub import Event, subscriber

    program.ending = ""
    async with target.context(program.reactor) as context:
        interface, via = name, None
        if options.via is None:
            interface, pattern = await split_name(context, target, name)
            subjects = (pattern,) if pattern else ()
        else:
            via = await nats_settings(options.via, target.identity)
        client = subscriber(
            interface,
            subjects or None,
            context=context,
            address=target.address,
            service=target.service,
            since=options.since,
            last=options.last,
            via=via,
        )
        lines = options.lines or options.in_json or not program.stdout.isatty()
        shown: EventLines | EventTable = (
            EventLines(program, options.in_json) if lines else EventTable(program, interface)
        )
        left = options.count
        try:
            async with client:
                async for event in client.events():
                    waiting = shown.show(event)
                    if waiting is not None:
                        await waiting
                    if left is not None and isinstance(event, Event):
                        left -= 1
                        if not left:
                            break
        finally:
            shown.close()
    return 0


class EventLines:
    """One line for each event."""

    def __init__(self, program: CommandProgram, in_json: bool) -> None:
        self._program = program
        self._in_json = in_json

    def show(self, event: Any) -> Any:
        """Print an event. Returns what :meth:`OutputStream.put` returns."""
        from pycomnet.ext.pubsub import Event

        if not isinstance(event, Event):
            if self._in_json:
                said = {type(event).__name__.lower(): attrs.asdict(event)}
                return self._program.print_text(as_json(said) + "\n")
            self._program.say(notice(event))
            return None
        value = event.value
        if self._in_json:
            value = {
                "publisher": event.publisher,
                "subject": event.subject,
                "key": event.key,
                "sequence": event.sequence,
                "time": event.time,
                "value": event.value,
            }
        return self._program.print_text(as_json(value) + "\n")

    def close(self) -> None:
        """No action needed."""


def notice(event: Any) -> str:
    """A gap or a restart as a sentence."""
    from pycomnet.ext.pubsub import Gap

    who = f" of {event.publisher}" if event.publisher else ""
    if isinstance(event, Gap):
        count = "events" if event.count is None else f"{event.count} events"
        return f"{count}{who} are missing here ({event.why})"
    return f"the publisher{who} was restarted: {event.message}"


class SubjectRow:
    """What the table shows of a subject.

    :ivar count: how many events came.
    """

    def __init__(self, now: float) -> None:
        self.count = 0
        self._value: Any = None
        self._text: str | None = None
        #: (time, how many events had come by then); the rate is measured from the first one on
        self._marks: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, value: Any) -> None:
        """Count an event, and keep its value."""
        self.count += 1
        self._value, self._text = value, None

    def rate(self, now: float) -> float:
        """The events a second, over the last seconds."""
        marks = self._marks
        while len(marks) > 1 and now - marks[1][0] >= RATE_TIME:
            marks.popleft()
        begun, before = marks[0]
        if now > marks[-1][0]:
            marks.append((now, self.count))
        return (self.count - before) / max(now - begun, 1.0)

    @property
    def text(self) -> str:
        """The last value as text. It is formatted once, however often the table is drawn."""
        from pycomnet.text.printable import visible_line

        if self._text is None:
            text = visible_line(as_json(self._value))
            self._text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
            self._value = None
        return self._text


class EventTable:
    """A table of subjects: how many events each has, how many a second, and the last value."""

    def __init__(self, program: CommandProgram, interface: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from twisted.internet.task import LoopingCall

        self._interface = interface
        self._reactor: Any = program.reactor
        self._notice = ""
        self._missing = 0
        #: subject -> its row; the subject of the latest event is the last
        self._rows: OrderedDict[str, SubjectRow] = OrderedDict()
        self._live = Live(
            self.table(), console=Console(), auto_refresh=False, redirect_stdout=False
        )
        self._live.start()
        self._drawing = LoopingCall(self._draw)
        self._drawing.clock = self._reactor
        self._drawing.start(INTERVAL, now=False)

    def show(self, event: Any) -> None:
        """Count an event; it is shown when the table is drawn next."""
        from pycomnet.ext.pubsub import Event, Gap

        if not isinstance(event, Event):
            self._notice = notice(event)
            self._missing += (event.count or 0) if isinstance(event, Gap) else 0
            return
        row = self._rows.get(event.subject)
        if row is None:
            row = self._rows[event.subject] = SubjectRow(self._reactor.seconds())
        row.add(event.value)
        self._rows.move_to_end(event.subject)
        if len(self._rows) > ROWS:
            self._rows.popitem(last=False)

    def table(self) -> Any:
        """Make the table."""
        from rich.table import Table
        from rich.text import Text

        from pycomnet.text.printable import visible_line

        now = self._reactor.seconds()
        missing = f"{self._missing} events missing   {self._notice}" if self._notice else ""
        # Printed as plain text: data from a publisher must not be read as markup.
        title, caption = Text(visible_line(self._interface)), Text(visible_line(missing))
        table = Table(title=title, caption=caption if missing else None)
        for name in ("subject", "events", "a second", "last value"):
            table.add_column(name, justify="left" if name in ("subject", "last value") else "right")
        for subject, row in sorted(self._rows.items()):
            shown, rate = Text(visible_line(subject) or "-"), f"{row.rate(now):.1f}"
            table.add_row(shown, str(row.count), rate, Text(row.text))
        return table

    def _draw(self) -> None:
        self._live.update(self.table(), refresh=True)

    def close(self) -> None:
        """Draw it for the last time."""
        self._drawing.stop()
        self._draw()
        self._live.stop()
