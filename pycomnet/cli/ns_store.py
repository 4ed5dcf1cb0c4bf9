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

    The first line has the store's revision. The other lines have digests of the owners' secrets,
    and whoever changes a digest becomes the owner: keep the lines in a file that only you can read
    and write (umask 077). An SQLite file can be exported only while no nameserver uses it. With
    etcd, the command waits until etcd can be reached, and "pycomnet ns cluster" shows it as a
    nameserver meanwhile.
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


@click.command("import", short_help="Register everything that was exported from a store.")
@store_option
@click.argument("file", type=click.File("r", encoding="utf-8"))
def import_command(store: str, file: IO[str]) -> None:
    """Register in STORE the registrations of FILE, which is the output of "pycomnet ns export"; -
    is standard input.

    Owners keep their leases and secrets, so that they can continue to renew. Each lease begins
    again with its full length. Names that STORE already has stay as they are; then the exit status
    is 1. Registrations can't be moved from one prefix to another of the same etcd, as both would
    have the same leases.
    """
    _run(lambda program: import_store(program, store, file))


async def import_store(program: CommandProgram, store: str, lines: Iterable[str]) -> int:
    """Import the lines, and report how many registrations were made."""
    from pycomnet.nameserver.migration import import_records
    from pycomnet.nameserver.stores import make_store

    done, taken = await import_records(make_store(store, program.reactor), lines)
    program.say(f"{done} registrations were imported")
    for name in taken:
        program.say(f"{name!r} was registered already, and stays as it is")
    return 1 if taken else 0


def _run(command: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        program.ending = ""
        return await command(program)

    run_command(main)
