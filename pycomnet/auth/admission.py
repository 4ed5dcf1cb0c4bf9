"""Admission by a unix socket's peer credentials, by a certificate, or by a token."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.address import UNIXAddress
from twisted.python.failure import Failure

from pycomnet.auth.reloadedtokens import ReloadedTokens
from pycomnet.auth.tokens import (
    KnownToken,
    TokenChecker,
    default_token_path,
    load_or_make_token,
)
from pycomnet.deferred import deferred
from pycomnet.errors import EndpointError, PycomnetError, TokenError
from pycomnet.net import endpoints
from pycomnet.net.private import NotPrivate, check_directory, make_directory
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

log = Logger()

#: Seconds within which a peer that has connected has to identify itself.
HELLO_TIMEOUT = 10.0
#: How often a daemon tries to lock its socket's directory before it listens; seconds between tries.
LOCK_TRIES = 20
LOCK_DELAY = 0.01


class NotAdmitted(PycomnetError):
    """The peer is not authorised; the message says what is needed."""


@attrs.frozen
class PeerCredentials:
    """The credentials of the process at the other end of a unix socket, from the system."""

    pid: int
    uid: int
    gid: int


def peer_credentials(transport: Any) -> PeerCredentials | None:
    """The credentials of a unix socket's peer; None if the system does not give them."""
    connection = getattr(transport, "socket", None)
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return PeerCredentials(*struct.unpack("3i", data))


def check_exposure(listen: str, insecure: bool = False) -> None:
    """Check that nobody else can read the traffic of a listener.

    :param listen: its endpoint string.
    :param insecure: whether the user accepts that others can.
    :raises EndpointError: other machines could reach it without TLS, and ``insecure`` is not set.
    """
    if insecure or endpoints.is_tls(listen) or endpoints.is_local(listen):
        return
    raise EndpointError(
        f"{listen!r} can be reached from other machines, and has no TLS: whoever hears a token "
        "there can run code here. Listen on tcp:PORT:interface=127.0.0.1, on unix:PATH or on "
        "tls:PORT:privateKey=FILE:certKey=FILE, or say --insecure"
    )


@attrs.frozen
class Admission:
    """Decides whether a peer is authorised.

    :ivar checker: knows the tokens.
    :ivar uids: users that need no token on a unix socket, where the system tells the peer's user.
    :ivar certificates: whether a client certificate, which TLS has checked, is enough.
    :ivar token_path: the file with the token, if there is only one.
    """

    checker: TokenChecker | ReloadedTokens | None = None
    uids: Collection[int] = attrs.field(factory=lambda: frozenset({os.geteuid(), 0}))
    certificates: bool = False
    token_path: Path | None = None

    @classmethod
    def of(
        cls,
        service: str,
        listen: Collection[str],
        tokens: str | None = None,
        token_file: str | None = None,
    ) -> Admission:
        """The admission of a service, from its options.

        :param service: its name, by which it finds its own token.
        :param listen: its endpoint strings. A token is needed unless each of them is a unix socket,
            whose peers the system knows, or asks for client certificates.
        :param tokens: a file with several tokens; it is read again when it changes.
        :param token_file: otherwise, a file with one token; it is created if it does not exist.
        :raises TokenError: such a file is wrong, or can't be created.
        """
        certificates = any(wants_certificates(each) for each in listen)
        if tokens is not None:
            file = ReloadedTokens(tokens)
            file.open()
            return cls(file, certificates=certificates)
        if token_file is None and all(
            endpoints.parse(each).kind == "unix" or wants_certificates(each) for each in listen
        ):
            return cls(certificates=certificates)
        checker, path = own_token(service, token_file)
        return cls(checker, certificates=certificates, token_path=path)

    def admit(self, transport: Any, credential: bytes | None) -> str:
        """Authenticate a peer; returns its name.

        :param transport: the connection's.
        :param credential: the credential of its hello.
        :raises NotAdmitted: the peer is not authorised.
        """
        known = self.token(credential)
        return known.name if known is not None else self.without_token(transport, credential)

    def token(self, credential: bytes | None) -> KnownToken | None:
        """The known token that a credential is, or None."""
        if credential is None or self.checker is None:
            return None
        return self.checker.find(credential)

    def without_token(self, transport: Any, credential: bytes | None) -> str:
        """Authenticate a peer that has no known token, as :meth:`admit` does."""
        if isinstance(transport.getPeer(), UNIXAddress):
            peer = peer_credentials(transport)
            if peer is not None and peer.uid in self.uids:
                return f"uid {peer.uid}"
        elif self.certificates:
            name = endpoints.peer_name(transport)
            if name is not None:
                return name
        if credential is not None:
            raise NotAdmitted("nobody here has such a token")
        raise NotAdmitted(
            "a token is needed: token_file=FILE" + (", or a certificate" * self.certificates)
        )


def own_token(service: str, token_file: str | None = None) -> tuple[TokenChecker, Path]:
    """A checker of a service's only token, and the token's file, which is created if necessary.

    :raises TokenError: the file is wrong, or can't be created.
    """
    path = Path(os.path.expanduser(token_file)) if token_file else default_token_path(service)
    token, made = load_or_make_token(path)
    try:
        check_directory(path.parent)
    except NotPrivate as problem:
        raise TokenError(f"token file {path}: {problem}") from None
    if made:
        log.info("made a token: it is in the file {path}", path=str(path))
    return TokenChecker.of_one(token), path


class ServiceConfiguration(Protocol):
    """The configuration of a service."""

    def check(self) -> None:
        """Check the settings.

        :raises PycomnetError: they can't be used; the message says why.
        """


ConfigurationT = TypeVar("ConfigurationT", bound=ServiceConfiguration)


class ListeningService(Service, Generic[ConfigurationT]):
    """A service that listens once it is started.

    :param configuration: its settings, which have been checked.
    :param failed: called with the error if it can't listen.
    """

    def __init__(
        self,
        configuration: ConfigurationT,
        reactor: EndpointReactor,
        failed: Callable[[PycomnetError], object] = lambda problem: None,
    ) -> None:
        configuration.check()
        self.configuration = configuration
        self.reactor = reactor
        self._failed = failed

    def startService(self) -> None:
        """Begin to listen; an error is passed to ``failed``."""
        super().startService()  # type: ignore[no-untyped-call]
        self.listen().addErrback(self._not_listening)

    def listen(self) -> defer.Deferred[None]:
        """Begin to listen; fires when it does."""
        raise NotImplementedError

    def _not_listening(self, failure: Failure) -> None:
        problem = failure.value
        if not isinstance(problem, PycomnetError):
            log.failure("can't listen", failure)
            problem = EndpointError(f"can't listen: {endpoints.explain(failure)}")
        self._failed(problem)


def wants_certificates(listen: str) -> bool:
    """Whether a listener's endpoint string asks for clients' certificates."""
    return endpoints.is_tls(listen) and "clientCAs" in endpoints.parse(listen).options


@deferred
async def listen_on(reactor: EndpointReactor, listen: str, factory: Any) -> Any:
    """Listen. A unix socket is for this user alone, and replaces a stale one.

    :param listen: an endpoint string.
    :returns: fires with the port. Fails with :class:`PycomnetError` when other users could put a
        socket of their own there, or as listening does.
    """
    endpoint = endpoints.parse(listen)
    if endpoint.kind != "unix":
        return await endpoints.listen(reactor, listen, factory)
    path = endpoint.argument(0, "address")
    prepare_directory(path)
    options = {"mode": "600", "lockfile": "1", **endpoint.options}
    listen = str(attrs.evolve(endpoint, options=options))
    with _one_at_a_time(path):
        _remove_stale(path)
        return await endpoints.listen(reactor, listen, factory)


@contextlib.contextmanager
def _one_at_a_time(path: str) -> Iterator[None]:
    """Keep other daemons from beginning to listen in this directory meanwhile.

    Otherwise two daemons could find a stale socket, and the second would remove the first one's new
    lock.
    """
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise EndpointError(f"can't listen on {path}: {problem.strerror}") from problem
    try:
        for _ in range(LOCK_TRIES):  # whoever else holds it for long can't keep us from listening
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(LOCK_DELAY)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    """Remove a stale socket and its lock.

    The lock has the process id of its maker, which another process may have by now.
    """
    lock = f"{path}.lock"
    if not os.path.islink(lock) or (os.path.lexists(path) and not _is_socket(path)):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            for name in (path, lock):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError:
            pass  # listening says what is the matter


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def prepare_directory(path: str) -> None:
    """Create the directory of a socket, for this user alone.

    :raises PycomnetError: another user has made it, or others can write there.
    """
    directory = Path(path).parent
    try:
        make_directory(directory)
        check_directory(directory)
    except OSError as problem:
        raise EndpointError(f"can't listen on {path}: {directory}: {problem.strerror}") from problem
