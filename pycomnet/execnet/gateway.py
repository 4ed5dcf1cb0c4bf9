"""Gateways with execnet's methods and meanings."""

from __future__ import annotations

import copy
import reprlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.blocking.waiting import running_reactor, wait_for
from pycomnet.errors import PycomnetError
from pycomnet.execnet import farside
from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.channelfactory import ChannelFactory
from pycomnet.execnet.errors import DumpError, RemoteError, translated, used_after_fork
from pycomnet.execnet.farclasses import ExecModel
from pycomnet.execnet.inbox import Inbox
from pycomnet.execnet.mainthreadtimeout import MainThreadTimeout, checked_status
from pycomnet.execnet.outbox import Outbox
from pycomnet.execnet.source import Source, missing_names, source_of_function, task_of
from pycomnet.execnet.xspec import XSpec
from pycomnet.far.live import Live
from pycomnet.gateways.gateway import HandleMaker
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.execnet.multi import Group
    from pycomnet.gateways.gateway import Gateway as _Gateway

#: execnet's names of these, for programs that use them.
_source_of_function = source_of_function
_find_non_builtin_globals = missing_names
#: Seconds that running code has to complete once its gateway is told to exit; as in execnet.
EXIT_GRACE = 5.0
#: Seconds that interrupted code and exit functions then have; as in execnet.
EXIT_PATIENCE = 10.0


class RInfo:
    """Facts about a gateway's interpreter: ``executable``, ``version_info``, ``cwd`` ..."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.__dict__.update(facts)

    def __repr__(self) -> str:
        inner = ", ".join(f"{key}={value}" for key, value in sorted(self.__dict__.items()))
        return f"<{type(self).__name__} {inner!r}>"

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class RemoteStatus(RInfo):
    """What a gateway does: ``numexecuting``, ``numchannels``, ``execmodel``."""


class Gateway(Live):
    """A Python interpreter, and the connection to it. Made by ``makegateway``.

    These are not execnet's, but for other modules of the drop-in: ``inner``, ``outbox``, ``inbox``,
    ``callbacks``, ``era``, ``has_ended``, ``is_connected`` and ``wait_begun``.

    :ivar id: its name in its group.
    :ivar spec: its :class:`XSpec`.
    :ivar execmodel: threads and locks for this side.
    :ivar remoteaddress: the host or address of a gateway by ssh or a socket.
    """

    def __init__(self, gateway: _Gateway, group: Group, spec: XSpec) -> None:
        #: the gateway of pycomnet
        self.inner = gateway
        self._group = group
        self.id: str = gateway.id
        self.spec = spec
        self.execmodel: ExecModel = group.execmodel
        self.era = forks.era
        self._grace = EXIT_GRACE
        if spec.ssh or spec.vagrant_ssh or spec.socket:
            self.remoteaddress: str = spec.ssh or spec.vagrant_ssh or spec.socket
        self.callbacks = CallbackThread(f"execnet {gateway.id}")
        self._connection = gateway.link.connection
        self.outbox = Outbox(running_reactor(), self._connection)
        self._connection.make_handle = HandleMaker(self, Channel.of)
        self._cache_rinfo: RInfo | None = None
        self._ready: Future[dict[str, Any]] = Future()
        self._ended = threading.Event()
        self._exits = threading.Event()
        self._main_thread: MainThreadTimeout | None = None
        if spec.execmodel == "main_thread_only":
            self._main_thread = MainThreadTimeout(gateway, running_reactor())
        begun = None if self._main_thread is None else self._main_thread.begun
        farside.begin(gateway, str(spec.execmodel), spec.chdir, begun).addBoth(self._begun)
        gateway.join().addBoth(self._gone)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _begun(self, outcome: Any) -> None:
        if not isinstance(outcome, Failure):
            try:
                self._ready.set_result(_facts(outcome))
                return
            except OSError:
                outcome = Failure()
        error = translated(outcome.value or OSError())
        if not isinstance(error, OSError | RemoteError):
            error = OSError(f"gateway {self.id} did not begin: {error}")
        self._ready.set_exception(error)

    def _gone(self, _: object) -> None:
        self._ended.set()

    def _open(self, purpose: str, first: bytes | None = None) -> Channel:
        self.outbox.flush()  # what the caller has sent before is sent first
        return Channel.of(self, self._connection.open(purpose, first))

    def _begin_exit(self) -> None:
        self.outbox.bypass.take_back()
        self.outbox.flush()
        exiting: Deferred[None] = self.inner.exit(grace=self._grace, patience=EXIT_PATIENCE)
        exiting.addErrback(lambda _: None)

    # -- for users -------------------------------------------------------------------------------

    def __repr__(self) -> str:
        state = "receive-live" if self.hasreceiver() else "not receiving"
        count = len(self._channelfactory.channels())
        return (
            f"<{type(self).__name__} id={self.id!r} {state}, {self.execmodel.backend} model, "
            f"{count} active channels>"
        )

    def remote_exec(self, source: Source, **kwargs: object) -> Channel:
        """Run code there, with a channel to it as the global ``channel``.

        :param source: text; a module, whose source is run; or a function, whose first parameter is
            ``channel``, and which gets ``kwargs``.
        :raises ValueError: the function can't run on its own.
        :raises pycomnet.execnet.DumpError: an argument can't be sent.
        :raises OSError: the gateway is gone.
        """
        task = task_of(source, kwargs)
        self._wait_ready()
        encode = self._connection.encode
        try:
            first = encode(farside.request(task, kwargs))
        except ValueNotSendable:
            try:
                encode(kwargs)  # the error says where in them it is
                raise
            except ValueNotSendable as problem:
                raise DumpError(f"can't serialize: {problem}") from None

        def start() -> Channel:
            channel = self._open("exec", first)
            if self._main_thread is not None:
                self._main_thread.add(channel.core)
            return channel

        channel: Channel = self._ask(start, "remote_exec")
        return channel

    def newchannel(self) -> Channel:
        """Open a channel, to be sent over another one to code there."""
        channel: Channel = self._ask(lambda: self._open("channel"), "newchannel")
        return channel

    def remote_status(self) -> RemoteStatus:
        """How much it runs at the moment."""
        self._wait_ready()
        found = checked_status(self._ask(self.inner.remote_status, "remote_status"))
        own = 0 if self._main_thread is None else 1
        return RemoteStatus(
            {
                "numexecuting": found["running"] + found["queued"],
                # without the channel of this request and the drop-in's own
                "numchannels": max(0, found["channels"] - own),
                "execmodel": self.spec.execmodel,
            }
        )

    def _rinfo(self, update: bool = False) -> RInfo:
        """Facts about its interpreter.

        :param update: whether they are asked for again.
        :raises pycomnet.execnet.RemoteError: they can't be asked for, as the main thread is busy.
        """
        if update:
            self._cache_rinfo = RInfo(_facts(self.remote_exec(rinfo_source).receive()))
        elif self._cache_rinfo is None:
            self._cache_rinfo = RInfo(self._wait_ready())
        return self._cache_rinfo

    def reconfigure(self, py2str_as_py3str: bool = True, py3str_as_py2str: bool = False) -> None:
        """Accepted, and without effect: text arrives as text, and bytes as bytes."""

    def remote_init_threads(self, num: int | None = None) -> None:
        """Accepted, and without effect: code runs in as many threads as it needs."""

    def hasreceiver(self) -> bool:
        """Whether it is connected."""
        return self.is_connected() and not self._exits.is_set()

    def inbox(self) -> Inbox:
        """Make an inbox for a channel."""
        return Inbox(self.callbacks, self._exits)

    def is_connected(self) -> bool:
        """Whether there is a connection; also while the gateway exits."""
        return self._connection.lost is None

    def exit(self) -> None:
        """End it. Code that runs there has :data:`EXIT_GRACE` seconds to complete.

        Then it is interrupted, and has :data:`EXIT_PATIENCE` more.
        """
        # Not a subclass: those of pytest say that a session ends early.
        if sys.exc_info()[0] is KeyboardInterrupt:
            self.interrupt()
        self._group._unregister(self)  # noqa: SLF001 - execnet's name
        if not self._exits.is_set() and self.era == forks.era:
            self._exits.set()
            running_reactor().callFromThread(self._begin_exit)

    def interrupt(self) -> None:
        """Let :meth:`exit` interrupt its code at once, as the user has interrupted this program.

        execnet's workers are in the terminal's process group, and get its signal themselves.
        """
        self._grace = 0.0

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended; :meth:`exit` tells it to."""
        self._check()
        self._ended.wait(timeout)

    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self._ended.is_set()

    @property
    def _channelfactory(self) -> ChannelFactory:
        return ChannelFactory(self._connection.mux, self.newchannel)

    def wait_begun(self) -> None:
        """Wait until the settings of its spec are in effect.

        :raises pycomnet.execnet.RemoteError: one of them can't be.
        """
        self._wait_ready()

    def _check(self) -> None:
        if self.era != forks.era:
            raise used_after_fork(f"gateway {self.id}")

    def _wait_ready(self) -> dict[str, Any]:
        self._check()
        problem = self._ready.exception()
        if problem is not None:
            raise copy.copy(problem)  # several threads may raise it
        return self._ready.result()

    def _ask(self, function: Callable[[], Any], what: str) -> Any:
        self._check()
        bypass, thread = self.outbox.bypass, threading.get_ident()
        bypass.give_back()
        try:
            bypass.waiting[thread] = None
            return wait_for(function, None, what)
        except PycomnetError as problem:
            raise translated(problem) from None
        finally:
            bypass.waiting.pop(thread, None)


def rinfo_source(channel):  # type: ignore[no-untyped-def]
    """Runs there: send facts about the interpreter."""
    from execnet.gateway_base import rinfo  # type: ignore[attr-defined]

    channel.send(rinfo())


def _facts(found: object) -> dict[str, Any]:
    """Check an interpreter's facts, as it has sent them.

    :raises OSError: they are something else.
    """
    version = found.get("version_info") if isinstance(found, dict) else None
    if isinstance(found, dict) and isinstance(version, list):
        return {**found, "version_info": tuple(version)}
    raise OSError(f"a gateway should report what it is, not {reprlib.repr(found)}")


def kill_all(gateways: list[Gateway]) -> None:
    """End gateways at once, all at the same time; return when they have ended."""
    here = [gateway for gateway in gateways if gateway.era == forks.era]
    if here:
        wait_for(
            lambda: DeferredList([gateway.inner.exit(0) for gateway in here], consumeErrors=True),
            None,
            "exit",
        )


__all__ = ["Gateway", "RInfo", "RemoteStatus", "kill_all"]
