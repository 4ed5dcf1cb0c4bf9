"""``pycomnet ns export`` and ``import``: move all registrations from one store to another."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram

store_option = click.option(
    "--store",
    metavar="STORE",
    required=True,
    help="The store, as twistd pycomnet-nameserver --store takes it.",
)


@click.command("export", short_help="Print all registrations of a store.")
@store_option
def export_command(store: str) -> None:
    """Print all registrations of STORE, a line of JSON each, for "pycomnet ns import".

    The first line has the store's revision. The lines have digests of the owners' secrets, and who
    changes them decides who owns what: keep them in a file that only you can read (umask 077). An
    SQLite file is exported while no nameserver uses it. With etcd, it waits until etcd is there,
    and "pycomnet ns cluster" shows it as a nameserver meanwhile.
    """
    _run(lambda program: export_store(program, store))


async def export_store(program: CommandProgram, store: str) -> int:
    """Print the lines."""
    from pycomnet.nameserver.migration import export_records
    from pycomnet.nameserver.stores import make_store

    lines = await export_records(make_store(store, program.reactor))
    for line in lines:
        waiting = program.print_text(line + "\n")
        if waiting is not None:
            await waiting
    program.say(f"{len(lines) - 1} registrations")
    return 0


@click.command("import", short_help="Register what another store has had.")
@store_option
@click.argument("file", type=click.File("r", encoding="utf-8"))
def import_command(store: str, file: IO[str]) -> None:
    """Register in STORE what FILE has, the output of "pycomnet ns export"; - is standard input.

    Owners keep their leases and secrets, so they go on renewing, and each lease begins with its
    whole length. Names that are registered in STORE stay as they are; then the status is 1. A
    prefix of an etcd can't be moved to another prefix of it: both would have the same leases.
    """
    _run(lambda program: import_store(program, store, file))


async def import_store(program: CommandProgram, store: str, lines: Iterable[str]) -> int:
    """Register what the lines have."""
    from pycomnet.nameserver.migration import import_records
    from pycomnet.nameserver.stores import make_store

    done, taken = await import_records(make_store(store, program.reactor), lines)
    program.say(f"{done} registrations are there now")
    for name in taken:
        program.say(f"{name!r} is registered there already, and stays as it is")
    return 1 if taken else 0


def _run(command: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        program.ending = ""
        return await command(program)

    run_command(main)
