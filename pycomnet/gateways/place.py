"""Places: an interpreter on a machine, with a supervisor that forks its gateways.

The first gateway at a place starts the supervisor (worker/hub.py) and connects to it; further ones
are asked of it over the same connection. What a gateway says goes straight to its process where
that is on this machine: it gets the ends of pipes. Elsewhere it goes through raw channels of the
supervisor's connection, and of those of the supervisors further on (docs/architecture.rst).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pycomnet.channel import Channel, ChannelCore
from pycomnet.channelcore import NO_ENDMARKER
from pycomnet.channeltransport import ChannelTransport
from pycomnet.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ChannelClosed, ConnectionLost, GatewayNotStarted, PycomnetError
from pycomnet.gateways.carrier import Carrier, Request
from pycomnet.gateways.popen import ProcessCarrier, boot_code, interpreter, worker_config
from pycomnet.gateways.process import ErrorPipe, ErrorText, ProcessTransport, describe_status
from pycomnet.gateways.source import exec_request
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports import KEEPING
from pycomnet.wire.frames import RAW_FRAGMENT, WIDE_WINDOW
from pycomnet.wire.mux import Limits
from pycomnet.worker import package

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway

#: Environment variables that matter when an interpreter starts, by what their names begin with:
#: gateways that differ in them are not forked from the same one.
STARTUP = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "JAVA_", "JYTHON", "PYPY")
#: The exit status of a supervisor whose interpreter can't fork (worker/hub.py).
NO_FORK = 78
#: Gateways that are asked of one supervisor at a time: each has descriptors on their way to it.
AT_A_TIME = 32
#: Seconds that a supervisor stays after its last gateway.
IDLE_TIMEOUT = 30.0
#: Seconds between SIGKILL for a gateway and that for its supervisor, when that does not answer.
KILL_TIMEOUT = 4.0
#: Seconds that a supervisor has to end.
END_TIMEOUT = 5.0


@attrs.frozen
class Hop:
    """What a supervisor starts to reach another one: a program, and what that is told."""

    argv: tuple[str, ...]
    config: dict[str, Any] = attrs.field(factory=dict, eq=False)

    def as_map(self) -> dict[str, Any]:
        """As a supervisor is asked for it."""
        return {"argv": list(self.argv), "config": self.config}


@attrs.frozen
class Way:
    """How the near side reaches a supervisor itself.

    :ivar key: what tells it from others in a group.
    :ivar open: makes the carrier of its connection; the number is a descriptor that it gets.
    :ivar door: whether it can be given descriptors.
    :ivar keepalive: seconds of silence after which it is asked for a sign of life, or None.
    :ivar credential: what whoever lets this program in there asks for.
    :ivar env: the environment that the supervisor gets when it is started, if that is known.
    """

    key: tuple[Any, ...]
    open: Callable[[Request, int | None], Carrier] = attrs.field(eq=False)
    door: bool = attrs.field(default=False, eq=False)
    keepalive: float | None = attrs.field(default=None, eq=False)
    credential: bytes | None = attrs.field(default=None, eq=False, repr=False)
    env: dict[str, str] = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen
class Route:
    """How a gateway is reached: the first supervisor, those behind it, and what the last does.

    :ivar argv: an interpreter that the last one starts for this gateway alone; empty: it forks.
    :ivar master: the id of the gateway that it is started from, or None.
    """

    way: Way
    path: tuple[Hop, ...] = ()
    argv: tuple[str, ...] = ()
    master: str | None = None


class Place:
    """A supervisor that the near side is connected to.

    :ivar link: the connection and its process.
    """

    id = "place"

    def __init__(self, way: Way, request: Request) -> None:
        from pycomnet.gateways.gateway import Link

        self.way = way
        self.users: set[PlaceCarrier] = set()
        self.ready = False
        #: where a gateway's descriptors are sent
        self.door: socket.socket | None = None
        self.turns = defer.DeferredSemaphore(AT_A_TIME)
        self._number = 0
        self._reactor = request.reactor
        self._waiting: list[defer.Deferred[None]] = []
        self._failed: GatewayNotStarted | None = None
        self._idle: IDelayedCall | None = None
        self._theirs: socket.socket | None = None
        number = None
        self._directory: tuple[int, int] | None = None
        self._umask: int | None = None
        if way.door:
            self._directory = _directory()
            self._umask = _umask()
            self.door, self._theirs = socket.socketpair()
            self.door.setblocking(False)
            number = self._theirs.fileno()

        def opened(asked: Request) -> Carrier:
            return way.open(asked, number)

        self.link = Link(
            attrs.evolve(request.spec, id=None),
            request.id,
            lambda output: request.output(output.text),
            request.group,
            request.reactor,
            opened,
            Connection(
                request.reactor,
                limits=Limits(WIDE_WINDOW, RAW_FRAGMENT),
                credential=way.credential,
                keepalive=way.keepalive,
            ),
        )
        self.link.prefix = ""

    @property
    def over(self) -> bool:
        """Whether no gateway can be asked of it any more."""
        return self._failed is not None or self.link.ending or self.link.connection.lost is not None

    def start(self) -> None:
        """Start it; :meth:`when_ready` tells how that went."""
        # The gateways that wait for it have timeouts of their own.
        starting = self.link.start(1e6)
        if self._theirs is not None:
            self._theirs.close()
        starting.addCallbacks(self._started, self._not_started)

    def _started(self, hello: dict[str, Any]) -> None:
        self.ready = True
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _not_started(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, GatewayNotStarted):
            error = GatewayNotStarted(str(error) or type(error).__name__)
        self._failed = error
        self._close_door()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(Failure(error))

    def when_ready(self) -> defer.Deferred[None]:
        """Fires once gateways can be asked of it; fails with :class:`GatewayNotStarted`."""
        if self._failed is not None:
            return defer.fail(self._failed)
        if self.ready:
            return defer.succeed(None)
        waiter: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        return waiter

    def surroundings(self, env: dict[str, str]) -> dict[str, Any]:
        """What is different here and now from what the supervisor was started in.

        :param env: variables that a gateway has besides this process's.
        """
        now, then = {**os.environ, **env}, self.way.env
        found: dict[str, Any] = {}
        if now != then:
            found["update"] = {name: now[name] for name in now if then.get(name) != now[name]}
            found["unset"] = [name for name in then if name not in now]
        if _directory() != self._directory:
            found["cwd"] = os.getcwd()
        umask = _umask()
        if umask != self._umask:
            found["umask"] = umask
        return found

    def send(self, fds: list[int]) -> int:
        """Give it descriptors; the number that it knows them under."""
        assert self.door is not None
        self._number += 1
        socket.send_fds(self.door, [self._number.to_bytes(4, "big")], fds)
        return self._number

    def enter(self, user: PlaceCarrier) -> None:
        """This gateway is at this place."""
        self.users.add(user)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def leave(self, user: PlaceCarrier) -> None:
        """This gateway is not there any more."""
        self.users.discard(user)
        if self.users or self.over:
            return
        if not self.ready:
            self.end(0)
        elif self._idle is None:
            self._idle = self._reactor.callLater(IDLE_TIMEOUT, self._idle_out)

    def _idle_out(self) -> None:
        self._idle = None
        self.end()

    def end(self, timeout: float = END_TIMEOUT) -> defer.Deferred[Any]:
        """End it; fires when it is gone."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._close_door()
        return self.link.end(timeout)

    def _close_door(self) -> None:
        if self.door is not None:
            self.door.close()

    def abandoned(self, core: ChannelCore) -> None:
        """A channel that nobody holds any more: as gateways have it."""


class Places:
    """The places of one group. The group holds it; it does not hold the group."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._places: dict[tuple[Any, ...], Place] = {}
        #: ways that gateways have been started on
        self._begun: set[tuple[Any, ...]] = set()
        #: ways that can't be forked at
        self.without_fork: set[tuple[Any, ...]] = set()

    def starts_alone(self, key: tuple[Any, ...], first_alone: bool) -> bool:
        """Whether a gateway is started without a supervisor that forks it.

        :param first_alone: so is the first: most programs leave it at one, and it is there sooner,
            and with a process less.
        """
        if key in self.without_fork:
            return True
        first = key not in self._begun
        self._begun.add(key)
        return first and first_alone

    def find(self, way: Way, request: Request) -> Place:
        """The place at the end of a way; started if there is none."""
        place = self._places.get(way.key)
        if place is None or place.over:
            if place is not None:
                place.end()
            place = self._places[way.key] = Place(way, request)
            place.start()
        return place

    @deferred
    async def end(self) -> None:
        """End all; fires when they are gone."""
        ending = [place.end() for place in self._places.values()]
        await defer.gatherResults(ending, consumeErrors=True)

    def abandon(self) -> None:
        """The group is gone. Called from any thread."""
        self._reactor.callFromThread(self.end)


class PlaceCarrier:
    """Carries the connection of a gateway that a supervisor forks, or starts.

    :param route: finds out how to get there.
    :param alone: makes what is used instead where nothing can be forked.
    :param first_alone: whether the first of its kind is started so, too.
    """

    def __init__(
        self,
        request: Request,
        route: Callable[[Request], Route],
        alone: Callable[[Request], ProcessCarrier] | None = None,
        first_alone: bool = False,
    ) -> None:
        self.id = request.id
        self.what = "its process"
        self.place: Place | None = None
        self.route: Route | None = None
        self._request = request
        self._find = route
        self._alone = alone
        self._first_alone = first_alone
        self._instead: ProcessCarrier | None = None
        self._connection: Connection | None = None
        self._text = ErrorText(request.output)
        self._pipe: ErrorPipe | None = None
        self._control: ChannelCore | None = None
        self._reason = ""
        self._over: OneShot[int | None] = OneShot()
        self._kill: IDelayedCall | None = None

    # -- connecting ------------------------------------------------------------------------------

    @deferred
    async def connect(self, connection: Connection) -> None:
        """Have the supervisor fork it."""
        request = self._request
        self._connection = connection
        try:
            self.route = route = self._find(request)
        except PycomnetError as problem:
            self._end(None)
            raise request.not_started(str(problem)) from None
        places = request.group._places
        if self._alone is not None and places.starts_alone(
            route.way.key, self._first_alone and request.spec.fork is None
        ):
            await self._connect_alone()
            return
        self.place = place = places.find(route.way, request)
        place.enter(self)
        try:
            await place.when_ready()
            async with place.turns:
                await self._ask(place, route, connection)
        except GatewayNotStarted as problem:
            if problem.exit_status == NO_FORK and self._alone is not None and place._failed:
                places.without_fork.add(route.way.key)
                self.place = None
                await self._connect_alone()
                return
            self._end(None)
            raise request.not_started(problem.words, problem.status, problem.stderr) from None
        except (ConnectionLost, PycomnetError, OSError) as problem:
            self._end(None)
            raise request.not_started(str(problem)) from None
        if route.master is not None:
            self._bind(route.master)

    async def _connect_alone(self) -> None:
        assert self._alone is not None
        assert self._connection is not None
        self._instead = self._alone(self._request)
        self.what = self._instead.what
        await self._instead.connect(self._connection)

    async def _ask(self, place: Place, route: Route, connection: Connection) -> None:
        spec, near = self._request.spec, place.link.connection
        config = worker_config(spec, self.id)
        if isinstance(connection, Connection):  # else a factory's, which keeps to what is usual
            config["window"] = connection.mux.limits.window
        asked: dict[str, Any] = {"config": config}
        if route.path:
            asked["path"] = [hop.as_map() for hop in route.path]
        if route.argv:
            asked["argv"] = list(route.argv)
        if place.door is None or route.path or route.argv or route.master:
            asked["update" if not route.argv else "env"] = spec.env
            core = near.open("channel", raw=True)
            channel = Channel(core, place)
            asked["io"] = channel
            self._open(near, asked)
            ChannelTransport(channel, connection).start()
            return
        # This machine: its own environment and directory as they are now, and pipes.
        asked.update(place.surroundings(spec.env))
        fds: list[int] = []
        try:
            for _ in range(3):
                fds.extend(os.pipe())
            stdin, write_fd, read_fd, stdout, err_fd, stderr = fds
            while True:
                try:
                    asked["door"] = place.send([stdin, stdout, stderr])
                    break
                except BlockingIOError:
                    await _pause(self._request.reactor)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        self._pipe = ErrorPipe(err_fd, self._text, self._request.reactor)
        ProcessTransport(write_fd, read_fd, connection, self._request.reactor)
        self._open(near, asked)

    def _open(self, near: Connection, asked: dict[str, Any]) -> None:
        self._control = near.open("start", near.encode(asked))
        self._control.set_callback(self._told, self._failed, NO_ENDMARKER)

    def _bind(self, master: str) -> None:
        """End when the gateway that it was started from does."""
        outer = self._request.group[master]._link.carrier

        def gone(status: int | None) -> None:
            if not self._over.fired and self._connection is not None:
                why = outer.describe_end(status)
                words = f"the gateway {master}, through which it was reached, is gone"
                self._lose(f"{words}: {why}" if why else words)
                self._connection.abort(ConnectionLost(words))
                self.kill(signal.SIGTERM)

        outer.when_ended().addCallback(gone)

    # -- what the supervisor says ----------------------------------------------------------------

    def _told(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return self._text.feed(value)
        if "noise" in value:
            noise = value["noise"].decode("utf-8", "replace").strip()
            self._reason = f"it ended before Python began, and had printed:\n{noise}"
        if "status" in value:
            self._end(value["status"])
        return None

    def _failed(self, failure: Failure) -> None:
        error: Any = failure.value
        if not self._over.fired:
            self._lose(getattr(error, "message", None) or str(error))
            self._end(None)
            if self._connection is not None:
                self._connection.abort(ConnectionLost(self._reason))

    def _lose(self, reason: str) -> None:
        self.what = "the way to it"
        self._reason = self._reason or reason

    def _end(self, status: int | None) -> None:
        if self._over.fired:
            return
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if self._pipe is not None:
            self._pipe.finish()
        if self.place is not None:
            self.place.leave(self)
        self._over.fire(status)

    # -- as every carrier has it -----------------------------------------------------------------

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return self._over.result if self._instead is None else self._instead.status

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with how the process ended once the supervisor says so."""
        if self._instead is not None:
            return self._instead.when_ended()
        return self._over.when_fired()

    def kill(self, number: int) -> None:
        """Have the supervisor send its process a signal."""
        if self._instead is not None:
            self._instead.kill(number)
        elif self._over.fired:
            return
        elif self._control is None:
            # It was not asked for yet; what is being started for it alone is ended.
            place = self.place
            if place is not None and place.users == {self} and not place.ready:
                place.users.clear()
                place.end(0).addBoth(lambda _: self._end(None))
            else:
                self._end(None)
        else:
            connection = self._control.connection
            with contextlib.suppress(Exception):
                self._control.send(connection.encode(int(number))).addErrback(lambda _: None)
            if number == signal.SIGKILL and self._kill is None:
                self._kill = self._request.reactor.callLater(KILL_TIMEOUT, self._kill_place)

    def _kill_place(self) -> None:
        """The supervisor does not do as it is told: it ends, and all that it has."""
        self._kill = None
        if self.place is not None:
            self.place.link.carrier.kill(signal.SIGKILL)

    def describe_end(self, status: int | None) -> str:
        """Its process's status in words, or what became of the way to it."""
        if self._instead is not None:
            return self._instead.describe_end(status)
        if self._reason:
            return self._reason
        return "" if status is None else describe_status(status)

    def keep(self, text: str) -> None:
        """Remember what its code said on standard error."""
        self._text.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error, or of what was to start it."""
        if self._instead is not None:
            return self._instead.stderr_tail()
        if self._control is None and self.place is not None:
            return self.place.link.carrier.stderr_tail()
        return self._text.tail()


def _umask() -> int:
    """This process's umask, which the system only tells when it is set.

    What another thread makes in between is this user's alone, rather than anybody's.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _directory() -> tuple[int, int]:
    """What tells the working directory from others: one that was made anew has the same name."""
    status = os.stat(".")
    return status.st_dev, status.st_ino


def _pause(reactor: Any) -> defer.Deferred[None]:
    paused: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(0.005, paused.callback, None)
    return paused


def can_fork(spec: Spec) -> bool:
    """Whether it may be worth trying: a supervisor that can't says so."""
    return hasattr(socket, "send_fds") and not any(
        "jython" in os.path.basename(word) for word in interpreter(spec)[:1]
    )


def has_supervisor(spec: Spec) -> bool:
    """Whether a supervisor starts such a gateway, and can start others beside it."""
    return spec.transport not in KEEPING and spec.fork is not False and can_fork(spec)


def here(request: Request) -> Route:
    """A gateway on this machine."""
    argv = tuple(interpreter(request.spec))
    env = dict(os.environ)
    variables = {
        name: value
        for name, value in {**env, **request.spec.env}.items()
        if name.startswith(STARTUP)
    }
    env.update(variables)
    key = ("popen", argv, tuple(sorted(variables.items())), os.geteuid(), os.getegid())

    def opened(asked: Request, door: int | None) -> Carrier:
        config = {"hub": {"near": os.getpid(), "door": door}}
        command = [*argv, "-c", boot_code(config)]
        fds = () if door is None else (door,)
        return ProcessCarrier(asked, command, env, b"", fds, "the supervisor of its place")

    return Route(Way(key, opened, door=True, env=env))


def through(request: Request) -> Route:
    """A gateway that is started from another one, in a place that is reached from there."""
    spec = request.spec
    assert spec.via is not None
    if spec.via not in request.group:
        raise PycomnetError(f"there is no gateway {spec.via!r} in this group to start it from")
    master = request.group[spec.via]
    carrier: Any = master._link.carrier
    route = getattr(carrier, "route", None)
    # One that was started alone although it could have been forked: those after it are.
    if route is None or route.way.key in request.group._places.without_fork:
        route = inside(master)
    found = behind(route, spec, master.info["executable"])
    return attrs.evolve(found, master=spec.via)


class Inside:
    """What a channel of a gateway's own connection belongs to, without keeping that alive."""

    def __init__(self, id: str) -> None:
        self.id = id

    def abandoned(self, core: ChannelCore) -> None:
        """A channel that nobody holds any more."""


def inside(master: Gateway) -> Route:
    """A supervisor that a gateway's worker starts, for one that no supervisor has forked."""
    from pycomnet.gateways.channelgateway import ChannelCarrier

    link = master._link
    argv = boot_argv([master.info["executable"] or "python3"])

    def opened(asked: Request, door: int | None) -> Carrier:
        near = link.connection
        channel = Channel(near.open("channel", raw=True), Inside(link.id))
        kwargs = {"raw": channel, "argv": list(argv), "config": {"hub": {}}}
        request = exec_request(
            "from _pycomnet.worker.gateways import start; start(None, argv, config, raw)", kwargs
        )
        started = near.open("exec", near.encode(request))

        def failed(failure: Failure) -> None:
            channel.close(ChannelClosed(failure.getErrorMessage()))

        started.set_callback(lambda value: None, failed, NO_ENDMARKER)
        return ChannelCarrier(asked, channel, f"the supervisor behind gateway {link.id}")

    return Route(Way(("inside", id(link)), opened))


def behind(route: Route, spec: Spec, executable: str) -> Route:
    """The route of a gateway in a place that is reached from the end of another route.

    :param executable: the interpreter at that end.
    """
    from pycomnet.gateways import ssh

    fork = spec.fork is not False and can_fork(spec)
    if spec.transport == "ssh":
        hop = ssh.hop(spec)
    elif spec.python is None and fork:
        return attrs.evolve(route, argv=())
    else:
        hop = Hop(boot_argv(shlex.split(spec.python) if spec.python else [executable]), {"hub": {}})
    if fork:
        return attrs.evolve(route, path=(*route.path, hop), argv=())
    return attrs.evolve(route, argv=hop.argv)


def boot_argv(python: list[str]) -> tuple[str, ...]:
    """The command that an interpreter is started with where nothing of ours is."""
    return (*python, "-c", package.code())


__all__ = [
    "Place",
    "PlaceCarrier",
    "Places",
    "Route",
    "Way",
    "can_fork",
    "has_supervisor",
    "here",
    "through",
]
