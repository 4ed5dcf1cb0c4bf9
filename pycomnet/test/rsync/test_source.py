"""The source of a run: what all its targets read."""

from __future__ import annotations

import os
import threading
from typing import Any
from unittest import mock

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SkipTest

import pycomnet
from pycomnet.far.rsync.blocks import TreeDigest
from pycomnet.rsync.longfile import UNIT, LongFile
from pycomnet.rsync.options import make_options
from pycomnet.rsync.source import Source
from pycomnet.test.rsync.case import RSyncCase


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

    async def test_short_calls_are_made_by_one_thread_at_a_time(self) -> None:
        """While files are read nothing is listed, and what is to be read goes before a list."""
        for name in "abcd":
            self.in_source(name)
        source = Source(self.source, make_options(), self.reactor)
        done: list[str] = []
        may_end = threading.Event()
        self.addCleanup(may_end.set)
        read = Source._read_shorts

        def read_slowly(*args: Any) -> Any:
            done.append("read")
            may_end.wait(self.timeout)
            done.append("end of it")
            return read(*args)

        def listed(result: Any) -> Any:
            done.append("list")
            return result

        with mock.patch.object(Source, "_read_shorts", read_slowly):
            first = source.shorts([(0, b"a")])
            listing = source.batch(0).addCallback(listed)
            first.addCallback(lambda _: source.shorts([(1, b"b")]))
            may_end.set()
            await gatherResults([first, listing])
        self.assertEqual(done, ["read", "end of it"] * 2 + ["list"])
        source.close()

    def in_target(self, number: int) -> None:
        os.makedirs(self.target(number))
        with open(f"{self.target(number)}/there", "wb"):
            pass


class LongFileTests(RSyncCase):
    async def test_wrong_digest_is_not_kept(self) -> None:
        """What a target has refused is read anew, though the file has not changed."""
        self.in_source("long", os.urandom(300000))
        digest = LongFile.digest
        files: list[LongFile] = []

        async def first_is_wrong(file: LongFile) -> bytes:
            files.append(file)
            return bytes(32) if file is files[0] else await digest(file)

        sync = pycomnet.RSync(self.source)
        for number in range(2):
            sync.add_target(await self.gateway(), self.target(number))
        with mock.patch.object(LongFile, "digest", first_is_wrong):
            (await sync.send()).raise_for_failures()
        self.assertGreaterEqual(len(set(files)), 2)
        for number in range(2):
            self.assert_arrived(number)

    async def test_hole_is_counted_once(self) -> None:
        """Also where two targets read the file at different places at the same time."""
        path = self.in_source("sparse")
        with open(path, "r+b") as file:
            file.truncate(2 * UNIT)
            file.seek(2 * UNIT)
            file.write(b"x" * 2 * UNIT)

        def in_thread(function: Any, *args: Any) -> Any:
            return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), function, *args)

        long = LongFile(0, os.fsencode(path), os.O_RDONLY, in_thread, lambda *_: None)
        await long.open()
        if not long.is_sparse:
            raise SkipTest("this file system keeps no holes")
        passing: list[int] = []
        both = threading.Event()
        hole = TreeDigest.hole

        def slow(digest: TreeDigest, size: int) -> None:
            passing.append(size)
            if len(passing) == 2:
                both.set()
            both.wait(0.3)  # the other one comes now, if it may
            hole(digest, size)

        with mock.patch.object(TreeDigest, "hole", slow):
            reading = [long.unit(2 * UNIT, UNIT), long.unit(3 * UNIT, UNIT)]
            await gatherResults(reading)
        self.assertEqual(passing, [2 * UNIT])
        long.close()
