"""What the commands share: the options that say which gateways, and starting them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.errors import SpecError
from pycomnet.gateways.spec import Spec

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway
    from pycomnet.gateways.group import Group

F = TypeVar("F", bound=Callable[..., Any])

#: The most gateways that one ``--on`` may ask for: more is a slip of the finger.
MAX_COUNT = 1000
_COUNTED = re.compile(r"(\d+)x(.*)", re.S)


def expand(text: str) -> list[Spec]:
    """The specs that one ``--on`` asks for: ``SPEC``, or ``NxSPEC`` for several of a kind.

    Further ways to say many at once belong here. An id is numbered: ``2xpopen//id=w`` is w0 and w1.

    :raises SpecError: it can't be read.
    """
    counted = _COUNTED.fullmatch(text)
    if counted is None:
        return [Spec.parse(text)]
    count = int(counted[1])
    if not 1 <= count <= MAX_COUNT:
        raise SpecError(f"{text!r}: from 1 to {MAX_COUNT} gateways, not {count}")
    spec = Spec.parse(counted[2])
    if spec.id is None:
        return [spec] * count
    return [attrs.evolve(spec, id=f"{spec.id}{number}") for number in range(count)]


def read_specs(
    texts: Iterable[str],
    python: str | None = None,
    chdir: str | None = None,
    env: Iterable[tuple[str, str]] = (),
) -> list[Spec]:
    """The gateways that the options ask for; ``popen`` if there is no ``--on``.

    :param python: for the specs that do not say it themselves, and so are ``chdir`` and ``env``.
    :raises SpecError: one can't be read, or two have the same id.
    """
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
                python=spec.python or python,
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
    """``--on``, ``--python``, ``--chdir`` and ``--env``, as one argument ``specs``."""

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
                help="A gateway to use; may be given several times. NxSPEC is N of a kind. "
                "[default: popen]",
            ),
            click.option(
                "--python", metavar="PYTHON", help="The interpreter, where SPEC names none."
            ),
            click.option(
                "--chdir", metavar="DIR", help="The directory to work in, where SPEC names none."
            ),
            click.option(
                "--env",
                metavar="NAME=VALUE",
                multiple=True,
                callback=_variable,
                help="An environment variable to set there; may be given several times.",
            ),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


async def start_gateways(group: Group, specs: Sequence[Spec]) -> list[Gateway]:
    """Start gateways, all at the same time.

    :raises GatewayNotStarted: one could not be started; the others are left to the group's end.
    """
    from twisted.internet import defer
    from twisted.logger import Logger

    starting = [group.makegateway(spec) for spec in specs]
    try:
        gateways: list[Gateway] = await defer.gatherResults(starting, consumeErrors=True)
    except defer.FirstError as first:
        first.subFailure.raiseException()
        raise
    for gateway in gateways:
        Logger(namespace=__name__).info(
            "{id} is {python} with pid {pid}", id=gateway.id, **_known(gateway.info)
        )
    return gateways


def brief(problem: Exception) -> str:
    """An error's message without the far side's standard error, which was shown as it came."""
    return str(problem).partition("; its standard error")[0]


def _known(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info.get(key) for key in ("python", "pid")}
