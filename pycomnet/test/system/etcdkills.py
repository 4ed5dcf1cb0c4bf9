"""Kills etcd's leader under load, and checks what the clients of two nameservers were told."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, task
from twisted.internet.threads import deferToThread

from pycomnet.errors import PycomnetError
from pycomnet.services.client.context import Context
from pycomnet.test.system.daemons import Daemon, Daemons
from pycomnet.test.system.etcds import EtcdMembers
from pycomnet.test.system.histories import lost, violations
from pycomnet.test.system.nameserverload import INTERFACE, STEADY, TTL, Follower, Load, listed

READY = r"the nameserver is at (\S+)"
#: Seconds that a watcher has to converge.
CONVERGE = 30.0


class Kills:
    """Two nameservers on some members.

    :ivar addresses: of the nameservers.
    :ivar back: after each kill, the seconds until a registration succeeded.
    :ivar problems: what was wrong.
    """

    def __init__(self, reactor: Any, members: EtcdMembers, started: Daemons) -> None:
        self.members = members
        self.daemons: list[Daemon] = []
        self.addresses: list[str] = []
        self.back: list[float] = []
        self.problems: list[str] = []
        self._reactor = reactor
        self._started = started
        self._context: Any = None
        self._load: Any = None
        self._followers: list[Follower] = []

    @property
    def operations(self) -> int:
        """How many calls there were."""
        return len(self._load.history)

    async def start(self) -> None:
        """Start the nameservers, and the load."""
        for _ in range(2):
            daemon = self._started.start(
                "pycomnet-nameserver",
                *("--listen", "tcp:0:interface=127.0.0.1", "--store", f"etcd:{self.members.urls}"),
            )
            self.daemons.append(daemon)
        for daemon in self.daemons:
            self.addresses.append((await daemon.seen(READY))[1])
        both = ",".join(self.addresses)
        self._context = Context(self._reactor, nameserver=both, timeout=8.0)
        nameserver = await self._context.nameserver()
        await nameserver.invoke("register", self._registration(STEADY, 3600.0))
        self._load = Load(self._reactor, both)
        self._load.start()
        for address in (*self.addresses, both):
            follower = Follower(self._reactor, address)
            follower.start()
            self._followers.append(follower)

    def _registration(self, service: str, ttl: float) -> dict[str, Any]:
        return {
            "service": service,
            "interfaces": [INTERFACE],
            "address": "tcp:127.0.0.1:1",
            "ttl": ttl,
            "secret": "the secret of the killer",
        }

    def sleep(self, seconds: float) -> defer.Deferred[None]:
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, seconds)
        return waiting

    async def leader(self) -> int:
        """Which member is the leader."""
        nameserver = await self._context.nameserver()
        while True:
            try:
                found = await nameserver.invoke("cluster")
            except PycomnetError:
                found = {"members": []}
            names = [one["name"] for one in found["members"] if one.get("leader")]
            if names:
                return [one.name for one in self.members.members].index(names[0])
            await self.sleep(0.2)

    async def kill_leader(self) -> None:
        """Kill the leader, wait until registrations succeed again, and start it again."""
        member = self.members.members[await self.leader()]
        member.kill()
        begun = self._reactor.seconds()
        nameserver = await self._context.nameserver()
        while True:
            try:
                await nameserver.invoke("register", self._registration("probe", TTL), timeout=2.0)
                break
            except PycomnetError:
                await self.sleep(0.05)
        self.back.append(self._reactor.seconds() - begun)
        member.start()
        await deferToThread(self.members.wait)

    async def check(self) -> None:
        """Stop the load, and check all that it was told."""
        await self._load.stop()
        now = self._reactor.seconds()
        history = self._load.history
        self.problems += violations(history)
        views = []
        for address in self.addresses:
            async with Context(self._reactor, nameserver=address) as context:
                views.append(await listed(context))
        # Both were asked after the last acknowledgement; time has passed meanwhile.
        later = self._reactor.seconds()
        for view in views:
            self.problems += lost(history, max(now, later), view)
        await self._converge()

    async def _converge(self) -> None:
        deadline = self._reactor.seconds() + CONVERGE
        while True:
            views = [follower.services for follower in self._followers]
            async with Context(self._reactor, nameserver=self.addresses[0]) as context:
                now = await listed(context)
            if all(view == now for view in views):
                return
            if self._reactor.seconds() > deadline:
                self.problems.append(f"watchers did not converge: {now}, {views}")
                return
            await self.sleep(0.2)

    async def close(self) -> None:
        """End the clients."""
        for follower in self._followers:
            await follower.close()
        if self._load is not None:
            await self._load.close()
        if self._context is not None:
            await self._context.close()


async def run_kills(
    reactor: Any, members: EtcdMembers, started: Daemons, kills: int, between: float
) -> Kills:
    """Kill the leader some times.

    :param between: seconds of load before each kill, and after the last.
    """
    run = Kills(reactor, members, started)
    try:
        await run.start()
        for _ in range(kills):
            await run.sleep(between)
            await run.kill_leader()
        await run.sleep(between)
        await run.check()
    finally:
        await run.close()
    return run


__all__ = ["Kills", "run_kills"]
