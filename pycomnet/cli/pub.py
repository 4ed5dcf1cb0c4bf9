"""``pycomnet pub``: publish events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.remote import Target, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

EPILOG = """\b
Examples:
  pycomnet pub org.example.orders.eu.created '{"id": 7}'
  pycomnet pub --about sensor-3 org.example.readings.inside 21.5
  tail -f log | pycomnet pub org.example.log

SUBJECT begins with the publisher's interface; what follows is the event's subject. A VALUE is JSON,
or text if it can't be read as JSON. Without one, each line of standard input is a value. The
publisher has to let you publish (may_publish).

\b
Exit status:
  1          there is no such publisher, or it refuses an event
  2          a mistake on the command line
  124        the --timeout expired
  128+N      signal N ended the command (Ctrl-C: 130)
"""


def read_value(text: str) -> Any:
    """A value of the command line: JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@click.command("pub", epilog=EPILOG, short_help="Publish events.")
@target_options
@click.option("--about", metavar="KEY", help="The key of the events: what they are about.")
@click.argument("subject")
@click.argument("values", metavar="[VALUE]...", nargs=-1)
def pub(target: Target, about: str | None, subject: str, values: tuple[str, ...]) -> None:
    """Publish VALUEs under SUBJECT, in their order."""
    from pycomnet.cli.program import run_command

    run_command(lambda program: publish_values(program, target, subject, about, values))


async def publish_values(
    program: CommandProgram,
    target: Target,
    name: str,
    key: str | None,
    values: tuple[str, ...],
) -> int:
    """Publish each value, or each line of standard input; returns the exit status."""
    from pycomnet.cli.streams import InputLines
    from pycomnet.cli.topics import split_name

    program.ending = ""
    async with target.context(program.reactor) as context:
        interface, subject = await split_name(context, target, name)
        service = await target.find(context, interface)

        async def publish(text: str) -> None:
            args = {"value": read_value(text), "subject": subject, "key": key}
            await service.invoke("publish", args)

        for text in values:
            await publish(text)
        if not values:
            lines = InputLines(0, program.reactor)
            while found := await lines.next_lines():
                for line in found:
                    await publish(line.decode("utf-8", "replace"))
    return 0
