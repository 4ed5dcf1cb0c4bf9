"""``pycomnet call``: call a method of a service."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.serviceoptions import Target, as_json, explained, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.services.client.remoteservice import RemoteService

EPILOG = """\b
Examples:
  pycomnet call org.example.calc add '{"a": 1, "b": 2}'
  pycomnet call --address tcp:127.0.0.1:2013 org.example.calc add '{"a": 1, "b": 2}'
  echo '{"page": 3}' | pycomnet call org.example.report render -
  pycomnet call org.example.images scale '{"width": 64}' --file big.png --out small.png
  pycomnet call --stream org.pycom.nameserver watch

The arguments are JSON, or "-" to read JSON from standard input. The result is printed as JSON.
Bytes in it become text if they are UTF-8, and base64 otherwise.

\b
Exit status:
  1          the method raised an exception, or there is no such service, method or file
  2          a mistake on the command line
  124        the --timeout expired
  128+N      signal N ended the command (Ctrl-C: 130); the call is cancelled
"""

#: A block is copied in pieces of this many bytes.
COPIED = 1 << 20


def read_arguments(text: str | None) -> Any:
    """Parse the JSON arguments of the command line.

    :param text: JSON; ``-`` to read it from standard input; None for no arguments.
    :raises click.UsageError: the text is not JSON.
    """
    if text is None:
        return None
    where = "JSON"
    try:
        if text == "-":
            where, text = "standard input", sys.stdin.read()
        return json.loads(text)
    except ValueError as problem:
        raise click.UsageError(f"{where} can't be read: {problem}") from None
    except RecursionError:
        raise click.UsageError(f"{where} can't be read: it is nested too deeply") from None


@click.command("call", epilog=EPILOG, short_help="Call a method of a service.")
@target_options
@click.option(
    "-f",
    "--file",
    "files",
    metavar="PATH",
    multiple=True,
    help="Send this file's contents as a block of binary data; may be given several times.",
)
@click.option(
    "-o",
    "--out",
    "outs",
    metavar="PATH",
    multiple=True,
    help="Write the first block of the result to this file; given again, the next block.",
)
@click.option("--stream", is_flag=True, help="Print each value as it arrives, one per line.")
@click.argument("interface")
@click.argument("method")
@click.argument("arguments", metavar="[JSON]", required=False)
def call(
    target: Target,
    files: tuple[str, ...],
    outs: tuple[str, ...],
    stream: bool,
    interface: str,
    method: str,
    arguments: str | None,
) -> None:
    """Call METHOD of a service with INTERFACE, and print its result."""
    from pycomnet.cli.program import run_command

    if stream and (files or outs):
        raise click.UsageError("--stream can't be used with --file or --out")
    args = read_arguments(arguments)

    async def show(program: CommandProgram, service: RemoteService) -> int:
        if stream:
            return await show_stream(program, service, method, args)
        return await show_result(program, service, method, args, files, outs)

    run_command(lambda program: call_method(program, target, interface, method, show))


async def call_method(
    program: CommandProgram,
    target: Target,
    interface: str,
    method: str,
    show: Callable[[CommandProgram, RemoteService], Coroutine[Any, Any, int]],
) -> int:
    """Find the service and call the method. If a name is unknown, suggest a similar one.

    :param show: calls the method and prints its result; returns the exit status.
    """
    from pycomnet.errors import ServiceNotFound, UnknownInterface, UnknownMethod

    program.ending = ""
    async with target.context(program.reactor) as context:
        try:
            return await show(program, await target.find(context, interface))
        except (ServiceNotFound, UnknownInterface, UnknownMethod) as problem:
            program.say(await explained(problem, target, context, interface, method))
            return 1


async def show_result(
    program: CommandProgram,
    service: RemoteService,
    method: str,
    args: Any,
    files: tuple[str, ...] = (),
    outs: tuple[str, ...] = (),
) -> int:
    """Call the method, write the blocks of the result to files, and print the result."""
    from pycomnet.services.binary import Binary

    attachments = [Binary(path) for path in files]
    result, blocks = await service.invoke(method, args, attachments=attachments, with_binary=True)
    try:
        for path, block in zip(outs, blocks, strict=False):
            write_block(path, block)
    finally:
        for block in blocks:
            block.close()
    if len(blocks) > len(outs):
        program.say(f"{len(blocks)} blocks of binary data came back: --out PATH keeps one of them")
    elif len(blocks) < len(outs):
        program.say(f"there is nothing for {outs[len(blocks)]}: {len(blocks)} blocks came back")
        return 1
    indent = 2 if program.stdout.isatty() else None
    put(program, as_json(result, indent))
    return 0


async def show_stream(
    program: CommandProgram, service: RemoteService, method: str, args: Any
) -> int:
    """Print each value of a streaming method, at the pace of the reader of standard output."""
    async for value in service.stream(method, args):
        waiting = put(program, as_json(value))
        if waiting is not None:
            await waiting
    return 0


def put(program: CommandProgram, text: str) -> Any:
    """Print a line. Returns what :meth:`OutputStream.put` returns."""
    return program.print_text(text + "\n")


def write_block(path: str, block: Any) -> None:
    """Write a block to a file atomically: it is written in full or not at all.

    A path that exists and is no regular file (``/dev/null``, a pipe) is written to, not replaced.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            shutil.copyfileobj(block, file, COPIED)
        return
    target = os.path.realpath(path)  # replaces the link's target, not the link
    try:
        mode = os.stat(target).st_mode & 0o777
    except FileNotFoundError:
        mode = 0o666 & ~_umask()
    try:
        descriptor, temporary = tempfile.mkstemp(".part", ".", os.path.dirname(target))
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, path) from None
    try:
        with open(descriptor, "wb") as file:
            shutil.copyfileobj(block, file, COPIED)
            os.fchmod(descriptor, mode)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
