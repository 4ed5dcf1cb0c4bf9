"""The default context, as somebody meets it who does not know of Deferreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet

#: What a script does that takes the Deferred for the service.
SCRIPT = """
import pycomnet
pycomnet.configure(nameserver="tcp:127.0.0.1:1")
service = {}
result, files = service.invoke("m", {{}}, with_binary=True)
"""


class PlainScriptTests(SynchronousTestCase):
    """Programs in which no reactor runs."""

    def error_of(self, script: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(pycomnet.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(ran.returncode, 1)
        return ran.stderr.strip().rpartition("\n")[2]

    def test_names_the_way(self) -> None:
        """The error says what to use, for each function of the default context."""
        for call in ('locate("x.y")', 'connect("tcp:127.0.0.1:1")', "nameserver()"):
            said = self.error_of(SCRIPT.format(f"pycomnet.{call}"))
            self.assertIn(f"pycomnet.{call.partition('(')[0]}() returns a Deferred", said)
            self.assertIn("from pycomnet import blocking as pycomnet", said)
            self.assertIn("pycomnet.aio", said)

    def test_other_attributes(self) -> None:
        """What no service has either is an AttributeError as any."""
        said = self.error_of('import pycomnet; pycomnet.locate("x").nothing')
        self.assertIn("no attribute 'nothing'", said)
        self.assertNotIn("blocking", said)
