"""The calls of steps: finding the service, and whether a call may be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.errors import (
    CallInterrupted,
    OnceMemoryLost,
    PycomnetError,
    ServiceUnreachable,
    UnknownMethod,
)
from pycomnet.ext.workflow.failures import UNKNOWN_CODE
from pycomnet.services.client.instances import NamedRoute
from pycomnet.services.client.remoteservice import RemoteService

if TYPE_CHECKING:
    from pycomnet.ext.workflow.machine import StepCall
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.pool import PooledServer

#: Seconds that a call has unless its step says so.
TIMEOUT = 30.0
#: The longest key of a call; a longer one is hashed.
LONGEST_KEY = 900
#: The most services and descriptions that are remembered.
MOST_SERVICES = 10_000
#: How often the name of a memory may change while a call is begun.
MOST_TURNS = 5


class StepUnknown(PycomnetError):
    """The step was in flight when its run was interrupted, and may have run: it is not repeated."""

    code = UNKNOWN_CODE


@attrs.frozen
class CallFor:
    """For whom a call is made.

    :ivar run: the run's id.
    :ivar caller: who started it.
    :ivar durable: whether the run survives this process.
    :ivar remember: commits the step's record: the memory that the call is for.
    """

    run: str
    caller: str
    durable: bool
    remember: Callable[[], Awaitable[None]]


@attrs.define
class Outcome:
    """Whether a call may be made twice, as far as is known."""

    safe: bool = False


class StepCaller:
    """Makes the calls of steps.

    :param context: what they are made with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._services: dict[tuple[str, str | None], RemoteService] = {}
        #: the methods of interfaces, for steps that name none
        self._methods: dict[tuple[str, str | None], list[str]] = {}

    async def call(self, call: StepCall, whom: CallFor, outcome: Outcome) -> Any:
        """Make a call; raises what it fails with.

        :param outcome: is told whether it may be made twice.
        """
        step = call.step
        timeout = step.get("timeout", TIMEOUT)
        seconds = self._context.reactor.seconds
        expires = seconds() + timeout
        outcome.safe = bool(step.get("idempotent"))
        service = await self._service(step, timeout)
        method = step.get("method")
        if method is None:
            method = await self._method(service, step, call.task, expires)
        key = _key(whom.run, call.path)
        if not whom.durable or outcome.safe:
            return await self._send(service.saying(key, whom.caller or None), method, call, expires)
        interface = step["interface"]
        try:
            peer, _ = await service.reach(expires)
        except ServiceUnreachable:
            if call.again:
                raise StepUnknown("its service can't be reached to find out") from None
            raise
        if peer.may_repeat(interface, method):
            outcome.safe = True
        elif peer.answers_once(interface, method):
            return await self._once(service, peer, method, call, whom, key, expires)
        elif call.again:
            raise StepUnknown(
                f"{interface}.{method} was called and may have run: the workflow service ended "
                "before there was a result"
            )
        return await self._send(service.saying(key, whom.caller or None), method, call, expires)

    async def _send(
        self, service: RemoteService, method: str, call: StepCall, expires: float
    ) -> Any:
        return await service.invoke(method, call.args, self._context.left(expires))

    async def _once(
        self,
        service: RemoteService,
        peer: PooledServer,
        method: str,
        call: StepCall,
        whom: CallFor,
        key: str,
        expires: float,
    ) -> Any:
        """Call a method that answers repetitions: at the server that would remember the call."""
        record = call.record
        again = call.again and bool(record.memory)
        if call.again and not again:
            raise StepUnknown(f"{method} may have run at a server that is not known any more")
        turns = 0
        refused: set[str] = set()
        while True:
            if not again and record.memory != peer.memory:
                record.memory = peer.memory or ""
                await whom.remember()
            said = service.only_at(peer).saying(key, whom.caller or None, record.memory)
            try:
                return await self._send(said, method, call, expires)
            except OnceMemoryLost as lost:
                turns += 1
                if again:
                    if peer.address in refused:
                        raise StepUnknown(f"{method} may have run; {lost}") from None
                    refused.add(peer.address)
                elif turns > MOST_TURNS:
                    raise
                elif lost.memory:
                    peer.memory = lost.memory
            except CallInterrupted:
                again = True
            except ServiceUnreachable:
                pass  # it has not run; its service may be elsewhere by now
            try:
                peer, _ = await service.reach(expires)
            except ServiceUnreachable:
                if again:
                    raise StepUnknown(f"{method} may have run: its service is gone") from None
                raise

    async def _service(self, step: Mapping[str, Any], timeout: float) -> RemoteService:
        interface, name = step["interface"], step.get("service")
        tags = step.get("tags")
        if tags:
            wanted = {"interface": interface, "service": name, "tags": tags}
            nameserver = await self._context.nameserver()
            found = await nameserver.invoke(
                "locate", {k: v for k, v in wanted.items() if v is not None}, timeout
            )
            name = found["service"]
        key = (interface, name)
        service = self._services.get(key)
        if service is None:
            if len(self._services) >= MOST_SERVICES:
                self._services.clear()
            # Not looked up here: the call itself waits for the service within its time.
            route = NamedRoute(self._context, interface, name)
            service = self._services[key] = RemoteService(self._context, route, interface)
        return service

    async def _method(
        self, service: RemoteService, step: Mapping[str, Any], task: str, expires: float
    ) -> str:
        """The method of a step that names none: the task's name, or the interface's only one."""
        key = (step["interface"], step.get("service"))
        names = self._methods.get(key)
        if names is None or (task not in names and len(names) != 1):
            left = self._context.left(expires)
            described = await service.invoke("introspect", None, left)
            methods = described[step["interface"]]["methods"]
            names = [name for name in methods if name != "introspect"]
            if len(self._methods) >= MOST_SERVICES:
                self._methods.clear()
            self._methods[key] = names
        if task in names:
            return task
        if len(names) == 1:
            return names[0]
        have = ", ".join(names) or "none"
        raise UnknownMethod(
            f"{step['interface']} has no method {task!r}, nor only one: say which one is meant, "
            f"as 'method'; there are: {have}"
        )


def _key(run: str, path: str) -> str:
    """The idempotency key of a step."""
    key = f"{run}:{path}"
    if len(key) <= LONGEST_KEY:
        return key
    return f"{run}:{hashlib.sha256(path.encode()).hexdigest()}"


__all__ = ["CallFor", "Outcome", "StepCaller", "StepUnknown"]
