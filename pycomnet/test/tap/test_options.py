"""The command-line options that all daemons have."""

from __future__ import annotations

import contextlib
import io

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import pycomnet


class DaemonTests(SynchronousTestCase):
    """Each daemon has the same basic options."""

    def test_each_shows_its_version_and_examples(self) -> None:
        """The version is the package's, not Twisted's; the help ends with commands to copy."""
        makers = [one for one in getPlugins(IServiceMaker) if one.tapname.startswith("pycomnet-")]
        self.assertEqual(len(makers), 6)
        for maker in makers:
            options = maker.options()
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                self.assertRaises(SystemExit, options.parseOptions, ["--version"])
            self.assertEqual(said.getvalue(), f"pycomnet {pycomnet.__version__}\n", maker.tapname)
            _, _, examples = options.getUsage().partition("\nExamples:\n")
            self.assertIn(f" {maker.tapname}", examples)
