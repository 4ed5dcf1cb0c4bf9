"""``pycomnet venv list``, ``remove`` and ``prune``: the environments that are at a far side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pycomnet.errors import SpecError
from pycomnet.gateways.spec import Spec
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.cli.program import CommandProgram
    from pycomnet.gateways.gateway import Gateway

T = TypeVar("T")

directory_option = click.option(
    "--directory", metavar="DIR", help="Where environments are kept there."
)


def parse_spec(spec: str) -> Spec:
    """Parse a SPEC of the command line.

    :raises click.BadParameter: it is not valid.
    """
    try:
        return Spec.parse(spec)
    except (SpecError, ValueError) as problem:
        raise click.BadParameter(str(problem), param_hint="'SPEC'") from None


async def ask_far_side(
    program: CommandProgram, spec: Spec, ask: Callable[[Gateway], Deferred[T]]
) -> T:
    """Make a gateway, ask it, and end it."""
    from pycomnet.cli.gatewayoutput import output_shown_by
    from pycomnet.cli.program import END_TIMEOUT
    from pycomnet.gateways.group import Group

    group = Group(program.reactor, output=output_shown_by(program, False, alone=True))
    try:
        return await ask(await group.makegateway(spec))
    finally:
        await group.close(END_TIMEOUT)


@click.command("list")
@directory_option
@click.argument("spec")
def list_command(spec: str, directory: str | None) -> None:
    """List the environments at SPEC: name, Python, packages."""
    _run(show_list, parse_spec(spec), directory)


@click.command("remove")
@directory_option
@click.argument("spec")
@click.argument("name")
def remove_command(spec: str, name: str, directory: str | None) -> None:
    """Remove the environment NAME at SPEC. It stays on the disk while a gateway is in it."""
    _run(remove, parse_spec(spec), name, directory)


@click.command("prune", short_help="Remove unused environments and wheels.")
@directory_option
@click.argument("spec")
def prune_command(spec: str, directory: str | None) -> None:
    """Remove the environments at SPEC that have no name and no gateway, and unused wheels."""
    _run(prune, parse_spec(spec), directory)


def _run(function: Any, *args: Any) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        status: int = await function(program, *args)
        return status

    run_command(main)


async def show_list(program: CommandProgram, spec: Spec, directory: str | None) -> int:
    """Print a line for each environment; return the exit status."""
    from pycomnet import xdeploy

    found = await ask_far_side(
        program, spec, lambda gateway: xdeploy.list(gateway, directory=directory)
    )
    for venv in found:
        packages = [f"{name} {version}" for name, version in sorted(venv.packages.items())]
        line = f"{venv.name}\t{venv.interpreter}\t{', '.join(packages) or 'no packages'}"
        program.print_text("\t".join(map(visible, line.split("\t"))) + "\n")
    return 0


async def remove(program: CommandProgram, spec: Spec, name: str, directory: str | None) -> int:
    """Remove a name; return 1 if there is none."""
    from pycomnet import xdeploy

    if await ask_far_side(
        program, spec, lambda gateway: xdeploy.remove(gateway, name, directory=directory)
    ):
        return 0
    program.say(f"there is no environment {name} there")
    return 1


async def prune(program: CommandProgram, spec: Spec, directory: str | None) -> int:
    """Remove what is not needed, and print how much that was; return the exit status."""
    from pycomnet import xdeploy

    done = await ask_far_side(
        program, spec, lambda gateway: xdeploy.prune(gateway, directory=directory)
    )
    program.print_text(
        f"removed {done.environments} environments and {done.wheels} wheels, "
        f"{done.bytes / 1e6:.1f} MB\n"
    )
    if done.busy:
        program.say(
            "environments are just being made there, so something may have stayed that is not "
            "needed: prune again later"
        )
    return 0


COMMANDS = (list_command, remove_command, prune_command)
