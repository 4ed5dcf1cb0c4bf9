"""The descriptions of services that a client has had, so that further proxies need not ask."""

from __future__ import annotations

import weakref

import attrs

from pycomnet.ext.proxy.signatures import InterfaceSignature
from pycomnet.services.client.context import Context
from pycomnet.services.client.pool import Pool
from pycomnet.services.client.reference import ServiceReference

#: The most descriptions that are kept for a context, and those made from it.
MOST_KEPT = 1000


@attrs.frozen
class KnownInterface:
    """How a service described itself.

    :ivar at: when, by the reactor's clock.
    """

    signature: InterfaceSignature
    at: float


_kept: weakref.WeakKeyDictionary[Pool, dict[ServiceReference, KnownInterface]]
_kept = weakref.WeakKeyDictionary()


def known_interface(context: Context, reference: ServiceReference) -> KnownInterface | None:
    """How a service has described itself to a client; None if it has not."""
    found = _kept.get(context.pool)
    return None if found is None else found.get(reference)


def keep_interface(context: Context, reference: ServiceReference, known: KnownInterface) -> None:
    """Keep a description, and drop the oldest if there are too many."""
    found = _kept.setdefault(context.pool, {})
    found.pop(reference, None)
    while len(found) >= MOST_KEPT:
        del found[next(iter(found))]
    found[reference] = known
