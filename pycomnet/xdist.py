"""A pytest plugin: pytest-xdist runs on pycomnet's gateways. ``pytest -p pycomnet.xdist -n 2``.

It stands in for execnet before pytest-xdist imports that: pytest loads what ``-p`` names before the
plugins that are installed. In the workers it changes nothing, and loads nothing.

Workers are forked from a process that has imported pytest. With ``-n`` this process is started
before this one loads the drop-in, so that both happen at the same time. The environment variable
``PYCOMNET_XDIST_PRELOAD=no`` turns both off.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
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
#: The variable that turns off that workers have pytest imported when they start.
SWITCH = "PYCOMNET_XDIST_PRELOAD"
#: Where pytest's configuration keeps the process that was started early.
EARLY: Any = object()


def preloads() -> bool:
    """Whether workers have pytest imported when they start."""
    return os.environ.get(SWITCH, "").lower() not in ("no", "0", "false", "off")


class Loader(importlib.abc.Loader):
    """Gives the drop-in the name ``execnet`` when somebody imports that."""

    def exec_module(self, module: ModuleType) -> None:
        """Replace the new module, as the import system allows."""
        del sys.modules[module.__name__]
        stand_in()


class Finder:
    """Finds the drop-in under execnet's name, and refuses modules that it does not have.

    Python would load those of the drop-in twice.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """As any finder's.

        :raises ImportError: it is a module of execnet that the drop-in does not have.
        """
        if name == "execnet":
            return ModuleSpec(name, Loader())
        if name.startswith("execnet.") and stands_in():
            raise ModuleNotFoundError(
                f"{name} is an internal module of execnet, which pycomnet.execnet does not have",
                name=name,
            )
        return None


def stands_in() -> bool:
    """Whether ``import execnet`` finds the drop-in in this process."""
    return sys.modules.get("execnet") is sys.modules.get("pycomnet.execnet", ...)


def prepare() -> bool:
    """Let the next ``import execnet`` import :mod:`pycomnet.execnet`, in this process.

    In code that a gateway of the drop-in runs it changes nothing: ``execnet`` is there already.

    :returns: whether it is the drop-in that is found.
    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    there = sys.modules.get("execnet")
    if there is not None and not stands_in():
        if hasattr(there, "NEAR"):
            return False
        raise RuntimeError(
            f"execnet itself has been imported already, from {there.__file__}: put "
            "-p pycomnet.xdist on pytest's command line, or call stand_in() earlier"
        )
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)  # a class does as a finder
    return True


def stand_in() -> None:
    """Let ``import execnet`` find :mod:`pycomnet.execnet`, from now on and in this process.

    In code that a gateway of the drop-in runs it changes nothing: ``execnet`` is there already.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    if not prepare() or stands_in():
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


def starts_workers(options: Any) -> bool:
    """Whether pytest-xdist will start workers here, as far as ``-n`` says.

    :param options: pytest's, as they are known before conftest files are loaded.
    """
    others = ("collectonly", "usepdb", "looponfail", "help", "version", "markers", "showfixtures")
    return bool(getattr(options, "numprocesses", None)) and not any(
        getattr(options, name, None) for name in others
    )


def start_early(config: Any) -> None:
    """Start the process from which workers are forked; it ends with pytest if nobody uses it."""
    local = importlib.import_module("pycomnet.gateways.forkserver.local")
    try:
        early = local.EarlyForkServer(local.Imports.of(pytests_modules(), PATH))
    except OSError:
        return  # the first worker's start says why
    config.stash[EARLY] = early
    config.add_cleanup(early.end)


class Workers:
    """As a plugin: the workers, and no other gateways, are forked from where pytest is imported.

    A program's tests may look at what is imported at gateways of their own.

    :param config: pytest's.
    """

    def __init__(self, config: Any) -> None:
        self._config = config

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


def pytest_load_initial_conftests(early_config: Any) -> None:
    """pytest has loaded its plugins, and is about to load conftest files.

    The drop-in is imported now, whether it is needed or not: pytest's ``pytester`` removes modules
    that are imported later.
    """
    if not prepare():
        return
    if not stands_in() and preloads() and starts_workers(early_config.known_args_namespace):
        start_early(early_config)
    stand_in()


def pytest_configure(config: Any) -> None:
    """Where pytest-xdist is, there is its hook."""
    if stands_in() and config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(Workers(config))


prepare()

__all__ = ["stand_in"]
