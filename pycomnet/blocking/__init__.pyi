"""The same API without Deferreds. Written by ``python -m pycomnet.blocking.stub``."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pycomnet.blocking.executor import GatewayExecutor as GatewayExecutor
from pycomnet.gateways.concurrentstart import Progress
from pycomnet.gateways.localfactory import Resumable
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.gateways.output import OutputCallback
from pycomnet.gateways.spec import Spec
from pycomnet.rsync.options import AnyPath
from pycomnet.rsync.options import LinkPolicy
from pycomnet.rsync.result import SyncEvent
from pycomnet.rsync.result import SyncResult
from pycomnet.rsync.result import TargetResult
from pycomnet.services.binary import BlockLimits
from pycomnet.services.interface import Service
from pycomnet.services.server.accessgate import AccessGate
from pycomnet.services.server.limits import ServerLimits
from random import Random
from twisted.python.failure import Failure
from types import ModuleType
from typing import Any
from typing import NoReturn
import os
import queue

class Channel:
    """One end of a channel to code at the far side.

    It is closed when nothing refers to it, nothing waits for its values, and it has no callback.
    Code that ``remote_exec`` started then runs on: its ``receive`` raises EOFError, its values
    are
    dropped, and its error is logged. If far code got the channel in a value, it is closed here
    when
    the far code drops its last reference. So far code has to keep a reference to a channel that
    is
    sent repeatedly; otherwise each sending makes another channel. (If Python does not count
    references, the garbage collector decides when that happens.)

    :ivar gateway: the gateway that it leads to.
    """
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def attach(self, protocol: object) -> NoReturn:
        """Not available here: a protocol runs in the reactor's thread."""
    def close(self, error: str | Exception | None = ..., *, timeout: float | None = ...) -> None:
        """Close both directions; what was sent still arrives, unless ``error`` is given.

        Values that have come can still be received; those that come later are dropped.

        :param error: the far code's ``receive`` raises RemoteError with it.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def gateway(self) -> Gateway:
        """The gateway that it leads to."""
    @property
    def id(self) -> int:
        """The channel's number on its connection."""
    def isclosed(self, *, timeout: float | None = ...) -> bool:
        """Whether nothing more can be sent on it.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def makefile(self, mode: str = ..., proxyclose: bool = ..., *, timeout: float | None = ...) -> ChannelFile:
        """A file-like object; see :mod:`pycomnet.channels.files`.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def receive(self, *, timeout: float | None = ...) -> Any:
        """Receive the next value.

        :returns: it; raises :class:`ChannelClosed` (an EOFError) at the end,
            :class:`RemoteError` if the far code raised, :class:`ConnectionLost`. Cancelling it
            leaves the value for the next ``receive``.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def send(self, value: object, *, timeout: float | None = ...) -> None:
        """Send a value.

        :param value: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
            frozenset, channels, and these within each other; on a raw channel, bytes.
        :returns: when there is room for the value: a sender that waits for it cannot send
            faster than the other end receives. Raises
            :class:`~pycomnet.wire.values.ValueNotSendable` (a TypeError that says what in the
            value
            can't be sent, and where), :class:`ChannelClosed`, :class:`RemoteError` or
            :class:`ConnectionLost`. Cancelling it takes the value back if none of it has been
            sent;
            otherwise the rest of it is still sent.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def send_end(self, *, timeout: float | None = ...) -> None:
        """End sending; the other end may go on sending.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def setcallback(self, callback: Callable[[Any], Any], errback: Callable[[Failure], Any] | None = ..., endmarker: object = ..., *, timeout: float | None = ...) -> None:
        """Call ``callback`` with each value, first with those that have come already.

        :param callback: called with one value at a time. The next waits for that, and so does
            the sender when the window is full. If it
            raises, the channel is closed with the error, and nothing else is affected. Once the
            channel is closed here, it gets no more values.
        :param errback: called once with a Failure if the channel ends with an error: it wraps
            :class:`RemoteError` if the far code raised, :class:`ConnectionLost` if the
            connection
            ended, or what ``callback`` itself raised. Without an errback, the failure is logged.
        :param endmarker: if given, ``callback`` is called with this after the last value, and
            when
            ``errback`` has finished.
        :raises PycomnetError: the channel has a callback or a protocol, or a ``receive`` waits.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def waitclose(self, *, timeout: float | None = ...) -> None:
        """Wait until the other end has closed the channel, or has ended sending.

        It returns after the callbacks, including the errback's and
        the endmarker's. For the channel of ``remote_exec`` it waits for the code's end, as code
        that has closed the channel, or has ended sending, may still raise.

        :returns: None; raises :class:`RemoteError` if the far code raised, and
            :class:`ConnectionLost`. Cancelling it changes nothing.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

class ChannelFile:
    """Each write is sent unchanged; received values are joined and read.

    A file is either for str or for bytes, like the values of its channel; not for both.

    :param mode: ``"w"`` or ``"r"``.
    :param proxyclose: closing the file closes the channel.
    """
    def __enter__(self) -> ChannelFile: ...
    def __exit__(self, *exception: object) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    @property
    def channel(self) -> Channel: ...
    def close(self, *, timeout: float | None = ...) -> None:
        """Close the file, and with ``proxyclose`` the channel.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def closed(self) -> bool: ...
    def flush(self, *, timeout: float | None = ...) -> None:
        """Do nothing: ``write`` has sent its data already.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def isatty(self, *, timeout: float | None = ...) -> bool:
        """False.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def mode(self) -> str:
        """``"w"`` or ``"r"``."""
    def read(self, size: int = ..., *, timeout: float | None = ...) -> Any:
        """Read at most ``size`` characters or bytes; up to the channel's end if it is negative.

        :returns: str or bytes, like the received values; ``""`` at the end. Cancelling
            it keeps what has come for the next read.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def readline(self, *, timeout: float | None = ...) -> Any:
        """Read the next line with its end; ``""`` at the channel's end. Cancelling as ``read``.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def write(self, data: str | bytes, *, timeout: float | None = ...) -> None:
        """Send it; as :meth:`Channel.send <pycomnet.Channel.send>`.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def writelines(self, lines: Iterable[str] | Iterable[bytes], *, timeout: float | None = ...) -> None:
        """Send each line, one after the other.

        :returns: when there is room for the last one. Cancelling it sends no more.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

def ChannelGateway(channel: Channel, *, timeout: float | None = ..., **options: Any) -> Gateway:
    """As :func:`pycomnet.ChannelGateway`."""

class Context:
    """Calls services: it has one connection for each address, and knows the nameserver.

    :param nameserver: a nameserver's address, an endpoint string; or several with commas between
        them, of nameservers on one store. One of them is asked until it fails, then another.
    :param timeout: the default timeout of a call in seconds; None for none.
    :param balance: how calls are spread over the instances of a service: ``"round_robin"``, or
        ``"least_pending"`` for the one with the fewest calls of this context under way.
    :param keepalive: seconds of silence after which a server is asked whether it is still there.
    :param silence: seconds that a server may leave pings unanswered while calls wait for it;
        then
        its connection is given up. Other instances get the calls after two seconds of
        that. None never asks.
    :param random: decides with which of several instances this context begins.
    :param blocks: limits on the binary data that comes with results.
    :param max_value: bytes of one value that a server may send, 65536 at least. A longer value
        ends
        the connection.
    :param max_items: elements, keys and values of one value, at all depths, 1024 at least. A
        value
        with more ends the connection.
    :param credentials: who this client is, for servers that ask: one of
        :class:`pycomnet.ext.access.Password`, ``Token``, ``ClientCertificate`` and ``PeerUser``,
        or
        a list, of which the first is given that a server takes. Passwords and tokens are for the
        servers that the program names by their addresses; those that a nameserver has found get
        the ones of :class:`pycomnet.ext.access.AtAddress` that are for them.
    :param nameserver_credentials: ... and those that are for the nameserver; by default those of
        ``credentials`` that are for its address by a pattern, or that are no secret.
    :param trust_roots: a file or a directory with the certificates of authorities, for TLS
        addresses that have no ``trustRoots=`` themselves; by default the system's. Those that a
        nameserver has found never have them.
    :param keep_located: seconds for which ``locate`` uses a nameserver's last answer while none
        can
        be reached; then the service's ``stale`` is the age of that answer. 0 for none.
    """
    def __init__(self, *, nameserver: str | None = ..., timeout: float | None = ..., balance: str = ..., keepalive: float | None = ..., silence: float | None = ..., random: Random | None = ..., blocks: BlockLimits | None = ..., max_value: int = ..., max_items: int = ..., credentials: Any = ..., nameserver_credentials: Any = ..., trust_roots: str | os.PathLike[str] | None = ..., keep_located: float = ...) -> None: ...
    def __enter__(self) -> Context: ...
    def __exit__(self, *exception: object) -> None: ...
    def at(self, address: str, interface: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
        """A service at an address, as from :meth:`connect`, but not connected yet.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def close(self, *, timeout: float | None = ...) -> None:
        """End all connections; calls that are under way are interrupted.

        :returns: when they are over. Cancelling it changes nothing.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def connect(self, address: str, interface: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
        """A service at an address.

        :param address: an endpoint string.
        :param interface: which of its interfaces; it may be left out if it has only one.
        :param timeout: seconds for the connection; the default is the timeout of a call.
        :returns: it, once there is a connection. Raises
            :class:`~pycomnet.errors.ServiceUnreachable`, ``CertificateRefused``,
            ``EndpointError``
            or ``UnknownInterface``. Cancelling it gives up.
        """
    def for_request(self, expires: float | None, *, timeout: float | None = ...) -> Context:
        """This context for a method of a service: until its deadline, and the addresses may be its
        caller's.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def locate(self, interface: str, service: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
        """Any instance of a service that the nameserver knows.

        :param interface: the interface's name.
        :param service: the service's name, to find only this service.
        :returns: it; its calls find the service again when it restarts, at whatever
            address. Raises :class:`~pycomnet.errors.ServiceNotFound`, or
            ``ServiceUnreachable`` if the nameserver can't be reached and there is no answer of
            it
            from before (``keep_located``). Cancelling it gives up.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def nameserver(self, *, timeout: float | None = ...) -> RemoteService:
        """The nameserver. Raises :class:`PycomnetError` if the context has no address.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

class Gateway:
    """A far side.

    Made by :meth:`Group.makegateway`. It ends when nothing refers to it, its group or one of its
    channels.

    :ivar id: its name in its group.
    :ivar spec: its :class:`~pycomnet.gateways.spec.Spec`.
    :ivar group: its group.
    :ivar info: facts from the far side: ``pid``, ``python`` (version), ``implementation``,
        ``platform``, ``executable``, ``execmodel``, ``bytecode``.
    :ivar resumed: with ``//resume=yes``: id -> channel of the program before this one, for the
        channels that are open or have values that it did not receive.
    """
    def call(self, function: str | Callable[..., Any], *args: Any, timeout: float | None = ..., **kwargs: Any) -> Any:
        """Run a function at the far side and get its result here.

        :param function: a function, whose source is sent (the far side caches the compiled
            code);
            or ``"module:function"``, which is imported there.
        :returns: its result; raises :class:`RemoteError` if it raised,
            :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it drops the result; a
            call that has begun runs on.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def exit(self, timeout: float | None = ..., *, grace: float | None = ..., patience: float = ...) -> None:
        """End the far side and everything that it started.

        First, running code has time to complete (``grace``): it gets no more values, so its
        ``receive`` raises EOFError, and it may still send some. Then its main thread gets a
        KeyboardInterrupt, and two seconds later it is killed, whatever it does. Operations that
        still wait for it fail with :class:`ConnectionLost`.

        :param timeout: seconds after which it is killed at once; by default 5.
        :param grace: seconds for running code to complete; by default ``timeout`` less 2.5
            seconds
            for the interrupt, and none if ``timeout`` isn't given either.
        :param patience: seconds after the interrupt, before those two: the connection goes on,
            code
            that was interrupted may send, and exit functions run. The timeout begins after it.
        :returns: when it is gone. Cancelling it does not keep it from going.
        """
    @property
    def group(self) -> Group:
        """Its group."""
    @property
    def id(self) -> str:
        """Its name in its group."""
    @property
    def info(self) -> dict[str, Any]:
        """Facts from the far side: ``pid``, ``python`` (version), ``implementation``, ``platform``,
        ``executable``, ``execmodel``, ``bytecode``.
        """
    def isalive(self, *, timeout: float | None = ...) -> bool:
        """Whether the far side is connected.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def join(self, *, timeout: float | None = ...) -> int | None:
        """Wait until the far side has ended, without ending it.

        :returns: its exit status, or minus the signal that ended it; None if the
            transport can't see that. Cancelling it changes nothing there.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def leave(self, *, timeout: float | None = ...) -> None:
        """Leave it to the factory service, as at the program's end: it lingers, to be resumed.

        Its channels can't be used here any more. Values that still wait for a slow receiver are
        not
        sent: wait for the ``send`` of other threads first.

        :returns: when it has been left, and can be resumed. Raises :class:`PycomnetError`
            if the gateway does not linger: ``//linger=SECONDS``. Cancelling it changes nothing.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def lingers(self) -> bool:
        """Whether the factory service keeps it when its program is gone."""
    def newchannel(self, raw: bool = ..., *, timeout: float | None = ...) -> Channel:
        """Open a channel; send it over another channel to the code that is to have its other end.

        :param raw: whether it carries bytes unchanged, and can be a protocol's transport.
        :raises ConnectionLost: the gateway is gone.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def offer_modules(self, offer: ModuleOffer, unless: str | None = ..., *, timeout: float | None = ...) -> None:
        """As :meth:`send_modules`, for modules that were looked up before.

        :param unless: a path at the far side; if that file exists, nothing is offered.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def ping(self, *, timeout: float | None = ...) -> float:
        """Returns the seconds that the far side took to answer. Cancelling drops the answer.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def register_types(self, module: ModuleType, *, timeout: float | None = ...) -> None:
        """Register a module's types at the far side.

        The module's source is sent and becomes a module of its name there, if no module of that
        name can be imported. It must import nothing that is not there. Its function
        ``register(register_type)`` is called with a function that registers a type, like
        :func:`pycomnet.register_type` here; so one function serves both ends.

        :returns: when that has been done; raises :class:`RemoteError` if it raised, and
            :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it changes nothing.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def remote_exec(self, code: object, *, timeout: float | None = ..., **kwargs: Any) -> Channel:
        """Run code at the far side.

        :param code: source text, which has the channel as the global ``channel``; a module,
            whose
            source is run likewise, with ``__name__`` set to ``"__channelexec__"``; or a
            function,
            whose first argument is the channel.
        :param kwargs: the function's other arguments, or global variables for the text.
        :returns: a channel to the code, at once. It is closed when the code has run, with a
            :class:`RemoteError` if it raised.
        :raises CodeNotSendable: the function can't run on its own; the message says which name
            it
            needs.
        :raises ConnectionLost: the gateway is gone.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def remote_status(self, *, timeout: float | None = ...) -> dict[str, Any]:
        """The far side's status.

        :returns: a dict: the numbers of ``running`` and ``queued`` requests, of open
            ``channels`` and of ``threads`` for requests, and ``execmodel``. Raises
            :class:`ConnectionLost`. Cancelling it drops the answer.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def request_for(self, function: str | Callable[..., Any], *, awaits: bool = ..., timeout: float | None = ...) -> dict[str, Any]:
        """The request that gives the far side a function, for far code that keeps and calls it.

        :param function: as for :meth:`call`.
        :param awaits: whether that code awaits the result of an async function.
        :returns: a request without arguments, as the protocol has it for calls: the function's
            source, its compiled code, or where it is imported from.
        :raises CodeNotSendable: this far side can't run it; the message says why.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def resumed(self) -> dict[int, Channel]:
        """With ``//resume=yes``: id -> channel of the program before this one, for the channels
        that are open or have values that it did not receive.
        """
    def send_modules(self, *modules: str | os.PathLike[str], timeout: float | None = ...) -> None:
        """Let far code import modules from here, and run their functions by importing them.

        The far side requests a module when code imports it. It can request only what is in these
        modules, packages and directories, and the packages' data files. They take precedence
        over
        what is installed there. A function of such a module may use all of its module, as it is
        imported there and not sent alone.

        :param modules: names of top-level modules or packages; ``"__main__"`` for the program
            itself, which has to be guarded (``if __name__ == "__main__":``); or directories, as
            ``Path`` or as text with a separator, for all modules that Python would find there.
        :returns: when the far side has the offer; code that is sent after this call finds the
            modules in any case. Raises :class:`ConnectionLost`. Cancelling it changes nothing
            there.
        :raises CodeNotSendable: there is no such module, or it has no Python source.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def setoutput(self, callback: OutputCallback, *, timeout: float | None = ...) -> None:
        """Call ``callback`` with the output of far code.

        :param callback: gets each :class:`~pycomnet.gateways.output.Output`, one at a time.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def spec(self) -> Spec:
        """Its :class:`~pycomnet.gateways.spec.Spec`."""

class Group:
    """Gateways that belong together.

    It is a mapping of ids to gateways that iterates over the gateways. When the reactor shuts
    down, or nothing refers to the group and its gateways any more, the gateways are ended.

    :param output: is called with far code's output, as
        :class:`~pycomnet.gateways.output.Output`;
        by default each line is shown with the gateway's id before it.
    :param modules: modules that far code may import from here, as for
        :meth:`Gateway.send_modules`.
    :param types: modules whose types are registered at each gateway, as for
        :meth:`Gateway.register_types`.
    :param trusted: False: the far sides may be hostile, so strict limits apply to what they
        send. A
        spec may override this and the next two.
    :param max_value: the most bytes of a value from a far side.
    :param max_items: the most elements, keys and values of one, nested ones included.
    """
    def __init__(self, *, output: OutputCallback | None = ..., modules: Iterable[str | os.PathLike[str]] = ..., types: Iterable[ModuleType] = ..., trusted: bool = ..., max_value: int | None = ..., max_items: int | None = ...) -> None: ...
    def __contains__(self, item: object) -> bool: ...
    def __enter__(self) -> Group: ...
    def __exit__(self, *exception: object) -> None: ...
    def __getitem__(self, id: str | int) -> Gateway: ...
    def __iter__(self) -> Iterator[Gateway]: ...
    def __len__(self) -> int: ...
    def close(self, timeout: float | None = ..., *, grace: float | None = ...) -> None:
        """As :meth:`terminate`, and make no more gateways."""
    def makegateway(self, spec: str | Spec = ..., *, timeout: float = ..., **options: Any) -> Gateway:
        """Start a far side.

        :param spec: what and where, as for :class:`~pycomnet.gateways.spec.Spec`.
        :param timeout: seconds within which the far side's hello has to come.
        :param options: keys of the spec as arguments: ``python``, ``id``, ``chdir``, ``nice``,
            ``env`` (a dict), ``execmodel``.
        :returns: a :class:`Gateway`. Raises :class:`SpecError`, or
            :class:`GatewayNotStarted`, which has the process's standard error. Cancelling it
            ends
            the process.
        """
    def makegateways(self, specs: Iterable[str | Spec], *, parallel: int = ..., progress: Callable[[Progress], Any] | None = ..., timeout: float = ..., **options: Any) -> list[Gateway]:
        """Start several far sides at the same time.

        :param specs: what and where, each as for :meth:`makegateway`.
        :param parallel: the limit on gateways that are being started at a time.
        :param progress: called with a :class:`Progress` whenever one has started or failed.
        :param timeout: seconds for each far side, from the beginning of its own start.
        :param options: keys of all specs, as for :meth:`makegateway`.
        :returns: the gateways, in the order of ``specs``. Raises
            :class:`SpecError`; or with :class:`GatewaysNotStarted` once all have been tried, if
            some could not be started: the error has the others, which go on. Cancelling it ends
            those that are being started.
        """
    def remote_exec(self, code: object, *, timeout: float | None = ..., **kwargs: Any) -> MultiChannel:
        """Run code at each gateway; as :meth:`Gateway.remote_exec`.

        :returns: a :class:`MultiChannel` of the channels, in the gateways' order.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def resumable(self, *, timeout: float | None = ...) -> list[Resumable]:
        """The gateways that the factory service keeps and no program uses.

        :returns: a list of :class:`Resumable`; raises
            :class:`FactoryUnreachable`. Cancelling it drops the answer.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def setlocalfactory(self, port: int | None = ..., *, path: str | os.PathLike[str] | None = ..., host: str = ..., endpoint: str | None = ..., token: str | None = ..., token_file: str | os.PathLike[str] | None = ..., timeout: float | None = ...) -> None:
        """Make all further gateways as children of the local factory service.

        They share its connections with all programs of this user, and may outlive this program:
        with ``//linger=SECONDS`` in a spec, and ``//resume=yes`` in another program's.

        :param port: the service's TCP port at ``host``; by default the unix socket at ``path``
            is
            used.
        :param path: by default the one in the user's runtime directory.
        :param endpoint: its address as an endpoint string instead.
        :param token: authenticates this user, where the service does not see the user itself; by
            default the token of ``token_file``, of the environment (``PYCOMNET_TOKEN``,
            ``PYCOMNET_TOKEN_FILE``), or the one that the service made for itself.
        :raises EndpointError: it is not a valid endpoint string.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def terminate(self, timeout: float | None = ..., *, grace: float | None = ...) -> None:
        """End all gateways, also those that are still starting; as :meth:`Gateway.exit`.

        :param timeout: seconds after which a far side that has not ended is killed at once; by
            default 5. If it is given, running code has this time less 2.5 seconds for an
            interrupt
            to complete.
        :param grace: another time for running code to complete, in seconds.
        :returns: when all are gone. Cancelling it does not keep them from ending.
        """

class MultiChannel:
    """Channels to the same code at several gateways; a sequence of them, in order."""
    def __contains__(self, channel: object) -> bool: ...
    def __getitem__(self, index: int) -> Channel: ...
    def __iter__(self) -> Iterator[Channel]: ...
    def __len__(self) -> int: ...
    def make_receive_queue(self, endmarker: object = ...) -> queue.Queue[tuple[Channel, Any]]:
        """A ``queue.Queue`` of (channel, value) pairs, in the order of arrival."""
    def receive_each(self, withchannel: bool = ..., *, timeout: float | None = ...) -> list[Any]:
        """Receive one value from each channel.

        :param withchannel: return (channel, value) pairs.
        :returns: a list, in the channels' order; raises the first failure.
            In that case, and when it is cancelled, values that have not come are left for later;
            those that have come are lost.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def send_each(self, value: object, *, timeout: float | None = ...) -> None:
        """Send a value over each channel.

        :returns: when there is room for it on all; raises the first failure, while the
            value is still sent over the others. Cancelling it takes back what has not been sent.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def waitclose(self, *, timeout: float | None = ...) -> None:
        """Wait until all channels are closed.

        :returns: None when all are closed; then raises the first failure, if any.
            Cancelling it changes nothing.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

class RSync:
    """Makes directories at gateways equal to a directory here.

    Only what differs is sent. Files are compared by size and by the time of their last change,
    in
    nanoseconds, so a file whose content was changed without changing either is not noticed,
    unless
    ``checksum`` is true. Parts of a long file that the target has, in its old file or in what an
    interrupted run has left, are not sent.

    Each file is read once for all targets. A slow target does not slow down the others, and one
    that dies fails alone.

    :param source: a directory. What is in it will be in the targets' directories.
    :param exclude: patterns of what takes no part, as rsync's: ``*.pyc``, ``/build/``,
        ``docs/**/tmp``. What they match is neither sent nor deleted.
    :param include: patterns of what takes part though ``exclude`` matches it.
    :param takes: a function: path relative to ``source`` -> whether it takes part. It is called
        in
        a thread. What it leaves out is neither sent nor deleted; targets are told its names. If
        it
        raises, this is the error of each target.
    :param delete: whether what is not in the source is deleted at the targets. Nothing is
        deleted
        if a part of the source could not be read.
    :param links: what is done with symbolic links. ``keep``: a link with the same text is made;
        but
        an absolute link into the source becomes one to the same place at the target. ``copy``:
        what
        it points to is sent. ``skip``: it is not sent. ``error``: it is reported as failed.
    :param outside: the same for links that lead out of the source, or nowhere. By default as
        ``links``.
    :param hard_links: whether several names of one file become that at the targets, too.
    :param checksum: whether the content of all files of equal size is compared.
    :param owners: whether owners and groups are set, by number; this needs root at the target.
    :param compress: whether content is compressed. By default where the line to another machine
        is slow.
    :param dry_run: whether nothing is changed, and the result says what would be.
    :raises ValueError: an argument is not valid.
    """
    def __init__(self, source: AnyPath, *, exclude: Iterable[str | bytes] = ..., include: Iterable[str | bytes] = ..., takes: Callable[[str], bool] | None = ..., delete: bool = ..., links: LinkPolicy = ..., outside: LinkPolicy | None = ..., hard_links: bool = ..., checksum: bool = ..., owners: bool = ..., compress: bool | None = ..., dry_run: bool = ...) -> None: ...
    def add_target(self, gateway: Gateway, path: AnyPath, delete: bool | None = ..., finished: Callable[[TargetResult], object] | None = ..., *, timeout: float | None = ...) -> None:
        """Add a target.

        :param path: a directory at the gateway, relative to its working directory; ``~`` stands
            for
            its user's home. It is made if it is not there.
        :param delete: as for the constructor, for this target.
        :param finished: called with the :class:`TargetResult` when this target is finished,
            whatever the others do. ``send`` waits for what it returns, and fails if it fails.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def events(self) -> Iterator[SyncEvent]:
        """As :meth:`pycomnet.RSync.events`."""
    @property
    def results(self) -> list[TargetResult]:
        """The result of each target of the last run, in the order in which they were added.

        While a run goes on, they say how far it is.
        """
    def send(self, progress: Callable[[SyncEvent], object] | None = ..., *, timeout: float | None = ...) -> SyncResult:
        """As :meth:`pycomnet.RSync.send`; ``progress`` is called in this thread."""
    def watch(self, progress: Callable[[SyncEvent], object] | None = ..., *, timeout: float | None = ...) -> None:
        """As :meth:`pycomnet.RSync.watch`; ``progress`` is called in this thread.

        It does not return. What ends it is what it raises, such as KeyboardInterrupt.
        """

class RemoteService:
    """A remote service, whose methods can be called.

    It has no connection of its own. All calls to one address share a connection, which is made
    when
    it is needed, and made again when it has broken.

    :ivar interface: the interface whose methods are called.
    """
    @property
    def interface(self) -> str | None:
        """The interface whose methods are called."""
    def introspect(self, *, timeout: float | None = ...) -> dict[str, Any]:
        """What the service offers: see :func:`pycomnet.services.interface.describe`.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def invoke(self, method: str, args: Any = ..., timeout: float | None = ..., attachments: Sequence[Any] = ..., with_binary: bool = ...) -> Any:
        """Call a method.

        :param args: its structured arguments, usually a dict: any value that can be sent.
        :param timeout: seconds until the call is given up; None for no limit. By default the
            context's timeout. Then the server is told, and cancels the method.
        :param attachments: blocks of binary data, each a :class:`Binary`.
        :param with_binary: fire with (result, files) rather than with the result alone.
        :returns: the method's result. Raises a
            :class:`~pycomnet.errors.ServiceError`, whose subclasses tell what went wrong, or
            :class:`RemoteError` if the method raised. Cancelling it cancels the method.
        """
    def saying(self, key: str | None = ..., on_behalf_of: str | None = ..., memory: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
        """This service, for calls and streams with metadata.

        :param key: the method sees it as ``request.key``; one with ``once`` answers a second
            call of this key from what it has kept of the first.
        :param on_behalf_of: the user for whom it is called.
        :param memory: the name of the memory that the call is for; others refuse it, and do not
            run it.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def stale(self) -> float:
        """The age of the nameserver's last answer about it, in seconds, if the nameserver can't be
        reached or is cut off from its store; else 0.0.
        """
    def stream(self, method: str, args: Any = ..., timeout: float | None = ...) -> RemoteStream:
        """Call a method that gives one value after the other.

        :param timeout: seconds for the whole stream; by default no limit.
        :returns: the stream, at once. Errors are raised by its iteration.
        """

class RemoteStream:
    """The values of a streaming method. Iterate over it with ``async for``.

    The method waits if the values are not taken. :meth:`close` the stream to get no more; this
    also
    happens when nobody holds it any more, as after a ``break``.

    Where a login is needed first, or a leaving server has not run the method, the method is
    called
    again, as with ``invoke``. A stream that has begun is not repeated.
    """
    def __enter__(self) -> RemoteStream: ...
    def __exit__(self, *exception: object) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def close(self, *, timeout: float | None = ...) -> None:
        """Receive no more values, and cancel the method.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def receive(self, *, timeout: float | None = ...) -> Any:
        """The next value.

        :returns: the value. At the end it raises
            :class:`~pycomnet.errors.ChannelClosed`; else as ``invoke`` does, and
            :class:`~pycomnet.errors.CallInterrupted` when the connection broke. Cancelling it
            leaves the value for the next ``receive``.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

class ServiceServer:
    """Serves services to callers.

    :param context: the context for calls of its services; by default one without a nameserver.
    :param limits: limits on its clients.
    :param tracebacks: whether callers get the tracebacks of errors in methods; by default,
        callers
        on this machine do.
    :param threads: a thread pool for methods with ``thread=True``; by default one of its own,
        whose
        threads don't keep the process from ending.
    :param access: who may call what: a :class:`pycomnet.ext.access.AccessControl`. By default
        there is one as soon as a service has a rule.
    """
    def __init__(self, *, context: Context | None = ..., limits: ServerLimits | None = ..., tracebacks: bool | None = ..., threads: Any = ..., access: AccessGate | None = ...) -> None: ...
    def __enter__(self) -> ServiceServer: ...
    def __exit__(self, *exception: object) -> None: ...
    def add(self, service: Service, *, timeout: float | None = ...) -> None:
        """Add a service.

        :returns: when its ``started`` has; at once if that does not wait. Cancelling it
            cancels that, and the service is not added.
        :raises PycomnetError: it has no interface, or one that another service here has.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    def close(self, timeout: float = ...) -> None:
        """Stop: take no more calls, let those that run finish, and end.

        :param timeout: seconds that the calls have; then they are cancelled.
        :returns: when nothing listens and runs any more. Cancelling it cancels the calls.
        """
    def drain(self, timeout: float) -> None:
        """Let callers go to other instances: calls are still taken, and their answers say so.

        :param timeout: seconds that it takes at most.
        :returns: when no call runs, no request has come in part, and no call has come for
            :data:`QUIET` seconds; at once if there is no client. Cancelling it ends that.
        """
    def listen(self, description: str, host: str | None = ..., *, timeout: float | None = ...) -> str:
        """Listen for clients.

        :param description: a listener's endpoint string; see
            :func:`pycomnet.net.endpoints.server_endpoint`.
        :param host: the name or number that clients reach this machine by.
        :returns: the address to connect to. Raises
            :class:`~pycomnet.errors.EndpointError`: for an address that is in use, say.
            Cancelling
            it leaves nothing listening.
        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """
    @property
    def services(self) -> list[Service]: ...
    def stat(self, *, timeout: float | None = ...) -> dict[str, Any]:
        """How it is: clients, calls, and memory, in bytes.

        :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
        """

def configure(nameserver: str | None = ..., **options: Any) -> None:
    """Configure the default context, before its first use.

    :param nameserver: the nameserver's address.
    :param options: those of :class:`~pycomnet.Context`.
    :raises RuntimeError: it is in use already, with other options.
    """

def connect(address: str, interface: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
    """As :meth:`Context.connect`, with the default context.

    :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
    """

def fetch(gateway: Gateway, source: AnyPath, destination: AnyPath, *, exclude: Iterable[str | bytes] = ..., include: Iterable[str | bytes] = ..., delete: bool = ..., links: LinkPolicy = ..., outside: LinkPolicy | None = ..., hard_links: bool = ..., checksum: bool = ..., owners: bool = ..., compress: bool | None = ..., dry_run: bool = ..., max_bytes: int | None = ..., max_entries: int | None = ..., progress: Callable[[SyncEvent], object] | None = ..., timeout: float | None = ...) -> TargetResult:
    """Make a directory here equal to a directory at a gateway.

    As :class:`~pycomnet.RSync`, the other way. Whatever the far side sends, nothing is written
    outside of ``destination``. Set-user-id and set-group-id bits are not taken over, unless
    ``owners`` is true.

    :param source: the directory at the gateway, relative to its working directory; ``~`` stands
        for its user's home.
    :param destination: the directory here. It is made if it is not there.
    :param compress: whether content is compressed. By default where the line to another machine
        is slow.
    :param max_bytes: how many bytes the files may have that are written, where the far side is
        not
        trusted to stop. By default as many as there is room for.
    :param max_entries: how many entries the source may have.
    :param progress: called with each :class:`SyncEvent`. It may cancel what this returns. If it
        raises, the run ends, and raises that.
    :returns: a :class:`TargetResult`: ``sent`` has what came. Raises
        :class:`SyncError` if the source is no directory, has more than may come, or the far side
        does not keep to the protocol; with :class:`ConnectionLost`. Cancelling it ends the
        run, and it fails when nothing is written any more: each file here is whole then, old or
        new, and the next run goes on from there.
    :raises ValueError: an argument is not valid.
    :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
    """

def locate(interface: str, service: str | None = ..., *, timeout: float | None = ...) -> RemoteService:
    """As :meth:`Context.locate`, with the default context.

    :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
    """

def nameserver(*, timeout: float | None = ...) -> RemoteService:
    """As :meth:`Context.nameserver`, with the default context.

    :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
    """

__all__ = [
    "Channel",
    "ChannelFile",
    "ChannelGateway",
    "Context",
    "Gateway",
    "GatewayExecutor",
    "Group",
    "MultiChannel",
    "RSync",
    "RemoteService",
    "RemoteStream",
    "ServiceServer",
    "configure",
    "connect",
    "fetch",
    "locate",
    "nameserver",
]
