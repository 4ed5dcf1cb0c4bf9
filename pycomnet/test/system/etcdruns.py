"""Two nameservers on some members of etcd, clients of them, and a check of what these were told."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from twisted.internet import defer, task
from twisted.internet.threads import deferToThread

from pycomnet.errors import PycomnetError
from pycomnet.services.client.context import Context
from pycomnet.test.system.daemons import Daemon, Daemons
from pycomnet.test.system.etcdnetwork import Network
from pycomnet.test.system.etcds import EtcdMember, EtcdMembers
from pycomnet.test.system.histories import Restored, lost, missed, violations
from pycomnet.test.system.nameserverload import INTERFACE, STEADY, TTL, Follower, Load, listed

READY = r"the nameserver is at (\S+)"
#: Seconds that a watcher has to converge.
CONVERGE = 30.0


class ClusterRun:
    """Two nameservers under load.

    :param options: what follows the members in ``--store``.
    :param network: has nodes ``n0`` and ``n1`` for the nameservers.
    :param environment: of the nameservers.
    :ivar addresses: of the nameservers: sockets of this machine, whatever the network is like.
    :ivar problems: what was wrong.
    :ivar watched: how many watchers have to have been told of each single registration.
    :ivar restored: when etcd was put back to an earlier state.
    """

    def __init__(
        self,
        reactor: Any,
        members: EtcdMembers,
        started: Daemons,
        *,
        options: str = "",
        network: Network | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.members = members
        self.network = network
        self.daemons: list[Daemon] = []
        self.addresses: list[str] = []
        self.problems: list[str] = []
        self.watched = 0
        self.restored: Restored | None = None
        self.directory = started.directory
        self.context: Any = None
        self._reactor = reactor
        self._started = started
        self._options = options
        self._environment = environment or {}
        self._load: Any = None
        self._followers: list[Follower] = []
        self._probes = 0

    @property
    def operations(self) -> int:
        """How many calls there were."""
        return len(self._load.history)

    @property
    def now(self) -> float:
        """The time of the history."""
        now: float = self._reactor.seconds()
        return now

    def start_nameserver(self, number: int) -> Daemon:
        """Start one; it does not listen yet."""
        address = self._started.directory / f"n{number}"
        return self._started.start(
            "pycomnet-nameserver",
            *("--listen", f"unix:{address}", "--max-per-client", "20000"),
            *("--store", f"etcd:{self.members.urls}{self._options}"),
            directory=self._started.directory,
            reactor=None,
            before=() if self.network is None else self.network.inside(f"n{number}"),
            **self._environment,
        )

    async def start(self) -> None:
        """Start the nameservers, and the load."""
        self.daemons = [self.start_nameserver(number) for number in range(2)]
        for daemon in self.daemons:
            self.addresses.append((await daemon.seen(READY))[1])
        both = ",".join(self.addresses)
        self.context = Context(self._reactor, nameserver=both, timeout=8.0)
        nameserver = await self.context.nameserver()
        await nameserver.invoke("register", self.registration(STEADY, 3600.0))
        self._load = Load(self._reactor, both)
        self._load.start()
        for address in (*self.addresses, both):
            follower = Follower(self._reactor, address)
            follower.start()
            self._followers.append(follower)

    def registration(self, service: str, ttl: float) -> dict[str, Any]:
        """The arguments of a registration of the run's own."""
        return {
            "service": service,
            "interfaces": [INTERFACE],
            "address": "tcp:127.0.0.1:1",
            "ttl": ttl,
            "secret": "the secret of the run",
        }

    def sleep(self, seconds: float) -> defer.Deferred[None]:
        """Let time pass."""
        waiting: defer.Deferred[None] = task.deferLater(self._reactor, seconds)
        return waiting

    async def cluster(self) -> dict[str, Any]:
        """What the nameservers show of the cluster, once they do."""
        nameserver = await self.context.nameserver()
        while True:
            try:
                found: dict[str, Any] = await nameserver.invoke("cluster")
                return found
            except PycomnetError:
                await self.sleep(0.2)

    async def leader(self) -> EtcdMember:
        """Which member is the leader."""
        while True:
            names = [one["name"] for one in (await self.cluster())["members"] if one.get("leader")]
            if names:
                return next(one for one in self.members.members if one.name == names[0])
            await self.sleep(0.2)

    async def follower(self) -> EtcdMember:
        """A member that is not the leader."""
        leader = await self.leader()
        return next(one for one in self.members.members if one is not leader)

    async def elected(self, members: Sequence[EtcdMember]) -> float:
        """When one of these members says that it is the leader."""

        def look() -> bool:
            return any(one.leads() for one in members)

        while not await deferToThread(look):
            await self.sleep(0.02)
        return self.now

    async def registered(self, begun: float, patience: float = 1.0) -> float:
        """The seconds since a time until a registration of a new name succeeded.

        :param patience: seconds after which one is given up, and another is tried.
        """
        nameserver = await self.context.nameserver()
        while True:
            self._probes += 1
            wanted = self.registration(f"probe-{self._probes}", TTL)
            try:
                await nameserver.invoke("register", wanted, timeout=patience)
                return self.now - begun
            except PycomnetError:
                await self.sleep(0.02)

    def registering(self, begun: float, patience: float = 1.0) -> defer.Deferred[float]:
        """As :meth:`registered`, beside what the caller does: a fault takes as long as it is asked
        to, and not until a registration has succeeded."""
        return defer.Deferred.fromCoroutine(self.registered(begun, patience))

    async def frozen(self, process: Any, seconds: float) -> float:
        """Freeze a process for some seconds; how long registrations took after that began."""
        process.send_signal(signal.SIGSTOP)
        registering = self.registering(self.now)
        await self.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        return await registering

    async def check(self) -> None:
        """Stop the load, and check all that it was told."""
        await self._load.stop()
        now = self.now
        history = self._load.history
        self.problems += violations(history, self.restored)
        views = []
        compared = 0
        for address in self.addresses:
            async with Context(self._reactor, nameserver=address) as context:
                views.append(await listed(context))
                compared += (await (await context.nameserver()).invoke("stat"))["comparisons"]
        # Both were asked after the last acknowledgement; time has passed meanwhile.
        later = self.now
        for view in views:
            self.problems += lost(history, max(now, later), view, self.restored)
        await self.converge()
        for follower in self._followers:
            # After a comparison or a snapshot it is told of the differences only.
            if not compared and follower.snapshots == 1:
                self.watched += 1
                self.problems += missed(history, follower.fences, follower.begun)
        for daemon in self.daemons:
            if "Traceback" in daemon.said:
                self.problems.append(f"a nameserver has logged:\n{daemon.said[-4000:]}")

    async def converge(self, patience: float = CONVERGE) -> None:
        """Wait until all watchers believe what is true."""
        deadline = self.now + patience
        while True:
            views = [follower.services for follower in self._followers]
            async with Context(self._reactor, nameserver=self.addresses[0]) as context:
                now = await listed(context)
            if all(view == now for view in views):
                return
            if self.now > deadline:
                self.problems.append(f"watchers did not converge: {now}, {views}")
                return
            await self.sleep(0.2)

    async def close(self) -> None:
        """End the clients."""
        for follower in self._followers:
            await follower.close()
        if self._load is not None:
            await self._load.close()
        if self.context is not None:
            await self.context.close()
