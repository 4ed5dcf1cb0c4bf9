"""How a daemon that can't go on ends; each in a process of its own, as it is about that."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = """
import atexit, sys
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
from pycomnet.errors import LaunchFailed
from pycomnet.tap.exitstatus import ExitStatus

globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False)
status = ExitStatus("a-daemon")
reactor.addSystemEventTrigger("before", "shutdown", print, "stopped in order")
{body}
reactor.run()
print("the end of twistd")
"""


def ended(body: str) -> tuple[int, str, str]:
    """The exit status of a program, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


class EndingTests(SynchronousTestCase):
    """The exit status, and what is said."""

    def test_failure_stops_services_with_status_1(self) -> None:
        """Services are stopped, twistd ends as it does, and the status is 1; it is said once."""
        body = (
            "reactor.callLater(0, status.fail, reactor, LaunchFailed('no way'))\n"
            "reactor.callLater(0, status.fail, reactor, LaunchFailed('again'))"
        )
        code, out, err = ended(body)
        self.assertEqual((code, err), (1, "a-daemon: no way\n"))
        self.assertEqual(out, "stopped in order\nthe end of twistd\n")

    def test_fail_before_the_reactor_runs(self) -> None:
        """It stops as soon as it does."""
        code, out, err = ended("status.fail(reactor, LaunchFailed('no way'))")
        self.assertEqual((code, err), (1, "a-daemon: no way\n"))
        self.assertIn("stopped in order", out)

    def test_fail_while_stopping(self) -> None:
        """Somebody else was quicker."""
        body = "reactor.callWhenRunning(reactor.stop)\n"
        body += "reactor.callWhenRunning(status.fail, reactor, LaunchFailed('no way'))"
        self.assertEqual(ended(body)[0], 1)

    def test_status_is_0_without_failure(self) -> None:
        """Nothing failed: the status is 0."""
        code, _, err = ended("reactor.callWhenRunning(reactor.stop)")
        self.assertEqual((code, err), (0, ""))

    def test_own_errors_show_a_message_and_others_a_traceback(self) -> None:
        """Of our own errors the message is shown, of others the traceback."""
        code, out, err = ended("raise LaunchFailed('no way')")
        self.assertEqual((code, out, err), (1, "", "a-daemon: no way\n"))
        code, _, err = ended("raise ValueError('a bug')")
        self.assertEqual(code, 1)
        self.assertIn("Traceback", err)
