"""``pycomnet sync``: make directories at gateways equal to one here."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.options import expand, raw_option
from pycomnet.errors import SpecError
from pycomnet.gateways.spec import Spec

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.rsync.result import SyncEvent, SyncResult, TargetResult

EPILOG = """\b
Examples:
  pycomnet sync project ssh=me@host:releases/project --delete --exclude '*.pyc'
  pycomnet sync project 'ssh=web{1..8}:/srv/project' --dry-run
  pycomnet sync project popen:/backup/project ssh=host:~/project

What is in the directory SOURCE will be in the directory DEST at each gateway. Only what differs is
sent. DEST is relative to the gateway's working directory; ~ is the home directory there.

A pattern is one of rsync's: '*.pyc' names anything, 'build/' directories, '/build' what is in
SOURCE itself, 'a/**/b' a part of the path.

\b
Exit status:
  0          everything is equal now
  1          something failed, or a gateway could not be started; the rest was done
  2          a mistake on the command line
  128+N      signal N ended the command (Ctrl-C: 130)
"""
#: ``SPEC:DEST``; the destination may begin with the drive of a Windows.
_TARGET = re.compile(r"(.+?):([A-Za-z]:[\\/].*)|(.+):([^:]+)", re.S)


def read_target(text: str) -> tuple[list[Spec], str]:
    """Parse ``SPEC:DEST`` into specs and a path; the last colon divides them.

    :raises SpecError: the text is not valid.
    """
    found = _TARGET.fullmatch(text)
    if found is None:
        raise SpecError(f"expected SPEC:DEST, such as ssh=host:directory, not {text!r}")
    drive = found[1] is not None and "=" not in found[2]
    spec, path = (found[1], found[2]) if drive else (found[3], found[4])
    if spec is None:
        spec, _, path = text.rpartition(":")
    return expand(spec), path


def _targets(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> list[tuple[Spec, str]]:
    try:
        return [(spec, path) for text in values for specs, path in [read_target(text)]
                for spec in specs]  # fmt: skip
    except SpecError as problem:
        raise click.BadParameter(str(problem)) from None


_POLICIES = click.Choice(["keep", "copy", "skip", "error"])


@click.command("sync", epilog=EPILOG, short_help="Send a directory to gateways: what differs.")
@click.option("--delete", is_flag=True, help="Delete at the gateways what SOURCE does not have.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; show what would be done.")
@click.option(
    "--exclude", metavar="PATTERN", multiple=True, help="What is neither sent nor deleted."
)
@click.option(
    "--include", metavar="PATTERN", multiple=True, help="What takes part though it is excluded."
)
@click.option(
    "--links",
    type=_POLICIES,
    default="keep",
    show_default=True,
    help="What is done with symbolic links.",
)
@click.option(
    "--outside",
    type=_POLICIES,
    help="The same for links that lead out of SOURCE, or nowhere. [default: as --links]",
)
@click.option("--hard-links", is_flag=True, help="Keep several names of one file.")
@click.option("--checksum", is_flag=True, help="Compare the content of all files.")
@click.option("--owners", is_flag=True, help="Set owners and groups, by number.")
@click.option(
    "--compress/--no-compress", default=None, help="Compress content. [default: on slow lines]"
)
@click.option("-q", "--quiet", is_flag=True, help="Show nothing but what failed.")
@raw_option
@click.argument("source", type=click.Path())
@click.argument("targets", metavar="SPEC:DEST...", nargs=-1, required=True, callback=_targets)
def sync_command(
    source: str, targets: list[tuple[Spec, str]], quiet: bool, raw: bool, **options: Any
) -> None:
    """Make the directory DEST at each gateway equal to the directory SOURCE here."""
    from pycomnet.cli.program import run_command
    from pycomnet.rsync.rsync import RSync

    if not os.path.isdir(source):
        raise click.UsageError(f"{source!r} is no directory")
    try:
        sync = RSync(source, **options)
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None

    async def main(program: CommandProgram) -> int:
        return await run_sync(program, sync, targets, quiet, raw)

    run_command(main)


async def run_sync(
    program: CommandProgram,
    sync: Any,
    targets: list[tuple[Spec, str]],
    quiet: bool = False,
    raw: bool = False,
) -> int:
    """Start the gateways and send; return the exit status."""
    from pycomnet.cli.lines import shown_by
    from pycomnet.cli.options import not_started, start_gateways
    from pycomnet.cli.program import END_TIMEOUT
    from pycomnet.gateways.group import Group

    lines = shown_by(program, to_stderr=True, raw=raw)
    group = Group(program.reactor, output=lines)
    try:
        specs = [spec for spec, _ in targets]
        gateways, failed = await start_gateways(group, specs)
        started = failed.gateways if failed is not None else gateways
        count = 0
        for gateway, (_, path) in zip(started, targets, strict=True):
            if gateway is not None:
                sync.add_target(gateway, path)
                count += 1

        def show(event: SyncEvent) -> None:
            text = line_of(event, count > 1)
            if text and not quiet:
                program.print_text(f"{text}\n", raw)

        result: SyncResult = await sync.send(show)
        if not quiet:
            for target in result.targets:
                program.print_text(f"{summary(target)}\n", raw)
        for line in (line for target in result.targets for line in target.problems()):
            program.say(line)
        if failed is not None:
            program.say(not_started(failed))
        return 0 if result.ok and failed is None else 1
    finally:
        await group.close(END_TIMEOUT)
        lines.flush()


def line_of(event: SyncEvent, several: bool) -> str:
    """The line about an event; empty for those that have none.

    :param several: whether there are several targets, so that the line needs its target.
    """
    if event.kind in ("finished", "failed", "equal"):
        return ""
    reason = f" ({event.reason})" if event.reason else ""
    path = event.path.replace("\n", "\\n")
    return f"{f'{event.target} ' if several else ''}{event.kind} {path}{reason}"


def summary(target: TargetResult) -> str:
    """One line about a target."""
    parts = [f"{target.entries} entries"]
    for name in ("sent", "made", "changed", "deleted", "skipped", "failed"):
        found = getattr(target, name)
        if found:
            parts.append(f"{len(found)} {name}")
    if target.deletes_skipped:
        parts.append("nothing deleted, as the source could not be read completely")
    parts.append(f"{target.bytes_sent + target.bytes_received} bytes on the wire")
    return f"{target.target}: {', '.join(parts)}"
