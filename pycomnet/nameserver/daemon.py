"""The nameserver as a service of Twisted's application: store, server and listeners."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from twisted.application import service
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.errors import LaunchFailed, PycomnetError
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameStore
    from pycomnet.services.server.accessgate import AccessGate

#: Seconds for running calls to finish at a clean stop: a commit takes less.
CLOSE_TIMEOUT = 5.0


@contextmanager
def loading_many() -> Iterator[None]:
    """Disable the garbage collector while many records are loaded, and exclude these from later
    collections.

    The collector would examine millions of live objects again and again. This is for a process that
    does nothing else.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


class NameserverService(service.Service):
    """A nameserver from start to stop.

    It listens once its store is loaded, so clients always get complete answers.

    :param store: not opened yet.
    :param listen: endpoint strings to listen on.
    :param failed: called at most once, with the error that keeps it from running.
    :param limits: what clients may ask for.
    :param loading: makes a context manager; the store is loaded within it.
    :param access: the access control; by default everybody may call everything.
    :param options: those of :class:`NameService`.
    :ivar names: the service.
    :ivar addresses: the addresses that it listens on, as clients on this machine connect to them.
    """

    log = Logger()

    def __init__(
        self,
        store: INameStore,
        listen: Iterable[str],
        reactor: EndpointReactor,
        failed: Callable[[PycomnetError], object],
        limits: NameserverLimits | None = None,
        loading: Callable[[], AbstractContextManager[None]] = nullcontext,
        access: AccessGate | None = None,
        **options: Any,
    ) -> None:
        self.names = NameService(store, reactor, limits, **options)
        self.server = make_server(reactor, access)
        self.addresses: list[str] = []
        self._listen = list(listen)
        self._failed = failed
        self._loading = loading
        self._starting: defer.Deferred[None] | None = None

    def startService(self) -> None:
        """Open the store and listen."""
        super().startService()
        self._starting = defer.Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._give_up)

    async def _start(self) -> None:
        with self._loading():
            await self.server.add(self.names)
        for description in self._listen:
            self.addresses.append(await self.server.listen(description))
        self.names.listens(self.addresses)
        self.log.info("the nameserver is at {addresses}", addresses=", ".join(self.addresses))

    def _give_up(self, failure: Failure) -> None:
        if not self.running:
            return  # it was stopped meanwhile
        problem = failure.value
        if not isinstance(problem, PycomnetError):
            self.log.failure("the nameserver failed", failure)
            problem = LaunchFailed(str(problem))
        self._failed(problem)

    @deferred
    async def stopService(self) -> None:
        """End watches, let calls finish, and close the store, which keeps how much time each lease
        has left.

        :returns: fires when all is closed. It does not fail.
        """
        super().stopService()
        self.names.leave()
        await self.server.close(CLOSE_TIMEOUT)
        if self.names not in self.server.services:
            await self.names.stopped()  # it was not served yet: the server does not stop it
        self.log.info("the nameserver has ended")
