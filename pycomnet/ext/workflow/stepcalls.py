"""The calls of steps: finding the service, and whether a call may be made again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.errors import (
    CallInterrupted,
    OnceMemoryLost,
    PycomnetError,
    RemoteError,
    ServiceUnreachable,
    UnknownMethod,
    error_map,
)
from pycomnet.ext.workflow.errors import RunFileLost, RunFilesFull
from pycomnet.ext.workflow.records import step_key
from pycomnet.ext.workflow.runfiles import RunFiles, WithFiles
from pycomnet.ext.workflow.steperrors import NOT_RUN, UNKNOWN_CODE
from pycomnet.services.client.instances import NamedRoute
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.threads import in_thread
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.ext.workflow.decisions import StepCall
    from pycomnet.services.binary import Binary
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.pool import PooledServer

#: The default timeout of a call, in seconds.
TIMEOUT = 30.0
#: The most services and descriptions that are remembered.
MOST_SERVICES = 10_000
#: Codes of errors by which a call was not run. Errors before it was sent have no code.
NOT_RUN_HERE = NOT_RUN | {""}
#: Seconds before an instance that could not be reached is tried again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
#: How often a server may name another memory while a call is begun.
MOST_TURNS = 5
NO_FILES = "this workflow service has no directory for files ('files')"


class StepUnknown(PycomnetError):
    """The step was in flight when its run was interrupted, and may have run: it is not repeated."""

    code = UNKNOWN_CODE


class NotHeld(Exception):
    """The call was not sent: its run may be another service's by now."""


@attrs.frozen
class CallFor:
    """The run that a call is made for.

    :ivar run: the run's id.
    :ivar caller: who started it.
    :ivar durable: whether the run survives this process.
    :ivar nonce: the run's part of the keys of its calls.
    :ivar remember: commits a step's record, which names the memory of the server.
    :ivar held: whether this service is sure to have the run's claim.
    """

    run: str
    caller: str
    durable: bool
    nonce: str
    remember: Callable[[StepCall], Awaitable[None]]
    held: Callable[[], bool]


@attrs.define
class CallAttempt:
    """What is known of a step's call that is being made.

    :ivar safe: whether it may be made twice.
    :ivar sent: whether it was sent, or may have been sent before.
    """

    safe: bool = False
    sent: bool = False


class StepCaller:
    """Makes the calls of steps.

    :param context: makes the calls.
    :param files: the files of runs, if steps may have any.
    """

    def __init__(self, context: Context, files: RunFiles | None = None) -> None:
        self._context = context
        self._files = files
        self._services: dict[tuple[str, str | None], tuple[RemoteService, NamedRoute]] = {}
        #: the methods of interfaces, for steps that name none
        self._methods: dict[tuple[str, str | None], list[str]] = {}

    @deferred
    async def call(self, call: StepCall, whom: CallFor, attempt: CallAttempt) -> Any:
        """Make a call.

        :param attempt: is told whether it may be made twice.
        :returns: fires with its result. Fails with :class:`NotHeld` if the lease has ended while
            the service was looked for: it was not sent. :meth:`explained` explains other errors.
        """
        step = call.step
        attempt.safe = bool(step.get("idempotent"))
        attempt.sent = call.again or call.unsure
        timeout = step.get("timeout", TIMEOUT)
        expires = self._context.reactor.seconds() + timeout
        blocks: Sequence[Binary] = ()
        if step.get("files") and self._files is None:  # before the call is sent
            raise RunFileLost(NO_FILES)
        if call.attached:
            blocks = await self._in_thread(RunFiles.blocks, whom, call.attached)
        service, route = await self._service(step, timeout)
        method = step.get("method")
        if method is None:
            method = await self._method(service, step, call.task, expires)
        key = step_key(whom.run, call.path, whom.nonce)
        if whom.durable and not attempt.safe:
            interface = step["interface"]
            try:
                peer, _ = await service.reach(expires)
            except ServiceUnreachable:
                if call.again:
                    raise StepUnknown("its service can't be reached to find out") from None
                raise
            if peer.may_repeat(interface, method):
                attempt.safe = True
            elif peer.answers_once(interface, method):
                attempt.sent = True  # errors of calls that were not run have codes of their own
                return await self._once(
                    service, route, peer, method, call, whom, key, expires, blocks
                )
            elif call.again or (call.unsure and call.record.memory):
                # In the second case it may have run at a server with "once"; this one has none.
                raise StepUnknown(
                    f"{interface}.{method} was called and may have run: there is no result of that "
                    "call"
                )
        _check(whom)
        return await self._send(
            service.saying(key, whom.caller or None), method, call, whom, expires, blocks, attempt
        )

    def explained(self, problem: Any, call: StepCall, attempt: CallAttempt) -> Any:
        """What an error of :meth:`call` means for the step."""
        if isinstance(problem, UnknownMethod):
            self._methods.pop((call.step["interface"], call.step.get("service")), None)
        if call.again and not attempt.safe and _was_refused(problem, NOT_RUN):
            return StepUnknown(f"it may have run before: {problem}")
        return problem

    def _send(
        self,
        service: RemoteService,
        method: str,
        call: StepCall,
        whom: CallFor,
        expires: float,
        blocks: Sequence[Binary],
        attempt: CallAttempt | None = None,
    ) -> defer.Deferred[Any]:
        left = self._context.left(expires)  # raises if the time is over: then it is not sent
        if attempt is not None:
            attempt.sent = True
        keeps = bool(call.step.get("files"))
        sent = service.invoke(method, call.args, left, blocks, keeps)
        return sent.addCallback(self._keep, whom) if keeps else sent

    def _keep(self, answer: tuple[Any, list[Any]], whom: CallFor) -> defer.Deferred[Any]:
        """Store the blocks of a result: they are on the disk before the result is committed."""
        value, files = answer
        if not files:
            return defer.succeed(value)
        kept = self._in_thread(RunFiles.keep, whom, files)
        return kept.addCallback(lambda found: WithFiles(value, found))

    def _in_thread(
        self, function: Callable[..., Any], whom: CallFor, *args: Any
    ) -> defer.Deferred[Any]:
        if self._files is None:
            return defer.fail(RunFileLost(NO_FILES))
        threads: Any = self._context.reactor
        return in_thread(threads, function, self._files, whom.run, whom.nonce, *args)

    async def _once(
        self,
        service: RemoteService,
        route: NamedRoute,
        peer: PooledServer,
        method: str,
        call: StepCall,
        whom: CallFor,
        key: str,
        expires: float,
        blocks: Sequence[Binary],
    ) -> Any:
        """Call a method with ``once``. A repetition goes to the server that may remember the
        call."""
        record = call.record
        again = call.again or call.unsure
        if again and not record.memory:
            raise StepUnknown(f"{method} may have run at a server that is not known any more")
        turns = unreachable = 0
        refused: set[str] = set()
        while True:
            if not again and record.memory != peer.memory:
                record.memory = peer.memory or ""
                await whom.remember(call)
            if not again:  # the memory answers a repetition: no further effect
                _check(whom)
            if again and not _is_of(peer, record.memory):
                peer = await self._that_knows(route, record.memory, expires) or peer
            said = service.only_at(peer).saying(key, whom.caller or None, record.memory)
            try:
                return await self._send(said, method, call, whom, expires, blocks)
            except PycomnetError as problem:
                if problem.nested:
                    raise  # the method has run
                if isinstance(problem, OnceMemoryLost):
                    turns += 1
                    if again:
                        if peer.address in refused:
                            raise StepUnknown(f"{method} may have run; {problem}") from None
                        refused.add(peer.address)
                    elif turns > MOST_TURNS:
                        raise
                    elif problem.memory:
                        peer.memory = problem.memory
                elif isinstance(problem, CallInterrupted):
                    again = True
                elif isinstance(problem, ServiceUnreachable):
                    # It has not run; its service may have another address by now.
                    unreachable += 1
                    if unreachable > 1:
                        await self._pause(unreachable, expires)
                elif again and _was_refused(problem, NOT_RUN_HERE):
                    raise StepUnknown(f"{method} may have run before: {problem}") from problem
                else:
                    raise
            try:
                peer, _ = await service.reach(expires)
            except ServiceUnreachable:
                if again:
                    raise StepUnknown(f"{method} may have run: its service is gone") from None
                raise

    async def _that_knows(
        self, route: NamedRoute, memory: str, expires: float
    ) -> PooledServer | None:
        """The instance whose process has a memory, if it can be reached."""
        for peer in route.known:
            try:
                connecting = peer.connect()
                left = self._context.left(expires)
                if left is not None:
                    connecting.addTimeout(left, self._context.reactor)
                await connecting
            except (ServiceUnreachable, defer.TimeoutError):
                continue
            if _is_of(peer, memory):
                return peer
        return None

    async def _pause(self, tries: int, expires: float) -> None:
        """Wait, longer each time, before an instance is looked for again."""
        delay = min(FIRST_PAUSE * 2 ** min(tries - 2, 20), LONGEST_PAUSE)
        left = self._context.left(expires)
        await self._context.sleep(delay if left is None else min(delay, left))

    async def _service(
        self, step: Mapping[str, Any], timeout: float
    ) -> tuple[RemoteService, NamedRoute]:
        interface, name = step["interface"], step.get("service")
        tags = step.get("tags")
        if tags:
            wanted = {"interface": interface, "service": name, "tags": tags}
            nameserver = await self._context.nameserver()
            one = await nameserver.invoke(
                "locate", {k: v for k, v in wanted.items() if v is not None}, timeout
            )
            name = one["service"]
        key = (interface, name)
        found = self._services.get(key)
        if found is None:
            if len(self._services) >= MOST_SERVICES:
                self._services.clear()
            # The call locates the service, within its own timeout.
            route = NamedRoute(self._context, interface, name)
            found = self._services[key] = RemoteService(self._context, route, interface), route
        return found

    async def _method(
        self, service: RemoteService, step: Mapping[str, Any], task: str, expires: float
    ) -> str:
        """The method of a step that names none: the task's name, or the interface's only one."""
        key = (step["interface"], step.get("service"))
        names = self._methods.get(key)
        if names is None or (task not in names and len(names) != 1):
            left = self._context.left(expires)
            described = await service.invoke("introspect", None, left)
            if step["interface"] not in described:
                raise UnknownMethod(
                    f"{step['interface']} does not show its methods: say which one is meant, as "
                    "'method'"
                )
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


def _check(whom: CallFor) -> None:
    """Check the claim before a call is sent for the first time.

    :raises NotHeld: the run may be another service's.
    """
    if not whom.held():
        raise NotHeld


def _is_of(peer: PooledServer, memory: str) -> bool:
    """Whether a memory belongs to an instance's process."""
    return (peer.memory or "").partition(".")[0] == memory.partition(".")[0]


def call_error(problem: BaseException, sent: bool) -> dict[str, Any]:
    """The map of the error with which a call has failed.

    :param sent: whether it was sent, or may have been sent before.
    """
    mapped = error_map(problem)
    error: dict[str, Any] = {
        key: str(mapped.get(key, ""))[:4_000] for key in ("code", "type", "message")
    }
    code = problem_code(problem)
    if isinstance(problem, RunFilesFull):
        error["code"] = "result"  # the server has answered, so the method has run
    elif code:
        error["code"] = code
    elif sent and not isinstance(problem, RemoteError | ValueNotSendable):
        error["code"] = "result"  # the reply is not usable, and the method may have run
    if not sent:
        error["ran"] = False
    elif isinstance(problem, PycomnetError) and problem.nested:
        error["ran"] = True
    return error


def _was_refused(problem: BaseException, codes: Container[str]) -> bool:
    """Whether an error with one of these codes says that the method was not run. What the method
    has raised does not, nor does the error of a call that it made itself."""
    if not isinstance(problem, PycomnetError) or isinstance(problem, RemoteError):
        return False
    if problem.nested:
        return False
    return problem_code(problem) in codes


def problem_code(problem: BaseException) -> str:
    """The code of an error, or an empty text."""
    code = getattr(type(problem), "code", "")
    return code if isinstance(code, str) else ""
