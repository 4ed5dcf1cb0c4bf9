"""``pycomnet ns export`` and ``import``: move all registrations from one store to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from pycomnet.errors import StoreFailed

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.interfaces import INameStore

#: Seconds after which the command reports that it waits for a store.
PATIENCE = 3.0

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

    scheme, _, path = store.partition(":")
    if scheme == "sqlite" and path and not os.path.exists(path):
        raise StoreFailed(f"{store}: there is no such file")
    with _report_waiting(store, program) as opened:
        lines = await export_records(_lasting(store, program), opened)
    for line in lines:
        waiting = program.print_text(line + "\n")
        if waiting is not None:
            await waiting
        if program.stdout.problem is not None:
            return 1
    program.say(f"{len(lines) - 1} registrations")
    return 0


@click.command("import", short_help="Register everything that was exported from a store.")
@store_option
@click.argument("file", type=click.File("rb"))
def import_command(store: str, file: IO[bytes]) -> None:
    """Register in STORE the registrations of FILE, which is the output of "pycomnet ns export"; -
    is standard input.

    Owners keep their leases and secrets, so that they can continue to renew. Each lease begins
    again with its full length. Names that others have in STORE stay as they are; then the exit
    status is 1. If it is interrupted, or the disk is full, import the same FILE again.
    Registrations can't be moved from one prefix to another of the same etcd, as both would have the
    same leases.
    """

    async def main(program: CommandProgram) -> int:
        return await import_store(program, store, await _lines(program, file.fileno()))

    _run(main)


async def _lines(program: CommandProgram, fd: int) -> list[str]:
    """Read all lines. Bytes that are not UTF-8 are replaced: the check of their line fails."""
    from pycomnet.cli.stdstreams import InputLines

    source, lines = InputLines(fd, program.reactor), []
    while found := await source.next_lines():
        lines += [line.decode("utf-8", "replace") for line in found]
    return lines


async def import_store(program: CommandProgram, store: str, lines: Iterable[str]) -> int:
    """Import the lines, and report how many registrations were made."""
    from pycomnet.nameserver.migration import import_records

    with _report_waiting(store, program) as opened:
        done, taken = await import_records(_lasting(store, program), lines, opened)
    program.say(f"{done} registrations are there now")
    for name in taken:
        program.say(f"{name!r} is registered by another owner, and stays as it is")
    return 1 if taken else 0


def _lasting(store: str, program: CommandProgram) -> INameStore:
    from pycomnet.nameserver.stores import make_store

    if store == "memory:":
        raise StoreFailed("memory: is within a nameserver that runs: it can't be moved")
    return make_store(store, program.reactor)


@contextmanager
def _report_waiting(store: str, program: CommandProgram) -> Iterator[Callable[[], None]]:
    """Report after some seconds that the command waits for a store, unless it is opened by then.

    :returns: yields a function to call when the store is open.
    """
    call = program.reactor.callLater(
        PATIENCE, program.say, f"waiting for {store} (pycomnet -v says for what)"
    )

    def opened() -> None:
        if call.active():
            call.cancel()

    try:
        yield opened
    finally:
        opened()


def _run(command: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> None:
    from pycomnet.cli.program import run_command

    async def main(program: CommandProgram) -> int:
        program.ending = ""
        return await command(program)

    run_command(main)
