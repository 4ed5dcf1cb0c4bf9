"""The source of a run: what all its targets read."""

from __future__ import annotations

import os

import pycomnet
from pycomnet.rsync.options import make_options
from pycomnet.rsync.source import Source
from pycomnet.test.rsync.test_targets import RSyncCase


class SourceTests(RSyncCase):
    async def test_list_that_can_not_be_read_on_fails_for_all(self) -> None:
        """Whoever wants more of it fails, also later: nobody takes its end for the end."""

        def takes(path: str) -> bool:
            if path == "b":
                raise ZeroDivisionError
            return True

        for name in "abc":
            self.in_source(name)
        options = make_options(takes_path=takes)
        source = Source(self.source, options, self.reactor)
        for _ in range(3):
            await self.failure(source.batch(0), ZeroDivisionError)
        source.close()

    async def test_function_that_raises_fails_at_all_targets(self) -> None:
        """So does a run with such a function: at no target all seems to be equal."""
        self.fill()

        def takes(path: str) -> bool:
            return 1 // (path != "short/7/297") == 1

        sync = pycomnet.RSync(self.source, takes=takes, delete=True)
        for number in range(2):
            sync.add_target(await self.gateway(), self.target(number))
            self.in_target(number)
        result = await sync.send()
        self.assertEqual([type(each.error) for each in result.targets], [ZeroDivisionError] * 2)
        for number in range(2):
            self.assertTrue(os.path.exists(f"{self.target(number)}/there"))

    def in_target(self, number: int) -> None:
        os.makedirs(self.target(number))
        with open(f"{self.target(number)}/there", "wb"):
            pass
