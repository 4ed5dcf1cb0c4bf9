"""A nameserver without a network, for tests: its own directory and store, on a test's clock."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pycomnet.errors import CallInterrupted, DeadlineExceeded, ServiceUnreachable
from pycomnet.nameserver.directory import Directory
from pycomnet.nameserver.records import UNREGISTERED, Record
from pycomnet.nameserver.requests import Arguments, NameserverLimits, registration
from pycomnet.nameserver.standing import USUAL
from pycomnet.nameserver.stores.memory import MemoryStore


class Names:
    """What a proxy of the nameserver is to a registration.

    :ivar asked: each call: its time, method and arguments.
    :ivar gone: nothing listens where it was.
    :ivar silent: it takes calls and does not answer.
    :ivar refuses: what it answers instead of doing what is asked, if that is to be an error.
    :ivar answers_lost: it does what is asked, and the connection breaks before the answer is there.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, str, Any]] = []
        self.gone = self.silent = self.answers_lost = False
        self.refuses: Exception | None = None
        self._lease = 0
        self.restart()

    def restart(self) -> None:
        """Begin anew, knowing nothing."""
        self.directory = Directory(self.clock.seconds)
        self.store = MemoryStore()
        self.store.open(self.directory)

    def find(self, service: str) -> Record | None:
        """The live record of a name."""
        return self.directory.find(service, self.clock.seconds())

    def take(
        self, service: str, address: str, ttl: float = 10.0, secret: str = "another's own secret"
    ) -> None:
        """Have another own a name."""
        args = {"service": service, "interfaces": ["x"], "address": address, "ttl": ttl}
        args["secret"] = secret
        self._register(args)

    def invoke(
        self, method: str, args: Any = None, timeout: float | None = None
    ) -> defer.Deferred[Any]:
        """As a proxy does it."""
        self.asked.append((self.clock.seconds(), method, args))
        if self.gone:
            return defer.fail(ServiceUnreachable("nothing listens there"))
        if self.silent:
            never: defer.Deferred[Any] = defer.Deferred()
            assert timeout is not None
            never.addTimeout(timeout, self.clock)
            return never.addErrback(_late)
        if self.refuses is not None:
            return defer.fail(self.refuses)
        answer = defer.maybeDeferred(getattr(self, f"_{method}"), args)
        if self.answers_lost:
            answer.addBoth(lambda _: Failure(CallInterrupted("the connection broke")))
        return answer

    def _register(self, args: Any) -> defer.Deferred[dict[str, Any]]:
        self._lease += 1
        record, secret = registration(
            args, NameserverLimits(), self._lease, f"a secret {self._lease:9}"
        )
        done = self.store.commit(self.directory.proposal(record, self.clock.seconds()))
        return done.addCallback(
            lambda fence: {
                "lease": record.lease,
                "secret": secret,
                "fence": fence,
                "ttl": record.ttl,
            }
        )

    def _renew(self, args: Any) -> dict[str, Any]:
        lease, secret = Arguments("renew", args, NameserverLimits()).lease()
        return {"ttl": self.directory.renew(lease, secret, self.clock.seconds()).ttl}

    def _adjust(self, args: Any) -> defer.Deferred[Any]:
        taken = Arguments("adjust", args, NameserverLimits())
        held = self.directory.owned(*taken.lease(), self.clock.seconds())
        standing = attrs.evolve(held.standing or USUAL, **taken.standing())
        done = self.store.commit(self.directory.restanding(held, standing))
        return done.addCallback(lambda fence: {"ttl": held.ttl, "fence": fence})

    def _unregister(self, args: Any) -> defer.Deferred[Any]:
        lease, secret = Arguments("unregister", args, NameserverLimits()).lease()
        removal = self.directory.removal(lease, secret, self.clock.seconds())
        assert removal.why == UNREGISTERED
        return self.store.commit(removal)


def _late(failure: Failure) -> Failure:
    failure.trap(defer.TimeoutError)
    return Failure(DeadlineExceeded("its deadline passed"))
