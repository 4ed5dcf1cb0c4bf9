"""``twistd pycomnet-gateway``: workers for programs that connect."""

from __future__ import annotations

import shlex
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from pycomnet.errors import PycomnetError
from pycomnet.gateways import socketservice as service
from pycomnet.gateways.transports.socket import KEEPALIVE
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.tap.numbers import count, seconds


class Options(usage.Options):
    """What the command line says."""

    synopsis = "[options]"
    longdesc = """\
Gives each program that connects and may come in a Python process of its own, as the gateways of
pycomnet use it: group.makegateway("socket=HOST:PORT//token_file=FILE"). Whoever has a token, or a
certificate where --listen asks for one (tls:PORT:privateKey=FILE:certKey=FILE:clientCAs=FILE), can
run code as the user that this service runs as. On a unix socket this user needs none. Without
--tokens there is one token, in a file that only this user can read; it is made if it isn't there,
and the log says where it is."""

    optParameters = [
        ["listen", "l", service.LISTEN, "Endpoint to listen on."],
        [
            "token-file",
            "t",
            None,
            "File with the token; made if it isn't there. "
            "[default: ~/.local/state/pycomnet/gateway.token]",
        ],
        ["tokens", None, None, "INI file with a section for each user, and in it their token."],
        ["python", None, None, "Interpreter of the workers, and its arguments. [this one]"],
        ["clients", None, service.MAX_CLIENTS, "Programs that may be connected at a time."],
        ["workers", None, service.MAX_WORKERS, "Processes that each may have at a time."],
        [
            "keepalive",
            None,
            KEEPALIVE,
            "Seconds of silence before a program is pinged; after three times as long it is gone.",
        ],
        ["drain", None, 0, "Seconds for programs to finish when the service stops."],
    ]

    optFlags = [["insecure", None, "Listen without TLS where other machines can reach it."]]

    def postOptions(self) -> None:
        """Read them, and say what is wrong with them before anything is started."""
        given: dict[str, Any] = {}
        try:
            if self["python"] is not None:
                given["python"] = tuple(shlex.split(self["python"]))
            if self["tokens"] is not None and self["token-file"] is not None:
                raise usage.UsageError("--token-file is for a single token: leave it or --tokens")
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
    """The service that the options describe."""
    from twisted.internet import reactor

    from pycomnet.tap.endings import ExitStatus

    use_monotonic_clock(reactor)
    status = ExitStatus("pycomnet-gateway")

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    return service.GatewayService(options.configuration, reactor, failed)
