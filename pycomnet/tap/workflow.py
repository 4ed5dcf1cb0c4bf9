"""``twistd pycomnet-workflow``: the workflow service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService, MultiService
from twisted.python import usage

from pycomnet.errors import (
    AccessConfigError,
    EndpointError,
    LaunchConfigError,
    PycomnetError,
    TokenError,
)
from pycomnet.ext.workflow.definition import read_config
from pycomnet.ext.workflow.errors import RunStoreFailed, WorkflowConfigError
from pycomnet.ext.workflow.runfiles import MOST_FILES, RunFiles
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.net.clock import use_monotonic_clock
from pycomnet.net.endpoints import is_local
from pycomnet.services.launch.config import LaunchConfig, make_config
from pycomnet.services.nameserveraddress import TRUST_VARIABLE
from pycomnet.tap.numericoptions import seconds
from pycomnet.tap.options import DaemonOptions

if TYPE_CHECKING:
    from pycomnet.ext.workflow.service import WorkflowService

NAME = "pycomnet-workflow"
DEFAULT_STORE = "sqlite:pycomnet-workflow.sqlite"
#: The settings that are passed to the launcher.
LAUNCH = ("name", "listen", "nameserver", "advertise", "insecure")


class Options(DaemonOptions):
    """The options of ``twistd pycomnet-workflow``."""

    synopsis = "--config FILE [options]"
    longdesc = """
Runs the tasks of a configuration file, TOML or JSON: chains of calls to other services. Runs are
kept in a store. After a restart or a crash they continue at the step that they were in.
"""
    epilog = f"""
sqlite:PATH keeps runs in a file, which one workflow service uses alone; memory: does not keep them.
A relative path is in the directory that twistd runs in (--rundir).

postgresql://USER@HOST/DATABASE keeps them in a database, which several workflow services share: if
one dies, the others continue its runs. Two options may follow: ?schema=NAME names the schema of the
tables, and lease=SECONDS is the time after which a silent service is considered dead.

"pycomnet workflow check FILE" checks a configuration; "pycomnet workflow --help" describes the
commands that start, show and steer runs.

A task's "run", a list of users and @roles, sets who may run it. Users log in with the passwords of
the file that "passwords" names.

Examples:
  twistd --pidfile= -n {NAME} --config tasks.json --name /demo/workflow/1
  twistd --pidfile= -n {NAME} --config tasks.toml --store sqlite:/var/lib/runs.sqlite
  twistd --pidfile= -n {NAME} --config tasks.toml --store 'postgresql://app@db/workflows?lease=5'
"""
    optParameters = [
        ["config", "c", None, "A TOML or JSON file with tasks and settings; options override it."],
        ["store", "s", None, f"Where runs are kept. [default: {DEFAULT_STORE}]"],
        ["name", None, None, "The name to register. [default: a generated one]"],
        ["nameserver", None, None, "The nameserver's address; 'none' for none."],
        ["advertise", None, None, "The address that clients connect to, or its host."],
        ["status", None, None, "An endpoint of this machine for the status page and the metrics."],
        ["patience", None, None, "Seconds to wait for the nameserver before giving up."],
        ["ttl", None, None, "The lease at the nameserver, in seconds."],
    ]
    optFlags = [
        ["wait", "w", "Wait without limit for the nameserver, and for a name that is taken."],
        ["insecure", None, "Let everybody who can connect run tasks, even from other machines."],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.(toml|json)")})

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; may be given several times."""
        self["listen"].append(description)

    opt_l = opt_listen

    def postOptions(self) -> None:
        if self["config"] is None:
            raise usage.UsageError("--config FILE is missing: it has the tasks")
        try:
            settings = read_config(self["config"])
            self["settings"] = settings
            self["launch"] = self._launch_config(settings)
            store = self["store"] or settings.get("store") or DEFAULT_STORE
            # To check it: it is not opened, so it needs no reactor.
            make_run_store(store, None)  # type: ignore[arg-type]
            self["store"] = store
            self["status"] = self["status"] or settings.get("status")
            if self["status"] is not None and not is_local(self["status"]):
                raise usage.UsageError(
                    "the status page shows all runs to everybody who can connect, and "
                    f"{self['status']!r} can be reached from other machines: use "
                    "tcp:PORT:interface=127.0.0.1 or unix:PATH"
                )
        except (
            WorkflowConfigError,
            LaunchConfigError,
            RunStoreFailed,
            EndpointError,
        ) as problem:
            raise usage.UsageError(str(problem)) from None

    def _launch_config(self, settings: dict[str, Any]) -> LaunchConfig:
        found = {key: settings[key] for key in LAUNCH if key in settings}
        for key in ("name", "nameserver", "advertise"):
            if self[key] is not None:
                found[key] = self[key]
        for key in ("patience", "ttl"):
            if self[key] is not None:
                found[key] = seconds(self, key)
        if self["listen"]:
            found["listen"] = self["listen"]
        for key in ("wait", "insecure"):
            if self[key]:
                found[key] = True
        return make_config(found, [NAME], self["config"])


def make_workflow(settings: dict[str, Any], store: Any) -> WorkflowService:
    """Make the service from its settings; with an access rule if these have ``passwords``.

    :raises AccessConfigError: the password file can't be used.
    :raises WorkflowConfigError: a step keeps files, and there is no directory for them.
    """
    from pycomnet.ext.workflow.service import KEEP, WorkflowService

    kind: Any = WorkflowService
    if "passwords" in settings:
        from pycomnet.ext.access import PasswordFile, auth

        class GuardedWorkflowService(WorkflowService):
            """The workflow service, for users who have logged in."""

        GuardedWorkflowService.__qualname__ = "GuardedWorkflowService"  # as the log has it
        kind = auth(PasswordFile(settings["passwords"]))(GuardedWorkflowService)
    made: WorkflowService = kind(
        settings["tasks"],
        store,
        settings.get("schedules", ()),
        settings.get("keep", KEEP),
        files=make_files(settings, store.name),
    )
    return made


def make_files(settings: dict[str, Any], store: str) -> RunFiles | None:
    """Make the storage of runs' files: beside an SQLite store, or in the directory of the settings.

    :param store: the store's name.
    :returns: None if there is no such directory.
    """
    scheme, _, path = store.partition(":")
    where = settings.get("files") or (f"{path}.files" if scheme == "sqlite" else None)
    return None if where is None else RunFiles(where, settings.get("files_limit", MOST_FILES))


def makeService(options: Options) -> IService:
    """Make the launcher that runs the workflow service. It opens nothing before it is started."""
    from twisted.internet import reactor

    from pycomnet.auth.tokens import SERVICE_CREDENTIAL_VARIABLES, forget_credentials
    from pycomnet.ext.access.storedcredentials import stored_credentials
    from pycomnet.ext.workflow.status import StatusSite
    from pycomnet.services.launch.launcher import Loaded, launch
    from pycomnet.tap.descriptorlimit import allow_connections
    from pycomnet.tap.exitstatus import ExitStatus

    use_monotonic_clock(reactor)
    allow_connections()
    status = ExitStatus(NAME)
    config: LaunchConfig = options["launch"]

    def failed(problem: PycomnetError) -> None:
        status.fail(reactor, problem)

    try:
        made = make_workflow(options["settings"], make_run_store(options["store"], reactor))
        credentials = stored_credentials()
    except (AccessConfigError, TokenError, WorkflowConfigError) as problem:
        raise SystemExit(f"{NAME}: {problem}") from None
    forget_credentials(names=SERVICE_CREDENTIAL_VARIABLES)
    loaded = [Loaded(attrs.evolve(config.services[0], name=config.name), made)]
    trust = os.environ.get(TRUST_VARIABLE)
    launcher: Any = launch(config, loaded, reactor, failed, None, credentials, trust)
    if options["status"] is None:
        found: IService = launcher
        return found
    both = MultiService()
    launcher.setServiceParent(both)
    StatusSite(made, options["status"], failed, reactor).setServiceParent(both)
    together: IService = both
    return together
