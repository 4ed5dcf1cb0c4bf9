"""``pycomnet workflow``: run tasks, show their runs, steer them, and check configurations."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from pycomnet.cli.call import read_arguments
from pycomnet.cli.ns import table
from pycomnet.cli.options import SuggestingGroup
from pycomnet.cli.serviceoptions import Target, as_json, target_options

if TYPE_CHECKING:
    from pycomnet.cli.program import CommandProgram
    from pycomnet.ext.workflow.client import Workflow

EPILOG = """\b
Examples:
  pycomnet workflow check tasks.toml
  pycomnet workflow --service /demo/workflow/1 run task1 '{"n": 4}'
  pycomnet workflow start order '{"item": "tea"}' --id order-17
  pycomnet workflow list --state failed
  pycomnet workflow show order-17
  pycomnet workflow signal order-17 approved '{"by": "bob"}'
  pycomnet workflow retry order-17 --latest
  pycomnet workflow graph --run order-17 --format dot | dot -Tsvg > order.svg

The arguments of a task are JSON, or "-" to read JSON from standard input.

\b
Exit status:
  1          the run failed, there is no such run or task, or the configuration is not valid
  2          a mistake on the command line
  124        the --timeout expired; a run that was started goes on
  128+N      signal N ended the command (Ctrl-C: 130); a run that was started goes on
"""

#: Seconds between two requests for the state of a run that is waited for.
LOOK = 0.3
HEAD = ["RUN", "TASK", "STATE", "USER", "CREATED", "ERROR"]
STEPS = ["STEP", "KIND", "STATE", "ATTEMPTS", "TOOK", "ARGUMENTS", "ERROR"]


@click.group(
    "workflow",
    cls=SuggestingGroup,
    epilog=EPILOG,
    short_help="Run tasks of a workflow service, and see and steer their runs.",
)
@target_options
@click.pass_context
def workflow_command(context: click.Context, target: Target) -> None:
    """Run tasks of a workflow service: chains of calls to services."""
    context.obj = target


def _run(target: Target, command: Callable[[CommandProgram, Workflow], Awaitable[int]]) -> None:
    from pycomnet.cli.program import run_command

    run_command(lambda program: at_service(program, target, command))


async def at_service(
    program: CommandProgram,
    target: Target,
    command: Callable[[CommandProgram, Workflow], Awaitable[int]],
) -> int:
    """Find the workflow service, and pass its client to a command; returns the exit status."""
    from pycomnet.cli.serviceoptions import explained
    from pycomnet.errors import ServiceNotFound
    from pycomnet.ext.workflow.client import WORKFLOW, workflow

    program.ending = ""
    async with target.context(program.reactor) as context:
        if target.address is None:
            try:
                # Calls would wait for the service to come back: a misspelt name is reported here.
                await target.find(context, WORKFLOW)
            except ServiceNotFound as problem:
                program.say(await explained(problem, target, context, WORKFLOW))
                return 1
        found = workflow(target.service, context=context, address=target.address)
        return await command(program, found)


async def _put(program: CommandProgram, *lines: str) -> None:
    if lines:
        waiting = program.print_text("\n".join(lines) + "\n")
        if waiting is not None:
            await waiting


def _error(one: dict[str, Any]) -> str:
    error = one.get("error")
    return f"{error.get('code')}: {error.get('message')}"[:120] if error else "-"


# -- commands that run tasks ---------------------------------------------------------------------


@workflow_command.command("run", short_help="Run a task, and print its result.")
@click.argument("task")
@click.argument("arguments", metavar="[JSON]", required=False)
@click.option("--id", "id", help="The run's id; by default a new one.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show the steps.")
@click.pass_obj
def run_task(target: Target, task: str, arguments: str | None, id: str | None, quiet: bool) -> None:
    """Start TASK, show its steps as they begin and end, and print its result as JSON."""
    args = read_arguments(arguments)

    async def command(program: CommandProgram, w: Workflow) -> int:
        run = await w.start(task, args, id)
        return await _follow(program, w, run["id"], target.timeout, quiet)

    _run(target, command)


async def _follow(
    program: CommandProgram, w: Workflow, id: str, timeout: float, quiet: bool
) -> int:
    """Show a run's steps until its end; then print its result."""
    from contextlib import suppress

    from twisted.internet import defer
    from twisted.internet.task import deferLater

    from pycomnet.errors import ServiceError
    from pycomnet.text.printable import visible

    program.ending = ": the run goes on"
    if not quiet:
        program.show(f"run {id}\n")
    seen: dict[str, str] = {}

    async def look() -> None:
        for step in (await w.show(id))["steps"]:
            if step["kind"] != "value" and seen.get(step["path"]) != step["state"]:
                seen[step["path"]] = step["state"]
                program.show(visible(_step_line(step)) + "\n")

    async def watch() -> None:
        while True:
            await look()
            await deferLater(program.reactor, LOOK)

    watching = None if quiet else defer.Deferred.fromCoroutine(watch())
    if watching is not None:
        watching.addErrback(lambda _: None)  # the result says what went wrong
    try:
        result = await w.result(id, timeout)
    finally:
        if watching is not None:
            watching.cancel()
            with suppress(ServiceError):
                await look()
    await _put(program, as_json(result))
    return 0


def _step_line(step: dict[str, Any]) -> str:
    text = f"  {step['path']}: {step['state']}"
    if step["attempts"] > 1:
        text += f", attempt {step['attempts']}"
    if step["ended"] and step["began"]:
        text += f" after {step['ended'] - step['began']:.2f} s"
    return f"{text}, {_error(step)}" if step.get("error") else text


@workflow_command.command("start", short_help="Start a run, and print its id.")
@click.argument("task")
@click.argument("arguments", metavar="[JSON]", required=False)
@click.option("--id", "id", help="The run's id: a second start of it is the same run.")
@click.pass_obj
def start_task(target: Target, task: str, arguments: str | None, id: str | None) -> None:
    """Start a run of TASK, and print its id."""
    args = read_arguments(arguments)

    async def command(program: CommandProgram, w: Workflow) -> int:
        await _put(program, (await w.start(task, args, id))["id"])
        return 0

    _run(target, command)


# -- commands that show --------------------------------------------------------------------------


@workflow_command.command("list", short_help="List runs.")
@click.option("--task", help="Only runs of this task.")
@click.option("--state", help="Only runs in this state: running, suspended, done, failed...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def list_command(
    target: Target, task: str | None, state: str | None, limit: int, in_json: bool
) -> None:
    """List runs, the newest first."""

    async def command(program: CommandProgram, w: Workflow) -> int:
        runs: list[dict[str, Any]] = []
        async for run in w.all(task=task, state=state, limit=min(limit, 1000)):
            runs.append(run)
            if len(runs) >= limit:
                break
        if in_json:
            await _put(program, *map(as_json, runs))
        elif runs:
            await _put(program, *table([HEAD, *map(_columns, runs)]))
        else:
            program.say("there is no such run")
        return 0

    _run(target, command)


def _columns(run: dict[str, Any]) -> list[str]:
    created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["created"]))
    return [run["id"], run["task"], run["state"], run["caller"] or "-", created, _error(run)]


@workflow_command.command("show", short_help="Show a run and its history.")
@click.argument("id")
@click.option("--json", "in_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show_command(target: Target, id: str, in_json: bool) -> None:
    """Show the run ID: its state, and each step with its attempts, its time and its error."""

    async def command(program: CommandProgram, w: Workflow) -> int:
        run = await w.show(id)
        if in_json:
            await _put(program, as_json(run, 2))
            return 0
        lines = [f"{run['id']}: {run['task']}, {run['state']}"]
        lines += table([STEPS, *map(_step_columns, run["steps"])])
        if run["result"] is not None:
            lines.append(f"result: {as_json(run['result'])}")
        if run["error"]:
            lines.append(f"error: {_error(run)}")
        await _put(program, *lines)
        return 0

    _run(target, command)


def _step_columns(step: dict[str, Any]) -> list[str]:
    took = f"{step['ended'] - step['began']:.2f} s" if step["ended"] else "-"
    attempts = str(step["attempts"] or "-")
    args = step["args"][:60] or "-"
    return [step["path"], step["kind"], step["state"], attempts, took, args, _error(step)]


@workflow_command.command("graph", short_help="Draw a task, or a run with its states.")
@click.argument("task", required=False)
@click.option("--run", "id", metavar="ID", help="This run, with the states of its steps.")
@click.option(
    "--format",
    "language",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
)
@click.pass_obj
def graph_command(target: Target, task: str | None, id: str | None, language: str) -> None:
    """Draw TASK, or the run of --run, for mermaid or Graphviz."""
    if (task is None) == (id is None):
        raise click.UsageError("give a TASK or --run ID")

    async def command(program: CommandProgram, w: Workflow) -> int:
        await _put(program, (await w.graph(task, id, language)).rstrip("\n"))
        return 0

    _run(target, command)


@workflow_command.command("tasks", short_help="List the tasks that you may run.")
@click.pass_obj
def tasks_command(target: Target) -> None:
    """List the tasks, with what they are for."""

    async def command(program: CommandProgram, w: Workflow) -> int:
        found = await w.tasks()
        rows = [[name, one["doc"] or "-"] for name, one in sorted(found.items())]
        await _put(program, *table([["TASK", "WHAT FOR"], *rows]))
        return 0

    _run(target, command)


# -- commands that steer -------------------------------------------------------------------------


@workflow_command.command("signal", short_help="Send a run a signal.")
@click.argument("id")
@click.argument("name")
@click.argument("value", metavar="[JSON]", required=False)
@click.pass_obj
def signal_command(target: Target, id: str, name: str, value: str | None) -> None:
    """Send the run ID the signal NAME, with a value."""
    given = read_arguments(value)
    _steer(target, lambda w: w.signal(id, name, given))


@workflow_command.command("cancel", short_help="Cancel a run.")
@click.argument("id")
@click.pass_obj
def cancel_command(target: Target, id: str) -> None:
    """Cancel the run ID; its finished steps are undone."""
    _steer(target, lambda w: w.cancel(id))


@workflow_command.command("suspend", short_help="Stop a run from beginning further steps.")
@click.argument("id")
@click.pass_obj
def suspend_command(target: Target, id: str) -> None:
    """Stop the run ID from beginning further steps, until it is resumed."""
    _steer(target, lambda w: w.suspend(id))


@workflow_command.command("resume", short_help="Continue a suspended run.")
@click.argument("id")
@click.pass_obj
def resume_command(target: Target, id: str) -> None:
    """Continue the suspended run ID."""
    _steer(target, lambda w: w.resume(id))


@workflow_command.command("retry", short_help="Continue a failed run from the steps that failed.")
@click.argument("id")
@click.option("--latest", is_flag=True, help="Use the current definition, not the run's own.")
@click.option("--unsure", is_flag=True, help="Also repeat steps that may have run already.")
@click.pass_obj
def retry_command(target: Target, id: str, latest: bool, unsure: bool) -> None:
    """Continue the failed run ID from the steps that failed."""
    _steer(target, lambda w: w.retry(id, latest, unsure))


def _steer(target: Target, ask: Callable[[Workflow], Awaitable[None]]) -> None:
    async def command(program: CommandProgram, w: Workflow) -> int:
        await ask(w)
        return 0

    _run(target, command)


# -- configurations ------------------------------------------------------------------------------


@workflow_command.command("check", short_help="Check a configuration file.")
@click.argument("file")
def check_command(file: str) -> None:
    """Check FILE as a whole: keys, types, expressions, and tasks that use each other."""
    from pycomnet.ext.workflow.definition import Definition, read_config
    from pycomnet.ext.workflow.errors import WorkflowConfigError

    try:
        tasks = read_config(file)["tasks"]
    except WorkflowConfigError as problem:
        raise click.ClickException(str(problem)) from None
    for name in tasks:
        click.echo(f"{name}: {Definition.of(name, tasks).hash[:12]}")


@workflow_command.command("schema", short_help="Print the JSON Schema of configurations.")
def schema_command() -> None:
    """Print the JSON Schema of configuration files, for editors."""
    from pycomnet.ext.workflow.schema import schema

    click.echo(as_json(schema(), 2))
