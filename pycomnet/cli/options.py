"""What the commands share: the options that choose gateways, and starting the gateways."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.errors import GatewaysNotStarted, SpecError
from pycomnet.gateways.spec import Spec, split_command
from pycomnet.text.similar import suggestion

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway
    from pycomnet.gateways.group import Group

F = TypeVar("F", bound=Callable[..., Any])

#: The most gateways that one ``--on`` may ask for: more is taken for a typing mistake.
MAX_COUNT = 1000
_COUNTED = re.compile(r"(\d+)x(.*)", re.S)
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class SuggestingGroup(click.Group):
    """A group of commands that suggests a similar name for a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command as click does, with a suggestion in the error."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = suggestion(args[0], self.list_commands(ctx)) if args else ""
            raise click.UsageError(f"{error.message.rstrip('.')}{near}", ctx) from None


def expand(text: str) -> list[Spec]:
    """Parse one ``--on`` into specs.

    ``NxSPEC`` gives N equal specs, and braces are expanded as in a shell: ``ssh=host{1..50}``,
    ``ssh={a,b}.example``. Ids get a number: ``2xpopen//id=w`` gives w0 and w1. So do the ids of
    expanded braces, unless the braces are in the id itself.

    :raises SpecError: the text is not valid.
    """
    counted = _COUNTED.fullmatch(text)
    count = 1
    if counted is not None:
        count = int(counted[1])
        if not 1 <= count <= MAX_COUNT:
            raise SpecError(f"{text!r}: from 1 to {MAX_COUNT} gateways, not {count}")
        text = counted[2]
    specs = [spec for each in _braces(text) for spec in [Spec.parse(each)] * count]
    if len(specs) > MAX_COUNT:
        raise SpecError(f"{text!r}: from 1 to {MAX_COUNT} gateways, not {len(specs)}")
    if counted is not None or len({spec.id for spec in specs}) < len(specs):
        return [
            spec if spec.id is None else attrs.evolve(spec, id=f"{spec.id}{number}")
            for number, spec in enumerate(specs)
        ]
    return specs


def _braces(text: str) -> list[str]:
    """Expand the braces in a text as a shell does. Braces without a comma or range stay."""
    found = _BRACES.search(text)
    if found is None:
        return [text]
    if found[1] is not None:
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= MAX_COUNT:
            raise SpecError(f"{found[0]}: from 1 to {MAX_COUNT} gateways")
        width = max((len(end) for end in found.group(1, 2) if end.startswith("0")), default=0)
        step = 1 if last >= first else -1
        inner = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        inner = found[3].split(",")
    begin, rest = text[: found.start()], _braces(text[found.end() :])
    if len(inner) * len(rest) > MAX_COUNT:
        raise SpecError(f"{text!r}: from 1 to {MAX_COUNT} gateways, not {len(inner) * len(rest)}")
    return [begin + each + end for each in inner for end in rest]


def read_specs(
    texts: Iterable[str],
    python: str | None = None,
    chdir: str | None = None,
    env: Iterable[tuple[str, str]] = (),
) -> list[Spec]:
    """The specs that the options describe; ``popen`` if there is no ``--on``.

    :param python: the interpreter for specs that name none.
    :param chdir: the working directory for specs that name none.
    :param env: environment variables for all specs; those in a spec come first.
    :raises SpecError: a spec is not valid, or two have the same id.
    """
    try:
        command = None if python is None else split_command(python)
    except ValueError as problem:
        raise SpecError(f"--python {python!r} can't be split as a shell does: {problem}") from None
    specs = []
    seen: set[str] = set()
    for spec in (spec for text in (list(texts) or ["popen"]) for spec in expand(text)):
        if spec.id is not None:
            if spec.id in seen:
                raise SpecError(f"two gateways with the id {spec.id!r}")
            seen.add(spec.id)
        specs.append(
            attrs.evolve(
                spec,
                python=spec.python or command,
                chdir=spec.chdir or chdir,
                env={**dict(env), **spec.env},
            )
        )
    return specs


def _variable(
    ctx: click.Context, param: click.Parameter, values: Sequence[str]
) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        name, equals, content = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"expected NAME=VALUE, not {value!r}")
        pairs.append((name, content))
    return pairs


def gateway_options(command: F) -> F:
    """Add ``--on``, ``--python``, ``--chdir`` and ``--env``, which the command gets as the argument
    ``specs``."""

    def read(on: Sequence[str], python: str | None, chdir: str | None, env: Any) -> list[Spec]:
        try:
            return read_specs(on, python, chdir, env)
        except SpecError as problem:
            raise click.BadParameter(str(problem), param_hint="'--on'") from None

    @functools.wraps(command)
    def call(
        on: Sequence[str], python: str | None, chdir: str | None, env: Any, **rest: Any
    ) -> Any:
        return command(specs=read(on, python, chdir, env), **rest)

    wrapped: Any = call
    for option in reversed(
        [
            click.option(
                "--on",
                metavar="SPEC",
                multiple=True,
                help="A gateway to start; may be given several times. NxSPEC starts N of them, "
                "ssh=host{1..50} and ssh={a,b} start one for each host. [default: popen]",
            ),
            click.option(
                "--python",
                metavar="PYTHON",
                help="The interpreter and its arguments, for each SPEC that names none.",
            ),
            click.option(
                "--chdir",
                metavar="DIR",
                help="The working directory, for each SPEC that names none.",
            ),
            click.option(
                "--env",
                metavar="NAME=VALUE",
                multiple=True,
                callback=_variable,
                help="An environment variable to set on the gateways; may be given several times.",
            ),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


def raw_option(command: F) -> F:
    """Add ``--raw-output``, which the command gets as the argument ``raw``."""
    return click.option(
        "--raw-output",
        "raw",
        is_flag=True,
        help="Keep escape sequences and other control characters in the output unchanged. "
        "By default they are made visible on a terminal.",
    )(command)


async def start_gateways(
    group: Group, specs: Sequence[Spec]
) -> tuple[list[Gateway], GatewaysNotStarted | None]:
    """Start gateways, all at the same time.

    :returns: the gateways that were started; and the error about the others, or None.
    :raises GatewayNotStarted: there is only one spec, and its gateway could not be started.
    :raises GatewaysNotStarted: no gateway could be started.
    """
    from pycomnet.text.logs import Logger

    problem = None
    try:
        gateways: list[Gateway] = await group.makegateways(specs)
    except GatewaysNotStarted as failed:
        problem = failed
        gateways = [gateway for gateway in failed.gateways if gateway is not None]
        if len(specs) == 1:
            raise failed.failed[0][1] from None
        if not gateways:
            raise
    for gateway in gateways:
        Logger(namespace=__name__).info(
            "{id} is {python} with pid {pid}", id=gateway.id, **_known(gateway.info)
        )
    return gateways, problem


def not_started(problem: GatewaysNotStarted) -> str:
    """The message about gateways that could not be started, for the end of the command."""
    lines = [f"{len(problem.failed)} of {len(problem.gateways)} gateways could not be started:"]
    return "\n  ".join([*lines, *(brief(error) for _, error in problem.failed)])


def brief(problem: Exception) -> str:
    """An error's message without the far side's standard error, which was already shown."""
    from pycomnet.gateways.pool.scheduler import without_stderr

    if isinstance(problem, GatewaysNotStarted):
        return not_started(problem)
    return without_stderr(problem)


def _known(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info.get(key) for key in ("python", "pid")}
