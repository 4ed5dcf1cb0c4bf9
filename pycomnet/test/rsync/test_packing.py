"""When content is compressed."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync.packing import LEAST, MEASURED, PAUSE, SLOW, Packing
from pycomnet.gateways.spec import Spec
from pycomnet.rsync.modules import compression

TEXT = b"text " * 1000


class PackingTests(SynchronousTestCase):
    def test_slow_line(self) -> None:
        """Where the line is slow, as soon as that is known."""
        packing = Packing()
        packing.measure(MEASURED - 1, 60)
        self.assertFalse(packing.wants(len(TEXT)))
        packing.measure(1, 0)
        self.assertTrue(packing.wants(len(TEXT)))

    def test_fast_line(self) -> None:
        """Not where the line is faster, or never had to be waited for."""
        for seconds in (0, MEASURED / SLOW / 2):
            packing = Packing()
            packing.measure(MEASURED, seconds)
            self.assertFalse(packing.wants(len(TEXT)))

    def test_line_that_becomes_slow(self) -> None:
        """What was long ago counts less."""
        packing = Packing()
        packing.measure(100 * MEASURED, 0)
        for _ in range(20):
            packing.measure(MEASURED, 2 * MEASURED / SLOW)
        self.assertTrue(packing.wants(len(TEXT)))

    def test_as_asked(self) -> None:
        """Always or never, if the user says so; but not what is too short."""
        self.assertTrue(Packing(True).wants(LEAST))
        self.assertFalse(Packing(True).wants(LEAST - 1))
        packing = Packing(False)
        packing.measure(MEASURED, 60)
        self.assertFalse(packing.wants(len(TEXT)))

    def test_what_is_not_worth_it(self) -> None:
        """After what can't be made smaller, some pieces are not tried."""
        packing = Packing()
        packing.measure(MEASURED, 60)
        self.assertLess(len(packing.pack(TEXT) or TEXT), len(TEXT) // 10)
        self.assertTrue(packing.wants(len(TEXT)))
        self.assertIsNone(packing.pack(os.urandom(5000)))
        self.assertEqual([packing.wants(5000) for _ in range(PAUSE + 1)], [False] * PAUSE + [True])


class CompressionTests(SynchronousTestCase):
    """:func:`compression`."""

    def test_only_lines_to_other_machines_are_measured(self) -> None:
        """A process here that is late lacks a processor; what is asked for counts everywhere."""
        for spec, found in (
            ("popen", False),
            ("popen//python=python3.12", False),
            ("popen//python=docker exec web python3", None),
            ("popen//via=a", None),
            ("ssh=a", None),
            ("socket=tcp:a:1", None),
        ):
            gateway: Any = SimpleNamespace(spec=Spec.parse(spec))
            self.assertIs(compression(gateway, None), found, spec)
            self.assertIs(compression(gateway, True), True)
            self.assertIs(compression(gateway, False), False)
