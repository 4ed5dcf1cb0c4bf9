"""A pytest plugin: pytest-xdist runs on pycomnet's gateways. ``pytest -p pycomnet.xdist -n 2``.

It stands in for execnet before pytest-xdist imports that: pytest loads what ``-p`` names before the
plugins that are installed. In the workers it changes nothing, and loads nothing.
"""

from __future__ import annotations

import importlib
import sys
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


def stand_in() -> None:
    """Let ``import execnet`` find :mod:`pycomnet.execnet`, from now on and in this process.

    In code that a gateway of the drop-in runs it changes nothing: ``execnet`` is there already.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    there = sys.modules.get("execnet")
    if there is not None:
        if hasattr(there, "NEAR") or stands_in():
            return
        raise RuntimeError(
            f"execnet itself has been imported already, from {there.__file__}: put "
            "-p pycomnet.xdist on pytest's command line, or call stand_in() earlier"
        )
    drop_in = importlib.import_module("pycomnet.execnet")
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
        if group is not None:
            group.import_before_forks(pytests_modules(), PATH)

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


def pytest_configure(config: Any) -> None:
    """Where pytest-xdist is, there is its hook."""
    if stands_in() and config.pluginmanager.has_plugin("xdist"):
        config.pluginmanager.register(Workers(config))


stand_in()

__all__ = ["stand_in"]
