"""The mediator as a service: it listens, and when it stops it ends all its subprocesses."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import Portal
from twisted.internet import defer
from twisted.internet.address import UNIXAddress

from pycomnet.auth.admission import ListeningService, check_exposure, own_token
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.mediator.server.access import LOCAL_NAMES, Access, Names, Realm
from pycomnet.mediator.server.audit import AuditLog
from pycomnet.mediator.server.child import launcher
from pycomnet.mediator.server.model import UserLimits
from pycomnet.mediator.server.resources import destination, root
from pycomnet.mediator.server.site import Site
from pycomnet.mediator.server.subprocesses import MAX_PROCESSES, Mediator
from pycomnet.mediator.server.usertokens import UserTokens
from pycomnet.net import endpoints
from pycomnet.net.reactors import GatewayReactor
from pycomnet.ranges import check_fields
from pycomnet.text.logs import Logger

log = Logger("pycomnet.mediator.server")

#: The service's name, which is also that of its token file.
NAME = "http-exec"
#: Where it listens by default: on this machine alone.
LISTEN = "tcp:2013:interface=127.0.0.1"
#: Seconds that clients have to end their subprocesses when the server stops.
DRAIN = 10.0


@attrs.frozen
class MediatorConfiguration:
    """A server's configuration.

    :ivar listen: an endpoint string.
    :ivar checkers: check credentials; without one, and without ``tokens``, the token of
        ``token_file`` is checked.
    :ivar token_file: a file with the only token; it is created if it does not exist.
    :ivar tokens: the users of a tokens file. It is read again when it changes, and what the user of
        a withdrawn token runs is ended.
    :ivar limits: the limits of users whose section does not change them.
    :ivar insecure: allow listening without TLS where other machines can connect.
    :ivar hosts: further names of the server.
    :ivar origins: further origins whose pages may send requests.
    :ivar processes: the most subprocesses in all.
    :ivar drain: seconds that clients have to finish when it stops.
    :ivar audit_log: the path of the audit log; None for no file.
    :ivar websocket: whether clients may use WebSockets.
    """

    listen: str = LISTEN
    checkers: tuple[ICredentialsChecker, ...] = ()
    token_file: str | None = None
    tokens: UserTokens | None = None
    limits: UserLimits = attrs.field(factory=UserLimits)
    insecure: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    processes: int = MAX_PROCESSES
    drain: float = DRAIN
    audit_log: str | None = None
    websocket: bool = True

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def check(self) -> None:
        """Check that nobody else can read or change the traffic.

        :raises EndpointError: others could connect without TLS, and ``insecure`` is not set.
        """
        check_exposure(self.listen, self.insecure)


def names_of(configuration: MediatorConfiguration) -> Names:
    """The server's names: those of its machine, its certificate, and ``--host``."""
    names = {*LOCAL_NAMES, *(name.lower() for name in configuration.hosts)}
    if endpoints.is_local(configuration.listen):
        return Names(frozenset(names))
    names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    if endpoints.is_tls(configuration.listen):
        names |= certificate_names(endpoints.parse(configuration.listen).options)
    return Names(frozenset(names), numbers=True)


def certificate_names(options: Mapping[str, str]) -> set[str]:
    """The names in the certificate of a listening endpoint's options, in lower case."""
    from cryptography import x509

    path = options.get("certKey") or options.get("privateKey")
    try:
        certificate = x509.load_pem_x509_certificate(Path(path or "server.pem").read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
        return names | {str(number) for number in found.get_values_for_type(x509.IPAddress)}
    except (OSError, ValueError, x509.ExtensionNotFound):
        return set()  # listening with it gives the error


class MediatorService(ListeningService[MediatorConfiguration]):
    """The HTTP mediator.

    :param configuration: its configuration, which has been checked.
    :param failed: called with the error that keeps it from running.
    :ivar port: its listening port, once it listens.
    :ivar mediator: the mediator, which has the subprocesses.
    :ivar where: the start of a client's spec, once it listens; empty on a unix socket.
    """

    def __init__(
        self,
        configuration: MediatorConfiguration,
        reactor: GatewayReactor,
        failed: Callable[[PycomnetError], object] = lambda problem: None,
    ) -> None:
        super().__init__(configuration, reactor, failed)
        self.port: Any = None
        self.where = ""
        self._token_path: Path | None = None
        checkers = list(configuration.checkers)
        users: Mapping[str, UserLimits] = {}
        if configuration.tokens is not None:
            checkers.append(configuration.tokens)
            users = configuration.tokens.users
        if not checkers:
            checker, self._token_path = own_token(NAME, configuration.token_file)
            checkers.append(checker)
        try:
            self.audit = AuditLog(configuration.audit_log)
        except OSError as problem:
            raise PycomnetError(
                f"can't write the audit log {configuration.audit_log}: {problem.strerror}"
            ) from problem
        self.mediator = Mediator(launcher(reactor), reactor, configuration.processes, self.audit)
        self.mediator.websocket = configuration.websocket
        metrics = self.mediator.metrics
        self.access = Access(
            Portal(Realm(configuration.limits, users), checkers),
            reactor,
            names_of(configuration),
            configuration.origins,
            metrics.unauthorized.inc,
        )
        self.site = Site(
            root(self.mediator, self.access),
            self.access,
            destination(self.mediator, self.access),
            reactor,
            lambda status: metrics.requests.labels(str(status)).inc(),
        )
        self.mediator.unauthenticated = self.site.unauthenticated

    @deferred
    async def listen(self) -> None:
        """Start to listen. Fires when it listens."""
        self.port = await endpoints.listen(self.reactor, self.configuration.listen, self.site)
        if self.configuration.tokens is not None:
            self.configuration.tokens.watch(self.reactor, self._withdrawn)
        host = self.port.getHost()
        scheme = "https" if endpoints.is_tls(self.configuration.listen) else "http"
        if isinstance(host, UNIXAddress):
            log.info("listening on {where}", where=endpoints.describe_address(host))
            return
        name = host.host
        if ipaddress.ip_address(name).is_unspecified:
            name = socket.gethostname()
        self.where = f"{scheme}={f'[{name}]' if ':' in name else name}:{host.port}"
        token = f"//token_file={self._token_path}" if self._token_path else "//token_file=..."
        log.info("listening; clients reach it with {spec}", spec=self.where + token)

    def _withdrawn(self, names: frozenset[str]) -> None:
        self.access.withdraw(names)
        self.mediator.withdraw(names)

    @deferred
    async def stopService(self) -> None:
        """Let clients finish, end all subprocesses, and stop listening.

        :returns: fires when no subprocess is left.
        """
        super().stopService()
        running = len(self.mediator.running())
        if running:
            log.info(
                "stopping: {running} subprocesses have {drain:g} seconds",
                running=running,
                drain=self.configuration.drain,
            )
        await self.mediator.drain(self.configuration.drain if running else 0)
        if self.port is not None:
            await defer.maybeDeferred(self.port.stopListening)
        if self.configuration.tokens is not None:
            self.configuration.tokens.unwatch()
        self.audit.close()
