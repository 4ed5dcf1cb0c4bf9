"""``pycomnet ns``: query the nameserver."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.cli.identity import Identity, identity_options
from pycomnet.cli.ns_operate import operator_commands, state_of
from pycomnet.cli.ns_store import export_command, import_command
from pycomnet.cli.options import SuggestingGroup
from pycomnet.cli.serviceoptions import TIMEOUT, Target, as_json, explained
from pycomnet.services.nameserveraddress import DEFAULT_NAMESERVER, NAMESERVER_VARIABLE
from pycomnet.text.printable import visible_line

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.net.reactors import EndpointReactor
    from pycomnet.services.client.context import Context

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = """\b
Examples:
  pycomnet ns list
  pycomnet ns list 'org.example.*' --tag blue --json
  pycomnet ns locate org.example.calc
  pycomnet ns watch --interface 'org.example.*'
  pycomnet ns --nameserver unix:/run/names remove org.example.calc-7
  pycomnet ns --nameserver unix:/run/names drain org.example.calc-8
  pycomnet ns --nameserver tcp:ns.example.org:2012 stat
  pycomnet ns --nameserver tcp:a:2012,tcp:b:2012 cluster

A PATTERN is a name, or has a shell's wildcards * ? [...]; then quote it.

\b
Exit status:
  1          the nameserver can't be reached, or there is no such service
  2          a mistake on the command line
  128+N      signal N ended the command (Ctrl-C: 130)
"""


@attrs.frozen
class NameserverTarget:
    """The nameserver that the command line names.

    :ivar nameserver: its address, or several with commas between them.
    :ivar timeout: seconds that a call may take.
    :ivar identity: the user's credentials.
    """

    nameserver: str
    timeout: float
    identity: Identity = attrs.Factory(Identity)

    def context(self, reactor: EndpointReactor) -> Context:
        """A context that calls this nameserver.

        :raises EndpointError: the address is not valid.
        :raises AccessConfigError: the user's credentials can't be used.
        """
        from pycomnet.services.client.context import Context

        return Context(
            reactor,
            nameserver=self.nameserver,
            timeout=self.timeout,
            nameserver_credentials=self.identity.credentials(),
            trust_roots=self.identity.trust_roots,
        )


@click.group(
    "ns",
    cls=SuggestingGroup,
    epilog=EPILOG,
    short_help="Query the nameserver: list, locate, watch, stat, cluster, drain.",
)
@click.option(
    "--nameserver",
    metavar="ADDRESS",
    envvar=NAMESERVER_VARIABLE,
    default=DEFAULT_NAMESERVER,
    show_default=True,
    help=f"The nameserver's address, or several with commas; also set by {NAMESERVER_VARIABLE}.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    help="Give up after this many seconds.",
)
@identity_options
@click.pass_context
def ns(context: click.Context, nameserver: str, timeout: float, identity: Identity) -> None:
    """Query the nameserver: which services there are, and where."""
    context.obj = NameserverTarget(nameserver, timeout, identity)


def _filters(command: F) -> F:
    """Adds ``--interface``, ``--tag``, ``--json`` and the argument PATTERN."""

    @functools.wraps(command)
    def call(pattern: str | None, interface: str | None, tags: Sequence[str], **rest: Any) -> Any:
        wanted = {"service": pattern, "interface": interface, "tags": list(tags)}
        return command(wanted=wanted, **rest)

    wrapped: Any = call
    for option in reversed(
        [
            click.argument("pattern", required=False),
            click.option(
                "--interface",
                metavar="PATTERN",
                help="Only services with an interface that matches.",
            ),
            _tag_option(),
            _json_option(),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def _tag_option() -> Callable[[F], F]:
    return click.option(
        "--tag",
        "tags",
        metavar="TAG",
        multiple=True,
        help="Only services with this tag; given again, with all these tags.",
    )


def _json_option() -> Callable[[F], F]:
    return click.option("--json", "in_json", is_flag=True, help="Print one JSON object per line.")


@ns.command("list", short_help="List services.")
@_filters
@click.pass_obj
def list_command(target: NameserverTarget, wanted: dict[str, Any], in_json: bool) -> None:
    """List the registered services, or those whose name matches PATTERN."""
    _run(target, lambda program, context: list_services(program, context, wanted, in_json))


async def list_services(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print the services page by page, at the pace of the reader of standard output."""
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
@click.option("--service", metavar="NAME", help="Only the service of this name.")
@_tag_option()
@_json_option()
@click.pass_obj
def locate_command(
    target: NameserverTarget,
    interface: str,
    service: str | None,
    tags: Sequence[str],
    in_json: bool,
) -> None:
    """Print the address of a service with INTERFACE. If there are several, they take turns."""
    wanted = {"interface": interface, "service": service, "tags": list(tags)}
    _run(target, lambda program, context: locate(program, context, wanted, in_json))


async def locate(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print the service's address, or its whole record as JSON."""
    from pycomnet.errors import ServiceNotFound

    nameserver = await context.nameserver()
    try:
        record = await nameserver.invoke("locate", wanted)
    except ServiceNotFound as problem:
        # For this error explained() uses only the context; the target is a placeholder.
        target = Target("", None, None, TIMEOUT)
        program.say(await explained(problem, target, context, wanted["interface"]))
        return 1
    await _put(program, [as_json(record) if in_json else record["address"]])
    return 0


@ns.command("watch", short_help="Show each service that registers or goes.")
@_filters
@click.pass_obj
def watch_command(target: NameserverTarget, wanted: dict[str, Any], in_json: bool) -> None:
    """Show the registered services and then each change, until Ctrl-C.

    If the connection to the nameserver is lost, the command waits for it and then continues.
    """
    _run(target, lambda program, context: watch(program, context, wanted, in_json))


async def watch(
    program: CommandProgram, context: Context, wanted: dict[str, Any], in_json: bool
) -> int:
    """Print events at the pace of the reader of standard output, until it is cancelled."""
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
    """An event as text for people."""
    kind, revision = event["event"], event["revision"]
    if kind == "put":
        service, address, interfaces, _, _, state = _columns(event["record"])
        return f"+ {service}  {address}  {interfaces}" + (f"  ({state})" if state != "-" else "")
    if kind == "delete":
        return f"- {event['service']}  ({event['why']})"
    return f"# {kind}, revision {revision}"


@ns.command("stat", short_help="Show what the nameserver holds and has done.")
@_json_option()
@click.pass_obj
def stat_command(target: NameserverTarget, in_json: bool) -> None:
    """Show the nameserver's counts of records, and of its work since it started."""
    _run(target, lambda program, context: stat(program, context, in_json))


async def stat(program: CommandProgram, context: Context, in_json: bool) -> int:
    """Print the result of the nameserver's ``stat``."""
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


@ns.command("cluster", short_help="Show the nameservers on one store, and its members.")
@_json_option()
@click.pass_obj
def cluster_command(target: NameserverTarget, in_json: bool) -> None:
    """Show the nameservers that share a store (etcd), and the members of the store itself."""
    _run(target, lambda program, context: cluster(program, context, in_json))


async def cluster(program: CommandProgram, context: Context, in_json: bool) -> int:
    """Print the result of the nameserver's ``cluster``, with how stale each nameserver is."""
    nameserver = await context.nameserver()
    found = await nameserver.invoke("cluster")
    if not found:
        program.say("this nameserver has its store alone: there is no cluster")
        return 0
    if in_json:
        await _put(program, [as_json(found)])
        return 0
    rows = [["NAMESERVER", "ADDRESSES", "VERSION", "SECONDS STALE"]]
    for one in found["nameservers"]:
        addresses = " ".join(one.get("addresses", ())) or "-"
        stale = one.get("stale")
        shown = "-" if stale is None else f"{stale:.1f}"
        rows.append([str(one.get("id")), addresses, str(one.get("version", "-")), shown])
    await _put(program, [*table(rows), ""])
    rows = [["MEMBER", "URLS", "VERSION", "STATE", "BYTES"]]
    for one in found["members"]:
        state = "leader" if one.get("leader") else "follower"
        state = ", ".join([state, *one.get("errors", ())]) if one["reached"] else "not reached"
        rows.append(
            [
                str(one["name"]),
                " ".join(one["urls"]) or "-",
                str(one.get("version", "-")),
                state,
                str(one.get("bytes", "-")),
            ]
        )
    await _put(program, table(rows))
    return 0


ns.add_command(export_command)
ns.add_command(import_command)

HEAD = ["SERVICE", "ADDRESS", "INTERFACES", "TAGS", "SECONDS LEFT", "STATE"]
NONE = "no service is registered"


def _columns(record: dict[str, Any]) -> list[str]:
    return [
        record["service"],
        record["address"],
        " ".join(record["interfaces"]),
        " ".join(record["tags"]) or "-",
        f"{record['ttl']:.0f}",
        visible_line(state_of(record)),
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Format rows of text as lines, with each column as wide as its longest cell."""
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


def _run(target: NameserverTarget, command: Callable[[CommandProgram, Context], Any]) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        program.ending = ""
        async with target.context(program.reactor) as context:
            status: int = await command(program, context)
            return status

    run_command(main)


for operator_command in operator_commands(_run):
    ns.add_command(operator_command)
