"""``pycomnet run``: a script on every gateway, at the same time."""

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
    from pycomnet.cli.lines import GatewayFiles, GatewayLines
    from pycomnet.cli.program import CommandProgram
    from pycomnet.cli.sending import Files
    from pycomnet.cli.streams import InputBlocks
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

The script is read here and runs there as __main__, with its own arguments. Its standard input is
empty, so that the command takes nothing from a loop that it is in; with --stdin each script gets
all of what comes here, no faster than the slowest of them reads it. Options before FILE are
pycomnet's, what follows it is the script's; with -c or -m, put "--" before arguments that begin
with a dash.

\b
Exit status: that of the first gateway, in the order of --on, whose script's is not 0, with
  1          for an exception that the script does not catch, or a gateway that can't be started:
             it is reported at the end, and the others go on
  2          for a mistake on the command line
  124        when --timeout was over
  128+N      when signal N ended a gateway's process, or this command (Ctrl-C: 130)
"""


@attrs.frozen
class Script:
    """What is to run.

    :ivar source: its text as it is in the file, or None for a module.
    :ivar filename: for tracebacks and ``__file__``.
    :ivar argv: ``sys.argv``.
    :ivar directory: where it looks for modules first; ``""`` is the working directory.
    :ivar module: the module's name, or None.
    :ivar offer: what it may import from here where there is no such directory, or None.
    :ivar files: what is sent with it, or None.
    """

    source: bytes | None
    filename: str
    argv: list[str]
    directory: str = ""
    module: str | None = None
    offer: ModuleOffer | None = None
    files: Files | None = None

    def as_arguments(self) -> dict[str, Any]:
        """What the far side is told (cli/script.py)."""
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
    """What the command line asks to run.

    :param modules: whether a script may import what lies beside it here.
    :param send: directories that are sent with it.
    :raises click.ClickException: there is nothing, or it can't be read.
    """
    if code is not None and module is not None:
        raise click.UsageError("-c and -m: one of them")
    is_file = code is None and module is None and bool(args) and args[0] != "-"
    if send and not is_file:
        raise click.UsageError("--send goes with a FILE to run: what is sent lies beside it")
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
        from pycomnet.cli.sending import Files

        files = Files.of(send, name)
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
@click.option("-c", "code", metavar="CODE", help="Run this text.")
@click.option("-m", "module", metavar="MODULE", help="Run this module, as imported there.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="End it after so long.",
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
    help="Whether the script can import what lies beside it here, on a machine without its file. "
    "[default: modules]",
)
@click.option(
    "--send",
    metavar="DIR",
    multiple=True,
    help="Send a directory that is in or above the script's, for data beside it; repeatable.",
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

    Standard output and error come here, each line with the id of the gateway that wrote it, and the
    exit status is kept.
    """
    from pycomnet.cli.lines import shown_by
    from pycomnet.cli.program import run_command

    if forward and code is None and module is None and args[:1] == ("-",):
        raise click.UsageError('--stdin: "-" takes standard input for the script itself')
    script = read_script(args, code, module, modules, send)
    files = open_directory(output_dir)

    async def main(program: CommandProgram) -> int:
        lines = shown_by(program, prefix, alone=len(specs) == 1, raw=raw)
        source = None
        if forward:
            from pycomnet.cli.streams import InputBlocks

            source = InputBlocks(0, program.reactor)
        return await run_script(program, specs, script, lines, files, timeout, source)

    run_command(main)


def open_directory(path: str | None) -> GatewayFiles | None:
    """Where ``--output-dir`` has the output go.

    :raises click.BadParameter: it can't be made.
    """
    from pycomnet.cli.lines import GatewayFiles

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
    """Run it on a gateway for each spec.

    :param lines: shows the output, unless there are ``files`` for it.
    :param source: what each script's standard input is, as far as it is read.
    :returns: the exit status, as the help tells it. Cancelling it ends the gateways.
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
        while not lines.idle:  # all that they sent has come, not all of it is written
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


async def _send_files(files: Files, channel: Channel) -> None:
    """Send what lies beside the script; if it can't take that, its status says why."""
    from pycomnet.errors import PycomnetError

    with contextlib.suppress(PycomnetError):
        await files.send(channel)


async def feed(source: InputBlocks, channels: list[Channel]) -> None:
    """Send what is read to each channel, no faster than the slowest takes it, and then the end.

    One that is closed, as its script has ended, gets no more.

    :raises OSError: it can't be read.
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
    """The exit status for a script whose process went away under it, by ``os._exit`` perhaps."""
    if died.signal:
        return 128 + int(died.signal)
    return died.exit_status or 1
