"""``twistd pycomnet-factory``: keeps gateways that outlive the programs that use them."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.python import usage

from pycomnet.errors import PycomnetError
from pycomnet.factory import service
from pycomnet.factory.settings import IDLE_TIMEOUT, Settings
from pycomnet.far.lingering.relay import MAX_KEPT
from pycomnet.gateways.localfactory import default_path
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.ranges import MAX_COUNT
from pycomnet.tap.numericoptions import count, seconds
from pycomnet.tap.options import DaemonOptions


class Options(DaemonOptions):
    """The options of ``twistd pycomnet-factory``."""

    synopsis = "[options]"
    longdesc = """\
Starts and keeps gateways for the programs of this user. After a program has called
group.setlocalfactory(), this service starts the gateways of the group. Gateways share its ssh
connections, and a gateway with //linger=SECONDS outlives its program: the program resumes it by its
id. Without --listen and --port the service listens on a unix socket that only this user can use. A
client that has the token of a port can run code as this user."""

    epilog = """\
Examples:
  twistd --pidfile= -n pycomnet-factory
      Listen on a unix socket of this user.
  twistd pycomnet-factory --linger 86400 --each 20
      Keep a gateway for a day at most, and at most 20 of one program.
  twistd pycomnet-factory --port 2011
      Listen on the loopback interface; programs need the token.
"""

    optParameters = [
        ["port", "p", None, "TCP port to listen on, on the loopback interface, with a token."],
        [
            "token-file",
            "t",
            None,
            "File with the token; created if it does not exist. "
            "[default: ~/.local/state/pycomnet/factory.token]",
        ],
        ["programs", None, service.MAX_PROGRAMS, "The most programs connected at a time."],
        ["gateways", None, service.MAX_GATEWAYS, "The most gateways in all."],
        [
            "each",
            None,
            None,
            "The most gateways of one program, with those it has left. [default: all of them]",
        ],
        ["linger", None, Settings().max_linger, "The most seconds that a gateway may stay unused."],
        [
            "idle-timeout",
            None,
            IDLE_TIMEOUT,
            "Seconds after which a gateway without running code or traffic is ended; 0: never.",
        ],
        ["kept", None, MAX_KEPT >> 20, "The most megabytes of long values kept for each gateway."],
        ["keepalive", None, service.KEEPALIVE, "Seconds of silence before a program is pinged."],
    ]

    optFlags = [["insecure", None, "Allow listening without TLS where other machines can connect."]]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Endpoint to listen on; may be given several times. [default: a unix socket, see below]"""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def getUsage(self, width: int | None = None) -> str:
        return f"{super().getUsage(width)}\nThe socket is {default_path()}\n"

    def postOptions(self) -> None:
        """Check the options before anything is started."""
        listen = list(self["listen"])
        if self["port"] is not None:
            port = count(self, "port", 0, 65535)
            listen.append(f"tcp:{port}:interface=127.0.0.1")
        self.configuration = service.FactoryConfiguration(
            listen=tuple(listen),
            token_file=self["token-file"],
            insecure=bool(self["insecure"]),
            max_programs=count(self, "programs"),
            max_gateways=count(self, "gateways"),
            max_each=None if self["each"] is None else count(self, "each"),
            keepalive=seconds(self, "keepalive", 0.1),
            settings=Settings(
                idle_timeout=seconds(self, "idle-timeout"),
                max_linger=seconds(self, "linger"),
                max_kept=count(self, "kept", 0, MAX_COUNT >> 20) << 20,
            ),
        )
        try:
            self.configuration.check()
        except PycomnetError as problem:
            raise usage.UsageError(str(problem)) from None


def makeService(options: Options) -> IService:
    """Make the service that the options describe."""
    from twisted.internet import reactor

    from pycomnet.auth.tokens import forget_credentials
    from pycomnet.tap.exitstatus import ExitStatus

    use_monotonic_clock(reactor)
    forget_credentials()  # its gateways inherit its environment
    status = ExitStatus("pycomnet-factory")

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    return service.FactoryService(options.configuration, reactor, failed)
