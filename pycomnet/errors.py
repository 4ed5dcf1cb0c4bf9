"""The errors: one root, and a class for each kind that a caller would catch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pycomnet.text.printable import visible
from pycomnet.wire.values import type_name

#: Code -> its class of errors. Codes are what is sent between processes.
_by_code: dict[str, type[PycomnetError]] = {}


class PycomnetError(Exception):
    """The root of all errors that pycomnet raises.

    A service may raise a subclass with a ``code`` of its own. The code is sent, and the caller
    raises the same class, if it is imported there.

    :cvar fields: the names of attributes that are sent with it, beside its message. The class has
        their defaults, as another process may have sent none.
    :cvar elsewhere: whether nothing was done, and another server of the service may be able to.
    :ivar code: its stable name, or an empty text.
    :ivar formatted: the traceback in the other process, if that process sent it.
    :ivar of_call: whether a call of this process has failed with it.
    :ivar nested: whether the method that was called has run, and has made that call itself.
    """

    code: str = ""
    fields: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[bool] = False
    formatted: str = ""
    of_call = nested = False

    def __str__(self) -> str:
        # It may contain a peer's text, and is shown on a terminal or in a log.
        return visible(super().__str__())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if not isinstance(code, str):
            return
        other = _by_code.setdefault(code, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__qualname__}: the code {code!r} is {other.__qualname__}'s")
        _by_code[code] = cls


class SpecError(PycomnetError, ValueError):
    """A gateway spec that can't be read; the message says which part and what was expected."""


class EndpointError(PycomnetError, ValueError):
    """An address that is not a valid endpoint string, or whose files can't be read."""


class TokenError(PycomnetError, ValueError):
    """A token or a file of tokens that can't be used; the message says why, and not the token."""


class LaunchFailed(PycomnetError):
    """A launcher can't run its services; the message says why."""


class LaunchConfigError(LaunchFailed, ValueError):
    """A launcher's options or its file are not valid; the message says what."""


class ServiceNotLoaded(LaunchFailed):
    """A module with services can't be imported, has none, or one can't be made."""


class NameserverUnreachable(LaunchFailed):
    """The nameserver did not answer in time."""


class CodeNotSendable(PycomnetError, ValueError):
    """A function or module whose source can't run on its own; the message names what it needs."""


class ChannelClosed(PycomnetError, EOFError):
    """The channel is closed: by its other end, which sends no more, or by this one."""


class ConnectionLost(PycomnetError, EOFError):
    """The connection ended, and everything on it with it.

    :ivar reason: what ended it, as a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProtocolViolation(ConnectionLost):
    """One end broke the wire protocol, so the connection was dropped.

    :ivar code: the stable name of what was broken (docs/protocol.rst).
    """

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code


class CertificateRefused(ConnectionLost):
    """The other end's TLS certificate was refused: its name, its dates or who signed it."""


class UsedAfterFork(ConnectionLost):
    """The object was made before this process was forked: it belongs to the parent process."""


class PeerSilent(ConnectionLost):
    """The other end was silent for too long."""


class GatewayDied(ConnectionLost):
    """The far process ended while something still waited for it.

    :ivar exit_status: its exit status, or None when a signal ended it or it isn't known.
    :ivar signal: the number of the signal that ended it, or None.
    :ivar stderr: the last lines of its standard error.
    """

    def __init__(
        self,
        reason: str,
        exit_status: int | None = None,
        signal: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.signal = signal
        self.stderr = stderr


class GatewayNotStarted(PycomnetError):
    """A gateway could not be made; the message has its process's output on standard error.

    :ivar exit_status: the process's exit status, or None.
    :ivar stderr: the last lines of its standard error.
    :ivar status: as ``exit_status``, or minus the signal that ended the process.
    :ivar words: why, without the gateway's name and the output on standard error.
    """

    def __init__(
        self, reason: str, status: int | None = None, stderr: str = "", words: str = ""
    ) -> None:
        super().__init__(reason)
        self.exit_status = status if status is None or status >= 0 else None
        self.stderr = stderr
        self.status = status
        self.words = words or reason


class GatewaysNotStarted(PycomnetError):
    """Some of several gateways could not be made.

    :ivar gateways: those that were made, with None in the place of each that was not.
    :ivar failed: the others, as pairs of spec and error.
    """

    def __init__(self, gateways: list[Any], failed: list[tuple[Any, Exception]]) -> None:
        lines = [f"{len(failed)} of {len(gateways)} gateways could not be started:"]
        lines += [str(error) for _, error in failed]
        super().__init__("\n".join(lines))
        self.gateways = gateways
        self.failed = failed


class FactoryUnreachable(PycomnetError):
    """There is no factory service, or it does not let this program in; the message says why."""


class RemoteError(PycomnetError):
    """Code at the other end raised.

    :ivar type: the exception's class there, with its module unless it is a builtin one.
    :ivar message: the exception as a string.
    :ivar formatted: the traceback there, with source lines, causes and notes.
    :ivar code: ``remote``, or the stable name of what else failed there.
    """

    def __init__(self, type: str, message: str, formatted: str = "", code: str = "remote") -> None:
        super().__init__(type, message, formatted, code)
        self.type = type
        self.message = message
        self.formatted = formatted
        self.code, self.of_call = code, True
        #: the map that it was made from
        self.error: dict[str, Any] = {}

    def __str__(self) -> str:
        # What is shown can't command a terminal; the attributes have all as it came.
        if self.formatted:
            return visible(self.formatted.rstrip())
        return visible(f"{self.type}: {self.message}" if self.type else self.message)

    @classmethod
    def from_map(cls, error: dict[str, Any]) -> RemoteError:
        """Make one of an error's map (docs/protocol.rst, "Errors"); what is missing is empty."""
        made = cls(
            str(error.get("type", "")),
            str(error.get("message", "")),
            str(error.get("formatted", "")),
            str(error.get("code", "remote")),
        )
        made.error, made.nested = error, error.get("nested") is True
        return made

    def as_map(self) -> dict[str, str]:
        """The error's map, as CLOSE carries it."""
        return {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "formatted": self.formatted,
        }


class TimeoutExpired(PycomnetError, TimeoutError):
    """What was waited for did not happen within the timeout."""


class ServiceError(PycomnetError):
    """The root of the errors of calls, except for those that methods raise."""


class UnknownInterface(ServiceError):
    """There is no such interface at that address; the message lists those that there are."""

    code = "interface"


class UnknownMethod(ServiceError):
    """The interface has no such method; the message lists its methods."""

    code = "method"


class InvalidArguments(ServiceError, ValueError):
    """The arguments are not what the method declares."""

    code = "arguments"


class ResultNotSendable(ServiceError):
    """A method returned a value that can't be sent; the message names the type and where it is."""

    code = "result"


class DeadlineExceeded(ServiceError, TimeoutExpired):
    """The call's deadline passed before it had a result; the method was cancelled."""

    code = "deadline"


class MemoryExceeded(PycomnetError):
    """Too much memory is held for a peer: its channels or its connection are closed."""

    code = "memory"


class Overloaded(ServiceError):
    """The server has as many calls as it takes; nothing was run. Try again later, or elsewhere."""

    code = "overloaded"


class ServerLeaving(ServiceError):
    """The server is about to end and takes no more calls; nothing was run."""

    code = "leaving"


class CallInterrupted(ServiceError):
    """The connection broke while the call was under way: it may have been run, or not.

    Calls of methods that are declared idempotent are repeated instead.
    """

    code, of_call = "interrupted", True


class OnceMemoryLost(ServiceError):
    """A method with ``once`` was called again where the first call's answer is not known: that was
    at another process, or too long ago. The method was not run.

    :ivar memory: the name of this server's memory of answers.
    """

    code = "once-memory"
    fields = ("memory",)
    memory = ""

    def __init__(self, message: str, memory: str = "") -> None:
        super().__init__(message)
        self.memory = memory


class KeyConflict(ServiceError, ValueError):
    """The key of a call was used before, with other arguments; the method was not run."""

    code = "key-conflict"


class CallSkipped(ServiceError):
    """A call of a batch that ends at the first error was not run, as one before it has failed."""

    code, of_call = "skipped", True


class ServiceUnreachable(ServiceError):
    """No connection to the service's address could be made; nothing was run."""

    code, of_call = "unreachable", True


class ServiceNotFound(ServiceError, LookupError):
    """The nameserver has no such service."""

    code = "not-found"


class AttachmentFailed(ServiceError):
    """A block of binary data did not arrive in full."""

    code = "attachment"


class AttachmentTooLarge(ServiceError):
    """A call's blocks of binary data are longer, or more, than the receiver allows."""

    code = "attachment-limit"


class Unauthenticated(ServiceError):
    """The call needs credentials, or the server did not accept those it got. Unless the reason is
    ``ended``, nothing was run.

    :ivar reason: ``missing``, ``refused``, ``kind``, ``expired``, ``ended`` or ``busy``: see
        docs/protocol.rst, "Credentials".
    :ivar login: if the call had no credentials, the kinds that the server takes; otherwise there is
        no such attribute.
    """

    code = "unauthenticated"
    fields = ("reason", "login")
    reason = "refused"
    login: list[str]

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(ServiceError):
    """The user may not call the method; nothing was run.

    :ivar interface: the interface that was called.
    :ivar method: the method that was called.
    :ivar role: the role that the user lacks; empty if no role would do.
    """

    code = "forbidden"
    fields = ("interface", "method", "role")
    interface = method = role = ""

    def __init__(self, message: str, interface: str = "", method: str = "", role: str = "") -> None:
        super().__init__(message)
        self.interface = interface
        self.method = method
        self.role = role


class CredentialsNotSent(ServiceError):
    """The credentials were not sent, as others could read them there; the message says what to do.

    It is raised by the client. Nothing was run.
    """


class AccessConfigError(PycomnetError, ValueError):
    """A rule, or a file of users or credentials, can't be used; the message says what is wrong."""


class SessionTooLarge(ServiceError):
    """A session holds more than the server allows a client."""

    code = "session-limit"


class NameserverError(ServiceError):
    """The root of a nameserver's errors."""


class InvalidRegistration(NameserverError, ValueError):
    """An argument of a nameserver's method is not valid, or over a limit."""

    code = "registration"


class ServiceNameTaken(NameserverError):
    """Another owner has the service name, and its lease is not over.

    :ivar service: the name.
    :ivar address: the address of the service that has it.
    :ivar interfaces: that service's interfaces.
    :ivar ttl: seconds until its lease ends, unless it is renewed.
    """

    code = "name-taken"
    fields = ("service", "address", "interfaces", "ttl")
    service = address = ""
    interfaces: Sequence[str] = ()
    ttl = 0.0

    def __init__(
        self,
        message: str,
        service: str = "",
        address: str = "",
        interfaces: Sequence[str] = (),
        ttl: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.service = service
        self.address = address
        self.interfaces = list(interfaces)
        self.ttl = ttl


class LeaseLost(NameserverError):
    """The lease is over: it has ended, or the nameserver has lost it. Register again."""

    code = "lease-lost"


class NotLeaseOwner(NameserverError):
    """The secret is not the one of the lease."""

    code = "not-owner"


class RevisionTooOld(NameserverError):
    """A watch can't go on from that revision: begin with a snapshot again.

    :ivar revision: the revision that was asked for.
    :ivar oldest: the oldest revision from which a watch can go on.
    """

    code = "revision"
    fields = ("revision", "oldest")
    revision = oldest = 0

    def __init__(self, message: str, revision: int = 0, oldest: int = 0) -> None:
        super().__init__(message)
        self.revision = revision
        self.oldest = oldest


class NameserverFull(NameserverError):
    """The nameserver's limit on registrations or watches is reached."""

    code = "full"


class TooManyRegistrations(NameserverFull):
    """The limit on registrations of one client is reached; other clients may have room."""

    code = "client-full"


class StoreFailed(NameserverError):
    """A store can't read or write, for example as its disk is full. Nothing was changed."""

    code = "store"


class StoreCutOff(StoreFailed):
    """The nameserver is cut off from the store that it shares with others.

    Nothing was changed, except that a lease may have been renewed. Another nameserver may be able
    to do it; clients that know several try them.
    """

    code = "store-cut-off"
    elsewhere = True


class StoreUncertain(NameserverError):
    """The store did not answer: the change may have been made, or may still be. Repeat it.

    Registering again with the same secret returns the lease if it was made.
    """

    code = "store-uncertain"


class NameserverStale(NameserverError):
    """The nameserver was cut off from its store for too long: its data is too old to be served."""

    code = "stale"
    elsewhere = True


class StoreConflict(StoreFailed):
    """The store has another registration of the name than the one that the change replaces."""

    code = "store-conflict"


def message_of(problem: BaseException) -> str:
    """An error's message; a replacement for it if the error's own ``__str__`` raises."""
    try:
        return str(problem)
    except BaseException:
        return "<the exception's own __str__ raised>"


def error_map(problem: BaseException, formatted: str = "") -> dict[str, Any]:
    """The form in which an error is sent: the map of docs/protocol.rst, "Errors".

    :param formatted: its traceback; empty if the peer may not see it.
    """
    if isinstance(problem, RemoteError):
        found: dict[str, Any] = dict(problem.as_map())
        found |= {"nested": True, "formatted": formatted and (problem.formatted or formatted)}
        return found
    kind: Any = type(problem)
    found = {
        "code": "remote",
        "type": type_name(kind),
        "message": message_of(problem),
        "formatted": formatted,
    }
    if isinstance(problem, PycomnetError):
        known = _by_code.get(kind.code)
        if known is not None and issubclass(kind, known):
            found["code"] = kind.code
            found |= {"nested": True} if problem.of_call else {}
            fields = {key: getattr(problem, key) for key in known.fields if hasattr(problem, key)}
            if fields:
                found["fields"] = fields
    return found


def from_map(error: object) -> PycomnetError:
    """The error of a map: of the class that has its code, else a RemoteError."""
    if not isinstance(error, dict):
        return RemoteError.from_map({})
    kind = _by_code.get(str(error.get("code")))
    if kind is None:
        return RemoteError.from_map(error)
    problem = kind.__new__(kind)
    problem.args = (str(error.get("message", "")),)
    problem.formatted = str(error.get("formatted", ""))
    problem.of_call, problem.nested = True, error.get("nested") is True
    fields = error.get("fields")
    if isinstance(fields, dict):
        for key in kind.fields:
            if key in fields:
                setattr(problem, key, fields[key])
    return problem
