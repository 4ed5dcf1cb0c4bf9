"""Blocks of binary data beside a call: both ways, in files, in part, and too many."""

from __future__ import annotations

import gc
import io
import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    AttachmentFailed,
    AttachmentTooLarge,
    CallInterrupted,
    DeadlineExceeded,
    InvalidArguments,
)
from pycomnet.services.binary import IN_MEMORY, Binary, BlockLimits, ReceivedFile
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.test.garbage import collects
from pycomnet.test.services.network import ServiceCase

LONG = os.urandom(4096) * 1000  # 4 MB


class Broken(io.RawIOBase):
    """A file that can't be read to its end."""

    def __init__(self, good: int) -> None:
        self.good = good

    def read(self, size: int = -1) -> bytes:
        if not self.good:
            raise OSError("the disk is broken")
        size = min(size, self.good)
        self.good -= size
        return bytes(size)


@interface("org.example.files")
class Files(Service):
    """Takes and gives blocks."""

    def __init__(self) -> None:
        self.seen: list[ReceivedFile] = []

    @method()
    def lengths(self, request: Any) -> Any:
        self.seen += request.files
        return [[file.filename, file.size, len(file.read())] for file in request.files]

    @method()
    def echo(self, request: Any) -> Any:
        return ("here", *(Binary(file, file.filename) for file in request.files))

    @method()
    async def echo_later(self, request: Any) -> Any:
        return ("here", *(Binary(file.read()) for file in request.files))

    @method(attachments=1)
    def one(self, request: Any) -> int:
        return len(request.files)

    @method()
    def only_blocks(self, request: Any) -> Any:
        return (Binary(b"a"), Binary(b"b"))

    @method()
    def broken(self, request: Any) -> Any:
        return ("r", Binary(Broken(3_000_000)))

    @method()
    def missing(self, request: Any) -> Any:
        return ("r", Binary("/no/such/file"))

    @method(thread=True)
    def in_thread(self, request: Any) -> int:
        return sum(len(file.read()) for file in request.files)


@collects
class BlockTests(ServiceCase):
    """Calls with blocks."""

    services = (Files,)

    def setUp(self) -> None:
        super().setUp()
        self.network.runs_threads = True
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.limits(directory=str(self.directory))
        self.service: Any = self.server.services[0]
        self.remote = self.connect()

    def limits(self, **limits: Any) -> None:
        limits.setdefault("directory", str(self.directory))
        self.server.limits = ServerLimits(blocks=BlockLimits(**limits))

    def assert_nothing_left(self) -> None:
        """No file, no channel, no call."""
        gc.collect()
        self.network.deliver()
        self.assertEqual(list(self.directory.iterdir()), [])
        for wire in self.network.wires:
            for side in wire:
                self.assertEqual(side.protocol.mux.streams, {})
        self.assertEqual(self.server._active, set())
        self.assertEqual(self.server.running, 0)

    def test_to_the_server(self) -> None:
        """Bytes, a path and a file arrive in order, with names and lengths; they are closed."""
        path = self.directory / "block"
        path.write_bytes(LONG)
        file = io.BytesIO(b"skipped" + LONG)
        file.seek(7)
        blocks = [Binary(b"abc", "first"), Binary(path), Binary(file), Binary(b"")]
        found = self.result(self.remote.invoke("lengths", attachments=blocks))
        size = len(LONG)
        self.assertEqual(
            found, [["first", 3, 3], ["block", size, size], [None, size, size], [None, 0, 0]]
        )
        self.assertTrue(all(file.closed for file in self.service.seen))
        path.unlink()
        self.assert_nothing_left()

    def test_file_at_its_end_is_sent_from_its_beginning(self) -> None:
        """A file that stands at its end, as after writing, is sent from its beginning; one that
        stands elsewhere from there; and again the same.
        """
        written = io.BytesIO()
        written.write(LONG)
        path = self.directory / "block"
        with open(path, "w+b") as file, open(path, "r+b") as halfway:
            file.write(LONG)  # and it is not flushed
            file.flush()
            halfway.seek(len(LONG) - 3)
            for _ in range(2):
                blocks = [Binary(written), Binary(file), Binary(halfway), Binary(io.BytesIO())]
                found = self.result(self.remote.invoke("lengths", attachments=blocks))
                size = len(LONG)
                self.assertEqual([read for _, read, _ in found[:2]], [size, size])
                self.assertEqual(found[3][1], 0)
                self.assertEqual(found[2][1], 3)
                halfway.seek(len(LONG) - 3)
        with open(path, "wb") as writing:
            problem = self.assertRaises(TypeError, Binary, writing)
            self.assertIn("w+b", str(problem))
        path.unlink()
        self.assert_nothing_left()

    def test_blocks_come_back_as_they_were(self) -> None:
        """They come back as they were."""
        for name in ("echo", "echo_later"):
            call = self.remote.invoke(name, None, 5, [Binary(LONG, "x"), Binary(b"y")], True)
            value, files = self.result(call)
            self.assertEqual(value, "here")
            self.assertEqual([file.read() for file in files], [LONG, b"y"])
            del files
            self.assert_nothing_left()

    def test_result_may_be_blocks_alone(self) -> None:
        """A result may be blocks alone; whoever does not want them gets the rest."""
        value, files = self.result(self.remote.invoke("only_blocks", with_binary=True))
        self.assertEqual((value, [file.read() for file in files]), (None, [b"a", b"b"]))
        self.assertEqual(self.result(self.remote.invoke("only_blocks")), None)
        self.assert_nothing_left()

    def test_with_binary_gives_an_empty_list_without_blocks(self) -> None:
        """``with_binary`` gives an empty list where there are none."""
        self.assertEqual(self.result(self.remote.invoke("lengths", with_binary=True)), ([], []))

    def test_method_in_a_thread_gets_blocks(self) -> None:
        """A method in a thread gets them, too."""
        call = self.remote.invoke("in_thread", attachments=[Binary(LONG), Binary(b"12")])
        self.assertEqual(self.result(call), len(LONG) + 2)

    def test_file_that_cannot_be_sought_is_sent(self) -> None:
        """What can't be sought is sent until it ends."""
        read, write = os.pipe()
        with open(read, "rb") as pipe:
            with open(write, "wb") as out:
                out.write(b"x" * 50_000)
            found = self.result(self.remote.invoke("lengths", attachments=[Binary(pipe)]))
        self.assertEqual(found[0][1:], [50_000, 50_000])

    def test_blocks_over_a_limit_are_refused(self) -> None:
        """Too long, too long together, too many: each is refused, before or while it comes."""
        for limits, blocks, says in (
            ({"block": 10}, [Binary(b"x" * 11)], "10 bytes"),
            ({"total": 10}, [Binary(b"x" * 6), Binary(b"x" * 6)], "12 bytes together"),
            ({"count": 1}, [Binary(b""), Binary(b"")], "limit is 1"),
            ({"block": 100}, [Binary(Broken(10**9))], "100 bytes"),
            ({"total": 2_000_000}, [Binary(Broken(10**9))], "together"),
        ):
            self.limits(**limits)
            problem = self.failure(
                self.remote.invoke("lengths", attachments=blocks), AttachmentTooLarge
            )
            self.assertIn(says, str(problem))
            self.assert_nothing_left()
        self.limits()
        problem = self.failure(
            self.remote.invoke("one", attachments=[Binary(b""), Binary(b"")]), InvalidArguments
        )
        self.assertIn("takes 1", str(problem))
        self.assert_nothing_left()

    def test_caller_has_limits_as_well(self) -> None:
        """A caller has limits as well."""
        self.context.blocks = BlockLimits(block=1000)
        call = self.remote.invoke("echo", None, 5, [Binary(LONG)], True)
        self.failure(call, AttachmentTooLarge)
        self.assert_nothing_left()

    def test_broken_file_says_why_both_ways(self) -> None:
        """A file that can't be read to its end is an error that says why, both ways."""
        call = self.remote.invoke("lengths", attachments=[Binary(Broken(2_000_000))])
        problem = self.failure(call, AttachmentFailed)
        self.assertIn("the disk is broken", str(problem))
        problem = self.failure(self.remote.invoke("broken", with_binary=True), AttachmentFailed)
        self.assertIn("the disk is broken", str(problem))
        self.assert_nothing_left()

    def test_missing_path_is_an_error_before_anything_is_sent(self) -> None:
        """A path that is not there is an error before anything is sent, or the method's."""
        call = self.remote.invoke("lengths", attachments=[Binary("/no/such/file")])
        self.failure(call, FileNotFoundError)
        problem = self.failure(self.remote.invoke("missing", with_binary=True))
        self.assertIn("/no/such/file", str(problem))
        self.failure(self.remote.invoke("lengths", attachments=[b"x"]), TypeError)
        self.assert_nothing_left()

    def test_nowhere_to_keep(self) -> None:
        """A server that can't keep a block says so."""
        self.limits(directory="/no/such/directory")
        call = self.remote.invoke("lengths", attachments=[Binary(LONG)])
        self.assertIn("kept", str(self.failure(call, AttachmentFailed)))
        self.assert_nothing_left()

    def test_sender_is_gone(self) -> None:
        """When the sender's connection breaks midway nothing stays, and the method is not run."""
        call = self.remote.invoke("lengths", attachments=[Binary(Broken(10**9))])
        for _ in range(20):
            self.network.advance(0)
            self.network.run_threads()
            for wire in self.network.wires:
                self.network._move(*wire)
                self.network._move(*wire[::-1])
        self.assertGreater(self.server.running, 0)
        self.network.cut()
        self.failure(call, CallInterrupted)
        self.assertEqual(self.service.seen, [])
        self.assert_nothing_left()

    def test_deadline_ends_blocks_at_both_ends(self) -> None:
        """A deadline that passes while blocks are under way ends it at both ends."""
        read, write = os.pipe()
        with open(read, "rb", buffering=0) as pipe, open(write, "wb", buffering=0) as out:
            out.write(b"x")
            self.network.runs_threads = False
            call = self.remote.invoke("lengths", None, 2, [Binary(pipe)])
            self.network.deliver()
            self.network.run_threads()
            self.network.wait(3)
            self.failure(call, DeadlineExceeded)
            out.close()
            self.network.runs_threads = True
            self.assert_nothing_left()


@collects
class ReceivedFileTests(SynchronousTestCase):
    """The file that arrives."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_small_one_has_no_file_until_its_name_is_asked_for(self) -> None:
        """A small one is in no file, until its name is asked for; then until it is closed."""
        file = ReceivedFile("a", str(self.directory))
        file.write(b"line\nother")
        file.seek(0)
        self.assertTrue(file.in_memory)
        self.assertEqual(list(file), [b"line\n", b"other"])
        self.assertEqual(Path(file.name).read_bytes(), b"line\nother")
        self.assertEqual(file.name, file.name)
        file.seek(5)
        self.assertEqual(file.read(), b"other")
        file.close()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_long_one_has_no_name_until_asked_for(self) -> None:
        """A long one has no name on disk until it is asked for."""
        with ReceivedFile(None, str(self.directory)) as file:
            file.write(b"x" * IN_MEMORY)
            file.spill()
            self.assertFalse(file.in_memory)
            self.assertEqual(list(self.directory.iterdir()), [])
            self.assertEqual(Path(file.name).stat().st_size, IN_MEMORY)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_dropped_one_is_gone(self) -> None:
        """One that nobody holds is gone."""
        file = ReceivedFile(None, str(self.directory))
        self.assertTrue(os.path.exists(file.name))
        del file
        gc.collect()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_text_file_is_refused_and_binary_read_again(self) -> None:
        """What can't be sent is refused; a file is read again from where it was."""
        self.assertRaises(TypeError, Binary, 5)
        self.assertRaises(TypeError, Binary, io.StringIO())
        source = io.BytesIO(b"0123456789")
        source.seek(4)
        block = Binary(source)
        for _ in range(2):
            file, size = block.open()
            self.assertEqual((size, file.read()), (6, b"456789"))
