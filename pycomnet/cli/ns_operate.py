"""``pycomnet ns drain``, ``undrain``, ``weigh`` and ``remove``: the commands for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pycomnet.services.client.weights import MAX_WEIGHT, WEIGHT

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.services.client.context import Context

#: Runs a command with the group's settings: see :func:`pycomnet.cli.ns.ns`.
Runner = Callable[[Any, Callable[["CommandProgram", "Context"], Any]], None]

WHO = """An operator connects to the nameserver's unix socket as root or as the nameserver's user,
    has a certificate with a name that the nameserver was given with --operator, or is admitted by
    the nameserver's --access file."""


def operator_commands(run: Runner) -> list[click.Command]:
    """Make the commands.

    :param run: runs them, with a context that knows the nameserver.
    """

    def invoke(target: Any, method: str, **args: Any) -> None:
        run(target, lambda program, context: operate(program, context, method, args))

    @click.command("drain", short_help="Give a service no new callers.")
    @click.argument("service")
    @click.pass_obj
    def drain(target: Any, service: str) -> None:
        invoke(target, "override", service=service, draining=True)

    @click.command("undrain", short_help="Give a drained service callers again.")
    @click.argument("service")
    @click.pass_obj
    def undrain(target: Any, service: str) -> None:
        invoke(target, "override", service=service, draining=False)

    @click.command("weigh", short_help="Change how many callers a service gets.")
    @click.argument("service")
    @click.argument("weight", type=click.IntRange(0, MAX_WEIGHT))
    @click.pass_obj
    def weigh(target: Any, service: str, weight: int) -> None:
        invoke(target, "override", service=service, weight=weight)

    @click.command("remove", short_help="Remove the registration of a dead service.")
    @click.argument("service")
    @click.pass_obj
    def remove(target: Any, service: str) -> None:
        invoke(target, "remove", service=service)

    drain.help = f"""Give SERVICE no new callers. Only an operator may do that.

    It is listed, and not located, until "undrain". Clients that are connected to it go to another
    instance if there is one. This stays so when the service registers again.

    {WHO}
    """
    undrain.help = f"""Give SERVICE callers again, after "drain". Only an operator may do that.

    If the service has begun to drain itself, or its health check fails, it still gets none.

    {WHO}
    """
    weigh.help = f"""Give SERVICE a WEIGHT, from 0 to {MAX_WEIGHT}. Only an operator may do that.

    Each service with an interface gets callers in proportion to its weight, by default {WEIGHT}. A
    service of weight 0 gets callers only if there is no other. The weight stays when the service
    registers again.

    {WHO}
    """
    remove.help = f"""Remove the registration of SERVICE before its lease ends. Only an operator may
    do that.

    A service that still runs registers again.

    {WHO}
    """
    return [drain, undrain, weigh, remove]


async def operate(
    program: CommandProgram, context: Context, method: str, args: dict[str, Any]
) -> int:
    """Call a method of the nameserver for operators."""
    nameserver = await context.nameserver()
    await nameserver.invoke(method, args)
    return 0


def state_of(record: dict[str, Any]) -> str:
    """Whether a record's service takes callers, as text for people."""
    said = []
    if record.get("draining"):
        said.append("draining")
    if record.get("failing"):
        said.append("failing")
    if record.get("doubtful"):
        said.append("doubtful")
    if "weight" in record:
        said.append(f"weight {record['weight']}")
    text = ", ".join(said)
    if record.get("said"):
        text += f"{': ' if text else ''}{record['said']}"
    return text or "-"
