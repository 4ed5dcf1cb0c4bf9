"""What the test cases of fork servers have in common."""

from __future__ import annotations

import os
from typing import Any, cast

import pycomnet
from pycomnet.test.gateways.case import GatewayCase
from pycomnet.test.processes import children, command_line


def fingerprint(channel):
    """Far code: what an interpreter has that was just started."""
    import os
    import signal
    import sys

    handlers = {}
    for number in range(1, signal.NSIG):
        handler = signal.getsignal(number)
        if handler is not None:
            handlers[number] = repr(handler)[:40]
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    channel.send(
        {
            "handlers": handlers,
            "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            "wakeup": signal.set_wakeup_fd(-1),
            "links": [os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors[:-1]],
            "session": os.getsid(0) == os.getpid(),
            "argv": sys.argv,
            "path": sys.path,
            "main": sorted(name for name in sys.modules["__main__"].__dict__ if name[0] != "_"),
            "umask": os.umask(0o22),
            "streams": [sys.stdin.read(), sys.stdout.name, sys.__stdout__.fileno()],
        }
    )


class ForkServerCase(GatewayCase):
    """What the cases below have in common. Alone the first gateway would not be forked."""

    spec = "popen//fork=yes"

    def fork_server_of(self, gw: pycomnet.Gateway) -> Any:
        """The fork server that has forked a gateway."""
        return cast(Any, gw.link.transport).fork_server

    def supervisors(self) -> set[int]:
        """The supervisors that this process has started."""
        return {pid for pid in children(os.getpid()) if b"'fork_server'" in command_line(pid)}
