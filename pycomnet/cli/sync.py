"""``pycomnet sync``: make directories at gateways equal to one here."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.options import expand, raw_option
from pycomnet.errors import SpecError
from pycomnet.gateways.spec import Spec
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.rsync.result import SyncEvent, SyncResult, TargetResult
    from pycomnet.rsync.rsync import RSync

EPILOG = """\b
Examples:
  pycomnet sync project ssh=me@host:releases/project --delete --exclude '*.pyc'
  pycomnet sync project 'ssh=web{1..8}:/srv/project' --dry-run
  pycomnet sync project popen:/backup/project ssh=host:~/project
  pycomnet sync project ssh=me@host:project --delete --watch

The directory DEST at each gateway gets the content of the directory SOURCE. Only differences are
sent. DEST is relative to the gateway's working directory; ~ is the home directory there.

A PATTERN is one of rsync's: '*.pyc' matches files and directories, 'build/' only directories,
'/build' only an entry of SOURCE itself, and 'a/**/b' a part of the path.

With --watch the command sends each change until Ctrl-C, or until no gateway is left.

\b
Exit status:
  0          all directories are equal now
  1          a file failed, or a gateway could not be started; everything else was done
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
@click.option("--delete", is_flag=True, help="Delete files in DEST that SOURCE does not have.")
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing; show what would be done.")
@click.option(
    "--exclude", metavar="PATTERN", multiple=True, help="Neither send nor delete what matches."
)
@click.option("--include", metavar="PATTERN", multiple=True, help="An exception to --exclude.")
@click.option(
    "--links",
    type=_POLICIES,
    default="keep",
    show_default=True,
    help="How symbolic links are treated.",
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
@click.option("--watch", is_flag=True, help="Then send each change as it happens.")
@click.option("-q", "--quiet", is_flag=True, help="Show only failures.")
@raw_option
@click.argument("source", type=click.Path())
@click.argument("targets", metavar="SPEC:DEST...", nargs=-1, required=True, callback=_targets)
def sync_command(
    source: str,
    targets: list[tuple[Spec, str]],
    quiet: bool,
    raw: bool,
    watch: bool,
    **options: Any,
) -> None:
    """Make the directory DEST at each gateway equal to the directory SOURCE here."""
    from pycomnet.cli.program import run_command
    from pycomnet.rsync.filewatcher import load_watchfiles
    from pycomnet.rsync.options import SyncError
    from pycomnet.rsync.rsync import RSync

    if not os.path.isdir(source):
        raise click.UsageError(f"{source!r} is not a directory")
    if watch and options["dry_run"]:
        raise click.UsageError("give --watch or --dry-run, not both")
    try:
        sync = RSync(source, **options)
        if watch:
            load_watchfiles()  # before any gateway is started
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None
    except SyncError as problem:
        raise click.ClickException(str(problem)) from None

    async def main(program: CommandProgram) -> int:
        return await run_sync(program, sync, targets, quiet, raw, watch)

    run_command(main)


async def run_sync(
    program: CommandProgram,
    sync: RSync,
    targets: list[tuple[Spec, str]],
    quiet: bool = False,
    raw: bool = False,
    watch: bool = False,
) -> int:
    """Start the gateways and send; return the exit status."""
    from pycomnet.cli.gatewayoutput import output_shown_by
    from pycomnet.cli.options import not_started, start_gateways
    from pycomnet.cli.program import END_TIMEOUT
    from pycomnet.gateways.group import Group

    lines = output_shown_by(program, to_stderr=True, raw=raw)
    group = Group(program.reactor, output=lines)
    try:
        specs = [spec for spec, _ in targets]
        gateways, failed = await start_gateways(group, specs)
        started = failed.gateways if failed is not None else gateways
        shown = SyncLines(program, sum(each is not None for each in started) > 1, quiet, raw)
        for gateway, (_, path) in zip(started, targets, strict=True):
            if gateway is not None:
                sync.add_target(gateway, path, finished=shown.run_ended if watch else None)
        if failed is not None and watch:
            program.say(not_started(failed))
        with shown.bars(sync):
            if watch:
                return await _watch(program, sync, shown)
            result: SyncResult = await sync.send(shown.event)
        for target in result.targets:
            shown.end(target)
        if failed is not None:
            program.say(not_started(failed))
        return 0 if result.ok and failed is None else 1
    finally:
        await group.close(END_TIMEOUT)
        lines.flush()


async def _watch(program: CommandProgram, sync: RSync, shown: SyncLines) -> int:
    """Send what changes until no target is left, which is a failure."""
    from pycomnet.rsync.result import SyncFailures

    try:
        await sync.watch(shown.event)
    except SyncFailures:
        program.say("no gateway is left")  # the error of each was shown before
    return 1


class SyncLines:
    """Shows the events and results of a run.

    :param several: whether there are several targets, so that a line has to name its target.
    """

    def __init__(self, program: CommandProgram, several: bool, quiet: bool, raw: bool) -> None:
        self._program = program
        self._several = several
        self._quiet = quiet
        self._raw = raw
        #: shows a line above the bars, if there are some and they are on the output's terminal
        self._above: Callable[[str], None] | None = None
        #: the targets to which a run has ended
        self._seen: set[str] = set()

    @contextlib.contextmanager
    def bars(self, sync: RSync) -> Iterator[None]:
        """Show bars while the body runs, if standard error is a terminal."""
        program = self._program
        if self._quiet or not program.stderr.isatty():
            yield
            return
        from pycomnet.cli.syncbars import shown_bars

        with shown_bars(program, sync) as bars:
            if program.stdout.isatty():
                self._above = bars.show_above
            try:
                yield
            finally:
                self._above = None

    def event(self, event: SyncEvent) -> None:
        """Show a line for an event."""
        text = line_of(event, self._several)
        if text:
            self._print(text)

    def run_ended(self, target: TargetResult) -> None:
        """Show what a run has done, if it has done something or is the first one."""
        first = target.target not in self._seen
        self._seen.add(target.target)
        done = target.sent or target.made or target.changed or target.deleted or target.failed
        self.end(target, first or bool(done))

    def end(self, target: TargetResult, shows: bool = True) -> None:
        """Show what was done at a target, and what could not be done."""
        if shows:
            self._print(summary(target))
        for line in target.problems():
            self._program.say(line)

    def _print(self, text: str) -> None:
        if self._quiet:
            return
        if self._above is not None:
            self._above(text if self._raw else visible(text))
        else:
            self._program.print_text(f"{text}\n", self._raw)


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
