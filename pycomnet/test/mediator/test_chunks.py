"""Bodies in chunks: what Twisted's own decoder says, however they are cut."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import _ChunkedTransferDecoder

from pycomnet.mediator.chunks import BETWEEN, Chunks, chunk
from pycomnet.test.mediator.test_frames import pieces
from pycomnet.test.properties import given, settings

bodies = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=300), st.sampled_from([b"", b";a=b", b";" + b"x" * 90])
    ),
    max_size=6,
)
ends = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"", b"0\r\n", b"\r\n", b"zz\r\n"]
)


def encoded(body: list[tuple[bytes, bytes]]) -> bytes:
    """A body, each chunk with an extension, without its end."""
    return b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), ext, chunk) for chunk, ext in body)


def decoded(kind: Any, data: list[bytes]) -> tuple[bytes, list[bytes], str]:
    """What a decoder makes of pieces: the body, what it finished with, its error's name."""
    body: list[bytes] = []
    rest: list[bytes] = []
    decoder = kind(body.append, rest.append)
    try:
        for place, piece in enumerate(data):
            if rest:  # it was not asked any more
                rest[0] += b"".join(data[place:])
                break
            decoder.dataReceived(piece)
    except Exception as problem:
        return b"".join(body), rest, type(problem).__name__
    return b"".join(body), rest, decoder.state


class ChunksTests(SynchronousTestCase):
    """Chunks."""

    @settings(deadline=None)
    @given(
        bodies,
        ends,
        st.binary(max_size=100),
        st.lists(st.integers(0, 1 << 16), max_size=10),
        st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=2),
        st.booleans(),
    )
    def test_bodies_and_errors_are_as_twisted_has_them(
        self,
        body: list[tuple[bytes, bytes]],
        end: bytes,
        behind: bytes,
        cuts: list[int],
        changes: list[tuple[int, int]],
        at_ends: bool,
    ) -> None:
        """The body, what is behind its end, and what is wrong: as Twisted has it."""
        data = bytearray(encoded(body) + end + behind)
        for place, byte in changes:
            if data:
                data[place % len(data)] = byte
        if at_ends:
            cuts = [*cuts, *(len(encoded(body[:count])) for count in range(len(body) + 1))]
        cut = pieces(bytes(data), cuts)
        self.assertEqual(decoded(Chunks, cut), decoded(_ChunkedTransferDecoder, cut))

    def test_data_within_a_chunk_is_not_copied(self) -> None:
        """What lies within a chunk is given on as it is."""
        got: list[bytes] = []
        decoder = Chunks(got.append, self.fail)
        decoder.dataReceived(b"100000\r\n")
        piece = bytes(1000)
        decoder.dataReceived(piece)
        self.assertIs(got[-1], piece)

    def test_what_has_come_of_a_chunk_is_one_piece(self) -> None:
        """What has come of a chunk is one piece: many small ones cost as many system calls."""
        got: list[bytes] = []
        decoder = Chunks(got.append, self.fail)
        decoder.dataReceived(b"5\r\nfirst\r\n64;x=y\r\n" + bytes(100) + b"\r\nff\r\n" + bytes(200))
        self.assertEqual([len(piece) for piece in got], [5, 100, 200])

    def test_arrived_data_is_not_kept_once_it_is_passed_on(self) -> None:
        """However it is cut: a connection that is silent after much data holds none of it."""
        decoder = Chunks(lambda piece: None, self.fail)
        for data in (b"5\r\nfirst\r\n64\r\n" + bytes(50), bytes(50) + b"\r\n", b"3\r\nabc\r\n"):
            before = sys.getrefcount(data)
            decoder.dataReceived(data)
            self.assertEqual(sys.getrefcount(data), before)

    def test_bytes_after_the_body_are_the_next_request(self) -> None:
        """What comes behind the body is the next request, all of it."""
        rest: list[bytes] = []
        behind = b"GET / HTTP/1.1\r\n" * BETWEEN
        Chunks(self.fail, rest.append).dataReceived(b"0\r\n\r\n" + behind)
        self.assertEqual(rest, [behind])

    def test_after_its_end(self) -> None:
        """It takes nothing once it has ended, as that would be somebody else's."""
        decoder = Chunks(self.fail, lambda rest: None)
        decoder.dataReceived(b"0\r\n\r\n")
        self.assertRaises(RuntimeError, decoder.dataReceived, b"x")

    def test_as_it_is_made(self) -> None:
        """A chunk is what the decoder takes for one."""
        for size in (1, 10, 0xFFFF, 0x10000):
            got: list[bytes] = []
            Chunks(got.append, self.fail).dataReceived(b"".join(chunk(bytes(size))))
            self.assertEqual(got, [bytes(size)])
