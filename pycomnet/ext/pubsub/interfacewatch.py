"""Watches of a nameserver that all subscribers of a context share: one for each interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import InvalidArguments
from pycomnet.nameserver.follow import follow
from pycomnet.nameserver.watch import DELETE, END_OF_SNAPSHOT, PUT
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context

log = Logger()

#: Characters that make a nameserver's pattern of a name.
WILD = "*?["


class ServiceWatcher:
    """The callbacks of a watch of an interface's services.

    :param found: called with the name of each service, when it is registered, and with a value that
        distinguishes this registration from others of the name. It may be called again for the same
        registration.
    :param lost: called with the name of a service that is not registered any more.
    :param complete: called when all registered services have been reported.
    :param failed: called with the error if the nameserver can't be watched at all.
    """

    def __init__(
        self,
        found: Callable[[str, Any], object],
        lost: Callable[[str], object],
        complete: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self.found = found
        self.lost = lost
        self.complete = complete
        self.failed = failed


class InterfaceWatch:
    """Watches a nameserver for the services of an interface, as long as it has users.

    :param context: the watch shares the connections of the first user's context, but not the
        deadline of its request.
    """

    def __init__(self, context: Context, interface: str) -> None:
        self._context = context.without_deadline()
        self._interface = interface
        self._watchers: dict[ServiceWatcher, None] = {}
        #: name -> its registration
        self._names: dict[str, Any] = {}
        self._complete = False
        self._running: defer.Deferred[None] | None = None
        #: the key under which it is shared
        self.key: Any = None

    @classmethod
    def watch(cls, context: Context, interface: str, watcher: ServiceWatcher) -> InterfaceWatch:
        """Report the services, and their changes, to a watcher.

        Users of the same nameserver, as the same user, on the same connections, share a watch.
        """
        key = cls, interface, context.nameserver_identity
        found: InterfaceWatch = context.pool.shared.setdefault(key, cls(context, interface))
        found.key = key
        found.add(watcher)
        return found

    def add(self, watcher: ServiceWatcher) -> None:
        """Add a watcher."""
        self._watchers[watcher] = None
        for name, registration in list(self._names.items()):
            watcher.found(name, registration)
        if self._complete:
            watcher.complete()
        if self._running is None:
            self._running = defer.Deferred.fromCoroutine(self._watch())
            self._running.addErrback(self._failed)

    def remove(self, watcher: ServiceWatcher) -> None:
        """Remove a watcher."""
        self._watchers.pop(watcher, None)
        if not self._watchers:
            self._end()

    def _end(self) -> None:
        shared = self._context.pool.shared
        if shared.get(self.key) is self:
            del shared[self.key]
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _failed(self, failure: Failure) -> None:
        if self._running is None or failure.check(defer.CancelledError) is not None:
            return
        watchers = list(self._watchers)
        self._watchers.clear()
        self._end()
        problem: Any = failure.value
        for watcher in watchers:
            self._call(watcher.failed, problem)

    async def _watch(self) -> None:
        interface, context = self._interface, self._context
        if any(character in interface for character in WILD):
            raise InvalidArguments(f"expected a name without {' '.join(WILD)}, not {interface!r}")
        nameserver = await context.nameserver()
        await nameserver.invoke("stat")  # raises if it is not there at all
        events = follow(nameserver, context.reactor, interface=interface, interrupted=_log_lost)
        try:
            async for event in events:
                self._process(event)
                if not self._watchers:
                    return  # one of them has just removed the last
        finally:
            await events.aclose()

    def _process(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == PUT:
            name = event["record"]["service"]
            self._names[name] = registration = event["record"].get("fence")
            self._tell("found", name, registration)
        elif kind == DELETE:
            self._names.pop(event["service"], None)
            self._tell("lost", event["service"])
        elif kind == END_OF_SNAPSHOT:
            self._complete = True
            self._tell("complete")

    def _tell(self, what: str, *args: Any) -> None:
        for watcher in list(self._watchers):
            if watcher in self._watchers:
                self._call(getattr(watcher, what), *args)

    def _call(self, function: Callable[..., object], *args: Any) -> None:
        """Notify one watcher: an error in it must not affect the others."""
        try:
            function(*args)
        except defer.CancelledError:
            pass  # its subscriber was collected; `let_go` removes the watcher in another turn
        except Exception:  # a defect
            log.failure("a watcher of {interface} has failed", interface=self._interface)


def _log_lost(problem: Exception) -> None:
    log.info("the nameserver is lost: {problem}", problem=problem)
