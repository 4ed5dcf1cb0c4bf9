"""What ``pycomnet pub`` and ``sub`` share: they find the publisher, or the NATS servers."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

import click

from pycomnet.errors import ServiceNotFound
from pycomnet.text.similar import suggestion

if TYPE_CHECKING:
    from pycomnet.cli.identity import Identity
    from pycomnet.cli.serviceoptions import Target
    from pycomnet.nats import NatsSettings
    from pycomnet.services.client.context import Context

#: Parts of a name after which it can't be an interface's.
WILD = ("*", ">")


async def split_name(context: Context, target: Target, name: str) -> tuple[str, str]:
    """Split a name into an existing interface and the subject or pattern that follows it.

    :param name: such as ``org.example.orders.eu.created``.
    :raises ServiceNotFound: the name does not begin with a known interface.
    """
    parts = name.split(".")
    literal = next((place for place, part in enumerate(parts) if part in WILD), len(parts))
    for count in range(literal, 0, -1):
        interface = ".".join(parts[:count])
        if await _is_there(context, target, interface):
            return interface, ".".join(parts[count:])
    where = target.address or f"the nameserver {target.nameserver}"
    text = f"{name!r} does not begin with an interface that {where} knows"
    raise ServiceNotFound(text + await _suggestion(context, target, parts[:literal]))


async def _suggestion(context: Context, target: Target, parts: list[str]) -> str:
    """A known interface that is similar to the beginning of a name, for an error's message."""
    from pycomnet.cli.serviceoptions import known_services
    from pycomnet.errors import PycomnetError
    from pycomnet.services.interface import INTROSPECTION

    try:
        if target.address is None:
            records = await known_services(context)
            known = {each for record in records for each in record["interfaces"]}
        else:
            known = set(await (await context.connect(target.address, INTROSPECTION)).introspect())
    except PycomnetError:
        return ""  # no suggestion, but the error is shown
    begun = {one: ".".join(parts[: one.count(".") + 1]) for one in sorted(known)}
    near = [one for one, own in begun.items() if suggestion(own, [one])]
    if not near:
        return ""
    best = max(near, key=lambda one: difflib.SequenceMatcher(None, begun[one], one).ratio())
    return suggestion(begun[best], [best])


async def _is_there(context: Context, target: Target, interface: str) -> bool:
    if target.address is not None:
        from pycomnet.services.interface import INTROSPECTION

        service = await context.connect(target.address, INTROSPECTION)
        return interface in await service.introspect()
    try:
        await context.locate(interface, target.service)
    except ServiceNotFound:
        return False
    return True


def check_via(target: Target) -> None:
    """Check that no option for a single publisher is given with ``--via``.

    :raises UsageError: there is such an option.
    """
    if not (target.address is None and target.service is None):
        raise click.UsageError("--address and --service can't be used with --via")


async def nats_settings(servers: str, identity: Identity) -> NatsSettings:
    """Make the settings for NATS. The credentials come from the options or the addresses.

    :param servers: addresses, with commas between them.
    :raises NatsAddressError: the addresses can't be used.
    :raises AccessConfigError: the credentials can't be used.
    """
    from pycomnet.auth.tokens import PASSWORD_VARIABLE, load_token
    from pycomnet.cli.passwordprompt import ask
    from pycomnet.nats import NatsSettings

    password: str | None = None
    token: str | None = None
    if identity.user is not None:
        password = os.environ.get(PASSWORD_VARIABLE) or await ask(identity.user, servers)
    if identity.token_file is not None:
        token = load_token(os.path.expanduser(identity.token_file))
    return NatsSettings(
        servers=servers,
        user=identity.user,
        password=password,
        token=token,
        trust_roots=identity.trust_roots,
        certificate=identity.certificate,
        private_key=identity.key,
    )
