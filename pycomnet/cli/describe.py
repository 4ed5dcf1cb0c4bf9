"""``pycomnet describe``: show the interfaces and methods of a service."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.serviceoptions import Target, as_json, explained, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.services.client.context import Context

#: The statistics of a publisher that are shown.
FIGURES = ("sequence", "rate", "subscriptions", "lag", "dropped", "history")

EPILOG = """\b
Examples:
  pycomnet describe org.example.calc
  pycomnet describe --address tcp:127.0.0.1:2013
  pycomnet describe --json org.pycom.nameserver
  pycomnet describe --stub org.example.calc > calc_types.py
"""


@click.command("describe", epilog=EPILOG, short_help="Show what a service offers.")
@target_options
@click.option("--json", "in_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--stub", is_flag=True, help="Print Python source: typing.Protocols for proxies.")
@click.argument("interface", required=False)
def describe(target: Target, in_json: bool, stub: bool, interface: str | None) -> None:
    """Show the methods of a service with INTERFACE, and their documentation.

    With --address, INTERFACE may be left out: then all interfaces at that address are shown.
    """
    from pycomnet.cli.program import run_command

    if interface is None and target.address is None:
        raise click.UsageError("give an INTERFACE, or the address of a service with --address")

    if in_json and stub:
        raise click.UsageError("give --json or --stub, not both")
    shown = as_indented_json if in_json else as_stub if stub else as_text
    run_command(lambda program: show_interfaces(program, target, interface, shown))


def as_indented_json(interfaces: dict[str, Any]) -> str:
    """The result of ``introspect`` for programs."""
    return as_json(interfaces, 2)


def as_stub(interfaces: dict[str, Any]) -> str:
    """The result of ``introspect`` as Python source, for type checkers."""
    from pycomnet.ext.proxy.stubs import stub_of

    return stub_of(interfaces).removesuffix("\n")


async def show_interfaces(
    program: CommandProgram,
    target: Target,
    interface: str | None,
    shown: Callable[[dict[str, Any]], str] | None = None,
) -> int:
    """Print what a service offers. If its name is unknown, suggest a similar one.

    :param shown: makes what is printed of the result of ``introspect``; by default text.
    """
    from pycomnet.cli.call import put
    from pycomnet.errors import ServiceNotFound, UnknownInterface
    from pycomnet.services.interface import INTROSPECTION

    program.ending = ""
    async with target.context(program.reactor) as context:
        try:
            service = await target.find(context, interface or INTROSPECTION)
            found = await service.introspect()
            if shown is not as_stub:
                found = {**found, **await topics_of(context, target, found)}
        except (ServiceNotFound, UnknownInterface) as problem:
            program.say(await explained(problem, target, context, interface or ""))
            return 1
    put(program, (shown or as_text)(found))
    return 0


async def topics_of(
    context: Context, target: Target, interfaces: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Ask publishers for their statistics.

    :param interfaces: the result of ``introspect``.
    :returns: the descriptions of the interfaces that belong to publishers, with the statistics as
        ``topic``.
    """
    from pycomnet.errors import PycomnetError

    found = {}
    for name, declared in interfaces.items():
        if is_publisher(declared):
            try:
                service = await target.find(context, name)
                state = await service.invoke("topic")
            except PycomnetError:
                continue  # perhaps this user may not call it
            if isinstance(state, dict) and all(
                isinstance(state.get(figure), (int, float)) for figure in FIGURES
            ):
                found[name] = {**declared, "topic": state}
    return found


def is_publisher(declared: Mapping[str, Any]) -> bool:
    """Whether an interface belongs to a publisher, by the names and declarations of its methods.

    The declarations are compared as well, since another service may have a method ``topic`` that
    must not be called.
    """
    from pycomnet.ext.pubsub.subscriberequest import ARGUMENTS

    methods = declared.get("methods", {})
    subscribe, topic = methods.get("subscribe"), methods.get("topic")
    return (
        isinstance(subscribe, dict)
        and isinstance(topic, dict)
        and subscribe.get("stream") is True
        and isinstance(subscribe.get("args"), dict)
        and ARGUMENTS.keys() <= subscribe["args"].keys()
        and topic.get("idempotent") is True
    )


def as_text(interfaces: dict[str, Any]) -> str:
    """The result of ``introspect`` as text for people."""
    if not interfaces:
        return "there are no interfaces at this address"
    return "\n\n".join(_interface(name, found) for name, found in sorted(interfaces.items()))


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
