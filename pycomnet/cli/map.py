"""``pycomnet map``: call a function with each line of standard input, on gateways."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.options import gateway_options, raw_option

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.gateways.spec import Spec

EPILOG = """\b
Examples:
  ls -d /usr/lib/* | pycomnet map --on 4xpopen os.path:getsize
  pycomnet map --on 2xpopen --on popen//python=pypy3 work.py:simulate < cases.txt
  pycomnet map --on 4xpopen --jobs 20 --json crawl:fetch < urls.jsonl > pages.jsonl

The function is called with one line, a str without the line end, and str() of what it returns is
printed. With --json both are JSON. Results are printed in the order of the lines. MODULE is
imported on the gateways (their working directory is on the path); FILE.py is read here and sent.

What the function prints goes to standard error. If the function raises an exception, the line is
reported there with its number, and has no result. When a gateway dies, others get its unfinished
lines, so the function may be called twice with a line. After three gateways have died while they
worked on a line, that line is not tried again.

\b
Exit status:
  0          every line has a result
  1          a line has no result, or a gateway could not be started, or none is left
  2          a mistake on the command line, or the function can't be imported
  128+N      signal N ended the command (Ctrl-C: 130; 141: the reader of its output has gone)
"""


def read_target(text: str) -> dict[str, Any]:
    """The arguments for the far side's :func:`~pycomnet.gateways.pool.farside.find`.

    :param text: ``MODULE:FUNCTION`` or ``FILE.py:FUNCTION``.
    :raises click.ClickException: the text is neither, or there is no such file.
    """
    module, _, function = text.rpartition(":")
    if not module or not function:
        raise click.UsageError(f"expected MODULE:FUNCTION or FILE.py:FUNCTION, not {text!r}")
    if not module.endswith(".py") and os.sep not in module:
        return {"where": text, "source": None, "filename": ""}
    path = Path(module)
    try:
        source = path.read_bytes()
    except OSError as problem:
        raise click.UsageError(f"can't read {module!r}: {problem.strerror}") from None
    return {
        "where": f"{path.stem}:{function}",
        "source": source,
        "filename": os.path.abspath(module),
    }


@click.command("map", epilog=EPILOG, short_help="Call a function with each line of standard input.")
@gateway_options
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="How many lines each gateway works on at the same time, in threads.",
)
@click.option("--json", "as_json", is_flag=True, help="Lines and results are JSON.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first line that has no result.")
@click.option("--traceback", is_flag=True, help="Show the traceback of a line that fails.")
@click.option(
    "--replace",
    metavar="N",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="How many times each gateway is replaced after it is lost.",
)
@click.option(
    "--progress/--no-progress",
    default=None,
    help="Show a progress bar. [default: if standard error is a terminal and output is not]",
)
@raw_option
@click.argument("target", metavar="MODULE:FUNCTION")
def map_command(
    specs: list[Spec],
    jobs: int,
    as_json: bool,
    fail_fast: bool,
    traceback: bool,
    replace: int,
    progress: bool | None,
    raw: bool,
    target: str,
) -> None:
    """Call a function with each line of standard input, on all gateways at the same time."""
    from pycomnet.cli.gatewayoutput import output_shown_by
    from pycomnet.cli.program import run_command

    found = {**read_target(target), "as_json": as_json}

    async def main(program: CommandProgram) -> int:
        from pycomnet.cli.maprun import MapRun
        from pycomnet.cli.stdstreams import InputLines

        lines = output_shown_by(program, to_stderr=True, raw=raw)
        mapping = MapRun(program, InputLines(0, program.reactor), fail_fast, traceback, raw)
        if progress or (progress is None and wants_progress(program)):
            from pycomnet.cli.progress import shown_progress

            with shown_progress(program, mapping.queue, mapping.source):
                return await mapping.run(specs, found, jobs, replace, lines)
        return await mapping.run(specs, found, jobs, replace, lines)

    run_command(main)


def wants_progress(program: CommandProgram) -> bool:
    """The default of ``--progress``: whether a terminal shows standard error and not the output."""
    return program.stderr.isatty() and not program.stdout.isatty()
