"""``pycomnet run``: run a script on several gateways at the same time."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from pycomnet.cli.options import (
    brief,
    gateway_options,
    not_started,
    raw_option,
    start_gateways,
)

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel
    from pycomnet.cli.gatewayoutput import GatewayFiles, GatewayLines
    from pycomnet.cli.program import CommandProgram
    from pycomnet.cli.scriptfiles import ScriptFiles
    from pycomnet.cli.stdstreams import InputBlocks
    from pycomnet.gateways.gateway import Gateway
    from pycomnet.gateways.modules import ModuleOffer
    from pycomnet.gateways.spec import Spec

EPILOG = """\b
Examples:
  pycomnet run script.py -x --an-option-of-the-script
  pycomnet run --on 2xpopen --on popen//python=pypy3 script.py
  pycomnet run --on 'ssh=web{1..50}' -m app.check
  pycomnet run --on 4xpopen -c "import os; print(os.getpid())"
  pycomnet run --on popen//chdir=/srv/app --env DEBUG=1 -m app.check -- --fast
  echo 'print(6 * 7)' | pycomnet run --no-prefix -
  pycomnet run --stdin --on ssh=web1 load.py < data.csv

The script is read here and runs on each gateway as __main__, with its own arguments. Its standard
input is empty, so that the command takes no input from a shell loop around it. With --stdin each
script gets all of this command's standard input, at the pace of the slowest script. Options before
FILE belong to pycomnet, and what follows it to the script. With -c or -m, put "--" before arguments
that begin with a dash.

\b
Exit status: the first script's status, in the order of --on, that is not 0; or 0. It is
  1          if the script does not catch an exception, or a gateway can't be started: this is
             reported at the end, and the other gateways run the script
  2          for a mistake on the command line
  124        if the --timeout expired
  128+N      if signal N ended a gateway's process, or this command (Ctrl-C: 130)
"""


@attrs.frozen
class Script:
    """The program to run.

    :ivar source: the bytes of its file, or None for a module.
    :ivar filename: for tracebacks and ``__file__``.
    :ivar argv: ``sys.argv``.
    :ivar directory: the first entry of ``sys.path``; ``""`` is the working directory.
    :ivar module: the module's name, or None.
    :ivar offer: the modules of this machine that the script may import if its file is missing on
        the gateway's machine; or None.
    :ivar files: the files that are sent with it, or None.
    """

    source: bytes | None
    filename: str
    argv: list[str]
    directory: str = ""
    module: str | None = None
    offer: ModuleOffer | None = None
    files: ScriptFiles | None = None

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of ``run_program`` at the far side (cli/script.py)."""
        layout = None if self.files is None else self.files.layout()
        return {
            "source": self.source,
            "filename": self.filename,
            "argv": self.argv,
            "directory": self.directory,
            "module": self.module,
            "layout": layout,
        }


def read_script(
    args: tuple[str, ...],
    code: str | None = None,
    module: str | None = None,
    modules: bool = True,
    send: tuple[str, ...] = (),
) -> Script:
    """Read the program that the command line names.

    :param args: the program's file and its arguments; only these with ``code`` or ``module``.
    :param code: the program's text (``-c``).
    :param module: the module to run (``-m``).
    :param modules: whether a script may import modules that lie beside it on this machine.
    :param send: directories that are sent with it.
    :raises click.ClickException: no program is named, or it can't be read.
    """
    if code is not None and module is not None:
        raise click.UsageError("give -c or -m, not both")
    is_file = code is None and module is None and bool(args) and args[0] != "-"
    if send and not is_file:
        raise click.UsageError("--send needs a FILE to run, which is sent with the directory")
    if code is not None:
        return Script(code.encode("utf-8", "surrogateescape"), "<string>", ["-c", *args])
    if module is not None:
        return Script(None, module, [module, *args], module=module)
    if not args:
        raise click.UsageError('what to run? Give a FILE, "-" for standard input, -c or -m.')
    name = args[0]
    if name == "-":
        return Script(sys.stdin.buffer.read(), "<stdin>", list(args))
    try:
        source = Path(name).read_bytes()
    except OSError as problem:
        reason = "it is a directory; try -m" if os.path.isdir(name) else str(problem.strerror)
        raise click.UsageError(f"can't read {name!r}: {reason}") from None
    directory = os.path.dirname(os.path.realpath(name))
    offer = files = None
    if send:
        from pycomnet.cli.scriptfiles import ScriptFiles

        files = ScriptFiles.of(send, name)
    if modules and not (files is not None and files.whole):
        from pycomnet.gateways.modules import ModuleOffer

        offer = ModuleOffer.of([Path(directory)])
    return Script(source, os.path.abspath(name), list(args), directory, offer=offer, files=files)


@click.command(
    "run",
    epilog=EPILOG,
    short_help="Run a script on gateways at the same time.",
    context_settings={"allow_interspersed_args": False},
)
@gateway_options
@click.option("-c", "code", metavar="CODE", help="Run this code.")
@click.option("-m", "module", metavar="MODULE", help="Run this module, which the gateway imports.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="End the gateways after this many seconds.",
)
@click.option(
    "--prefix/--no-prefix",
    default=True,
    help="Whether each line of output begins with the gateway's id. [default: prefix]",
)
@click.option(
    "--output-dir",
    metavar="DIR",
    help="Write output to DIR/ID.out and DIR/ID.err instead of showing it.",
)
@click.option(
    "--modules/--no-modules",
    default=True,
    help="Whether the script can import modules that lie beside it here, on a machine without its "
    "file. [default: modules]",
)
@click.option(
    "--send",
    metavar="DIR",
    multiple=True,
    help="Send this directory, which is in or above the script's, with the script: for its data. "
    "May be given several times.",
)
@click.option(
    "--stdin",
    "forward",
    is_flag=True,
    help="Forward standard input to each gateway's script. [default: it is empty]",
)
@raw_option
@click.argument("args", metavar="[FILE] [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run_command_line(
    specs: list[Spec],
    code: str | None,
    module: str | None,
    timeout: float | None,
    prefix: bool,
    output_dir: str | None,
    modules: bool,
    send: tuple[str, ...],
    forward: bool,
    raw: bool,
    args: tuple[str, ...],
) -> None:
    """Run a script on every gateway at the same time.

    The script's standard output and error are shown here, each line with its gateway's id, and its
    exit status is that of this command.
    """
    from pycomnet.cli.gatewayoutput import output_shown_by
    from pycomnet.cli.program import run_command

    if forward and code is None and module is None and args[:1] == ("-",):
        raise click.UsageError('--stdin can\'t be used with "-": both read standard input')
    script = read_script(args, code, module, modules, send)
    files = open_directory(output_dir)

    async def main(program: CommandProgram) -> int:
        lines = output_shown_by(program, prefix, alone=len(specs) == 1, raw=raw)
        source = None
        if forward:
            from pycomnet.cli.stdstreams import InputBlocks

            source = InputBlocks(0, program.reactor)
        return await run_script(program, specs, script, lines, files, timeout, source)

    run_command(main)


def open_directory(path: str | None) -> GatewayFiles | None:
    """Open the directory of ``--output-dir``; None without it.

    :raises click.BadParameter: the directory can't be created or opened.
    """
    from pycomnet.cli.gatewayoutput import GatewayFiles

    if path is None:
        return None
    try:
        return GatewayFiles(path)
    except FileNotFoundError:
        parent = os.path.dirname(os.path.abspath(path))
        reason = f"there is no directory {parent!r} to make it in"
    except OSError as problem:
        reason = f"{path!r}: {problem.strerror}"
    raise click.BadParameter(reason, param_hint="'--output-dir'")


async def run_script(
    program: CommandProgram,
    specs: list[Spec],
    script: Script,
    lines: GatewayLines,
    files: GatewayFiles | None = None,
    timeout: float | None = None,
    source: InputBlocks | None = None,
) -> int:
    """Start a gateway for each spec, and run the script on all of them.

    :param lines: shows the output, unless ``files`` get it.
    :param source: the scripts' standard input, or None for an empty one.
    :returns: the exit status that the command's help describes. Cancelling ends the gateways.
    """
    from twisted.internet import defer

    from pycomnet.cli.program import END_TIMEOUT
    from pycomnet.gateways.group import Group
    from pycomnet.gateways.pool.scheduler import all_of

    group = Group(program.reactor, output=files or lines)
    timer = feeding = None
    try:
        gateways, problem = await start_gateways(group, specs)
        for gateway in gateways if files is not None else ():
            files.open(gateway.id)  # type: ignore[union-attr]
        if timeout is not None:
            timer = program.reactor.callLater(timeout, _time_out, program, timeout)
        channels = [_begin(gateway, script, source is not None) for gateway in gateways]
        if script.files is not None:
            await all_of([_send_files(script.files, channel) for channel in channels])
        if source is not None:
            feeding = defer.Deferred.fromCoroutine(feed(source, channels))
            feeding.addErrback(_unread, program)
        statuses = await defer.gatherResults(
            [
                defer.Deferred.fromCoroutine(_status_on(program, *pair))
                for pair in zip(gateways, channels, strict=True)
            ],
            consumeErrors=True,
        )
        while not lines.idle:  # all output has arrived, but is not written yet
            await program.stdout.when_empty()
            await program.stderr.when_empty()
        if problem is not None:
            program.say(not_started(problem))
            statuses.append(1)
    finally:
        if timer is not None and timer.active():
            timer.cancel()
        if feeding is not None:
            feeding.cancel()
        await group.close(END_TIMEOUT)
        lines.flush()
    return next((status for status in statuses if status), 0)


def _time_out(program: CommandProgram, timeout: float) -> None:
    from pycomnet.cli.program import TIMED_OUT

    program.say(f"--timeout: not done in {timeout:g} seconds: ending the gateways")
    program.end(TIMED_OUT)


def _begin(gateway: Gateway, script: Script, stdin: bool) -> Channel:
    from pycomnet.cli import script as far

    if script.offer is not None:
        gateway.offer_modules(script.offer, unless=script.filename).addErrback(lambda _: None)
    return gateway.remote_exec(far, **script.as_arguments(), stdin=stdin)


async def _send_files(files: ScriptFiles, channel: Channel) -> None:
    """Send the script's files. Errors are left to the script's status, which has the reason."""
    from pycomnet.errors import PycomnetError

    with contextlib.suppress(PycomnetError):
        await files.send(channel)


async def feed(source: InputBlocks, channels: list[Channel]) -> None:
    """Send what is read to each channel, at the pace of the slowest, and then the end.

    A channel that is closed, because its script has ended, gets no more.

    :raises OSError: standard input can't be read.
    """
    from pycomnet.errors import PycomnetError
    from pycomnet.gateways.pool.scheduler import all_of

    left = list(channels)

    async def send(channel: Channel, data: bytes) -> None:
        try:
            await channel.send(data)
        except PycomnetError:
            left.remove(channel)

    while left and (blocks := await source.next_lines()):
        await all_of([send(channel, blocks[0]) for channel in left])
    for channel in left:
        if not channel.isclosed():
            channel.send_end()


def _unread(failure: Any, program: CommandProgram) -> None:
    from twisted.internet import defer

    if not failure.check(defer.CancelledError):
        program.say(f"standard input can't be read: {failure.value}")
        program.end(1)


async def _status_on(program: CommandProgram, gateway: Gateway, channel: Channel) -> int:
    from pycomnet.errors import ChannelClosed, ConnectionLost, GatewayDied

    try:
        status: int = await channel.receive()
    except ChannelClosed:
        program.say(f"{gateway.id}: the script closed the channel that it was sent on")
        return 1
    except GatewayDied as died:
        program.say(brief(died))
        return _status_of(died)
    except ConnectionLost as lost:
        program.say(f"{gateway.id}: {lost}")
        return 1
    return status


def _status_of(died: Any) -> int:
    """The exit status of a script whose process ended under it, perhaps by ``os._exit``."""
    if died.signal:
        return 128 + int(died.signal)
    return died.exit_status or 1
