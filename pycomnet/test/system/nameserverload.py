"""Clients that register, renew and unregister at nameservers, and record what they are told."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import defer, task

from pycomnet.errors import PycomnetError
from pycomnet.services.client.context import Context
from pycomnet.test.system.histories import Operation

#: Names that clients contend for; seconds of their leases.
NAMES = 24
TTL = 4.0
INTERFACE = "org.example.load"
#: What is registered before, and is located all the time.
STEADY = "steady"


class Load:
    """Some clients.

    :param nameservers: the addresses of all nameservers, with commas.
    :ivar history: what they did.
    """

    def __init__(self, reactor: Any, nameservers: str, clients: int = 6) -> None:
        self.history: list[Operation] = []
        self._reactor = reactor
        self._contexts = [
            Context(reactor, nameserver=nameservers, timeout=8.0) for _ in range(clients)
        ]
        self._stopping = False
        self._running: list[defer.Deferred[Any]] = []

    def start(self) -> None:
        """Begin."""
        for number, context in enumerate(self._contexts):
            client = self._client(f"client-{number}", context, random.Random(number))
            self._running.append(defer.Deferred.fromCoroutine(client))
        self._running.append(defer.Deferred.fromCoroutine(self._locate(self._contexts[0])))

    async def stop(self) -> None:
        """Let each finish its call."""
        self._stopping = True
        await defer.gatherResults(self._running)

    async def close(self) -> None:
        """End the connections."""
        for context in self._contexts:
            await context.close()

    async def _call(
        self, nameserver: Any, operation: Operation, args: dict[str, Any]
    ) -> dict[str, Any] | None:
        self.history.append(operation)
        try:
            found: dict[str, Any] = await nameserver.invoke(operation.kind, args)
        except PycomnetError as problem:
            operation.outcome = problem.code or type(problem).__name__
            return None
        finally:
            operation.end = self._reactor.seconds()
        operation.outcome = "ok"
        operation.fence = found.get("fence", 0)
        operation.ttl = found.get("ttl", 0.0)
        return found

    async def _client(self, name: str, context: Context, chance: random.Random) -> None:
        nameserver = await context.nameserver()
        secret = f"the secret of {name}"
        held: dict[str, int] = {}
        while not self._stopping:
            service = f"s{chance.randrange(NAMES)}"
            operation = Operation(name, "renew", service, self._reactor.seconds())
            owner = {"lease": held.get(service), "secret": secret}
            if service not in held:
                operation.kind = "register"
                wanted = {
                    "service": service,
                    "interfaces": [INTERFACE],
                    "address": "tcp:127.0.0.1:1",
                    "ttl": TTL,
                    "secret": secret,
                }
                found = await self._call(nameserver, operation, wanted)
                if found is not None:
                    held[service] = found["lease"]
            elif chance.random() < 0.3:
                operation.kind = "unregister"
                del held[service]
                await self._call(nameserver, operation, owner)
            else:
                await self._call(nameserver, operation, owner)
                if operation.outcome in ("lease-lost", "not-owner"):
                    del held[service]
            await task.deferLater(self._reactor, chance.uniform(0.0, 0.02))

    async def _locate(self, context: Context) -> None:
        nameserver = await context.nameserver()
        while not self._stopping:
            operation = Operation("reader", "locate", STEADY, self._reactor.seconds())
            await self._call(nameserver, operation, {"service": STEADY})
            await task.deferLater(self._reactor, 0.02)


async def listed(context: Context) -> dict[str, int]:
    """The fences of all that a nameserver has; what is doubtful is not registered."""
    nameserver = await context.nameserver()
    found: dict[str, int] = {}
    after = ""
    while page := await nameserver.invoke("list_services", {"after": after}):
        found.update(
            {one["service"]: one["fence"] for one in page if not one.get("doubtful", False)}
        )
        after = page[-1]["service"]
    return found


class Follower:
    """A watcher: what it believes is registered.

    :ivar fences: those of all registrations that it was told of.
    :ivar snapshots: how many it was given; ``begun``: when the last one ended.
    """

    def __init__(self, reactor: Any, nameservers: str) -> None:
        self.services: dict[str, int] = {}
        self.fences: set[int] = set()
        self.snapshots = 0
        self.begun = float("inf")
        self._context = Context(reactor, nameserver=nameservers)
        self._reactor = reactor
        self._running: defer.Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = defer.Deferred.fromCoroutine(self._follow())

    async def _follow(self) -> None:
        from contextlib import aclosing

        from pycomnet.nameserver.follow import follow

        nameserver = await self._context.nameserver()
        async with aclosing(follow(nameserver, self._reactor)) as events:
            async for event in events:
                if event["event"] == "put":
                    self.services[event["record"]["service"]] = event["record"]["fence"]
                    self.fences.add(event["record"]["fence"])
                elif event["event"] == "delete":
                    self.services.pop(event["service"], None)
                elif event["event"] == "end-of-snapshot":
                    self.snapshots += 1
                    self.begun = self._reactor.seconds()

    async def close(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.addErrback(lambda failure: failure.trap(defer.CancelledError))
            self._running.cancel()
        await self._context.close()
