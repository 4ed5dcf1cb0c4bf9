"""Trees from gateways, also from those that would do harm."""

from __future__ import annotations

import os
import signal
import stat
import struct
from typing import Any
from unittest import mock

from twisted.internet import defer

import pycomnet
from pycomnet.far.rsync import entries, scan
from pycomnet.far.rsync.blocks import SUM
from pycomnet.far.rsync.blocks import sums as block_sums
from pycomnet.far.rsync.files import read_at
from pycomnet.rsync import fetch, fetchreceiver, modules
from pycomnet.rsync.fetchrun import FetchRun
from pycomnet.rsync.matching import Matcher
from pycomnet.test.rsync.case import NOON, RSyncCase
from pycomnet.test.rsync.kit import tree_of, write
from pycomnet.test.waiting import until

#: A far side that sends what it is told, and then waits.
SCRIPTED = """
for message in messages:
    channel.send(message)
for piece in pieces:
    data.send(piece)
for message in channel:
    pass
"""


#: Lets the far side find that it can't read all of its tree.
UNREADABLE = """
from _pycomnet_rsync import scan as module
make_scan = module.Scan.__init__

def make(scan, *args, **options):
    make_scan(scan, *args, **options)
    scan.clean = False

module.Scan.__init__ = make
"""


def batch(
    names: list[bytes],
    kinds: list[int],
    directories: Any = None,
    texts: Any = (),
    size: int = 0,
    first: int = 0,
) -> list[Any]:
    """A list as a far side would send it."""
    count = len(names)
    return entries.pack(
        first, directories or [[b"", count, 1]], names, bytearray(kinds), [0o644] * count,
        [size] * count, [NOON] * count, texts, [], [],
    )  # fmt: skip


class FetchTests(RSyncCase):
    async def fetch(self, **options: Any) -> pycomnet.TargetResult:
        gateway = await self.gateway()
        result = await pycomnet.fetch(gateway, self.source, self.target(), **options)
        result.raise_for_failures()
        return result

    async def test_everything(self) -> None:
        """A tree comes; then there is nothing to do; then only what has changed comes."""
        self.fill()
        os.link(f"{self.source}/middle", f"{self.source}/short/other")
        first = await self.fetch(hard_links=True)
        self.assert_arrived()
        self.assertEqual((len(first.sent), first.entries), (303, 316))
        second = await self.fetch(hard_links=True)
        self.assertEqual((second.sent, second.made, second.changed), ([], [], []))
        with open(f"{self.source}/long", "rb") as file:
            content = file.read()
        self.in_source("long", b"front" + content[:1000000] + b"middle" + content[1000000:])
        os.remove(f"{self.source}/short/2/2")
        third = await self.fetch(hard_links=True, delete=True)
        self.assert_arrived()
        self.assertEqual((third.sent, third.deleted), (["long"], ["short/2/2"]))
        self.assertLess(third.bytes_received, 100000)
        self.assertGreater(third.matched, 2900000)

    async def test_dry_run(self) -> None:
        """Nothing is changed, and the result says what would be."""
        self.in_source("a/b", b"content")
        result = await self.fetch(dry_run=True)
        self.assertEqual((result.sent, result.made), (["a/b"], ["a"]))
        self.assertFalse(os.path.exists(self.target()))

    async def test_what_is_said(self) -> None:
        """What is skipped, noted or failed there is in the result, and is an event."""
        self.in_source("a", b"content")
        os.mkfifo(f"{self.source}/fifo")
        os.symlink("/nowhere", f"{self.source}/link")
        found: list[pycomnet.SyncEvent] = []
        result = await self.fetch(exclude=["*.pyc"], progress=found.append)
        self.assertEqual(result.skipped, [("fifo", "it is a FIFO")])
        self.assertEqual([path for path, _ in result.noted], ["link"])
        self.assertEqual(
            [(event.kind, event.path) for event in found],
            [("skipped", "fifo"), ("noted", "link"), ("made", "link"), ("sent", "a"),
             ("finished", "")],
        )  # fmt: skip

    async def test_compressed(self) -> None:
        """What is compressed comes as it was; what can't be made smaller is not."""
        self.in_source("long", b"text " * 100000)
        self.in_source("random", os.urandom(100000))
        for number in range(20):
            self.in_source(f"short{number}", b"text " * 200)
        result = await self.fetch(compress=True)
        self.assert_arrived()
        self.assertLess(result.bytes_received, 130000)
        self.in_source("long", b"TEXT " * 100000, NOON + 1)
        result = await self.fetch(compress=False)
        self.assert_arrived()
        self.assertGreater(result.bytes_received, 500000)

    async def test_long_file_of_equal_content(self) -> None:
        """A long file that is here already is not replaced; parts that moved are."""
        content = os.urandom(300000)
        for name in ("equal", "moved"):
            self.in_source(name, content)
        for number, name, old in ((0, "equal", content), (1, "moved", content[::-1])):
            write(f"{self.target()}/{name}", old, NOON - 1 - number)
        before = os.stat(f"{self.target()}/equal").st_ino
        events: list[pycomnet.SyncEvent] = []
        result = await self.fetch(progress=events.append)
        equal = [event.path for event in events if event.kind == "equal"]
        self.assertEqual((equal, result.sent), (["equal"], ["moved"]))
        self.assert_arrived()
        self.assertEqual(os.stat(f"{self.target()}/equal").st_ino, before)
        half = len(content) // 2 // 4096 * 4096
        self.in_source("equal", content[half:] + content[:half])
        self.assertEqual((await self.fetch(checksum=True)).sent, ["equal"])
        self.assert_arrived()

    async def test_checksum(self) -> None:
        """Content is compared if asked."""
        for name, size in (("short", 10), ("long", 100000)):
            self.in_source(name, b"1" * size)
            write(f"{self.target()}/{name}", b"2" * size, NOON)
        self.in_source("equal", b"x")
        write(f"{self.target()}/equal", b"x", NOON)
        self.assertEqual((await self.fetch()).sent, [])
        self.assertEqual(sorted((await self.fetch(checksum=True)).sent), ["long", "short"])
        self.assert_arrived()

    async def test_sparse_file(self) -> None:
        """Holes stay holes."""
        path = self.in_source("sparse")
        with open(path, "r+b") as file:
            file.truncate(20000000)
            file.seek(10000000)
            file.write(b"data" * 50000)
        result = await self.fetch()
        self.assert_arrived()
        self.assertLess(result.bytes_received, 1000000)
        self.assertLess(os.stat(f"{self.target()}/sparse").st_blocks * 512, 2000000)

    async def test_set_user_id(self) -> None:
        """A program does not get the rights of this end's user."""
        os.chmod(self.in_source("program", b"x"), 0o6755)
        await self.fetch()
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.target()}/program").st_mode), 0o755)
        self.assertEqual((await self.fetch()).changed, [])

    async def test_descriptors(self) -> None:
        """Of many long files that have changed, few old ones are open at a time."""
        for number in range(60):
            self.in_source(f"long{number:02}", b"new" + b"%d" % number * 35000, NOON + 1)
            write(f"{self.target()}/long{number:02}", b"old" + b"%d" % number * 35000, NOON)
        before = len(os.listdir("/proc/self/fd"))
        most = [0]

        def count(event: pycomnet.SyncEvent) -> None:
            most[0] = max(most[0], len(os.listdir("/proc/self/fd")))

        result = await self.fetch(progress=count)
        self.assertEqual(len(result.sent), 60)
        self.assert_arrived()
        self.assertLess(
            most[0] - before, fetchreceiver.AHEAD + 10
        )  # a pipe of the gateway, and the like

    async def test_more_lists_than_wait(self) -> None:
        """Lists whose files are not asked for yet are not lost."""
        for number in range(40):
            self.in_source(f"long{number:02}", b"new" * 30000, NOON + 1)
            write(f"{self.target()}/long{number:02}", b"old" * 30000, NOON)
        with (
            mock.patch.object(scan, "FIRST_BATCH", 1),
            mock.patch.object(scan, "BATCH", 3),
            mock.patch.object(fetchreceiver, "WAITING", 2),
            mock.patch.object(fetchreceiver, "AHEAD", 1),
        ):
            result = await self.fetch()
        self.assertEqual(len(result.sent), 40)
        self.assert_arrived()

    async def test_old_file_that_can_not_be_read(self) -> None:
        """An old file that can't be read while it is compared is no basis; the run goes on."""
        for name in ("long", "other"):
            self.in_source(name, b"new" * 30000, NOON + 1)
            write(f"{self.target()}/{name}", b"old" * 30000, NOON)
        gateway = await self.gateway()
        before = os.listdir("/proc/self/fd")
        with mock.patch.object(Matcher, "steps", side_effect=[OSError(5, "I/O"), iter([])]):
            result = await pycomnet.fetch(gateway, self.source, self.target())
        self.assertEqual(sorted(result.sent), ["long", "other"])
        self.assert_arrived()
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    async def test_no_such_source(self) -> None:
        """A source that is not there is an error, in words."""
        gateway = await self.gateway()
        problem = await self.failure(
            pycomnet.fetch(gateway, f"{self.base}/nowhere", self.target()), pycomnet.SyncError
        )
        self.assertEqual(
            str(problem), f"{gateway.id}:{self.base}/nowhere: No such file or directory"
        )
        self.assertFalse(os.path.exists(self.target()))

    async def test_gateway_dies(self) -> None:
        """The end of the gateway is the error; the next run goes on from there."""
        self.fill()
        gateway = await self.gateway()

        killed: list[int] = []

        def kill(event: pycomnet.SyncEvent) -> None:
            if event.kind == "sent" and not killed:
                killed.append(gateway.info["pid"])
                os.kill(killed[0], signal.SIGKILL)

        running = pycomnet.fetch(gateway, self.source, self.target(), progress=kill)
        await self.failure(running, pycomnet.ConnectionLost)
        await self.fetch()
        self.assert_arrived()

    async def test_cancelled(self) -> None:
        """Cancelling ends the run, and another goes on."""
        self.fill()
        gateway = await self.gateway()
        first: defer.Deferred[None] = defer.Deferred()

        def note(event: pycomnet.SyncEvent) -> None:
            if not first.called:
                first.callback(None)

        running = pycomnet.fetch(gateway, self.source, self.target(), progress=note)
        await first
        running.cancel()
        await self.failure(running, defer.CancelledError)
        await self.fetch()
        self.assert_arrived()

    async def test_nothing_is_written_after_it_was_cancelled(self) -> None:
        """It fires when its thread has ended, and that takes no longer than a step."""
        self.in_source("long", os.urandom(200000))
        write(f"{self.target()}/long", os.urandom(200000))
        gateway = await self.gateway()
        seen: list[str] = []
        receive = FetchRun.receive

        def received(run: FetchRun, destination: bytes) -> None:
            try:
                receive(run, destination)
            finally:
                seen.append("the thread has ended")

        class EndlessMatcher:
            def __init__(self, *args: Any) -> None:
                seen.append("it matches")

            def steps(self) -> Any:
                while True:
                    yield None

        with (
            mock.patch.object(FetchRun, "receive", received),
            mock.patch.object(fetchreceiver, "Matcher", EndlessMatcher),
        ):
            running = pycomnet.fetch(gateway, self.source, self.target())
            await until(lambda: seen, "it matches")
            running.cancel()
            await self.failure(running, defer.CancelledError)
        self.assertEqual(seen, ["it matches", "the thread has ended"])
        await self.fetch()
        self.assert_arrived()

    async def test_far_side_that_does_not_end(self) -> None:
        """One that ends sending, and nothing else, is given up."""
        gateway = await self.gateway()
        code = "channel.close()\nfor each in data: pass"
        with mock.patch.object(fetch, "SEND", code), mock.patch.object(modules, "REASON", 0.01):
            running = pycomnet.fetch(gateway, self.source, self.target())
            problem = await self.failure(running, pycomnet.SyncError)
        self.assertIn("before it was finished", str(problem))

    async def test_limits(self) -> None:
        """More than may come ends the run; what is as much as that may come."""
        self.in_source("short", b"x" * 1000)
        self.in_source("long", b"y" * 200000)
        (await self.fetch(max_bytes=201000, max_entries=2)).raise_for_failures()
        self.assert_arrived()
        os.truncate(self.in_source("sparse"), 300000)
        wrong_limits: tuple[tuple[dict[str, Any], str], ...] = (
            ({"max_entries": 2}, "max_entries"),
            ({"max_bytes": 299999}, "at most 299999"),
        )
        for limits, word in wrong_limits:
            gateway = await self.gateway()
            running = pycomnet.fetch(gateway, self.source, self.target(), **limits)
            self.assertIn(word, str(await self.failure(running, pycomnet.SyncError)))
            self.assertEqual(sorted(os.listdir(self.target())), ["long", "short"])
        for wrong in (-1, 1.5, "1"):
            self.assertRaises(
                ValueError, pycomnet.fetch, gateway, "x", self.target(), max_bytes=wrong
            )

    async def test_deletes_that_are_skipped(self) -> None:
        """Where the source can't be read completely, the result says that nothing was deleted."""
        self.in_source("a")
        write(f"{self.target()}/old")
        gateway = await self.gateway()
        code = f"{UNREADABLE}\n{modules.SEND}"
        with mock.patch.object(fetch, "SEND", code):
            result = await pycomnet.fetch(gateway, self.source, self.target(), delete=True)
        self.assertTrue(result.deletes_skipped)
        self.assertEqual(sorted(os.listdir(self.target())), ["a", "old"])
        self.assertFalse((await self.fetch(delete=True)).deletes_skipped)
        self.assertEqual(os.listdir(self.target()), ["a"])


class HostileFarSideTests(RSyncCase):
    """A far side that would write outside of the destination (case 18)."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = os.path.join(self.base, "outside")
        os.makedirs(self.outside)

    async def fetch_from(
        self, *messages: list[Any], pieces: tuple[bytes, ...] = (), **options: Any
    ) -> pycomnet.TargetResult:
        """Fetch from a far side that sends this."""
        gateway = await self.gateway()
        told = [["root", 0o755, NOON, ["", [[b"", ""]]]], *messages]
        code = f"messages, pieces = {told!r}, {pieces!r}\n{SCRIPTED}"
        with mock.patch.object(fetch, "SEND", code):
            return await pycomnet.fetch(gateway, "x", self.target(), **options)

    async def refused(self, *messages: list[Any], pieces: tuple[bytes, ...] = ()) -> str:
        """What the run fails with."""
        running = defer.Deferred.fromCoroutine(self.fetch_from(*messages, pieces=pieces))
        problem = await self.failure(running, pycomnet.SyncError)
        self.assertEqual(os.listdir(self.outside), [])
        self.assertEqual(sorted(os.listdir(self.base)), self.there)
        return str(problem)

    @property
    def there(self) -> list[str]:
        return ["outside", "source", "target0"]

    async def test_what_is_said_without_end(self) -> None:
        """With a limit for entries, what is said of them has one, too."""
        told = [["told", [], [], [[b"x", "can't be read"]]]] * 10
        running = defer.Deferred.fromCoroutine(self.fetch_from(*told, max_entries=3))
        problem = await self.failure(running, pycomnet.SyncError)
        self.assertIn("max_entries", str(problem))

    async def test_names(self) -> None:
        """``..``, an absolute name and one with a separator are refused."""
        for name in (b"..", b"../x", b"/etc/x", b"a/b", b"."):
            self.assertIn("no name", await self.refused(batch([name], [entries.FILE])))

    async def test_directories(self) -> None:
        """So are directories that lead out."""
        for path in (b"..", b"../outside", b"/etc", b"a/../.."):
            message = batch([b"x"], [entries.FILE], [[path, 1, 1]])
            self.assertIn("no name", await self.refused(message))

    async def test_parent_that_becomes_a_link(self) -> None:
        """A directory that is sent again as a link is not followed."""
        result = await self.fetch_from(
            batch(
                [b"link", b"x"],
                [entries.LINK, entries.FILE],
                [[b"", 1, 1], [b"link", 1, 1]],
                [self.outside.encode()],
            ),
            ["end", True],
        )
        self.assertEqual([path for path, _ in result.failed], ["link/x"])
        self.assertEqual(os.listdir(self.outside), [])

    async def test_directory_that_becomes_a_link(self) -> None:
        """An empty directory whose name is listed again as a link does not lend it its mode."""
        os.chmod(self.outside, 0o700)
        directory = batch([b"d"], [entries.DIRECTORY], [[b"", 1, 1]])
        link = batch([b"d"], [entries.LINK], [[b"", 1, 1]], [self.outside.encode()])
        link[1] = 1
        open_directory = batch([b"d"], [entries.DIRECTORY], [[b"", 1, 0]])
        for lists in ([directory, link], [open_directory, link]):
            self.assertIn("listed twice", await self.refused(*lists, ["end", True]))
            self.assertEqual(stat.S_IMODE(os.stat(self.outside).st_mode), 0o700)

    async def test_links_that_were_not_asked_for(self) -> None:
        """With ``links="skip"`` a link that is sent all the same is not made."""
        result = await self.fetch_from(
            batch([b"link"], [entries.LINK], None, [b"/etc"]), ["end", True], links="skip"
        )
        self.assertEqual([path for path, _ in result.failed], ["link"])
        self.assertEqual(os.listdir(self.target()), [])

    async def test_any_number_of_bytes(self) -> None:
        """What is sent as parts of what is here counts as what is written."""
        listed = batch([b"x"], [entries.FILE], size=100000)
        os.makedirs(self.target())
        with open(f"{self.target()}/x", "wb") as file:
            file.write(os.urandom(50000))
        block = 4096
        with open(f"{self.target()}/x", "rb") as file:
            parts = b"".join(block_sums(read_at(file.fileno()), 50000, block, b"x"))
        copies = (b"C" + struct.pack(">QQ", 0, 50000)) * 100
        running = defer.Deferred.fromCoroutine(
            self.fetch_from(
                listed,
                ["sums", 0, 50000, block, b"x", parts, True],
                ["long", 0, block, NOON, 0o644, False],
                pieces=(copies,),
                max_bytes=1000000,
            )
        )
        problem = await self.failure(running, pycomnet.SyncError)
        self.assertIn("more came than may come", str(problem))
        self.assertEqual(os.listdir(self.target()), ["x"])

    async def test_nonsense(self) -> None:
        """Messages that are none end the run, with an error."""
        listed = batch([b"x"], [entries.FILE], size=100000)
        number = entries.numbers_of("Q", [0])
        empty = b"Z" + struct.pack(">II", 8, 0) + b"x" * 8
        for messages, pieces in (
            ([["nothing"]], ()),
            ([[]], ()),
            ([["list", 0]], ()),
            ([["short", number, b"", b"", b"", b"", 0]], ()),
            ([listed, ["short", number, b"\0\0\0\5", b"\0" * 8, b"\0" * 4, b"x", 0]], ()),
            ([listed, ["short", number, b"", b"", b"", b"x" * 20, 2**31]], ()),
            ([listed, ["long", 0, 0, NOON, 0, False]], ()),
            ([listed, ["long", 0, 4096, NOON, 0, False]], (b"?",)),
            ([listed, ["long", 0, 4096, NOON, 0, False]], (b"L\xff\xff\xff\xff",)),
            ([listed, ["long", 0, 4096, NOON, 0, False]], (b"H" + b"\x7f" * 8,)),
            ([listed, ["sums", 0, 2**60, 3, b"", b"", True]], ()),
            ([["told", [], [], [[1000000, "a number"]]]], ()),
            (
                [listed, ["long", 0, 4096, NOON, 0, False]],
                (empty,),
            ),
            ([listed, ["unreadable", number, []]], ()),
        ):
            await self.refused(*messages, pieces=pieces)
            self.assertNotIn("x", os.listdir(self.target()))

    async def test_sums(self) -> None:
        """Sums are taken for the file that they were asked for, as many as it has blocks."""
        names = [b"x", b"y"]
        listed = batch(names, [entries.FILE] * 2, size=100000)
        one = b"0" * SUM.size
        for messages, reason in (
            ([["sums", 0, 100000, 3, b"a", b"", False]], "blocks of 3 bytes"),
            ([["sums", 0, 100000, 2**40, b"a", b"", False]], "blocks of"),
            ([["sums", 0, 8192, 4096, b"a", one * 3, False]], "more blocks"),
            ([["sums", 0, 8192, 4096, b"a", one, False]] * 3, "more blocks"),
            ([["sums", 0, 0, 0, b"", one, False]], "more blocks"),
            ([["sums", 7, 100000, 4096, b"a", b"", True]], "not asked for"),
            (
                [["sums", number, 100000, 4096, b"a", one, False] for number in (0, 1)],
                "two files at a time",
            ),
            ([["sums", 0, 0, 0, b"", b"", True]] * 2, "not asked for"),
            ([["sums", 0, 100000, 4096, 17, one, False]], "can't be read"),
        ):
            for name in names:
                write(os.path.join(self.target(), os.fsdecode(name)), b"old" * 30000)
            self.assertIn(reason, await self.refused(listed, *messages))

    async def test_lists_without_end(self) -> None:
        """A far side that lists, and serves nothing, is given up."""
        lists = [
            batch([b"%02d" % number], [entries.FILE], [[b"", 1, 0]], (), 1, number)
            for number in range(40)
        ]
        with mock.patch.object(fetchreceiver, "WAITING", 4):
            self.assertIn("not what it is asked for", await self.refused(*lists))
        with mock.patch.object(fetchreceiver, "MOST_ENTRIES", 1):
            self.assertIn("2 entries", await self.refused(batch([b"x", b"y"], [entries.FILE] * 2)))

    async def test_wrong_digest(self) -> None:
        """Content that is not what its digest says is asked for again, and not taken."""
        listed = batch([b"x"], [entries.FILE], size=100000)
        result = await self.fetch_from(
            listed,
            ["long", 0, 4096, NOON, 0o644, False],
            ["unreadable", entries.numbers_of("Q", [0]), ["given up"]],
            ["end", True],
            pieces=(b"L\0\0\0\1x", b"E" + bytes(32)),
        )
        self.assertEqual(result.failed, [("x", "given up")])
        self.assertEqual(os.listdir(self.target()), [])

    async def test_tree(self) -> None:
        """The scripted far side does work when it does no harm."""
        result = await self.fetch_from(
            batch([b"x"], [entries.FILE], size=1),
            ["short", entries.numbers_of("Q", [0]), entries.numbers_of("I", [1]),
             entries.numbers_of("q", [NOON]), entries.numbers_of("I", [0o644]), b"x", 0],
            ["end", True],
        )  # fmt: skip
        self.assertEqual(result.sent, ["x"])
        self.assertEqual(tree_of(self.target())[b"x"][3], b"x")
