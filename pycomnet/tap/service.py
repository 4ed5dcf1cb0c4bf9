"""``twistd pycomnet-service``: run the services of some modules."""

from __future__ import annotations

import os
import sys

from twisted.application.service import IService
from twisted.python import usage

from pycomnet.auth.admission import wants_certificates
from pycomnet.errors import (
    AccessConfigError,
    EndpointError,
    LaunchConfigError,
    LaunchFailed,
    PycomnetError,
    TokenError,
)
from pycomnet.net import endpoints
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.services.launch.config import (
    DEFAULT_DRAIN,
    DEFAULT_LISTEN,
    DEFAULT_PATIENCE,
    DEFAULT_TTL,
    LaunchConfig,
    make_config,
    read_file,
)
from pycomnet.services.nameserveraddress import (
    DEFAULT_NAMESERVER,
    NAMESERVER_VARIABLE,
    NO_NAMESERVER,
    TRUST_VARIABLE,
)
from pycomnet.tap.numericoptions import seconds
from pycomnet.tap.options import DaemonOptions

NAME = "pycomnet-service"


class Options(DaemonOptions):
    """The options of ``twistd pycomnet-service``."""

    synopsis = "[options] [MODULE | MODULE:CLASS]..."
    longdesc = """
Runs all services (subclasses of pycomnet.Service with an interface) that the modules define, or
with MODULE:CLASS only that class, and keeps them registered in the nameserver until it is stopped.
Modules are searched for in the working directory first.
"""
    epilog = f"""
Addresses are Twisted endpoint strings: tcp:2013, tcp:0:interface=127.0.0.1 (any free port),
unix:/run/calc, tls:2013:privateKey=key.pem:certKey=cert.pem:clientCAs=ca.pem; and to connect,
tcp:HOST:PORT, tls:HOST:PORT:trustRoots=ca.pem, unix:PATH.

A service's access rules decide who may call it (pycomnet.ext.access). A service without a
rule is for this machine: it does not listen where other machines could call it without TLS, unless
--insecure is given. With TLS, calls without a rule are refused there, unless the configuration has
access = "allow" or the endpoint requires clients' certificates.

If a module can't be imported, an address is in use, the name is taken, or the nameserver does not
answer in time, it exits with status 1 and an error message.

Examples:
  twistd --pidfile= -n {NAME} calc
  twistd --pidfile= -n {NAME} --listen tls:2013:privateKey=key.pem:certKey=cert.pem calc
  twistd --pidfile= -n {NAME} --listen tcp:2013 --insecure --advertise calc.example.org calc
  twistd --pidfile= -n {NAME} --nameserver tcp:ns.example.org:2012 --wait --name calc-1 calc:Calc
  twistd {NAME} --config services.toml
"""
    optParameters = [
        ["config", "c", None, "A TOML or JSON file with settings; options override it."],
        [
            "nameserver",
            None,
            None,
            f"The nameserver's address; {NO_NAMESERVER!r} for none. [default: "
            f"{NAMESERVER_VARIABLE}, else {DEFAULT_NAMESERVER}]",
        ],
        [
            "name",
            None,
            None,
            "The name to register; no other service can have it at the same time. [default: the "
            "module's name and a random part]",
        ],
        [
            "advertise",
            None,
            None,
            "The address that clients connect to, or its host, if it differs from the address to "
            "listen on.",
        ],
        [
            "ttl",
            None,
            None,
            f"The lease: seconds until a service that was killed is no longer found. [default: "
            f"{DEFAULT_TTL:g}]",
        ],
        [
            "patience",
            None,
            None,
            f"Seconds to wait for the nameserver before giving up. [default: {DEFAULT_PATIENCE:g}]",
        ],
        [
            "drain",
            None,
            None,
            "The most seconds for services to finish their calls after SIGTERM or Ctrl-C; they get "
            "no new callers meanwhile. 0: don't wait. A second signal ends the wait. [default: "
            f"{DEFAULT_DRAIN:g}]",
        ],
        [
            "metrics",
            None,
            None,
            "An HTTP endpoint for Prometheus: the statistics of publishers, at /metrics. It needs "
            "no token, so it must be on this machine, or have TLS and require clients' "
            "certificates.",
        ],
    ]
    optFlags = [
        ["wait", "w", "Wait without limit for the nameserver, and for a name that is taken."],
        [
            "insecure",
            None,
            "Let everybody who can connect call services without an access rule, even from other "
            "machines and without TLS.",
        ],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.(toml|json)")})

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["modules"] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; may be given several times. [default: DEFAULT_LISTEN]"""
        self["listen"].append(description)

    opt_listen.__doc__ = (opt_listen.__doc__ or "").replace("DEFAULT_LISTEN", DEFAULT_LISTEN)
    opt_l = opt_listen

    def parseArgs(self, *modules: str) -> None:
        self["modules"] = list(modules)

    def launch_config(self) -> LaunchConfig:
        """The settings of the file, overridden by the options.

        :raises LaunchConfigError: the settings are not valid.
        """
        path = self["config"]
        settings = read_file(path) if path is not None else {}
        for key in ("nameserver", "name", "advertise", "ttl", "patience", "drain", "metrics"):
            if self[key] is not None:
                timed = key in ("ttl", "patience", "drain")
                settings[key] = seconds(self, key) if timed else self[key]
        if self["listen"]:
            settings["listen"] = self["listen"]
        for key in ("wait", "insecure"):
            if self[key]:
                settings[key] = True
        where = path if path is not None else "options"
        return make_config(settings, self["modules"], where)

    def postOptions(self) -> None:
        try:
            self["launch"] = self.launch_config()
        except LaunchConfigError as problem:
            raise usage.UsageError(str(problem)) from None
        self._check_metrics()

    def _check_metrics(self) -> None:
        config: LaunchConfig = self["launch"]
        listen = config.metrics
        if listen is None or config.insecure:
            return
        try:
            private = endpoints.is_local(listen) or wants_certificates(listen)
        except EndpointError as problem:
            raise usage.UsageError(f"--metrics: {problem}") from None
        if not private:
            raise usage.UsageError(
                f"--metrics: other machines could read the metrics at {listen!r}: listen on this "
                "machine (tcp:9100:interface=127.0.0.1, unix:PATH), or with TLS and clientCAs="
            )


def makeService(options: Options) -> IService:
    """Load the modules and make the launcher that runs their services.

    A module that can't be imported ends the process here, before it becomes a daemon.
    """
    from twisted.internet import reactor

    from pycomnet.auth.tokens import SERVICE_CREDENTIAL_VARIABLES, forget_credentials
    from pycomnet.ext.access.control import AccessControl
    from pycomnet.ext.access.storedcredentials import stored_credentials
    from pycomnet.services.launch.launcher import launch, load_all
    from pycomnet.tap.descriptorlimit import allow_connections
    from pycomnet.tap.exitstatus import ExitStatus, on_second_signal

    use_monotonic_clock(reactor)
    # twistd changes to this directory only later.
    directory = os.path.abspath(options.parent["rundir"] if options.parent else ".")
    if directory not in sys.path:
        sys.path.insert(0, directory)
    status = ExitStatus(NAME)
    try:
        loaded = load_all(options["launch"].services)
    except LaunchFailed as problem:
        sys.exit(f"{NAME}: {problem}")

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    allow_connections()
    config: LaunchConfig = options["launch"]
    access = None
    if config.denies or config.audit_calls:
        access = AccessControl(reactor, deny=config.denies, audit_calls=config.audit_calls)
    try:
        credentials = stored_credentials()
    except (AccessConfigError, TokenError) as problem:
        sys.exit(f"{NAME}: {problem}")
    # Remove them from the environment, which processes of the services would inherit.
    forget_credentials(names=SERVICE_CREDENTIAL_VARIABLES)
    launcher = launch(
        config, loaded, reactor, failed, access, credentials, os.environ.get(TRUST_VARIABLE)
    )
    on_second_signal(reactor, launcher.hurry)
    if config.metrics is None:
        return launcher
    from twisted.application.service import MultiService

    from pycomnet.ext.pubsub.metrics import TopicMetrics
    from pycomnet.tap.metricspage import MetricsService

    together = MultiService()
    launcher.setServiceParent(together)
    metrics = TopicMetrics(lambda: launcher.server.services)
    MetricsService(config.metrics, metrics.text, failed, reactor).setServiceParent(together)
    return together
