"""``pycomnet pub``: publish events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.publisheroptions import check_via
from pycomnet.cli.serviceoptions import Target, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.nats import NatsPermissionDenied

EPILOG = """\b
Examples:
  pycomnet pub org.example.orders.eu.created '{"id": 7}'
  pycomnet pub --about sensor-3 org.example.readings.inside 21.5
  tail -f log | pycomnet pub org.example.log
  pycomnet pub --via nats://a:4222,b:4222 org.example.orders --subject eu.created '{"id": 7}'

SUBJECT is the publisher's interface, followed by the event's subject. A VALUE is JSON, or text if
it can't be read as JSON. Without a VALUE, each line of standard input is a value. The publisher has
to permit that you publish (may_publish).

With --via the command publishes through NATS by itself, without another publisher. Then SUBJECT is
the interface alone, and --subject the event's subject. If the interface has a history in JetStream,
each event is stored before the next is sent. The options for credentials then apply to the NATS
servers.

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
@click.option("--about", metavar="KEY", help="The key of the events.")
@click.option("--via", metavar="SERVERS", help="Through NATS: nats://HOST:PORT,tls://HOST:PORT...")
@click.option("--subject", "under", metavar="SUBJECT", help="With --via: the events' subject.")
@click.argument("subject")
@click.argument("values", metavar="[VALUE]...", nargs=-1)
def pub(
    target: Target,
    about: str | None,
    via: str | None,
    under: str | None,
    subject: str,
    values: tuple[str, ...],
) -> None:
    """Publish VALUEs under SUBJECT, in their order."""
    from pycomnet.cli.program import run_command

    if via is None and under is not None:
        raise click.UsageError("--subject needs --via; without it, the subject is part of SUBJECT")
    if via is not None:
        check_via(target)
        servers, rest = via, under or ""
        run_command(lambda p: publish_via(p, target, servers, subject, rest, about, values))
        return
    run_command(lambda program: publish_values(program, target, subject, about, values))


async def publish_values(
    program: CommandProgram,
    target: Target,
    name: str,
    key: str | None,
    values: tuple[str, ...],
) -> int:
    """Send each value, or each line of standard input, to a publisher; returns the exit status."""
    import pycomnet.ext.pubsub.errors  # noqa: F401 - defines the errors that a publisher may send
    from pycomnet.cli.publisheroptions import split_name

    program.ending = ""
    async with target.context(program.reactor) as context:
        interface, subject = await split_name(context, target, name)
        service = await target.find(context, interface)
        async for text in texts(program, values):
            args = {"value": read_value(text), "subject": subject, "key": key}
            await service.invoke("publish", args)
    return 0


async def publish_via(
    program: CommandProgram,
    target: Target,
    servers: str,
    interface: str,
    subject: str,
    key: str | None,
    values: tuple[str, ...],
) -> int:
    """Publish each value, or each line of standard input, through NATS; returns the exit status.

    :param servers: addresses of NATS servers.
    """
    from pycomnet.cli.publisheroptions import nats_settings
    from pycomnet.ext.pubsub.nats.natspublisher import topic_of
    from pycomnet.nats.requests import to_timeout

    program.ending = ""
    async with target.context(program.reactor) as context:
        settings = await nats_settings(servers, target.identity)
        topic = await topic_of(interface, context, settings)
        client = topic.publisher.client
        refused: list[NatsPermissionDenied] = []

        def told(problem: NatsPermissionDenied) -> None:
            if problem.publishing:
                refused.append(problem)

        client.refused.append(told)
        try:
            async for text in texts(program, values):
                publishing = topic.publish(read_value(text), key, subject)
                what = f"NATS to take an event, {target.timeout:g} s"
                await publishing.addTimeout(target.timeout, program.reactor, to_timeout(what))
                if refused:
                    break
            await client.flush(target.timeout)  # the server reports refusals before it answers
            if refused:
                raise refused[0]
        finally:
            topic.close()
            await topic.closed()
    return 0


async def texts(program: CommandProgram, values: tuple[str, ...]) -> AsyncIterator[str]:
    """The values of the command line; without any, the lines of standard input."""
    from pycomnet.cli.stdstreams import InputLines

    for text in values:
        yield text
    if not values:
        lines = InputLines(0, program.reactor)
        while found := await lines.next_lines():
            for line in found:
                yield line.decode("utf-8", "replace")
