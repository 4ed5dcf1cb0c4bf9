"""What ``pycomnet pub`` and ``pycomnet sub`` share: from a name to a publisher and its subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycomnet.errors import ServiceNotFound

if TYPE_CHECKING:
    from pycomnet.cli.remote import Target
    from pycomnet.services.client.context import Context

#: Parts of a name after which it can't be an interface's.
WILD = ("*", ">")


async def split_name(context: Context, target: Target, name: str) -> tuple[str, str]:
    """Split a name into an interface that there is, and a subject or pattern under it.

    :param name: an interface, with parts of a subject behind it: ``org.example.orders.eu.created``.
    :raises ServiceNotFound: no beginning of it is an interface.
    """
    parts = name.split(".")
    literal = next((place for place, part in enumerate(parts) if part in WILD), len(parts))
    for count in range(literal, 0, -1):
        interface = ".".join(parts[:count])
        if await _is_there(context, target, interface):
            return interface, ".".join(parts[count:])
    where = target.address or f"the nameserver {target.nameserver}"
    raise ServiceNotFound(f"{name!r} does not begin with an interface that {where} knows")


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


__all__ = ["split_name"]
