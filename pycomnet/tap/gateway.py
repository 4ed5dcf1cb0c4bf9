"""``twistd pycomnet-gateway``: starts a far side for each program that connects."""

from __future__ import annotations

import shlex
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from pycomnet.errors import PycomnetError
from pycomnet.gateways import socketservice as service
from pycomnet.gateways.transports.socket import KEEPALIVE
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.tap.numericoptions import count, seconds
from pycomnet.tap.options import DaemonOptions


class Options(DaemonOptions):
    """The options of ``twistd pycomnet-gateway``."""

    synopsis = "[options]"
    longdesc = """\
Starts a Python process for each program that connects and is authorised, for gateways such as
group.makegateway("socket=HOST:PORT//token_file=FILE"). A client that has a token can run code as
the user of this service. So can a client with a certificate, where --listen asks for one
(tls:PORT:privateKey=FILE:certKey=FILE:clientCAs=FILE). On a unix socket the user of this service
needs neither. Without --tokens there is one token, in a file that only this user can read. The file
is created if it does not exist, and the log shows its path."""

    epilog = """\
Examples:
  twistd --pidfile= -n pycomnet-gateway
      Listen on this machine alone; the log shows the spec for programs.
  twistd pycomnet-gateway --tokens /etc/pycomnet/tokens.ini
      For several users, each with a token.
  twistd pycomnet-gateway --listen tls:8888:privateKey=key.pem:certKey=cert.pem
      For other machines, with TLS.
"""

    optParameters = [
        ["listen", "l", service.LISTEN, "Endpoint to listen on."],
        [
            "token-file",
            "t",
            None,
            "File with the token; created if it does not exist. "
            "[default: ~/.local/state/pycomnet/gateway.token]",
        ],
        ["tokens", None, None, "INI file with a section for each user, which has their token."],
        [
            "python",
            None,
            None,
            "Interpreter of the far sides, and its arguments. [default: this one]",
        ],
        ["clients", None, service.MAX_CLIENTS, "The most programs connected at a time."],
        ["workers", None, service.MAX_WORKERS, "The most processes of one program at a time."],
        [
            "keepalive",
            None,
            KEEPALIVE,
            "Seconds of silence before a program is pinged; after three times as long its "
            "connection is closed.",
        ],
        ["drain", None, 0, "Seconds that programs have to finish when the service stops."],
    ]

    optFlags = [["insecure", None, "Allow listening without TLS where other machines can connect."]]

    def postOptions(self) -> None:
        """Check the options before anything is started."""
        given: dict[str, Any] = {}
        try:
            if self["python"] is not None:
                given["python"] = tuple(shlex.split(self["python"]))
            if self["tokens"] is not None and self["token-file"] is not None:
                raise usage.UsageError("give --token-file (a single token) or --tokens, not both")
            self.configuration = service.SocketServiceConfiguration(
                listen=self["listen"],
                tokens=self["tokens"],
                token_file=self["token-file"],
                insecure=bool(self["insecure"]),
                clients=count(self, "clients"),
                workers=count(self, "workers"),
                keepalive=seconds(self, "keepalive", 0.1),
                drain=seconds(self, "drain"),
                **given,
            )
            self.configuration.check()
        except (PycomnetError, ValueError) as problem:
            raise usage.UsageError(str(problem)) from None


def makeService(options: Options) -> IService:
    """Make the service that the options describe."""
    from twisted.internet import reactor

    from pycomnet.tap.exitstatus import ExitStatus

    use_monotonic_clock(reactor)
    status = ExitStatus("pycomnet-gateway")

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    return service.GatewayService(options.configuration, reactor, failed)
