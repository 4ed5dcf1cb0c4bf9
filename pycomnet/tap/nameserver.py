"""``twistd pycomnet-nameserver``: the nameserver."""

from __future__ import annotations

import sys

import attrs
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.python import usage

from pycomnet.errors import AccessConfigError, EndpointError, PycomnetError, StoreFailed
from pycomnet.nameserver.changelog import LENGTH
from pycomnet.nameserver.freshness import MAX_STALE
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.nameserver.stores import make_store
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.net.endpoints import is_local, is_tls, parse
from pycomnet.tap.numericoptions import count, seconds
from pycomnet.tap.options import DaemonOptions

NAME = "pycomnet-nameserver"
DEFAULT_LISTEN = "tcp:2012:interface=127.0.0.1"
DEFAULT_STORE = "sqlite:pycomnet-names.sqlite"
LIMITS = NameserverLimits()


class Options(DaemonOptions):
    """The options of ``twistd pycomnet-nameserver``."""

    synopsis = "[options]"
    longdesc = """
Runs the nameserver: services register with it, and clients find them by their interface. A
registration lives as long as its lease is renewed.
"""
    epilog = f"""
Addresses are Twisted endpoint strings: {DEFAULT_LISTEN}, unix:/run/names,
tls:2012:privateKey=key.pem:certKey=cert.pem; with :clientCAs=ca.pem clients need a certificate.
Every client that can connect may register services, unless --access FILE says who may. Without that
and without TLS it does not listen where other machines could connect, unless you say --insecure.

sqlite:PATH keeps registrations over restarts and crashes; one nameserver uses it alone. memory:
does not keep them. A relative path is in the directory that twistd runs in (--rundir).
etcd:URL,URL//OPTION=VALUE... keeps them in an etcd cluster, which any number of nameservers share;
the options are prefix=, ca=, cert=, key=, hostname=, user=, password-file= and plain-login=yes (the
password goes over http: to other machines). The nameserver waits for etcd, and answers from memory
for --max-stale seconds if it is cut off.

If an address is in use or the store can't be opened, the nameserver exits with status 1 and an
error message. "pycomnet ns --help" describes the commands that query it.

Examples:
  twistd --pidfile= -n {NAME}
  twistd --pidfile= -n {NAME} --listen tcp:2012 --insecure --store sqlite:/var/lib/names.sqlite
  twistd --pidfile= -n {NAME} --listen unix:/run/names --store memory:
  twistd --pidfile= -n {NAME} \\
    --store etcd:https://a:2379,https://b:2379,https://c:2379//ca=/etc/etcd/ca.pem
"""
    optParameters = [
        [
            "store",
            "s",
            DEFAULT_STORE,
            "Where registrations are kept: sqlite:PATH, memory: or etcd:URL,URL",
        ],
        [
            "max-stale",
            None,
            MAX_STALE,
            "Seconds for which the nameserver answers while it is cut off from etcd.",
        ],
        ["max-services", None, LIMITS.services, "The most registrations in all."],
        [
            "max-per-client",
            None,
            LIMITS.client_services,
            "The most registrations of one client: of a certificate's name, else of a machine, or "
            "of a connection on this machine.",
        ],
        ["max-ttl", None, LIMITS.max_ttl, "The longest lease, in seconds."],
        [
            "access",
            None,
            None,
            "A TOML file that sets who may register which names, list and watch. [default: "
            "everybody who can connect may]",
        ],
        [
            "history",
            None,
            LENGTH,
            "How many changes are kept for watchers that reconnect or are slow.",
        ],
    ]

    optFlags = [
        [
            "no-mass-expiry-guard",
            None,
            "Remove registrations whose leases have ended even if over half of all leases end at "
            "once. Without it these are kept, marked as doubtful, for one more ttl.",
        ],
        [
            "insecure",
            None,
            "Let everybody who can connect register services, also from other machines and without "
            "TLS.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["operators"] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; may be given several times. [default: DEFAULT_LISTEN]"""
        self["listen"].append(description)

    def opt_operator(self, name: str) -> None:
        """The certificate's name of an operator, who may remove registrations of others ("pycomnet
        ns remove"); may be given several times. Over a unix socket this user and root may, too."""
        self["operators"].append(name)

    opt_operator.__doc__ = " ".join((opt_operator.__doc__ or "").split())
    opt_listen.__doc__ = (opt_listen.__doc__ or "").replace("DEFAULT_LISTEN", DEFAULT_LISTEN)
    opt_l = opt_listen

    def postOptions(self) -> None:
        self["listen"] = self["listen"] or [DEFAULT_LISTEN]
        try:
            for description in self["listen"]:
                parse(description)
            make_store(self["store"], Clock())  # to check it: it is not opened
        except (EndpointError, StoreFailed) as problem:
            raise usage.UsageError(str(problem)) from None
        max_ttl = seconds(self, "max-ttl", LIMITS.min_ttl)
        if self["access"] is not None:
            from pycomnet.ext.access.names import read_access

            try:
                self["access"] = read_access(self["access"])
            except AccessConfigError as problem:
                raise usage.UsageError(str(problem)) from None
        if self["access"] is None or self["access"].register is None:
            self._check_exposure()
        self["history"] = count(self, "history")
        self["max-stale"] = seconds(self, "max-stale")
        self["limits"] = attrs.evolve(
            LIMITS,
            services=count(self, "max-services"),
            client_services=count(self, "max-per-client"),
            max_ttl=max_ttl,
            ttl=min(LIMITS.ttl, max_ttl),
        )

    def _check_exposure(self) -> None:
        for listen in self["listen"]:
            if not (self["insecure"] or is_tls(listen) or is_local(listen)):
                raise usage.UsageError(
                    f"{listen!r} can be reached from other machines, and has no TLS: whoever can "
                    "connect could register any service there. Listen on "
                    "tcp:PORT:interface=127.0.0.1, on unix:PATH or on "
                    "tls:PORT:privateKey=FILE:certKey=FILE:clientCAs=FILE, say who may register "
                    "with --access FILE, or say --insecure"
                )


def makeService(options: Options) -> IService:
    """Make the nameserver. It opens nothing before it is started."""
    from twisted.internet import reactor

    import pycomnet
    from pycomnet.nameserver.daemon import NameserverService, loading_many
    from pycomnet.tap.descriptorlimit import allow_connections
    from pycomnet.tap.exitstatus import ExitStatus

    use_monotonic_clock(reactor)
    allow_connections()
    # So that the thread that commits gets the interpreter lock back sooner from a busy reactor.
    sys.setswitchinterval(0.001)
    status = ExitStatus(NAME)

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    access = options["access"]
    guarded = {} if access is None else {"may_register": access.may_register}
    nameserver: IService = NameserverService(
        make_store(options["store"], reactor),
        options["listen"],
        reactor,
        failed,
        options["limits"],
        loading_many,
        None if access is None else access.control(reactor),
        version=pycomnet.__version__,
        operators=options["operators"],
        log_length=options["history"],
        max_stale=options["max-stale"],
        guard=not options["no-mass-expiry-guard"],
        **guarded,
    )
    return nameserver
