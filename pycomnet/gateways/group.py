"""A group of gateways: it makes them, names them and ends them."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads

from pycomnet import forks
from pycomnet.channels.connection import Connection
from pycomnet.channels.multichannel import MultiChannel
from pycomnet.deferred import deferred, shielded
from pycomnet.errors import EndpointError, PycomnetError, SpecError
from pycomnet.far.live import Live
from pycomnet.gateways import transports
from pycomnet.gateways.concurrentstart import PARALLEL, Progress, start_all
from pycomnet.gateways.connection import START_TIMEOUT, GatewayConnection
from pycomnet.gateways.forkserver.client import ForkServerClients
from pycomnet.gateways.gateway import Gateway, end_times
from pycomnet.gateways.limits import far_limits
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.gateways.output import OutputCallback, PrefixedLines
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.routes import has_fork_server
from pycomnet.net.reactors import GatewayReactor
from pycomnet.ranges import real, whole

if TYPE_CHECKING:
    from pycomnet.gateways.localfactory import LocalFactory, Resumable


class Group(Live):
    """Gateways that belong together.

    It is a mapping of ids to gateways that iterates over the gateways. When the reactor shuts
    down, or nothing refers to the group and its gateways any more, the gateways are ended.

    :param output: is called with far code's output, as :class:`~pycomnet.gateways.output.Output`;
        by default each line is shown with the gateway's id before it.
    :param modules: modules that far code may import from here, as for
        :meth:`Gateway.send_modules`.
    :param types: modules whose types are registered at each gateway, as for
        :meth:`Gateway.register_types`.
    :param trusted: False: the far sides may be hostile, so strict limits apply to what they send. A
        spec may override this and the next two.
    :param max_value: the most bytes of a value from a far side.
    :param max_items: the most elements, keys and values of one, nested ones included.
    :param reactor: watches the gateways' processes and connections.
    :ivar fork_servers: the fork servers of its gateways, for transports.
    """

    def __init__(
        self,
        reactor: GatewayReactor,
        *,
        output: OutputCallback | None = None,
        modules: Iterable[str | os.PathLike[str]] = (),
        types: Iterable[ModuleType] = (),
        trusted: bool = True,
        max_value: int | None = None,
        max_items: int | None = None,
    ) -> None:
        self._offer = ModuleOffer.of(modules) if modules else None
        self._reactor = reactor
        self._types = tuple(types)
        self._defaults: dict[str, Any] = {
            "trusted": None if trusted else False,
            "max_value": max_value,
            "max_items": max_items,
        }
        Spec.parse("popen", **self._defaults)  # raises the error if they are wrong
        self._output: OutputCallback = output or PrefixedLines()
        self._gateways: dict[str, Gateway] = {}
        self._starting: dict[str, GatewayConnection] = {}
        self._counter = 0
        self._closed = False
        self._shutdown = self._reactor.addSystemEventTrigger(
            "before", "shutdown", _terminate_weakly, weakref.ref(self)
        )
        #: the service that its gateways are children of, if it has one
        self._factory: LocalFactory | None = None
        self._factory_finalizer: weakref.finalize[Any, Any] | None = None
        self.fork_servers = ForkServerClients(reactor)
        self._finalizer = weakref.finalize(
            self, _remove_trigger, self._reactor, self._shutdown, self.fork_servers
        )
        self._finalizer.atexit = False
        #: whether this is a copy in a process that was forked: all of it is the parent's
        self._is_copy = False
        forks.watch(self)

    def forked(self) -> None:
        """In a forked child: the gateways belong to the parent, and go on there."""
        if forks.runs(self._reactor):
            self._is_copy = True
            self._finalizer.detach()
            if self._factory_finalizer is not None:
                self._factory_finalizer.detach()

    def __repr__(self) -> str:
        return f"<Group {list(self._gateways)}>"

    def __getitem__(self, id: str | int) -> Gateway:
        if isinstance(id, int):
            return list(self._gateways.values())[id]
        return self._gateways[id]

    def __iter__(self) -> Iterator[Gateway]:
        return iter(list(self._gateways.values()))

    def __len__(self) -> int:
        return len(self._gateways)

    def __contains__(self, item: object) -> bool:
        if isinstance(item, Gateway):
            return self._gateways.get(item.id) is item
        return item in self._gateways

    @deferred
    async def makegateway(
        self, spec: str | Spec = "popen", *, timeout: float = START_TIMEOUT, **options: Any
    ) -> Gateway:
        """Start a far side.

        :param spec: what and where, as for :class:`~pycomnet.gateways.spec.Spec`.
        :param timeout: seconds within which the far side's hello has to come.
        :param options: keys of the spec as arguments: ``python``, ``id``, ``chdir``, ``nice``,
            ``env`` (a dict), ``execmodel``.
        :returns: fires with a :class:`Gateway`. Fails with :class:`SpecError`, or
            :class:`GatewayNotStarted`, which has the process's standard error. Cancelling it ends
            the process.
        """
        if self._is_copy:
            raise forks.used("the group")
        parsed = self._limited(Spec.parse(spec, **options))
        timeout = real("timeout", timeout)
        if self._factory is not None and not self._only_from_here(parsed):
            lingers = parsed.linger is not None or parsed.resume
            limits = far_limits(parsed, kept=True)
            kept: Connection
            if lingers:
                kept = ResumableConnection(self._reactor, lingers, limits)
            else:
                kept = Connection(self._reactor, limits=limits)
            return await self._make(parsed, timeout, self._factory.gateway_transport, kept)
        # A mediator also keeps the far side of a lost connection: that needs no factory.
        lingers = parsed.linger is not None and parsed.transport not in transports.KEEPING
        if lingers or parsed.resume:
            why = "setlocalfactory() first"
            if self._factory is not None:
                why = f"it has no fork server where {parsed.via} is"
            raise SpecError(f"{parsed}: only a factory keeps gateways: {why}")
        limits = far_limits(parsed, transports.window_of(parsed))
        connection = Connection(self._reactor, limits=limits)
        return await self._make(parsed, timeout, transports.gateway_transport, connection)

    def _limited(self, spec: Spec) -> Spec:
        """A spec, with the group's limits as defaults."""
        unsaid = {key: self._defaults[key] for key in self._defaults if getattr(spec, key) is None}
        return attrs.evolve(spec, **unsaid)

    def _only_from_here(self, spec: Spec) -> bool:
        """Whether code in the master's worker has to start a gateway.

        Only this program can do that: the factory talks to fork servers, not to workers.
        """
        if spec.via is None or spec.via not in self:
            return False
        # Imported here, as few programs have a factory: it brings Twisted's authentication with it.
        from pycomnet.gateways.factorytransport import FactoryGatewayTransport

        master = self[spec.via]
        by_factory = isinstance(master.link.transport, FactoryGatewayTransport)
        return not (by_factory and has_fork_server(master.spec))

    def setlocalfactory(
        self,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        host: str = "127.0.0.1",
        endpoint: str | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Make all further gateways as children of the local factory service.

        They share its connections with all programs of this user, and may outlive this program:
        with ``//linger=SECONDS`` in a spec, and ``//resume=yes`` in another program's.

        :param port: the service's TCP port at ``host``; by default the unix socket at ``path`` is
            used.
        :param path: by default the one in the user's runtime directory.
        :param endpoint: its address as an endpoint string instead.
        :param token: authenticates this user, where the service does not see the user itself; by
            default the token of ``token_file``, of the environment (``PYCOMNET_TOKEN``,
            ``PYCOMNET_TOKEN_FILE``), or the one that the service made for itself.
        :raises EndpointError: it is not a valid endpoint string.
        """
        from twisted.internet.endpoints import quoteStringArgument  # with all kinds of endpoints

        from pycomnet.gateways.localfactory import LocalFactory, default_path

        if (port is not None) + (path is not None) + (endpoint is not None) > 1:
            raise EndpointError("a factory has one address: port, path or endpoint")
        if endpoint is None:
            if port is not None:
                endpoint = f"tcp:{quoteStringArgument(host)}:{port}"
            else:
                where = os.path.abspath(path if path is not None else default_path())
                endpoint = f"unix:{quoteStringArgument(where)}"
        self._factory = factory = LocalFactory(endpoint, self._reactor, token, token_file)
        finalizer = weakref.finalize(
            self, IReactorFromThreads(self._reactor).callFromThread, factory.close
        )
        finalizer.atexit = False
        self._factory_finalizer = finalizer

    @deferred
    async def resumable(self) -> list[Resumable]:
        """The gateways that the factory service keeps and no program uses.

        :returns: fires with a list of :class:`Resumable`; fails with
            :class:`FactoryUnreachable`. Cancelling it drops the answer.
        """
        if self._factory is None:
            raise PycomnetError("this group has no factory: setlocalfactory() first")
        return await self._factory.resumable()

    async def _make(
        self,
        spec: Spec,
        timeout: float,
        make_transport: Callable[[GatewayRequest], GatewayTransport],
        connection: Connection | None = None,
    ) -> Gateway:
        """Start a far side that this transport reaches."""
        if self._closed:
            raise PycomnetError("the group is terminated")
        id = self._allocate(spec)
        link = GatewayConnection(
            spec, id, self._output, self, self._reactor, make_transport, connection
        )
        self._starting[id] = link
        try:
            hello = await link.start(timeout)
        finally:
            del self._starting[id]
        gateway = Gateway(link, self, hello["info"])
        self._gateways[id] = gateway
        if self._offer is not None:
            # Whoever uses the gateway finds out if it is gone.
            gateway.offer_modules(self._offer).addErrback(lambda _: None)
        for module in self._types:
            try:
                await gateway.register_types(module)
            except BaseException:
                await gateway.exit(0)
                raise
        if self._closed:
            await gateway.exit(0)
            raise PycomnetError("the group was terminated")
        return gateway

    @deferred
    async def makegateways(
        self,
        specs: Iterable[str | Spec],
        *,
        parallel: int = PARALLEL,
        progress: Callable[[Progress], Any] | None = None,
        timeout: float = START_TIMEOUT,
        **options: Any,
    ) -> list[Gateway]:
        """Start several far sides at the same time.

        :param specs: what and where, each as for :meth:`makegateway`.
        :param parallel: the limit on gateways that are being started at a time.
        :param progress: called with a :class:`Progress` whenever one has started or failed.
        :param timeout: seconds for each far side, from the beginning of its own start.
        :param options: keys of all specs, as for :meth:`makegateway`.
        :returns: fires with the gateways, in the order of ``specs``. Fails with
            :class:`SpecError`; or with :class:`GatewaysNotStarted` once all have been tried, if
            some could not be started: the error has the others, which go on. Cancelling it ends
            those that are being started.
        """
        parsed = [Spec.parse(spec, **options) for spec in specs]
        parallel, timeout = whole("parallel", parallel, 1), real("timeout", timeout)
        with self.fork_servers.expecting(len(parsed)):
            return await start_all(self.makegateway, parsed, parallel, progress, timeout)

    def _allocate(self, spec: Spec) -> str:
        if spec.id is not None:
            if spec.id in self._gateways or spec.id in self._starting:
                raise SpecError(f"there is a gateway {spec.id!r} in this group already")
            return spec.id
        while True:
            id = f"gw{self._counter}"
            self._counter += 1
            if id not in self._gateways and id not in self._starting:
                return id

    def forget(self, gateway: Gateway) -> None:
        """Remove a gateway that was ended or left."""
        if self._gateways.get(gateway.id) is gateway:
            del self._gateways[gateway.id]

    def remote_exec(self, code: object, **kwargs: Any) -> MultiChannel:
        """Run code at each gateway; as :meth:`Gateway.remote_exec`.

        :returns: a :class:`MultiChannel` of the channels, in the gateways' order.
        """
        return MultiChannel([gateway.remote_exec(code, **kwargs) for gateway in self])

    @shielded
    async def terminate(self, timeout: float | None = None, *, grace: float | None = None) -> None:
        """End all gateways, also those that are still starting; as :meth:`Gateway.exit`.

        :param timeout: seconds after which a far side that has not ended is killed at once; by
            default 5. If it is given, running code has this time less 2.5 seconds for an interrupt
            to complete.
        :param grace: another time for running code to complete, in seconds.
        :returns: fires when all are gone. Cancelling it does not keep them from ending.
        """
        if self._is_copy:
            return  # they belong to the parent process
        seconds, own = end_times(timeout, grace)  # raises before anything is ended
        ending: list[defer.Deferred[Any]]
        if own:
            first = [gateway for gateway in self if gateway.spec.via not in self._gateways]
            ending = [self._end_from_the_leaves(gateway, seconds, own) for gateway in first]
        else:
            ending = [gateway.exit(timeout, grace=grace) for gateway in self]
        ending += [link.end(0) for link in self._starting.values()]
        await defer.gatherResults(ending, consumeErrors=True)
        await self.fork_servers.end()
        if self._factory is not None and not self._gateways:
            await self._factory.close()

    @deferred
    async def _end_from_the_leaves(self, gateway: Gateway, timeout: float, grace: float) -> None:
        """End a gateway when those whose route leads through it have ended, in the same time."""
        begin = self._reactor.seconds()
        further = [each for each in self if each.spec.via == gateway.id]
        try:
            await defer.gatherResults(
                [self._end_from_the_leaves(each, timeout, grace) for each in further],
                consumeErrors=True,
            )
        finally:
            used = self._reactor.seconds() - begin
            await gateway.exit(max(0.0, timeout - used), grace=max(0.0, grace - used))

    def shut_down(self) -> defer.Deferred[None]:
        """The reactor shuts down: leave gateways that linger to the factory, and end the rest."""
        leaving = [gateway.leave() for gateway in self if gateway.lingers]
        return defer.gatherResults(leaving, consumeErrors=True).addBoth(lambda _: self.terminate())

    @shielded
    async def close(self, timeout: float | None = None, *, grace: float | None = None) -> None:
        """As :meth:`terminate`, and make no more gateways."""
        self._closed = True
        self._finalizer()
        await self.terminate(timeout, grace=grace)

    async def __aenter__(self) -> Group:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _terminate_weakly(reference: weakref.ref[Group]) -> defer.Deferred[None] | None:
    group = reference()
    return None if group is None else group.shut_down()


def _remove_trigger(reactor: GatewayReactor, trigger: Any, fork_servers: ForkServerClients) -> None:
    fork_servers.abandon()

    def remove() -> None:
        # It may have been fired.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            reactor.removeSystemEventTrigger(trigger)

    IReactorFromThreads(reactor).callFromThread(remove)
