"""``pycomnet ns``: ask the nameserver."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.cli.options import SuggestingGroup
from pycomnet.cli.remote import TIMEOUT, Target, as_json, explained
from pycomnet.services.launchconfig import DEFAULT_NAMESERVER, NAMESERVER_VARIABLE

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.services.context import Context

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  pycomnet ns list
  pycomnet ns list 'org.example.*' --tag blue --json
  pycomnet ns locate org.example.calc
  pycomnet ns watch --interface 'org.example.*'
  pycomnet ns --nameserver unix:/run/names remove org.example.calc-7
  pycomnet ns --nameserver tcp:ns.example.org:2012 stat

A PATTERN is a name, or has the shell's wildcards: * and ? and [...]; quote it.

\b
Exit status:
  1          the nameserver is not there, or there is no such service
  2          a mistake on the command line
  128+N      signal N ended it (Ctrl-C: 130)
"""


@attrs.frozen
class Asking:
    """Which nameserver, and how long it has."""

    nameserver: str
    timeout: float

    def context(self, reactor: Any) -> Context:
        """What to call it with.

        :raises EndpointError: the address is none.
        """
        from pycomnet.services.context import Context

        return Context(reactor, nameserver=self.nameserver, timeout=self.timeout)


@click.group(
    "ns",
    cls=SuggestingGroup,
    epilog=EPILOG,
    short_help="Ask the nameserver: list, locate, watch, stat, remove.",
)
@click.option(
    "--nameserver",
    metavar="ADDRESS",
    envvar=NAMESERVER_VARIABLE,
    default=DEFAULT_NAMESERVER,
    show_default=True,
    help=f"Where it is; {NAMESERVER_VARIABLE} says it, too.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    help="Give up after so long.",
)
@click.pass_context
def ns(context: click.Context, nameserver: str, timeout: float) -> None:
    """Ask the nameserver who offers what, and where."""
    context.obj = Asking(nameserver, timeout)


def _filters(command: F) -> F:
    """``--interface``, ``--tag`` and ``--json``, and PATTERN."""

    @functools.wraps(command)
    def call(pattern: str | None, interface: str | None, tags: Sequence[str], **rest: Any) -> Any:
        wanted = {"service": pattern, "interface": interface, "tags": list(tags)}
        return command(wanted=wanted, **rest)

    wrapped: Any = call
    for option in reversed(
        [
            click.argument("pattern", required=False),
            click.option("--interface", metavar="PATTERN", help="Those with such an interface."),
            _tag_option(),
            _json_option(),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def _tag_option() -> Callable[[F], F]:
    return click.option(
        "--tag", "tags", metavar="TAG", multiple=True, help="Those with this tag; again: and that."
    )


def _json_option() -> Callable[[F], F]:
    return click.option("--json", "in_json", is_flag=True, help="A JSON object on each line.")


@ns.command("list", short_help="List services.")
@_filters
@click.pass_obj
def list_command(asking: Asking, wanted: dict[str, Any], in_json: bool) -> None:
    """List the services that are registered, or those whose name matches PATTERN."""
    _run(asking, lambda program, context: list_services(program, context, wanted, in_json))


async def list_services(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print them, page by page, no faster than they are read."""
    nameserver = await context.nameserver()
    after, first = None, True
    while page := await nameserver.invoke("list_services", {**wanted, "after": after}):
        after = page[-1]["service"]
        if in_json:
            lines = [as_json(record) for record in page]
        else:
            lines = table([HEAD] * first + [_columns(record) for record in page])
        first = False
        await _put(program, lines)
    if first and not in_json:
        program.say("no service is registered that matches" if any(wanted.values()) else NONE)
    return 0


@ns.command("locate", short_help="Print a service's address.")
@click.argument("interface")
@click.option("--service", metavar="NAME", help="The service of this name, of several.")
@_tag_option()
@_json_option()
@click.pass_obj
def locate_command(
    asking: Asking, interface: str, service: str | None, tags: Sequence[str], in_json: bool
) -> None:
    """Print the address of a service that has INTERFACE: of several, each in turn."""
    wanted = {"interface": interface, "service": service, "tags": list(tags)}
    _run(asking, lambda program, context: locate(program, context, wanted, in_json))


async def locate(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print its address, or all that is known of it."""
    from pycomnet.errors import ServiceNotFound

    nameserver = await context.nameserver()
    try:
        record = await nameserver.invoke("locate", wanted)
    except ServiceNotFound as problem:
        # Only the nameserver is asked.
        target = Target("", None, None, TIMEOUT)
        program.say(await explained(problem, target, context, wanted["interface"]))
        return 1
    await _put(program, [as_json(record) if in_json else record["address"]])
    return 0


@ns.command("watch", short_help="Show services come and go.")
@_filters
@click.pass_obj
def watch_command(asking: Asking, wanted: dict[str, Any], in_json: bool) -> None:
    """Show what is registered and then each change, until Ctrl-C.

    It goes on when the nameserver is lost and comes back.
    """
    _run(asking, lambda program, context: watch(program, context, wanted, in_json))


async def watch(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print events, no faster than they are read. It ends only by being cancelled."""
    from contextlib import aclosing

    from pycomnet.nameserver.follow import follow

    nameserver = await context.nameserver()
    told: list[str] = []

    def interrupted(problem: Exception) -> None:
        if not told or told[-1] != str(problem):
            told[:] = [str(problem)]
            program.say(f"{problem}; trying again")

    events = follow(nameserver, program.reactor, **wanted, interrupted=interrupted)
    async with aclosing(events):
        async for event in events:
            told.clear()
            await _put(program, [as_json(event) if in_json else event_line(event)])
    return 0


def event_line(event: dict[str, Any]) -> str:
    """An event for people."""
    kind, revision = event["event"], event["revision"]
    if kind == "put":
        service, address, interfaces, *_ = _columns(event["record"])
        return f"+ {service}  {address}  {interfaces}"
    if kind == "delete":
        return f"- {event['service']}  ({event['why']})"
    return f"# {kind}, revision {revision}"


@ns.command("stat", short_help="Show how the nameserver is.")
@_json_option()
@click.pass_obj
def stat_command(asking: Asking, in_json: bool) -> None:
    """Show what the nameserver has, and what it has done since it started."""
    _run(asking, lambda program, context: stat(program, context, in_json))


async def stat(program: CommandProgram, context: Context, in_json: bool) -> int:
    """Print what ``stat`` says."""
    nameserver = await context.nameserver()
    found = await nameserver.invoke("stat")
    if in_json:
        lines = [as_json(found)]
    else:
        counts = found.pop("counts")
        lines = table([[f"{key}:", _shown(value)] for key, value in (found | counts).items()])
    await _put(program, lines)
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


@ns.command("remove", short_help="Remove a dead service's name.")
@click.argument("service")
@click.pass_obj
def remove_command(asking: Asking, service: str) -> None:
    """Remove the registration of SERVICE, though its lease goes on: for an operator.

    That is whoever asks over the nameserver's unix socket as its user or root, or with a
    certificate of a name that it was given with --operator. A service that lives registers again.
    """
    _run(asking, lambda program, context: remove(program, context, service))


async def remove(program: CommandProgram, context: Context, service: str) -> int:
    """Have the nameserver remove it."""
    nameserver = await context.nameserver()
    await nameserver.invoke("remove", {"service": service})
    return 0


HEAD = ["SERVICE", "ADDRESS", "INTERFACES", "TAGS", "SECONDS LEFT"]
NONE = "no service is registered"


def _columns(record: dict[str, Any]) -> list[str]:
    return [
        record["service"],
        record["address"],
        " ".join(record["interfaces"]),
        " ".join(record["tags"]) or "-",
        f"{record['ttl']:.0f}",
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Rows of text as lines, with each column as wide as it must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


async def _put(program: CommandProgram, lines: list[str]) -> None:
    if lines:
        waiting = program.print_text("\n".join(lines) + "\n")
        if waiting is not None:
            await waiting


def _run(asking: Asking, command: Callable[[CommandProgram, Context], Any]) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        program.ending = ""
        async with asking.context(program.reactor) as context:
            status: int = await command(program, context)
            return status

    run_command(main)
