"""Lists and removes the environments at a far side."""

from __future__ import annotations

import attrs

from pycomnet.deferred import deferred
from pycomnet.errors import RemoteError
from pycomnet.gateways.gateway import Gateway
from pycomnet.xdeploy.farcode import FAR_PACKAGE, explained, no_message, offer, start
from pycomnet.xdeploy.requirements import check_name


@attrs.frozen
class ListedVenv:
    """An environment that has a name.

    :ivar identity: identifies what it is made of; environments of several names may be one.
    :ivar path: its directory there.
    :ivar packages: distribution -> version.
    :ivar requirements: what it was made for.
    :ivar interpreter: its interpreter's version.
    """

    name: str
    identity: str
    path: str
    packages: dict[str, str]
    requirements: tuple[str, ...]
    interpreter: str


@attrs.frozen
class Pruned:
    """What was removed.

    :ivar environments: their number; ``wheels`` is that of wheels in the store.
    :ivar bytes: what they took on the disk.
    :ivar busy: whether something may have stayed as environments were just being made: prune again.
    """

    environments: int
    wheels: int
    bytes: int
    busy: bool = False


async def _call(gateway: Gateway, function: str, *args: object) -> object:
    offer(gateway)
    try:
        return await gateway.call(f"{FAR_PACKAGE}.upkeep:{function}", *args)
    except RemoteError as problem:
        raise explained(problem) from None


@deferred
async def list_venvs(gateway: Gateway, *, directory: str | None = None) -> list[ListedVenv]:
    """The environments at a gateway's far side that have a name.

    :param directory: as for :func:`create_venv_gateway`.
    :returns: fires with a list of :class:`ListedVenv`, by name; fails with
        :class:`EnvironmentRefused`, :class:`ConnectionLost`. Cancelling it drops the answer.
    """
    match await _call(gateway, "listed", directory):
        case [*found]:
            return [_listed(each) for each in found]
        case other:
            raise no_message(other)


def _listed(each: object) -> ListedVenv:
    match each:
        case {
            "name": str(name),
            "identity": str(identity),
            "path": str(path),
            "packages": dict(packages),
            "requirements": [*requirements],
            "interpreter": str(interpreter),
        } if all(isinstance(text, str) for text in (*packages, *packages.values(), *requirements)):
            return ListedVenv(name, identity, path, packages, tuple(requirements), interpreter)
    raise no_message(each)


@deferred
async def remove_venv(gateway: Gateway, name: str, *, directory: str | None = None) -> bool:
    """Remove an environment by its name.

    Its files are removed, too, unless another name means the same environment, or a gateway is in
    it: then :func:`prune` removes them later. Wheels stay in the store until :func:`prune`.

    If it is just being made, this waits until it is.

    :returns: fires with whether there was one; fails as :func:`list`. Cancelling it changes nothing
        there any more.
    """
    channel = start(gateway, "upkeep:remove", root=directory, name=check_name(name))
    try:
        while True:
            match await channel.receive():
                case {"waiting": int() | None}:
                    pass  # for another program that makes it
                case {"free": True}:
                    await channel.send(None)  # the far side tries again
                case {"removed": [bool(found), bool()]}:
                    return found
                case other:
                    raise no_message(other)
    except RemoteError as problem:
        raise explained(problem) from None
    finally:
        channel.close()


@deferred
async def prune_venvs(gateway: Gateway, *, directory: str | None = None) -> Pruned:
    """Remove environments that have no name and no gateway in them, and wheels of none.

    :returns: fires with :class:`Pruned`; fails as :func:`list`. Cancelling it changes nothing
        there.
    """
    match await _call(gateway, "pruned", directory):
        case {
            "environments": int(environments),
            "wheels": int(wheels),
            "bytes": int(size),
            "busy": bool(busy),
        }:
            return Pruned(environments, wheels, size, busy)
        case other:
            raise no_message(other)
