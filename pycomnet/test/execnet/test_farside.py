"""What the drop-in's far side adds to an interpreter."""

from __future__ import annotations

import importlib
import sys

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.execnet.gateway_base import NoPlugin, channel_class


class PlainChannel:
    """A channel of the far side."""


class FarSideTests(SynchronousTestCase):
    """``execnet`` there."""

    def test_the_plugin_is_an_empty_module_where_it_is_not_installed(self) -> None:
        """pytest's workers are told its name."""
        finder = NoPlugin("pycomnet")
        for name, is_package in (("pycomnet", True), ("pycomnet.xdist", False)):
            spec = finder.find_spec(name)
            assert spec is not None
            self.assertEqual(spec.submodule_search_locations is not None, is_package)
        for name in ("pycomnet.execnet", "other"):
            self.assertIsNone(finder.find_spec(name))
        ours = {name: module for name, module in sys.modules.items() if name.startswith("pycomnet")}
        self.patch(sys, "meta_path", [finder])
        for name in ours:
            del sys.modules[name]
        try:
            module = importlib.import_module("pycomnet.xdist")
            self.assertFalse(hasattr(module, "stand_in"))
            with self.assertRaises(ImportError):
                importlib.import_module("pycomnet.errors")
        finally:
            for name in ("pycomnet", "pycomnet.xdist"):
                sys.modules.pop(name, None)
            sys.modules.update(ours)

    def test_its_class_of_channels_takes_others(self) -> None:
        """Those of the near side's package, where that is imported in a worker."""

        class Near:
            pass

        worker = channel_class(PlainChannel, ValueError)
        self.assertNotIsInstance(Near(), worker)
        worker.register(Near)
        self.assertIsInstance(Near(), worker)
        self.assertIsInstance(worker(), worker)
        self.assertIsInstance(worker(), PlainChannel)
