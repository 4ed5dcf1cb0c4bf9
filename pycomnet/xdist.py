"""A pytest plugin: pytest-xdist runs on pycomnet's gateways. ``pytest -p pycomnet.xdist -n 2``.

It stands in for execnet before pytest-xdist imports that: pytest loads what ``-p`` names before the
plugins that are installed. In the workers it changes nothing, and loads nothing.

Workers are forked from a process that has imported pytest. With ``-n`` this process is started
before this one loads the drop-in, so that both happen at the same time; and in this one garbage
collection leaves out what has been loaded by then. The environment variable
``PYCOMNET_XDIST_PRELOAD=no`` turns all of that off.
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

#: The modules of execnet that users import by their names, and where their names are here.
MODULES = {
    "gateway": "gateway",
    "gateway_base": "gateway_base",
    "gateway_bootstrap": "errors",
    "multi": "multi",
    "rsync": "rsync",
    "xspec": "xspec",
}


#: Where this program has found pytest, as its ``-p`` comes before all that puts the tests'
#: directories in front: a module of theirs may have the name of one that pytest imports.
PATH = list(sys.path)
#: The variable that turns off that workers have pytest imported when they start, and what is
#: done early for that.
SWITCH = "PYCOMNET_XDIST_PRELOAD"
#: Where pytest's configuration keeps the process that was started early.
EARLY: Any = object()
#: Options with which there are no workers, or not at once.
OTHERS = (
    *(("-f", "--looponfail"), ("--pdb",), ("--co", "--collect-only", "--collectonly")),
    *(("-h", "--help"), ("-V", "--version"), ("--markers",), ("--fixtures", "--funcargs")),
)


def preloads() -> bool:
    """Whether workers have pytest imported when they start."""
    return os.environ.get(SWITCH, "").lower() not in ("no", "0", "false", "off")


class NoOtherModules:
    """Refuses the drop-in's further modules under execnet's name: Python would load them twice."""

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
    """Whether the drop-in is to be imported; not if it has been.

    In code that a gateway of the drop-in runs, ``execnet`` is there already.

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
    """Let ``import execnet`` find :mod:`pycomnet.execnet`, from now on and in this process.

    In code that a gateway of the drop-in runs it changes nothing: ``execnet`` is there already.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    if not is_needed():
        return
    collects = gc.isenabled()
    gc.disable()  # modules are no garbage, and looking through them takes a sixth of the time
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


def pytests_modules() -> list[str]:
    """What pytest has loaded of itself: its workers need that, too.

    Not its plugins, and nothing else whose asserts it has changed: workers import that after pytest
    has begun to do so there.
    """
    if "pytest" not in sys.modules:
        return []
    changing = importlib.import_module("_pytest.assertion.rewrite").AssertionRewritingHook
    own = [
        name
        for name, module in list(sys.modules.items())
        if name.startswith("_pytest.") and not isinstance(module.__loader__, changing)
    ]
    return ["pytest", *sorted(own)]


def starts_workers(arguments: list[str]) -> bool:
    """Whether pytest-xdist will start workers here, as far as ``-n`` says.

    pytest parses that only when pytest-xdist is loaded, and so execnet is.

    :param arguments: pytest's.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-n", "--numprocesses")
    for names in OTHERS:
        parser.add_argument(*names, dest="other", action="store_true")
    try:
        found, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return False  # pytest says what is wrong
    return found.numprocesses not in (None, "0") and not found.other


def arguments_of(config: Any) -> list[str]:
    """pytest's arguments: of the command line, of its environment and of its file.

    Those of its file are not known yet where a program gives this plugin to :func:`pytest.main`.
    """
    try:
        of_file = config.getini("addopts")
    except ValueError:
        of_file = []
    try:
        of_environment = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:
        of_environment = []  # pytest says what is wrong
    given = map(str, config.invocation_params.args)
    return [*of_file, *of_environment, *given]


def start_early(config: Any) -> None:
    """Start the process from which workers are forked; it ends with pytest if nobody uses it."""
    local = importlib.import_module("pycomnet.gateways.forkserver.local")
    try:
        early = local.EarlyForkServer(local.Imports.of(pytests_modules(), PATH))
    except OSError:
        return  # the first worker's start says why
    config.stash[EARLY] = early
    config.add_cleanup(early.end)


class Events:
    """pytest-xdist's queue of what its workers tell.

    Its schedulers give work to the workers in the order in which they became ready. execnet's take
    so long to start that this is mostly the order in which they were made. Those here are forked at
    about the same time. So what a worker tells is kept until all that were made before it are
    ready, or have ended. That delays no test: pytest-xdist waits for all of them in any case.
    """

    #: What is told of a worker that is ready, or never will be.
    _STARTED = frozenset(("workerready", "workerfinished", "internal_error", "errordown"))

    def __init__(self) -> None:
        events: SimpleQueue[Any] = SimpleQueue()
        self.get = events.get
        self._pass_on = events.put
        self._lock = threading.Lock()
        #: the id of a worker that is not ready -> what it has told; in the order of making
        self._starting: dict[str, list[Any]] = {}

    def made(self, id: str) -> None:
        """A worker has been made."""
        with self._lock:
            self._starting[id] = []

    def put(self, event: tuple[str, dict[str, Any]]) -> None:
        """Add what a worker has told. Called in any thread."""
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
            self._pass_on_in_turn()

    def _pass_on_in_turn(self) -> None:
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
    """As a plugin: the workers, and no other gateways, are forked from where pytest is imported.

    A program's tests may look at what is imported at gateways of their own.

    :param config: pytest's.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._events = Events()

    def pytest_sessionstart(self) -> None:
        """pytest-xdist is about to start its session."""
        session = self._config.pluginmanager.get_plugin("dsession")
        if session is not None:
            session.queue = self._events

    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """pytest-xdist has made the gateway of a worker."""
        self._events.made(gateway.id)

    def pytest_xdist_setupnodes(self) -> None:
        """pytest-xdist is about to make its gateways."""
        group = self._group()
        if group is not None and preloads():
            early = self._config.stash.get(EARLY, None)
            group.import_before_forks(pytests_modules(), PATH, early)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        """The user has interrupted pytest: the workers' tests end at once.

        pytest calls this as well when it ends early for a reason of its own (``-x``).
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
    """pytest has loaded this plugin, and is about to load those that are installed."""
    if not is_needed():
        return
    config = pluginmanager.get_plugin("pytestconfig")
    workers = preloads() and starts_workers(arguments_of(config))
    if workers:
        start_early(config)
    stand_in()
    if workers and hasattr(gc, "freeze"):
        # No test runs here. The modules that are loaded by now live until the end, and collecting
        # garbage then looks through all of them, and takes them apart.
        gc.freeze()


def pytest_configure(config: Any) -> None:
    """Where pytest-xdist is, there is its hook."""
    if stands_in() and config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(Workers(config))


is_needed()  # an import that comes too late fails

__all__ = ["stand_in"]
