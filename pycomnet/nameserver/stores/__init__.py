"""The stores of registrations: one module for each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import StoreFailed

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore

#: scheme -> the module and a function in it, which takes what follows the colon, and the reactor
SCHEMES = {
    "etcd": "pycomnet.nameserver.stores.etcd.description:make",
    "memory": "pycomnet.nameserver.stores.memory:make",
    "sqlite": "pycomnet.nameserver.stores.sqlite:make",
}


def make_store(description: str, reactor: IReactorTime) -> INameStore:
    """Make the store that a description names, without opening it.

    :param description: ``memory:``, ``sqlite:PATH`` or ``etcd:URL,URL//OPTION=VALUE``.
    :raises StoreFailed: the description names no store.
    """
    scheme, colon, rest = description.partition(":")
    if not colon or scheme not in SCHEMES:
        raise StoreFailed(
            f"expected a store: sqlite:PATH, memory: or etcd:URL,URL; got {description!r}"
        )
    module, _, name = SCHEMES[scheme].partition(":")
    make: Callable[[str, Any], INameStore] = getattr(import_module(module), name)
    return make(rest, reactor)
