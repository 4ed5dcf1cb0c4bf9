"""``twistd pycomnet-http-exec``: run code for clients that reach this machine through HTTP."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.application.service import IService
from twisted.cred import strcred
from twisted.python import usage

from pycomnet.auth import tokens
from pycomnet.errors import PycomnetError
from pycomnet.mediator.server import service
from pycomnet.mediator.server.mediator import MAX_PROCESSES
from pycomnet.mediator.server.model import READERS, UserLimits, read_count, read_seconds
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.tap.endings import ExitStatus
from pycomnet.tap.options import DaemonOptions


def _limit(name: str) -> Any:
    return getattr(UserLimits(), name)


class Options(DaemonOptions, strcred.AuthOptionMixin):
    """What the command line says."""

    supportedInterfaces = (tokens.IBearerToken,)
    synopsis = "[options]"
    longdesc = """\
Runs Python in subprocesses for clients that reach this server through HTTP, as the gateways of
pycomnet do: group.makegateway("http=HOST:PORT//token_file=FILE"), or anything else that speaks
HTTP: docs/protocol.rst says how. Whoever has a token can run code as the user that this server
runs as. Without --tokens and --auth there is one token, in a file that only that user can read;
it is made if it isn't there, and the log says where it is."""

    epilog = """\
Examples:
  twistd -n pycomnet-http-exec
      Listen on this machine alone; the log says what a client's spec is.
  twistd pycomnet-http-exec --tokens /etc/pycomnet/tokens.ini --audit-log /var/log/pycomnet.audit
      For several users, each with a token and limits of their own.
  twistd pycomnet-http-exec --listen tls:2013:privateKey=key.pem:certKey=cert.pem
      For other machines, with TLS.
"""

    optParameters = [
        ["listen", "l", service.LISTEN, "Endpoint to listen on."],
        [
            "token-file",
            "t",
            None,
            "File with the token; made if it isn't there. "
            "[default: ~/.local/state/pycomnet/http-exec.token]",
        ],
        ["tokens", None, None, "INI file with a section for each user: their token and limits."],
        ["total", None, MAX_PROCESSES, "Subprocesses in all.", None],
        ["processes", None, _limit("processes"), "Subprocesses of one user."],
        ["queue", None, "4M", "Output of a subprocess that is kept for its client."],
        ["request", None, "64M", "Size of one request."],
        ["linger", None, _limit("linger"), "Seconds that a subprocess waits for its client."],
        [
            "idle-timeout",
            None,
            _limit("idle_timeout"),
            "Seconds after which a subprocess that does nothing is ended; 0: never.",
        ],
        ["allow", None, ",".join(sorted(_limit("allow"))), "What a client may ask for, or none."],
        ["pythons", None, "", "Interpreters that it may ask for, the first by default. [any]"],
        ["drain", None, service.DRAIN, "Seconds for clients to finish when the server stops."],
        ["audit-log", None, None, "File that gets a line for each start and end of a subprocess."],
    ]

    optFlags = [
        ["insecure", None, "Listen without TLS where other machines can reach it."],
        ["no-websocket", None, "Offer no WebSockets, only POST and GET."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["hosts"] = []
        self["origins"] = []

    def opt_host(self, name: str) -> None:
        """Another name that clients call this server by; *.example.com is any below it."""
        self["hosts"].append(name)

    def opt_origin(self, origin: str) -> None:
        """Another origin whose pages may ask, such as https://ops.example.com."""
        self["origins"].append(origin)

    def postOptions(self) -> None:
        """Read them, and say what is wrong with them before anything is started."""
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
        users = {}
        if self["tokens"] is not None:
            known = tokens.load_tokens(self["tokens"], tuple(READERS))
            checkers.append(tokens.TokenChecker(known))
            for token in known:
                where = f"tokens file {self['tokens']}, [{token.name}]"
                users[token.name] = limits.changed(token.options, where)
        if self["token-file"] is not None and checkers:
            raise usage.UsageError("--token-file is for a single token: leave it or the others")
        configuration = service.MediatorConfiguration(
            listen=self["listen"],
            checkers=tuple(checkers),
            token_file=self["token-file"],
            users=users,
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
    """The service that the options describe."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    status = ExitStatus("pycomnet-http-exec")
    return service.MediatorService(
        options.configuration, reactor, lambda problem: status.fail(reactor, problem)
    )
