"""``pycomnet venv``: make a virtual environment where a gateway is, and run a command in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.options import SuggestingGroup
from pycomnet.cli.venv_upkeep import COMMANDS, directory_option, parse_spec
from pycomnet.gateways.spec import Spec, split_command
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.gateways.gateway import Gateway
    from pycomnet.xdeploy.request import VenvProgress

EPILOG = """\b
Examples:
  pycomnet venv popen tools 'requests>=2'
  pycomnet venv ssh=build.example app --install . -- python -m pytest
  pycomnet venv ssh=build.example//python=pypy3 fast -r requirements.txt
  pycomnet venv list ssh=build.example

Wheels are found or built here, and sent: the machine there needs Python, but no pip and no network.
If the environment is there already, nothing is resolved or sent. It prints the interpreter of the
environment; or runs COMMAND in the environment's directory, with empty standard input, and exits
with its status.

\b
Exit status: that of COMMAND (128+N for signal N; 127 if it is not found); else 0. It is
  1          if the environment can't be made
  2          for a mistake on the command line
"""


class _WithCommand(click.Command):
    """Takes what follows ``--`` as the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[at + 1 :])
        if at < len(args) - 1 or "--" not in args:
            return super().parse_args(ctx, args[:at])
        raise click.UsageError("there is no COMMAND after --", ctx)


class _Venvs(SuggestingGroup):
    """Adds the command ``make`` if the arguments do not begin with a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(
    "venv",
    cls=_Venvs,
    epilog=EPILOG,
    short_help="Make a virtual environment somewhere, and run a command in it.",
    subcommand_metavar="[make] SPEC NAME [REQUIREMENT]... [-- COMMAND...]",
    options_metavar="",
)
def venv_command() -> None:
    """Make the virtual environment NAME at SPEC, with these requirements.

    Or list, remove or prune those that are there. "pycomnet venv make --help" has the options.
    """


for _command in COMMANDS:
    venv_command.add_command(_command)


@venv_command.command(
    "make",
    cls=_WithCommand,
    options_metavar="[OPTIONS]",
    short_help="Make an environment; the word may be left out.",
)
@click.option(
    "-r",
    "--requirement",
    "files",
    metavar="FILE",
    multiple=True,
    help="Also what this file lists, one requirement a line; may be given several times.",
)
@click.option(
    "-c",
    "--constraint",
    "limits",
    metavar="FILE",
    multiple=True,
    help="Take only versions that this file allows; may be given several times.",
)
@click.option(
    "--install",
    metavar="PATH",
    multiple=True,
    help="Also the project in this directory here, through its sdist; may be given several times.",
)
@click.option("--python", metavar="PYTHON", help="The interpreter there; by default SPEC's.")
@click.option("--upgrade", is_flag=True, help="Ask the index even if the environment is there.")
@click.option(
    "--index", metavar="URL", help="The index instead of pip's own, or a directory of wheels."
)
@click.option("--far", is_flag=True, help="Let the machine there use its own pip and index.")
@click.option(
    "--compile/--no-compile",
    default=True,
    help="Whether modules are compiled when it is made, or when they are first imported.",
)
@directory_option
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.argument("spec")
@click.argument("name")
@click.argument("requirements", nargs=-1, metavar="[REQUIREMENT]... [-- COMMAND...]")
def make_command(
    files: tuple[str, ...],
    limits: tuple[str, ...],
    spec: str,
    name: str,
    requirements: tuple[str, ...],
    python: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Make the virtual environment NAME at SPEC, with these requirements.

    It prints the environment's interpreter; or runs COMMAND in it.
    """
    from pycomnet.cli.program import run_command

    where = parse_spec(spec)
    try:
        words = None if python is None else split_command(python)
    except ValueError as problem:
        raise click.BadParameter(str(problem), param_hint="'--python'") from None
    lines = [*requirements, *(line for path in files for line in read_lines(path, "-r"))]
    constraints = [line for path in limits for line in read_lines(path, "-c")]
    command = click.get_current_context().meta["command"]

    async def main(program: CommandProgram) -> int:
        return await make(
            program,
            where,
            name,
            lines,
            command,
            quiet=quiet,
            constraints=constraints,
            python=words,
            **options,
        )

    run_command(main)


def read_lines(path: str, option: str) -> list[str]:
    """The lines of a file of requirements or constraints.

    :raises click.BadParameter: it can't be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as problem:
        raise click.BadParameter(
            f"can't read {path!r}: {problem}", param_hint=f"'{option}'"
        ) from None


async def make(
    program: CommandProgram,
    spec: Spec,
    name: str,
    requirements: list[str],
    command: tuple[str, ...],
    *,
    quiet: bool = False,
    **options: Any,
) -> int:
    """Make an environment, and run a command in it.

    :param options: of :func:`~pycomnet.xdeploy.create_venv_gateway`.
    :returns: the exit status. Cancelling it ends the gateways.
    """
    from pycomnet import xdeploy
    from pycomnet.cli.gatewayoutput import output_shown_by
    from pycomnet.cli.program import END_TIMEOUT
    from pycomnet.gateways.group import Group

    group = Group(program.reactor, output=output_shown_by(program, False, alone=True))
    try:
        gateway: Gateway = await group.makegateway(spec)
        with shown_steps(program, quiet) as progress:
            if not command:
                made: xdeploy.Venv = await xdeploy.create_venv(
                    gateway, name, requirements, progress=progress, **options
                )
                program.print_text(f"{made.python}\n")
                return 0
            inside: Gateway = await xdeploy.create_venv_gateway(
                gateway, name, requirements, progress=progress, **options
            )
        return await _run(program, inside, command)
    finally:
        await group.close(END_TIMEOUT)


async def _run(program: CommandProgram, gateway: Gateway, command: tuple[str, ...]) -> int:
    from pycomnet.cli.program import SIGNALLED
    from pycomnet.xdeploy.farcode import start

    channel = start(gateway, "commands:run", argv=list(command))
    streams = {1: program.stdout, 2: program.stderr}
    while True:
        stream, what = await channel.receive()
        if not stream:
            status = int(what)
            return status if status >= 0 else SIGNALLED - status
        written = streams[stream].put(what)
        if written is not None:
            await written


@contextlib.contextmanager
def shown_steps(
    program: CommandProgram, quiet: bool
) -> Iterator[Callable[[VenvProgress], None] | None]:
    """Show the steps on standard error while the body runs: a bar, if that is a terminal."""
    if quiet:
        yield None
    elif program.stderr.isatty():
        with _bar(program) as show:
            yield show
    else:
        said: set[tuple[str, str]] = set()

        def show_line(step: VenvProgress) -> None:
            if step.stage != "ready" and (step.stage, step.detail) not in said:
                said.add((step.stage, step.detail))
                program.say(in_words(step))

        yield show_line


@contextlib.contextmanager
def _bar(program: CommandProgram) -> Iterator[Callable[[VenvProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
    )
    task = progress.add_task("looking for the environment", total=None)

    def show(step: VenvProgress) -> None:
        progress.update(
            task, description=in_words(step), completed=step.done, total=step.total or None
        )
        progress.refresh()

    def show_above(text: str) -> None:
        progress.console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)

    progress.start()
    program.above = show_above
    try:
        yield show
    finally:
        program.above = None
        progress.stop()


def in_words(step: VenvProgress) -> str:
    """What is being done, as text for people. Its details may come from the far side."""
    return visible(_in_words(step))


def _in_words(step: VenvProgress) -> str:
    match step.stage:
        case "waiting":
            holder = f" (pid {step.detail})" if step.detail else ""
            return f"waiting for another process that makes it{holder}"
        case "resolve":
            return "resolving the requirements"
        case "build":
            return f"building {step.detail or 'there'}"
        case "send":
            return f"sending {step.total / 1e6:.1f} MB of wheels"
        case "compile":
            return f"compiling {step.total} modules"
        case "install":
            return f"installing {step.total} wheels"
    return step.stage
