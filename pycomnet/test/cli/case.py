"""What the tests of commands have in common: a program whose output goes to files."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from pycomnet.cli.options import read_specs
from pycomnet.cli.program import CommandProgram
from pycomnet.gateways.spec import Spec

#: PyPy, without this interpreter's path, which trial's worker processes have in the environment.
PYPY = "popen//python=pypy3//env:PYTHONPATH="


class CommandCase(TestCase):
    """A test that runs a command's coroutine in trial's reactor."""

    #: Seconds for one test; nothing here takes a quarter of that.
    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        descriptors = []
        for name in ("stdout", "stderr"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            fd = os.open(self.directory / name, flags, 0o600)
            self.addCleanup(os.close, fd)
            descriptors.append(fd)
        self.program = CommandProgram(reactor, *descriptors)

    @property
    def stdout(self) -> str:
        """What has been written to standard output."""
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """What has been written to standard error."""
        return (self.directory / "stderr").read_text()

    def file(self, name: str, text: str) -> str:
        """Make a file; its absolute path."""
        path = self.directory / name
        path.write_text(text)
        return str(path.resolve())

    async def status_of(self, main: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> int:
        """Run a command; its exit status."""
        return await self.program.start(main)

    def specs(self, *texts: str) -> list[Spec]:
        """The gateways that ``--on`` asks for."""
        return read_specs(texts)
