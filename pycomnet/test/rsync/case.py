"""What the test cases of rsync at gateways have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pycomnet
from pycomnet.rsync.changes import Changes
from pycomnet.test.gateways.case import GatewayCase
from pycomnet.test.rsync.kit import tree_of, write

NOON = 1700000000123456789


class RSyncCase(GatewayCase):
    """A source, and gateways."""

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.base = os.path.realpath(self.mktemp())
        self.source = os.path.join(self.base, "source")
        os.makedirs(self.source)

    def in_source(self, path: str, content: bytes = b"", time: int | None = NOON) -> str:
        whole = os.path.join(self.source, path)
        write(whole, content, time)
        return whole

    def fill(self) -> None:
        """Make a source with some of everything."""
        for number in range(300):
            self.in_source(f"short/{number % 10}/{number}", b"%d" % number * (number % 50))
        self.in_source("long", os.urandom(3000000))
        self.in_source("middle", os.urandom(70000))
        self.in_source("empty")
        os.symlink("long", f"{self.source}/link")

    def target(self, number: int = 0) -> str:
        return os.path.join(self.base, f"target{number}")

    async def send(self, gateway: pycomnet.Gateway, **options: Any) -> pycomnet.TargetResult:
        """One run to one target; the result must be complete."""
        sync = pycomnet.RSync(self.source, **options)
        sync.add_target(gateway, self.target())
        result = await sync.send()
        result.raise_for_failures()
        return result.targets[0]

    def assert_arrived(self, number: int = 0) -> None:
        came, sent = tree_of(self.target(number)), tree_of(self.source)
        # What differs in content is named, not shown: that would take minutes.
        self.assertEqual(
            [path for path in {**came, **sent} if came.get(path) != sent.get(path)], []
        )


class MovedWatcher:
    """A watcher that the test moves."""

    def __init__(
        self,
        root: bytes,
        options: Any,
        changed: Callable[[Changes], object],
        failed: Callable[[Exception], object],
        reactor: Any,
    ) -> None:
        self.changed = changed
        self.failed = failed
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True
