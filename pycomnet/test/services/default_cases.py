"""The default context, as somebody meets it who does not know of Deferreds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet

#: What scripts do that take the Deferred for the service.
SCRIPT = """
import pycomnet
pycomnet.configure(nameserver="tcp:127.0.0.1:1")
for service in (
    pycomnet.locate("x.y"), pycomnet.connect("tcp:127.0.0.1:1"), pycomnet.nameserver()
):
    try:
        result, files = service.invoke("m", {}, with_binary=True)
    except AttributeError as error:
        print(error)
pycomnet.locate("x").nothing
"""

#: A program that calls services which others have named.
GUEST = """
from pycomnet.services import default
default.configure(nameserver="tcp:127.0.0.1:1", timeout=5)
guest = default.guest_context()
assert guest is default.guest_context()
assert guest is not default.default_context()
assert guest.pool is not default.default_context().pool
assert (guest.timeout, guest.nameserver_address) == (5, "tcp:127.0.0.1:1")
"""


class PlainScriptTests(SynchronousTestCase):
    """Programs in which no reactor runs."""

    def test_guests_have_a_context_of_their_own(self) -> None:
        """With the options of the default one, and connections of its own."""
        ran = subprocess.run(
            [sys.executable, "-c", GUEST],
            cwd=Path(pycomnet.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))

    def test_names_the_way(self) -> None:
        """The error says what to use, for each function of the default context.

        What no service has either is an AttributeError as any.
        """
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=Path(pycomnet.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(ran.returncode, 1)
        for name, said in zip(
            ("locate", "connect", "nameserver"), ran.stdout.splitlines(), strict=True
        ):
            self.assertIn(f"pycomnet.{name}() returns a Deferred", said)
            self.assertIn("from pycomnet import blocking as pycomnet", said)
            self.assertIn("pycomnet.aio", said)
        last = ran.stderr.strip().rpartition("\n")[2]
        self.assertIn("no attribute 'nothing'", last)
        self.assertNotIn("blocking", last)
