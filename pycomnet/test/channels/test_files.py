"""File-like objects over channels."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet import defer

from pycomnet.channels.files import ChannelFile
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.test.kit import HUGE, PairCase


class FileCase(PairCase):
    """A test on a channel with a file at one end."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel()

    def send(self, *pieces: str | bytes, close: bool = True) -> None:
        """Send pieces to the near end, and close."""
        for piece in pieces:
            self.far.send(piece)
        if close:
            self.far.close()
        self.pair.pump()

    def reader(self) -> ChannelFile:
        """A file that reads what comes to the near end."""
        return self.near.makefile("r")


class Writing(FileCase):
    """Files that are written to."""

    def test_write_sends_at_once_as_it_is(self) -> None:
        """What is written is sent as it is, at once."""
        file = self.near.makefile()
        self.assertIsNone(self.successResultOf(file.write("one\ntwo")))
        file.write(b"bytes")
        file.flush()
        self.assertIs(file.isatty(), False)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), ["one\ntwo", b"bytes"])

    def test_writelines_sends_in_order_and_waits_for_room(self) -> None:
        """Lines are sent one after the other, of any iterable, waiting for room."""
        file = self.near.makefile("w")
        writing = file.writelines(line for line in ["a\n", HUGE.hex(), "b\n"])
        self.pair.pump()
        self.assertNoResult(writing)
        got = []
        for _ in range(3):
            receiving = self.far.receive()
            self.pair.pump()
            got.append(self.successResultOf(receiving))
        self.assertTrue(got == ["a\n", HUGE.hex(), "b\n"])
        self.successResultOf(writing)

    def test_cancelled_writelines_sends_no_more(self) -> None:
        """Cancelling it sends no more lines."""
        file = self.near.makefile("w")
        writing = file.writelines([bytes(60_000)] * 40)
        self.pair.pump()
        writing.cancel()
        self.failureResultOf(writing, defer.CancelledError)
        count = len(self.receive_all(self.far))
        self.pair.pump()
        # The one that waited may have been begun.
        self.assertLess(count + len(self.receive_all(self.far)), 20)

    def test_close_leaves_the_channel_open(self) -> None:
        """Closing the file leaves the channel open."""
        file = self.near.makefile("w")
        file.close()
        self.assertTrue(file.closed)
        self.assertFalse(self.near.isclosed())
        for written in (file.write("late"), file.writelines(["late"])):
            self.assertIn("closed file", str(self.failureResultOf(written, ValueError).value))

    def test_proxyclose_closes_the_channel(self) -> None:
        file = self.near.makefile("w", proxyclose=True)
        file.write("last")
        file.close()
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), ["last"])
        self.failureResultOf(self.far.receive(), ChannelClosed)

    def test_other_modes_and_directions_are_refused(self) -> None:
        """A file is for writing or for reading, and there is no other mode."""
        with self.assertRaisesRegex(ValueError, "mode: 'w' or 'r', not 'rb'"):
            self.near.makefile("rb")
        writer, reader = self.near.makefile("w"), self.reader()
        for deferred in (writer.read(), writer.readline(), reader.write("x")):
            self.failureResultOf(deferred, io.UnsupportedOperation)


class Reading(FileCase):
    """Files that are read from."""

    def read_all(self, *sizes: int) -> list[Any]:
        """Read pieces of these sizes, which must be there."""
        file = self.reader()
        return [self.successResultOf(file.read(size)) for size in sizes]

    def test_read_joins_and_cuts_pieces(self) -> None:
        """Pieces are put together and cut as is asked for."""
        self.send("abc", "", "defg", "h")
        self.assertEqual(self.read_all(2, 3, 0, 100, 1), ["ab", "cde", "", "fgh", ""])

    def test_read_without_size_reads_to_the_end(self) -> None:
        """Without a size it is all up to the end."""
        self.send(b"ab", b"", b"cd")
        file = self.reader()
        self.assertEqual(self.successResultOf(file.read()), b"abcd")
        self.assertEqual(self.successResultOf(file.read()), b"")

    def test_read_of_nothing_is_an_empty_string(self) -> None:
        """When nothing came, it is an empty str."""
        self.send()
        self.assertEqual(self.read_all(-1, 5), ["", ""])

    def test_read_waits_for_its_size_or_the_end(self) -> None:
        """A read with a size waits for as much, or for the end."""
        file = self.reader()
        reading = file.read(3)
        self.send("ab", close=False)
        self.assertNoResult(reading)
        self.send("cd", close=False)
        self.assertEqual(self.successResultOf(reading), "abc")
        reading = file.read(3)
        self.assertNoResult(reading)
        self.send()
        self.assertEqual(self.successResultOf(reading), "d")

    def test_readline_keeps_line_ends_however_cut(self) -> None:
        """Lines keep their ends, wherever the pieces are cut; the last may have none."""
        self.send("one", "\ntwo\n\nth", "r", "ee\nfour")
        file = self.reader()
        lines = [self.successResultOf(file.readline()) for _ in range(6)]
        self.assertEqual(lines, ["one\n", "two\n", "\n", "three\n", "four", ""])

    def test_readline_of_bytes_gives_bytes(self) -> None:
        """Lines of bytes are bytes."""
        self.send(b"one\ntw", b"o")
        file = self.reader()
        lines = [self.successResultOf(file.readline()) for _ in range(3)]
        self.assertEqual(lines, [b"one\n", b"two", b""])

    def test_read_and_readline_go_together(self) -> None:
        """Reading lines and reading sizes go together."""
        self.send("abc\nde", "f\ngh")
        file = self.reader()
        got = [
            self.successResultOf(deferred)
            for deferred in (
                file.read(1),
                file.readline(),
                file.read(1),
                file.readline(),
                file.read(),
            )
        ]
        self.assertEqual(got, ["a", "bc\n", "d", "ef\n", "gh"])

    def test_many_lines_of_a_piece_are_read(self) -> None:
        """The lines of a long piece are read in no more than linear time."""
        count = 50_000
        self.far.send(("x" * 9 + "\n") * count)
        self.far.close()
        file = self.reader()
        first = file.readline()
        self.pair.pump()
        self.assertEqual(self.successResultOf(first), "x" * 9 + "\n")
        lengths = {len(self.successResultOf(file.readline())) for _ in range(count - 1)}
        self.assertEqual(lengths, {10})
        self.assertEqual(self.successResultOf(file.readline()), "")

    def test_cancelled_read_keeps_what_came(self) -> None:
        """What came for a read that is cancelled is kept for the next."""
        file = self.reader()
        for reading in (file.read(5), file.readline()):
            self.send("ab", close=False)
            self.assertNoResult(reading)
            reading.cancel()
            self.failureResultOf(reading, defer.CancelledError)
        self.send("c\n")
        self.assertEqual(self.successResultOf(file.readline()), "ababc\n")

    def test_read_fails_with_the_other_ends_error(self) -> None:
        """When the other end failed, reading does; what had come is kept."""
        file = self.reader()
        self.send("abc", close=False)
        self.far.close("no more")
        self.pair.pump()
        self.failureResultOf(file.read(), RemoteError)
        self.assertEqual(self.successResultOf(file.read(3)), "abc")

    def test_other_values_or_mixed_ones_are_refused(self) -> None:
        """Anything but str or bytes is refused, and so is one after the other."""
        self.send(5, "text", b"bytes")  # type: ignore[arg-type]
        file = self.reader()
        problem = self.failureResultOf(file.read(3), TypeError).value
        self.assertEqual(str(problem), "a file is read from str or bytes, not int")
        self.assertEqual(self.successResultOf(file.read(3)), "tex")
        problem = self.failureResultOf(file.read(3), TypeError).value
        self.assertEqual(str(problem), "a file is read from str, not bytes")

    def test_closed_file_cannot_be_read(self) -> None:
        """A file that is closed can't be read, even if there is something."""
        self.send("abc")
        file = self.reader()
        file.close()
        self.failureResultOf(file.read(), ValueError)
        self.failureResultOf(file.readline(), ValueError)
