"""What the commands that call a service share: the options that choose it, JSON of values."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.cli.identity import Identity, identity_options
from pycomnet.services.nameserveraddress import DEFAULT_NAMESERVER, NAMESERVER_VARIABLE
from pycomnet.text.similar import suggestion

if TYPE_CHECKING:
    from pycomnet.errors import ServiceError
    from pycomnet.net.reactors import GatewayReactor
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.remoteservice import RemoteService

F = TypeVar("F", bound=Callable[..., Any])

#: Default of ``--timeout``: seconds that a call may take.
TIMEOUT = 30.0


@attrs.frozen
class Target:
    """The service that the command line names.

    :ivar nameserver: the nameserver's address.
    :ivar address: the service's address, or None to ask the nameserver for it.
    :ivar service: the service's name, to choose one of several; or None.
    :ivar timeout: seconds that a call may take.
    :ivar identity: the user's credentials.
    """

    nameserver: str
    address: str | None
    service: str | None
    timeout: float
    identity: Identity = attrs.Factory(Identity)

    def context(self, reactor: GatewayReactor) -> Context:
        """A context to call the service with.

        :raises EndpointError: the nameserver's address is not valid.
        :raises AccessConfigError: the user's credentials can't be used.
        """
        from pycomnet.services.client.context import Context

        return Context(
            reactor,
            nameserver=self.nameserver,
            timeout=self.timeout,
            credentials=self.identity.credentials(),
            trust_roots=self.identity.trust_roots,
        )

    async def find(self, context: Context, interface: str | None) -> RemoteService:
        """Find the service, by its address or through the nameserver.

        :raises ServiceNotFound: the nameserver knows no such service.
        """
        if self.address is not None:
            return await context.connect(self.address, interface)
        assert interface is not None
        return await context.locate(interface, self.service)


def target_options(command: F) -> F:
    """Add ``--nameserver``, ``--address``, ``--service``, ``--timeout`` and those of the user's
    credentials, which the command gets as the argument ``target``."""

    @identity_options
    @functools.wraps(command)
    def call(
        nameserver: str,
        address: str | None,
        service: str | None,
        timeout: float,
        identity: Identity,
        **rest: Any,
    ) -> Any:
        if address is not None and service is not None:
            raise click.UsageError("give --address or --service, not both")
        return command(target=Target(nameserver, address, service, timeout, identity), **rest)

    wrapped: Any = call
    for option in reversed(
        [
            click.option(
                "--nameserver",
                metavar="ADDRESS",
                envvar=NAMESERVER_VARIABLE,
                default=DEFAULT_NAMESERVER,
                show_default=True,
                help=f"The address of the nameserver to ask; {NAMESERVER_VARIABLE} sets it, too.",
            ),
            click.option(
                "--address",
                metavar="ADDRESS",
                help="The service's address, such as tcp:HOST:PORT; then no nameserver is asked.",
            ),
            click.option("--service", metavar="NAME", help="Only the service of this name."),
            click.option(
                "--timeout",
                metavar="SECONDS",
                type=click.FloatRange(0, min_open=True),
                default=TIMEOUT,
                show_default=True,
                help="Give up after this many seconds.",
            ),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result


async def explained(
    problem: ServiceError, target: Target, context: Context, interface: str, method: str = ""
) -> str:
    """The message of an error about an unknown name, with a suggestion of a similar one.

    :param interface: the interface that the user gave.
    :param method: the method that the user gave, if any.
    """
    from pycomnet.errors import PycomnetError, ServiceNotFound, UnknownMethod
    from pycomnet.services.interface import INTROSPECTION

    if problem.nested:
        return str(problem)  # the method was found, and has called something that was not
    name, known = interface, set()
    try:
        if isinstance(problem, ServiceNotFound):
            records = await known_services(context)
            known = {each for record in records for each in record["interfaces"]}
            if target.service is not None and interface in known:
                name = target.service
                known = {one["service"] for one in records if interface in one["interfaces"]}
        elif isinstance(problem, UnknownMethod):
            service = await target.find(context, interface)
            name, known = method, set((await service.introspect())[interface]["methods"])
        elif target.address is not None:
            known = set(await (await context.connect(target.address, INTROSPECTION)).introspect())
    except (PycomnetError, LookupError, TypeError):
        known = set()  # no suggestion, but the error is shown
    return f"{problem}{suggestion(name, sorted(known))}"


async def known_services(context: Context) -> list[dict[str, Any]]:
    """The nameserver's records, those of the first page."""
    nameserver = await context.nameserver()
    page: list[dict[str, Any]] = await nameserver.invoke("list_services", {})
    return page


def plain(value: Any) -> Any:
    """Convert a value to what JSON has.

    Bytes become text if they are UTF-8, else base64. Sets and tuples become lists, and keys become
    strings.
    """
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(one) for one in value), key=repr)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def as_json(value: Any, indent: int | None = None) -> str:
    """A value as one line of JSON, or as indented JSON."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False)
