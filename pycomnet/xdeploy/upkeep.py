"""Lists and removes the environments at a far side."""

from __future__ import annotations

import attrs

from pycomnet.deferred import deferred
from pycomnet.errors import RemoteError
from pycomnet.gateways.gateway import Gateway
from pycomnet.xdeploy.farcode import FAR_PACKAGE, explained, far_modules
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
    """

    environments: int
    wheels: int
    bytes: int


async def _call(gateway: Gateway, function: str, *args: object) -> object:
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(far_modules()).addErrback(lambda _: None)
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
    found = await _call(gateway, "listed", directory)
    assert isinstance(found, list)
    return [
        ListedVenv(
            each["name"],
            each["identity"],
            each["path"],
            dict(each["packages"]),
            tuple(each["requirements"]),
            each["interpreter"],
        )
        for each in found
    ]


@deferred
async def remove_venv(gateway: Gateway, name: str, *, directory: str | None = None) -> bool:
    """Remove an environment by its name.

    Its files are removed, too, unless another name means the same environment, or a gateway is in
    it: then :func:`prune` removes them later. Wheels stay in the store until :func:`prune`.

    :returns: fires with whether there was one; fails as :func:`list`. Cancelling it changes nothing
        there.
    """
    found = await _call(gateway, "removed", directory, check_name(name))
    assert isinstance(found, list)
    return bool(found[0])


@deferred
async def prune_venvs(gateway: Gateway, *, directory: str | None = None) -> Pruned:
    """Remove environments that have no name and no gateway in them, and wheels of none.

    :returns: fires with :class:`Pruned`; fails as :func:`list`. Cancelling it changes nothing
        there.
    """
    found = await _call(gateway, "pruned", directory)
    assert isinstance(found, dict)
    return Pruned(found["environments"], found["wheels"], found["bytes"])


__all__ = ["ListedVenv", "Pruned", "list_venvs", "prune_venvs", "remove_venv"]
