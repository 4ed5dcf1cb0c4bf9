"""``twistd pycomnet-http-exec``: starts far sides for clients that connect through HTTP."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.application.service import IService
from twisted.cred import strcred
from twisted.python import usage

from pycomnet.auth import tokens
from pycomnet.errors import PycomnetError
from pycomnet.mediator.server import service
from pycomnet.mediator.server.model import READERS, UserLimits, read_count, read_seconds
from pycomnet.mediator.server.subprocesses import MAX_PROCESSES
from pycomnet.mediator.server.usertokens import UserTokens
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.tap.exitstatus import ExitStatus
from pycomnet.tap.options import DaemonOptions


def _limit(name: str) -> Any:
    return getattr(UserLimits(), name)


class Options(DaemonOptions, strcred.AuthOptionMixin):
    """The options of ``twistd pycomnet-http-exec``."""

    supportedInterfaces = (tokens.IBearerToken,)
    synopsis = "[options]"
    longdesc = """\
Runs Python in subprocesses for clients that connect through HTTP: gateways such as
group.makegateway("http=HOST:PORT//token_file=FILE"), or any other HTTP client that follows
docs/protocol.rst. A client that has a token can run code as the user of this server. Without
--tokens and --auth there is one token, in a file that only that user can read. The file is created
if it does not exist, and the log shows its path."""

    epilog = """\
Examples:
  twistd --pidfile= -n pycomnet-http-exec
      Listen on this machine alone; the log shows the spec for clients.
  twistd pycomnet-http-exec --tokens /etc/pycomnet/tokens.ini --audit-log /var/log/pycomnet.audit
      For several users, each with a token and limits.
  twistd pycomnet-http-exec --listen tls:2013:privateKey=key.pem:certKey=cert.pem
      For other machines, with TLS.
"""

    optParameters = [
        ["listen", "l", service.LISTEN, "Endpoint to listen on."],
        [
            "token-file",
            "t",
            None,
            "File with the token; created if it does not exist. "
            "[default: ~/.local/state/pycomnet/http-exec.token]",
        ],
        ["tokens", None, None, "INI file with a section for each user: their token and limits."],
        ["total", None, MAX_PROCESSES, "The most subprocesses in all.", None],
        ["processes", None, _limit("processes"), "The most subprocesses of one user."],
        ["queue", None, "4M", "The most output of a subprocess that is kept for its client."],
        ["request", None, "64M", "The largest size of one request."],
        ["linger", None, _limit("linger"), "Seconds that a subprocess waits for an absent client."],
        [
            "idle-timeout",
            None,
            _limit("idle_timeout"),
            "Seconds after which an idle subprocess is ended; 0: never.",
        ],
        [
            "allow",
            None,
            ",".join(sorted(_limit("allow"))),
            "Options that a client may set, or none.",
        ],
        ["pythons", None, "", "Interpreters that a client may choose, the first by default. [any]"],
        ["drain", None, service.DRAIN, "Seconds for clients to finish when the server stops."],
        ["audit-log", None, None, "File that gets a line for each start and end of a subprocess."],
    ]

    optFlags = [
        ["insecure", None, "Allow listening without TLS where other machines can connect."],
        ["no-websocket", None, "Use no WebSockets, only POST and GET."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["hosts"] = []
        self["origins"] = []

    def opt_host(self, name: str) -> None:
        """Another host name of this server; *.example.com stands for names one level below it."""
        self["hosts"].append(name)

    def opt_origin(self, origin: str) -> None:
        """Another origin whose pages may send requests, such as https://ops.example.com."""
        self["origins"].append(origin)

    def postOptions(self) -> None:
        """Check the options before anything is started."""
        try:
            self.configuration = self._configuration()
        except (PycomnetError, ValueError) as problem:
            raise usage.UsageError(str(problem)) from None

    def _configuration(self) -> service.MediatorConfiguration:
        values = {}
        for name in attrs.fields_dict(UserLimits):
            option = name.replace("_", "-")
            try:
                values[name] = READERS[name](f"--{option}", str(self[option]))
            except ValueError as problem:
                raise usage.UsageError(str(problem)) from None
        limits = UserLimits(**values)
        checkers = list(self.get("credCheckers", ()))
        users: UserTokens | None = None
        if self["tokens"] is not None:
            users = UserTokens(self["tokens"], limits)
            users.open()
        if len(checkers) + (users is not None) > 1:
            # A portal has one checker for each kind of credentials.
            raise usage.UsageError("give --tokens or one --auth: one of them checks the tokens")
        if self["token-file"] is not None and (checkers or users is not None):
            raise usage.UsageError("--token-file (a single token) excludes --tokens and --auth")
        configuration = service.MediatorConfiguration(
            listen=self["listen"],
            checkers=tuple(checkers),
            token_file=self["token-file"],
            tokens=users,
            limits=limits,
            insecure=bool(self["insecure"]),
            hosts=tuple(self["hosts"]),
            origins=tuple(self["origins"]),
            processes=read_count("--total", str(self["total"])),
            drain=read_seconds("--drain", str(self["drain"])),
            audit_log=self["audit-log"],
            websocket=not self["no-websocket"],
        )
        configuration.check()
        return configuration


def makeService(options: Options) -> IService:
    """Make the service that the options describe."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    status = ExitStatus("pycomnet-http-exec")
    return service.MediatorService(
        options.configuration, reactor, lambda problem: status.fail(reactor, problem)
    )
