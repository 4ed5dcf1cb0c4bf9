"""The drop-in has the names of execnet, with the same parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet import execnet


def public(value: Any) -> set[str]:
    """The public names that a class or module has."""
    return {name for name in dir(value) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[Any, ...]] | None:
    """The parameters of a function; None if it is none."""
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        return None
    found = []
    for each in inspect.signature(function).parameters.values():
        plain = isinstance(each.default, bool | int | str | None | tuple)
        found.append((each.name, each.kind, each.default if plain else ...))
    return found


def forget_execnet() -> None:
    """Other tests let the drop-in stand in for it, which has to be before it is imported."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "execnet"]:
        del sys.modules[name]


class InterfaceTests(SynchronousTestCase):
    """Compared with the installed execnet."""

    #: Attributes of execnet's classes that are attributes of each object here.
    OF_OBJECTS = frozenset(("id", "remoteaddress", "backend"))

    def setUp(self) -> None:
        # In a worker of pytest-xdist's it is the drop-in.
        if "execnet" in sys.modules or importlib.util.find_spec("execnet") is None:
            raise SkipTest("execnet is not installed, or something else stands in for it")
        self.addCleanup(forget_execnet)
        self.peer = importlib.import_module("execnet")

    def test_the_package_has_all_names(self) -> None:
        """Each name in ``__all__`` is there."""
        self.assertEqual(set(self.peer.__all__) - set(execnet.__all__), set())
        for name in execnet.__all__:
            self.assertTrue(hasattr(execnet, name), name)

    def test_the_classes_have_all_methods(self) -> None:
        """With the same parameters and defaults."""
        ours, theirs = execnet.gateway_base, self.peer.gateway_base
        pairs = [
            (getattr(execnet, name), getattr(self.peer, name))
            for name in ("Gateway", "Group", "MultiChannel", "RSync", "RemoteError", "XSpec")
        ]
        pairs += [(ours.Channel, theirs.Channel), (ours.ExecModel, theirs.ExecModel)]
        for mine, peers in pairs:
            self.assertEqual(public(peers) - public(mine) - self.OF_OBJECTS, set(), peers)
            for name in public(peers) & public(mine):
                expected = parameters(getattr(peers, name))
                found = parameters(getattr(mine, name))
                if expected is not None and found is not None:
                    self.assertEqual(found, expected, f"{peers}.{name}")

    def test_the_functions_have_their_parameters(self) -> None:
        """Those of the package."""
        names = ("dump", "dumps", "load", "loads", "makegateway", "set_execmodel")
        for name in names:
            found, expected = (parameters(getattr(each, name)) for each in (execnet, self.peer))
            self.assertIsNotNone(found)
            self.assertEqual(found, expected, name)
