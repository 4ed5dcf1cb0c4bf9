"""The root command ``pycomnet`` and its subcommands. Each is imported when it is run."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from pycomnet.cli.options import SuggestingGroup

#: name -> import path (``module:attribute``) and line in the help
COMMANDS = {
    "call": ("pycomnet.cli.call:call", "Call a method of a service."),
    "demo": ("pycomnet.cli.demo:demo", "Take a tour of what pycomnet does, on this machine."),
    "describe": ("pycomnet.cli.describe:describe", "Show what a service offers."),
    "map": ("pycomnet.cli.map:map_command", "Call a function with each line of standard input."),
    "ns": ("pycomnet.cli.ns:ns", "Query the nameserver: list, locate, watch, stat, remove."),
    "passwd": ("pycomnet.cli.passwd:passwd", "Change the users of a password file."),
    "pub": ("pycomnet.cli.pub:pub", "Publish events."),
    "run": ("pycomnet.cli.run:run_command_line", "Run a script on gateways at the same time."),
    "sub": ("pycomnet.cli.sub:sub", "Subscribe to events, and show them."),
    "sync": ("pycomnet.cli.sync:sync_command", "Send a directory to gateways: what differs."),
    "venv": ("pycomnet.cli.venv:venv_command", "Make a virtual environment somewhere, and use it."),
    "workflow": ("pycomnet.cli.workflow:workflow_command", "Run tasks, see and steer their runs."),
}
EPILOG = """\b
Examples:
  pycomnet demo
  pycomnet run --on 2xpopen script.py --verbose
  pycomnet run --on popen --on popen//python=pypy3 -c "import sys; print(sys.version)"
  pycomnet map --on 4xpopen os.path:getsize < names.txt
  pycomnet call org.example.calc add '{"a": 1, "b": 2}'

A gateway is a Python process, here or elsewhere, that pycomnet starts and connects to. A SPEC says
how and where to start it: TRANSPORT//KEY=VALUE//KEY=VALUE...

\b
  popen                        a subprocess with this Python
  popen//python=pypy3          with another Python
  popen//chdir=/tmp//nice=10   in another directory, with a lower priority
  popen//env:LANG=C//id=worker with an environment variable set, and an id of its own
  4xpopen                      four subprocesses

"pycomnet COMMAND --help" describes a command.
"""


class _Commands(SuggestingGroup):
    """Imports a command when it is used: no command waits for the imports of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import pycomnet

        python = ".".join(str(part) for part in sys.version_info[:3])
        click.echo(f"pycomnet {pycomnet.__version__} (Python {python})")
        ctx.exit()


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    help="Write a log to standard error; given twice, with debug messages.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def root(verbose: int) -> None:
    """Run Python anywhere you can reach, and call services wherever they are."""
    if verbose:
        start_logging(verbose)


def start_logging(verbose: int) -> None:
    """Make twisted.logger write to standard error.

    :param verbose: 1 for the level ``info``, more for ``debug``.
    """
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        globalLogBeginner,
        textFileLogObserver,
    )

    level = LogLevel.info if verbose == 1 else LogLevel.debug
    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(defaultLogLevel=level)]
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def run(args: list[str] | None = None, **extra: Any) -> None:
    """Run the command line, and exit.

    :param args: the arguments; by default those of the process.
    """
    root.main(args, prog_name="pycomnet", **extra)
