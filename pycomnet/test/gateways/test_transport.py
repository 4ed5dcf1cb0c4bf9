"""The transport over pipes."""

from __future__ import annotations

import fcntl
import os
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.gateways.process import PIPE_LARGE, ProcessTransport


class Writing(SynchronousTestCase):
    """What is written is told, neither more nor less."""

    def setUp(self) -> None:
        self.far_in, near_out = os.pipe()
        near_in, self.far_out = os.pipe()
        for fd in (self.far_in, self.far_out, near_in, near_out):
            self.addCleanup(os.close, fd)
        os.set_blocking(self.far_in, False)
        reactor: Any = MemoryReactor()
        self.transport = ProcessTransport(near_out, near_in, Protocol(), reactor)

    def written(self) -> bytes:
        data = b""
        while True:
            try:
                data += os.read(self.far_in, 1 << 20)
            except BlockingIOError:
                return data

    def test_grows(self) -> None:
        """A pipe that is full is made larger, and takes more at once."""
        data = os.urandom(2 * PIPE_LARGE)
        written = self.transport.writeSomeData(data)
        assert isinstance(written, int)
        self.assertGreater(written, 65536)
        self.assertEqual(self.written(), data[:written])

    def test_large_already(self) -> None:
        """One that the other end has made as large is full: what it took goes once."""
        fcntl.fcntl(self.far_in, fcntl.F_SETPIPE_SZ, PIPE_LARGE)
        data = os.urandom(2 * PIPE_LARGE)
        written = self.transport.writeSomeData(data)
        assert isinstance(written, int)
        self.assertEqual(self.written(), data[:written])
        self.assertGreater(written, 0)
        self.transport.writeSomeData(data)
        self.assertEqual(self.transport.writeSomeData(b"more"), 0)
