"""A pytest plugin: pytest-xdist runs on pycomnet's gateways. ``pytest -p pycomnet.xdist -n 2``.

It makes ``import execnet`` import the drop-in. pytest loads the plugins that ``-p`` names before
those that are installed, so this one comes before pytest-xdist. In the workers it does nothing.

Workers are forked from a fork server that has imported pytest. With ``-n``, the fork server is
started before this process loads the drop-in, so that both happen at the same time. Then garbage
collection in this process leaves out what has been loaded by then. The environment variable
``PYCOMNET_XDIST_PRELOAD=no`` turns both off.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shlex
import sys
import threading
from queue import SimpleQueue
from typing import Any

#: execnet's modules that users import -> the drop-in's modules that have their names.
MODULES = {
    "gateway": "gateway",
    "gateway_base": "gateway_base",
    "gateway_bootstrap": "errors",
    "multi": "multi",
    "rsync": "rsync",
    "xspec": "xspec",
}


#: ``sys.path`` before pytest puts the tests' directories in front: a module there may have the name
#: of one that pytest imports.
PATH = list(sys.path)
#: The environment variable that turns off that the fork server imports pytest and starts early.
PRELOAD_VARIABLE = "PYCOMNET_XDIST_PRELOAD"
#: The key under which pytest's configuration keeps the fork server that was started early.
EARLY: Any = object()
#: Options with which there are no workers, or not at once.
NO_WORKERS = (
    *(("-f", "--looponfail"), ("--pdb",), ("--co", "--collect-only", "--collectonly")),
    *(("-h", "--help"), ("-V", "--version"), ("--markers",), ("--fixtures", "--funcargs")),
)


def preloads() -> bool:
    """Whether the fork server imports pytest before it forks workers."""
    return os.environ.get(PRELOAD_VARIABLE, "").lower() not in ("no", "0", "false", "off")


class NoOtherModules:
    """Refuses to import further modules of the drop-in as ``execnet.*``, which would be copies."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """As any finder's.

        :raises ImportError: it is a module of execnet that the drop-in does not have.
        """
        if name.startswith("execnet.") and stands_in():
            raise ModuleNotFoundError(
                f"{name} is an internal module of execnet, which pycomnet.execnet does not have",
                name=name,
            )


def stands_in() -> bool:
    """Whether ``import execnet`` finds the drop-in in this process."""
    return sys.modules.get("execnet") is sys.modules.get("pycomnet.execnet", ...)


def is_needed() -> bool:
    """Whether ``import execnet`` finds something else than the drop-in so far.

    Not in code that a gateway of the drop-in runs: there ``execnet`` is the far side's package.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    there = sys.modules.get("execnet")
    if there is None:
        return True
    if not (hasattr(there, "NEAR") or stands_in()):
        raise RuntimeError(
            f"execnet itself has been imported already, from {there.__file__}: put "
            "-p pycomnet.xdist on pytest's command line, or call stand_in() earlier"
        )
    return False


def stand_in() -> None:
    """Let ``import execnet`` find :mod:`pycomnet.execnet` in this process from now on.

    In code that a gateway of the drop-in runs this changes nothing.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    if not is_needed():
        return
    collects = gc.isenabled()
    gc.disable()  # modules are no garbage, and examining them takes up to a sixth of the time
    try:
        drop_in = importlib.import_module("pycomnet.execnet")
    finally:
        if collects:
            gc.enable()
    for name, ours in MODULES.items():
        sys.modules[f"execnet.{name}"] = importlib.import_module(f"pycomnet.execnet.{ours}")
    sys.modules["execnet"] = drop_in
    if NoOtherModules not in sys.meta_path:
        sys.meta_path.insert(0, NoOtherModules)  # a class does as a finder


def modules_of_pytest() -> list[str]:
    """The names of pytest's own modules that are loaded, as workers need them, too.

    Modules whose asserts pytest has rewritten, such as plugins, are left out: workers import them
    after pytest has begun to rewrite asserts there.
    """
    if "pytest" not in sys.modules:
        return []
    rewriting = importlib.import_module("_pytest.assertion.rewrite").AssertionRewritingHook
    own = [
        name
        for name, module in list(sys.modules.items())
        if name.startswith("_pytest.") and not isinstance(module.__loader__, rewriting)
    ]
    return ["pytest", *sorted(own)]


def starts_workers(arguments: list[str]) -> bool:
    """Whether ``-n`` tells pytest-xdist to start workers on this machine.

    pytest itself parses ``-n`` only after pytest-xdist, and so execnet, is loaded.

    :param arguments: pytest's.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-n", "--numprocesses")
    for names in NO_WORKERS:
        parser.add_argument(*names, dest="other", action="store_true")
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return False  # pytest says what is wrong
    return found.numprocesses not in (None, "0") and not found.other


def arguments_of(config: Any) -> list[str]:
    """pytest's arguments: of its configuration file, its environment variable, and its command.

    If a program passes this plugin to :func:`pytest.main`, the file has not been read yet.
    """
    try:
        of_file = config.getini("addopts")
    except ValueError:
        of_file = []
    try:
        of_environment = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:
        of_environment = []  # pytest says what is wrong
    of_command = map(str, config.invocation_params.args)
    return [*of_file, *of_environment, *of_command]


def start_early(config: Any) -> None:
    """Start the fork server of the workers. It ends with pytest if no group takes it."""
    local = importlib.import_module("pycomnet.gateways.forkserver.local")
    try:
        early = local.EarlyForkServer(local.Imports.of(modules_of_pytest(), PATH))
    except OSError:
        return  # the start of the first worker raises the error
    config.stash[EARLY] = early
    config.add_cleanup(early.end)


class Events:
    """pytest-xdist's queue of the events that its workers send.

    pytest-xdist's schedulers give work to workers in the order in which these became ready. With
    execnet, workers take so long to start that this is nearly always the order in which they were
    made, and that each has collected before the next is ready. The scheduler of ``--dist=each``
    fails otherwise when it replaces several. Workers here are forked at about the same time. So a
    worker's events are kept until all workers that were made before it have collected, or have
    ended. That delays no test at the start: pytest-xdist waits for all workers in any case.
    """

    #: Events of a worker that has collected, or never will.
    _STARTED = frozenset(("collectionfinish", "workerfinished", "internal_error", "errordown"))

    def __init__(self) -> None:
        events: SimpleQueue[Any] = SimpleQueue()
        self.get = events.get
        self._pass_on = events.put
        self._lock = threading.Lock()
        #: the id of a worker that has not collected -> its events; in the order of making
        self._starting: dict[str, list[Any]] = {}

    def made(self, id: str) -> None:
        """Add a worker that has been made."""
        with self._lock:
            self._starting[id] = []

    def put(self, event: tuple[str, dict[str, Any]]) -> None:
        """Add a worker's event. Called in any thread."""
        if not self._starting:
            self._pass_on(event)
            return
        node = event[1].get("node")  # a warning has none
        with self._lock:
            kept = None if node is None else self._starting.get(node.gateway.id)
            if kept is None:
                self._pass_on(event)
                return
            kept.append(event)
            self._pass_on_kept()

    def _pass_on_kept(self) -> None:
        """Pass on the events of the first worker, and of further ones while those have started."""
        started = True
        while started and self._starting:
            first, kept = next(iter(self._starting.items()))
            started = any(name in self._STARTED for name, _ in kept)
            for event in kept:
                self._pass_on(event)
            kept.clear()
            if started:
                # Last, as from then on its events are passed on without the lock.
                del self._starting[first]


class Workers:
    """A plugin: only workers, and no other gateways, are forked from where pytest is imported.

    Tests may check what is imported at gateways that they make themselves.

    :param config: pytest's.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._events = Events()

    def pytest_sessionstart(self) -> None:
        """Replace pytest-xdist's queue before its session starts."""
        session = self._config.pluginmanager.get_plugin("dsession")
        if session is not None:
            session.queue = self._events

    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """Add a worker whose gateway pytest-xdist has made."""
        self._events.made(gateway.id)

    def pytest_xdist_setupnodes(self) -> None:
        """Let pytest-xdist's group use the fork server, before it makes gateways."""
        group = self._group()
        if group is not None and preloads():
            early = self._config.stash.get(EARLY, None)
            group.import_before_forks(modules_of_pytest(), PATH, early)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """Let the workers' tests end at once if the user has interrupted pytest.

        pytest also calls this when it ends early for a reason of its own (``-x``).
        """
        group = self._group()
        if group is not None and excinfo.type is KeyboardInterrupt:
            group.interrupt()

    def _group(self) -> Any:
        """The workers' group, once there is one."""
        session = self._config.pluginmanager.get_plugin("dsession")
        manager = getattr(session, "nodemanager", None)
        return getattr(manager, "group", None)


def pytest_addoption(parser: Any, pluginmanager: Any) -> None:
    """Make ``import execnet`` import the drop-in, before pytest loads the installed plugins."""
    if not is_needed():
        return
    config = pluginmanager.get_plugin("pytestconfig")
    workers = preloads() and starts_workers(arguments_of(config))
    if workers:
        start_early(config)
    stand_in()
    if workers and hasattr(gc, "freeze"):
        # No test runs here. The modules that are loaded by now stay until the end; garbage
        # collection would examine all of them, and take them apart at the end.
        gc.freeze()


def pytest_configure(config: Any) -> None:
    """Register the plugin for workers if pytest-xdist, and so its hooks, are there."""
    if stands_in() and config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(Workers(config))


is_needed()  # importing this module too late is an error
