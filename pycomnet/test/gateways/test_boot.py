"""How a far side of this machine is started: which interpreters are sent the package."""

from __future__ import annotations

import os
import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import package
from pycomnet.far.forkserver.forker import passed_socket
from pycomnet.gateways.boot import boot


class BootTests(SynchronousTestCase):
    """Interpreters import the package's files, what starts one for others is sent the package."""

    def test_interpreter_imports_this_package(self) -> None:
        """Any interpreter of this machine, by its file's name."""
        for python in (["python3"], ["/opt/bin/pypy3.10", "-O"], ["jython"], [sys.executable]):
            start = boot(python, {}, {"id": "gw0"})
            self.assertEqual((start.argv[: len(python)], start.message), (tuple(python), b""))
            self.assertIn("gw0", start.argv[-1])

    def test_wrapped_interpreter_is_sent_the_package(self) -> None:
        """The program before it may change the user or the machine."""
        for wrapper in (["sudo", "-u", "other"], ["docker", "exec", "-i", "box"]):
            start = boot([*wrapper, "python3"], {}, {"id": "gw0"})
            self.assertEqual(start.argv, (*wrapper, "python3", "-c", package.code()))
            self.assertEqual(start.message, package.bootstrap_message({"id": "gw0"}))

    def test_program_of_any_kind_is_sent_nothing(self) -> None:
        """Where the first bytes are somebody else's, as in the mediator."""
        start = boot(["sh", "-c", "exec cat"], {}, {"id": "gw0"}, sends=False)
        self.assertEqual((start.argv[:3], start.message), (("sh", "-c", "exec cat"), b""))

    def test_wrapped_interpreter_is_sent_what_no_environment_takes(self) -> None:
        """After the package."""
        env = {"LONG": "x" * 200_000}
        plain, wrapped = (boot(python, env, {}) for python in (["python3"], ["nice", "python3"]))
        self.assertIn(b"LONG", plain.message)
        self.assertEqual(wrapped.message, package.bootstrap_message({"more": True}) + plain.message)


class PassedSocketTests(SynchronousTestCase):
    """A program between this one and a fork server may have closed the socket that it is given."""

    def test_descriptor_that_is_no_socket_is_left_alone(self) -> None:
        """A closed one, and one that is something else by now."""
        ends = os.pipe()
        for fd in ends:
            self.addCleanup(os.close, fd)
        self.assertIsNone(passed_socket(ends[0]))
        os.fstat(ends[0])
        self.assertIsNone(passed_socket(99999))
        self.assertIsNone(passed_socket(None))

    def test_socket_is_taken(self) -> None:
        """One that is still there."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        taken = passed_socket(theirs.detach())
        assert taken is not None
        self.addCleanup(taken.close)
        self.assertEqual(taken.family, socket.AF_UNIX)
