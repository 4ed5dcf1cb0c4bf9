"""``pycomnet describe``: show the interfaces and methods of a service."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.remote import Target, as_json, explained, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.services.client.context import Context

#: No publisher is described.
NONE: Mapping[str, Any] = {}

EPILOG = """\b
Examples:
  pycomnet describe org.example.calc
  pycomnet describe --address tcp:127.0.0.1:2013
  pycomnet describe --json org.pycom.nameserver
"""


@click.command("describe", epilog=EPILOG, short_help="Show what a service offers.")
@target_options
@click.option("--json", "in_json", is_flag=True, help="Print JSON, for programs.")
@click.argument("interface", required=False)
def describe(target: Target, in_json: bool, interface: str | None) -> None:
    """Show the methods of a service with INTERFACE, and their documentation.

    With --address, INTERFACE may be left out: then all interfaces at that address are shown.
    """
    from pycomnet.cli.program import run_command

    if interface is None and target.address is None:
        raise click.UsageError("give an INTERFACE, or the address of a service with --address")

    run_command(lambda program: show_interfaces(program, target, interface, in_json))


async def show_interfaces(
    program: CommandProgram, target: Target, interface: str | None, in_json: bool = False
) -> int:
    """Print what a service offers. If its name is unknown, suggest a similar one."""
    from pycomnet.cli.call import put
    from pycomnet.errors import ServiceNotFound, UnknownInterface
    from pycomnet.services.interface import INTROSPECTION

    program.ending = ""
    async with target.context(program.reactor) as context:
        try:
            service = await target.find(context, interface or INTROSPECTION)
            found = await service.introspect()
            topics = await topics_of(context, target, found)
        except (ServiceNotFound, UnknownInterface) as problem:
            program.say(await explained(problem, target, context, interface or ""))
            return 1
    put(program, as_json({**found, **topics}, 2) if in_json else as_text(found, topics))
    return 0


async def topics_of(
    context: Context, target: Target, interfaces: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The state of each interface that is a publisher's: interface -> its description, with
    ``topic``."""
    from pycomnet.errors import PycomnetError

    found = {}
    for name, declared in interfaces.items():
        if {"subscribe", "topic"} <= set(declared.get("methods", ())):
            try:
                service = await target.find(context, name)
                found[name] = {**declared, "topic": await service.invoke("topic")}
            except PycomnetError:
                continue  # perhaps this user may not call it
    return found


def as_text(interfaces: dict[str, Any], topics: Mapping[str, Any] = NONE) -> str:
    """The result of ``introspect`` as text for people.

    :param topics: what :func:`topics_of` returns.
    """
    if not interfaces:
        return "nothing is offered there"
    shown = {**interfaces, **topics}
    return "\n\n".join(_interface(name, found) for name, found in sorted(shown.items()))


def _topic(state: Mapping[str, Any]) -> str:
    """The state of a publisher as a line."""
    return (
        f"publishes: {state['sequence']} events so far, {state['rate']:.1f} a second; "
        f"{state['subscriptions']} subscribers, of which the slowest has {state['lag']} events "
        f"waiting; {state['dropped']} dropped; {state['history']} in the history"
    )


def _interface(name: str, found: dict[str, Any]) -> str:
    shown = [name + ("  (stateful)" if found.get("stateful") else "")]
    if found.get("doc"):
        shown.append(textwrap.indent(found["doc"], "  "))
    if found.get("topic"):
        shown.append(textwrap.indent(_topic(found["topic"]), "  "))
    for method, declared in sorted(found.get("methods", {}).items()):
        shown += ["", textwrap.indent(_method(method, declared), "  ")]
    return "\n".join(shown)


def _method(name: str, declared: dict[str, Any]) -> str:
    args = declared.get("args")
    if args is None:
        given = "..."
    else:
        given = ", ".join(f"{arg}: {_kind(kind)}" for arg, kind in args.items())
    line = f"{name}({given})"
    if declared.get("results") is not None:
        line += f" -> {_kind(declared['results'])}"
    notes = [word for word in ("idempotent", "stream") if declared.get(word)]
    if declared.get("attachments"):
        notes.append(f"{declared['attachments']} blocks")
    if notes:
        line += f"  [{', '.join(notes)}]"
    doc = declared.get("doc")
    return line + (f"\n{textwrap.indent(doc, '  ')}" if doc else "")


def _kind(kind: Any) -> str:
    if isinstance(kind, dict):
        return "{" + ", ".join(f"{key}: {_kind(value)}" for key, value in kind.items()) + "}"
    return str(kind)
