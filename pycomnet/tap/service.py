"""``twistd pycomnet-service``: run the services of some modules."""

from __future__ import annotations

import os
import sys

from twisted.application.service import IService
from twisted.python import usage

from pycomnet.errors import LaunchConfigError, LaunchFailed, PycomnetError
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.services.launchconfig import (
    DEFAULT_LISTEN,
    DEFAULT_NAMESERVER,
    DEFAULT_PATIENCE,
    DEFAULT_TTL,
    NAMESERVER_VARIABLE,
    NO_NAMESERVER,
    LaunchConfig,
    make_config,
    read_file,
)
from pycomnet.tap.numbers import seconds
from pycomnet.tap.options import DaemonOptions

NAME = "pycomnet-service"


class Options(DaemonOptions):
    """The command line."""

    synopsis = "[options] [MODULE | MODULE:CLASS]..."
    longdesc = """
Runs all services (subclasses of pycomnet.Service with an interface) that the modules define, or of
MODULE:CLASS that one, and keeps them registered in the nameserver until it is stopped. Modules are
looked for in the working directory first.
"""
    epilog = f"""
Addresses are Twisted endpoint strings: tcp:2013, tcp:0:interface=127.0.0.1 (any free port),
unix:/run/calc, tls:2013:privateKey=key.pem:certKey=cert.pem:clientCAs=ca.pem; and to connect,
tcp:HOST:PORT, tls:HOST:PORT:trustRoots=ca.pem, unix:PATH.

It exits with status 1, and says why, when a module can't be imported, an address is in use, the
name is taken, or the nameserver does not answer in time.

Examples:
  twistd -n {NAME} calc
  twistd -n {NAME} --listen tcp:2013 --advertise calc.example.org calc
  twistd -n {NAME} --nameserver tcp:ns.example.org:2012 --name calc-1 --wait shop.calc:Calc
  twistd {NAME} --config services.toml
"""
    optParameters = [
        ["config", "c", None, "A TOML or JSON file with settings; options count more."],
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
            "The name to register, which nobody else can have at the time. [default: the module's "
            "name and something random]",
        ],
        [
            "advertise",
            None,
            None,
            "The address that others connect to, or its host, where that is not what is listened "
            "on.",
        ],
        [
            "ttl",
            None,
            None,
            f"Seconds until a service that was killed is not found any more. [default: "
            f"{DEFAULT_TTL:g}]",
        ],
        [
            "patience",
            None,
            None,
            f"Seconds to wait for the nameserver before giving up. [default: {DEFAULT_PATIENCE:g}]",
        ],
    ]
    optFlags = [
        ["wait", "w", "Wait for ever for the nameserver, and for a name that is taken."],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.(toml|json)")})

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["modules"] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; again for more. [default: DEFAULT_LISTEN]"""
        self["listen"].append(description)

    opt_listen.__doc__ = (opt_listen.__doc__ or "").replace("DEFAULT_LISTEN", DEFAULT_LISTEN)
    opt_l = opt_listen

    def parseArgs(self, *modules: str) -> None:
        self["modules"] = list(modules)

    def launch_config(self) -> LaunchConfig:
        """What the file and the command line say together.

        :raises LaunchConfigError: it can't be.
        """
        path = self["config"]
        settings = read_file(path) if path is not None else {}
        for key in ("nameserver", "name", "advertise", "ttl", "patience"):
            if self[key] is not None:
                timed = key in ("ttl", "patience")
                settings[key] = seconds(self, key) if timed else self[key]
        if self["listen"]:
            settings["listen"] = self["listen"]
        if self["wait"]:
            settings["wait"] = True
        where = path if path is not None else "options"
        return make_config(settings, self["modules"], where)

    def postOptions(self) -> None:
        try:
            self["launch"] = self.launch_config()
        except LaunchConfigError as problem:
            raise usage.UsageError(str(problem)) from None


def makeService(options: Options) -> IService:
    """Load the modules and make what runs them.

    A module that can't be imported ends the process here, before it becomes a daemon.
    """
    from twisted.internet import reactor

    from pycomnet.services.launcher import launch, load_all
    from pycomnet.tap.descriptors import allow_connections
    from pycomnet.tap.endings import ExitStatus

    use_monotonic_clock(reactor)
    # twistd goes there only later.
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
    launcher: IService = launch(options["launch"], loaded, reactor, failed)
    return launcher
