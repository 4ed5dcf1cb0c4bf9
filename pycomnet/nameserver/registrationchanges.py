"""The nameserver's methods that change a registration's weight, draining and health, or remove
it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.errors import NotLeaseOwner, StoreConflict, StoreFailed
from pycomnet.nameserver.records import Record
from pycomnet.nameserver.registrants import is_operator
from pycomnet.nameserver.requests import Arguments, NameserverLimits
from pycomnet.nameserver.standing import USUAL, Standing, or_none
from pycomnet.services.interface import Service, method
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from collections import Counter

    from pycomnet.interfaces import INameStore
    from pycomnet.nameserver.directory import Directory
    from pycomnet.nameserver.freshness import StoreView
    from pycomnet.services.server.request import Request

log = Logger()

#: How many times a change is tried if other changes of the same name come first.
ATTEMPTS = 10


class RegistrationChanges(Service):
    """The methods ``adjust`` for owners, and ``override`` and ``remove`` for operators."""

    limits: NameserverLimits
    directory: Directory
    _store: INameStore
    _seconds: Callable[[], float]
    _view: StoreView
    _operators: Collection[str]
    _counts: Counter[str]
    _may_register: Callable[[Request, str, Collection[str]], None] | None

    @method(
        args={
            "lease": "int",
            "secret": "str",
            "weight": "int?",
            "draining": "bool?",
            "failing": "bool?",
            "said": "str?",
        },
        results={"ttl": "float", "fence": "int"},
        idempotent=True,
    )
    async def adjust(self, request: Request) -> dict[str, Any]:
        """Change how a registration is located; for its owner. This does not renew the lease.

        Arguments that are left out stay as they are. A service that is draining, or whose check is
        failing, is listed and not located; while draining it finishes the calls that it has. What
        the check says is shown in lists. The registration gets a new fence.
        """
        taken = Arguments("adjust", request.args, self.limits)
        owner = taken.lease()
        change = taken.standing()
        taken.done()
        for _ in range(ATTEMPTS):
            held = await self._view.owned(
                owner[0], lambda: self.directory.owned(*owner, self._seconds())
            )
            if self._may_register is not None:
                self._may_register(request, held.service, held.interfaces)
            standing = attrs.evolve(held.standing or USUAL, **change)
            if "weight" in change:
                standing = attrs.evolve(standing, weighed=False)
            fence = await self._restand(held, standing)
            if fence is not None:
                return {"ttl": held.ttl, "fence": fence}
        raise StoreFailed("the registration is being changed too often")

    async def _restand(self, held: Record, standing: Standing) -> int | None:
        """Commit a new standing of a record.

        :returns: the fence; None if the record was changed meanwhile.
        """
        wanted = or_none(standing)
        if wanted == held.standing:
            return held.fence
        try:
            return await self._store.commit(self.directory.restanding(held, wanted))
        except StoreConflict:
            return None

    @method(
        args={"service": "str", "weight": "int?", "draining": "bool?"},
        results={"service": "str", "fence": "int"},
        idempotent=True,
    )
    async def override(self, request: Request) -> dict[str, Any]:
        """Drain a service, or change its weight; for operators: see remove.

        The change stays when the owner registers the service again. draining=False ends draining
        that an operator has begun, and not what the owner has begun. This does not renew the lease.
        """
        taken = Arguments("override", request.args, self.limits)
        service = taken.text("service", wild=False)
        change = taken.standing("weight", "draining")
        taken.done()
        self._check_operator(request, "changes what others have registered")
        if "drains" in change:
            change["drained"] = change.pop("drains")
        if "weight" in change:
            change["weighed"] = True
        for _ in range(ATTEMPTS):
            held = await self._view.proposed(
                service, lambda: self.directory.live(service, self._seconds())
            )
            fence = await self._restand(held, attrs.evolve(held.standing or USUAL, **change))
            if fence is not None:
                log.info(
                    "{peer} has set {change} of {service}",
                    peer=request.peer,
                    change=change,
                    service=service,
                )
                return {"service": service, "fence": fence}
        raise StoreFailed("the registration is being changed too often")

    @method(args={"service": "str"}, results={"service": "str"})
    async def remove(self, request: Request) -> dict[str, Any]:
        """End the lease of a service that is dead or lost; for operators.

        A client is an operator if it connects over a unix socket as the nameserver's own user or
        root, or with a certificate whose name the nameserver was given as an operator's. If the
        nameserver has an access rule for this method, the users that it admits are the operators. A
        service that is running registers again.
        """
        taken = Arguments("remove", request.args, self.limits)
        service = taken.text("service", wild=False)
        self._check_operator(request, "removes what others have registered")
        for _ in range(ATTEMPTS):
            removal = await self._view.proposed(
                service, lambda: self.directory.removal_of(service, self._seconds())
            )
            try:
                await self._store.commit(removal)
            except StoreConflict:
                continue
            self._counts["unregistered"] += 1
            log.info("{service} was removed by {peer}", service=service, peer=request.peer)
            return {"service": service}
        raise StoreFailed("the registration is being changed too often")

    def _check_operator(self, request: Request, does: str) -> None:
        if not is_operator(request, self._operators):
            raise NotLeaseOwner(
                f"only an operator {does}: connect over a unix socket "
                "as the nameserver's own user or root, or with a certificate of a name that it was "
                "given with --operator; or let the nameserver's --access say who may, "
                f"[{request.method}]"
            )
