"""Groups of gateways, and the channels to all gateways of a group."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from pycomnet import forks
from pycomnet.blocking.waiting import running_reactor, wait_for
from pycomnet.blocking.wrapper import in_pool_thread
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.farclasses import ExecModel, get_execmodel
from pycomnet.execnet.gateway import Gateway, kill_all
from pycomnet.execnet.inbox import NO_ENDMARKER
from pycomnet.execnet.source import Source
from pycomnet.execnet.specs import pycomnet_spec
from pycomnet.execnet.xspec import XSpec
from pycomnet.far.live import Live
from pycomnet.gateways.forkserver.local import EarlyForkServer, Imports
from pycomnet.gateways.group import Group as _Group
from pycomnet.gateways.output import STDERR, Output, UnchangedOutput

#: Seconds for the gateways of a program that ends without having ended them.
ATEXIT_TIMEOUT = 1.0


class Group(Live):
    """Gateways that belong together: a sequence of gateways, and a mapping of their ids.

    :param xspecs: specs of gateways to be made at once.
    :param execmodel: how ``remote_exec`` runs code, where a spec does not say that.
    :ivar defaultspec: the spec of ``makegateway()``.
    """

    defaultspec = "popen"

    def __init__(
        self, xspecs: Iterable[XSpec | str | None] = (), execmodel: str = "thread"
    ) -> None:
        self._counter = 0
        #: as for :meth:`import_before_forks`
        self._imports = Imports()
        self._early: EarlyForkServer | None = None
        self._begin()
        forks.watch(self)
        self.set_execmodel(execmodel)
        for spec in xspecs:
            self.makegateway(spec)
        atexit.register(self._cleanup_atexit)

    def _begin(self) -> None:
        """Begin without gateways."""
        self._gateways: list[Gateway] = []
        self._to_join: list[Gateway] = []
        self._made: _Group | None = None
        #: held while the above are changed
        self._lock = threading.Lock()

    def forked(self) -> None:
        """In a forked child: begin without gateways, as they are the parent's."""
        forks.keep((self._gateways, self._to_join, self._made))
        self._begin()

    @property
    def execmodel(self) -> ExecModel:
        """Threads and locks for this side."""
        return self._execmodel

    @property
    def remote_execmodel(self) -> ExecModel:
        """How gateways run code, where their specs do not say that."""
        return self._remote_execmodel

    def import_before_forks(
        self, names: Iterable[str], path: Iterable[str], early: EarlyForkServer | None = None
    ) -> None:
        """Let this machine's gateways be forked from a process that has imported some modules.

        To be set before the group makes its first gateway on this machine.

        :param names: their names.
        :param path: where they are found, as ``sys.path``.
        :param early: that process, if it has been started already.
        """
        with self._lock:
            self._imports = Imports.of(names, path)
            self._early = early
            if self._made is not None:
                self._set_imports(self._made)

    def _set_imports(self, made: _Group) -> None:
        made.fork_servers.imports = self._imports
        made.fork_servers.early, self._early = self._early, None

    def set_execmodel(self, execmodel: str, remote_execmodel: str | None = None) -> None:
        """Set how code runs here and at gateways that are made from now on.

        :raises ValueError: there is no such model, or there are gateways already.
        """
        if self._gateways:
            raise ValueError(
                f"can't set execution models: there are {len(self._gateways)} gateways already"
            )
        self._execmodel = get_execmodel(execmodel)
        self._remote_execmodel = get_execmodel(remote_execmodel or execmodel)

    def __repr__(self) -> str:
        return f"<Group {[gateway.id for gateway in self]!r}>"

    def __getitem__(self, key: int | str | Gateway) -> Gateway:
        if isinstance(key, int):
            return self._gateways[key]
        for gateway in self._gateways:
            if gateway == key or gateway.id == key:
                return gateway
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(gateway == key or gateway.id == key for gateway in self._gateways)

    def __len__(self) -> int:
        return len(self._gateways)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(list(self._gateways))

    def makegateway(self, spec: XSpec | str | None = None) -> Gateway:
        """Start a Python interpreter, and return a gateway to it.

        :param spec: ``popen//key=value...``; or ``ssh=HOST``, ``vagrant_ssh=NAME``,
            ``socket=HOST:PORT`` (a pycomnet gateway service), ``socket//installvia=ID``. Keys are
            ``id``, ``python``, ``chdir``, ``nice``, ``env:NAME``, ``via``, ``execmodel``,
            ``dont_write_bytecode``, ``ssh_config``, and those of pycomnet's specs.
        :raises ValueError: the spec says no kind of gateway, or something that is wrong.
        :raises pycomnet.execnet.HostNotFound: the other machine can't be reached, or Python can't
            be started there.
        """
        if not spec:
            spec = self.defaultspec
        if not isinstance(spec, XSpec):
            spec = XSpec(spec)
        self.allocate_id(spec)
        if spec.execmodel is None:
            spec.execmodel = self.remote_execmodel.backend
        else:
            get_execmodel(spec.execmodel)
        if spec.via is not None or spec.installvia is not None:
            _ = self[spec.via or spec.installvia]
        with pycomnet_spec(spec) as parsed:
            made = self._inner()

            async def make() -> Gateway:
                return Gateway(await made.makegateway(parsed), self, spec)

            gateway: Gateway = wait_for(lambda: Deferred.fromCoroutine(make()), None, "makegateway")
        if spec.chdir:
            try:
                gateway.wait_begun()
            except BaseException:
                kill_all([gateway])
                raise
        self._register(gateway)
        return gateway

    def _inner(self) -> _Group:
        """The group of pycomnet that makes the gateways; made with the first of them."""
        with self._lock:
            if self._made is None:
                output = UnchangedOutput(in_pool_thread(_pass_errors_on))
                self._made = wait_for(
                    lambda: _Group(running_reactor(), output=output), None, "Group"
                )
                self._set_imports(self._made)
            return self._made

    def allocate_id(self, spec: XSpec) -> None:
        """Give a spec an id, if it has none."""
        with self._lock:
            while spec.id is None:
                id = f"gw{self._counter}"
                self._counter += 1
                if id not in self:
                    spec.id = id
        if spec.id in self:
            raise ValueError(f"already have gateway with id {spec.id!r}")

    def _register(self, gateway: Gateway) -> None:
        self._gateways.append(gateway)

    def _unregister(self, gateway: Gateway) -> None:
        with self._lock:
            if gateway in self._gateways:
                self._gateways.remove(gateway)
                self._to_join.append(gateway)

    def _cleanup_atexit(self) -> None:
        self.terminate(timeout=ATEXIT_TIMEOUT)

    def terminate(self, timeout: float | None = None) -> None:
        """End all gateways, those first that others do not go through.

        :param timeout: seconds for the code that runs there; what has not ended then is killed.
            By default running code has 5 seconds, and is interrupted then.
        """
        while self._gateways or self._to_join:
            routes = {_route(gateway) for gateway in self}
            last = [gateway for gateway in self if gateway.id not in routes]
            # An id may be used again, so routes may form a ring, in which no gateway is the last.
            for gateway in last or self:
                gateway.exit()
            ending = list(self._to_join)
            ends = None if timeout is None else time.monotonic() + timeout
            own = [gateway for gateway in ending if isinstance(gateway, Gateway)]
            for gateway in ending:
                if gateway in own and ends is not None:
                    gateway.join(max(0.0, ends - time.monotonic()))
                else:
                    gateway.join()  # an object of the user's may have no timeout parameter
            kill_all([gateway for gateway in own if not gateway.has_ended()])
            with self._lock:
                self._to_join = [each for each in self._to_join if each not in ending]

    def interrupt(self) -> None:
        """As :meth:`Gateway.interrupt`, for all gateways."""
        for gateway in self:
            gateway.interrupt()

    def remote_exec(self, source: Source, **kwargs: object) -> MultiChannel:
        """Run code at all gateways; as :meth:`Gateway.remote_exec`."""
        return MultiChannel([gateway.remote_exec(source, **kwargs) for gateway in self])


def _route(gateway: Any) -> str | None:
    """The id of the gateway that another goes through."""
    route: str | None = gateway.spec.via or getattr(gateway.spec, "installvia", None)
    return route


def _pass_errors_on(output: Output) -> None:
    """Pass standard error on unchanged; drop standard output."""
    if output.stream != STDERR:
        return
    data = output.text.encode("utf-8", "surrogateescape")
    with contextlib.suppress(OSError):  # it is closed, or nobody reads it
        while data:
            data = data[os.write(2, data) :]


def safe_terminate(
    execmodel: object,
    timeout: float | None,
    list_of_paired_functions: Sequence[tuple[Callable[[], Any], Callable[[], Any]]],
) -> None:
    """Call the first function of each pair, all at the same time; call the second after a timeout.

    :param execmodel: accepted; threads are used in any case.
    """
    threads = []
    for end, kill in list_of_paired_functions:
        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        threads.append((thread, kill))
    ends = None if timeout is None else time.monotonic() + timeout
    for thread, kill in threads:
        thread.join(None if ends is None else max(0.0, ends - time.monotonic()))
        if thread.is_alive():
            kill()
            thread.join()


class MultiChannel(Live):
    """Several channels as one."""

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = list(channels)
        self._queue: queue.Queue[tuple[Channel, Any]] | None = None

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels)

    def __getitem__(self, key: int) -> Channel:
        return self._channels[key]

    def __contains__(self, channel: object) -> bool:
        return channel in self._channels

    def send_each(self, item: object) -> None:
        """Send a value over each channel."""
        for channel in self._channels:
            channel.send(item)

    def receive_each(self, withchannel: bool = False) -> list[Any]:
        """Receive one value from each channel.

        :param withchannel: return (channel, value) pairs.
        """
        values = [channel.receive() for channel in self._channels]
        return list(zip(self._channels, values, strict=True)) if withchannel else values

    def make_receive_queue(self, endmarker: object = NO_ENDMARKER) -> Any:
        """A queue of (channel, value) pairs: the same one each time.

        :param endmarker: if given, it comes as the value when a channel ends.
        """
        if self._queue is None:
            self._queue = queue.Queue()
            for channel in self._channels:
                channel.setcallback(functools.partial(_put, self._queue, channel), endmarker)
        return self._queue

    def waitclose(self) -> None:
        """Wait until all are closed; then raise the first error."""
        first = None
        for channel in self._channels:
            try:
                channel.waitclose()
            except channel.RemoteError as problem:
                first = first or problem
        if first is not None:
            raise first


def _put(found: Any, channel: Channel, value: Any) -> None:
    found.put((channel, value))


#: The group of :func:`makegateway`.
default_group = Group()
makegateway = default_group.makegateway
set_execmodel = default_group.set_execmodel

__all__ = [
    "Group",
    "MultiChannel",
    "default_group",
    "makegateway",
    "safe_terminate",
    "set_execmodel",
]
