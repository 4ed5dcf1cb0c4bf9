"""HTTP/2's header blocks (HPACK, RFC 7541), each encoded and decoded once.

A client sends the same few headers in all requests, and gets the same few back. So blocks are
cached while their meaning can't change; without either cache, the row "get 64" of
benchmarks/etcd.py takes twice the processor time:

* Requests use the dynamic table. A block whose headers are all in the table does not change the
  table. The block is cached until another request adds a header to the table.
* The client's settings give the member a table of size 0. So a member's block always has the same
  meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from pycomnet.etcd.errors import EtcdProtocolViolation

#: The most decoded bytes of a block.
MAX_HEADERS = 1 << 16
#: Decoded blocks are cached: the longest such block in bytes, and the size of the cache.
_KEPT_SIZE, _MOST_KEPT = 512, 256
#: The table that requests use; a member may allow less.
_TABLE = 4096

Headers = Mapping[bytes, bytes]


class RequestHeaders:
    """Encodes the headers of requests.

    :param authority: the member's host and port.
    :param scheme: ``http`` or ``https``.
    """

    def __init__(self, authority: str, scheme: str) -> None:
        self._authority = authority
        self._scheme = scheme
        self._encoder = Encoder()
        self._blocks: dict[tuple[str, bool], bytes] = {}
        #: all headers that were put into the table, and the room that they take there
        self._known: set[tuple[str, str]] = set()
        self._used = 0
        #: the size that the table has to have with the next block, and the smallest of those that
        #: it had to have since the last
        self._limit = self._lowest = _TABLE

    def limit_table(self, size: int) -> None:
        """Use a table of at most this size, as the member's settings say."""
        size = min(size, _TABLE)
        if size != self._limit:
            self._limit = size
            self._lowest = min(self._lowest, size)
            self._blocks.clear()

    def block(self, path: str, needs_leader: bool) -> bytes:
        """Encode the headers of a request. Send the block before the next call of this method.

        :param path: ``/SERVICE/METHOD``.
        :param needs_leader: whether the member has to refuse the request while it knows no leader.
        """
        kept = self._blocks.get((path, needs_leader))
        if kept is not None:
            return kept
        headers = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "pycomnet-etcd"),
        ]
        if needs_leader:
            headers.append(("hasleader", "true"))
        for name, value in set(headers) - self._known:
            self._used += len(name.encode()) + len(value.encode()) + 32
        self._known.update(headers)
        if self._used > _TABLE:
            # Then do without: a block is kept only while nothing falls out of the table.
            self.limit_table(0)
        # RFC 7541, 4.2: of several changes, the smallest and the last. A decoder refuses others.
        for size in (self._lowest, self._limit):
            if size != self._encoder.header_table_size:
                self._encoder.header_table_size = size
        self._lowest = self._limit
        block = self._encoder.encode(headers, huffman=False)
        if self._encoder.header_table_size in (0, _TABLE):
            # All are in the table now, or there is none: the next block changes nothing in it.
            again = self._encoder.encode(headers, huffman=False)
            if again != block:
                # Some were added to the table: what was kept uses places that have moved.
                self._blocks.clear()
            self._blocks[path, needs_leader] = again
        return block


def literal(name: bytes, value: bytes, secret: bool = False) -> bytes:
    """Encode a header that is in no table, to be appended to a block.

    :param secret: whether proxies may not put it into a table, either.
    """
    return b"\x10"[:secret] + b"\0"[secret:] + _string(name) + _string(value)


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes([size]) + value
    out = bytearray([127])
    size -= 127
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + value


class HeaderDecoder:
    """Decodes the header blocks of replies, from a member that uses no dynamic table."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADERS)
        self._decoder.header_table_size = 0
        self._decoder.max_allowed_table_size = 0
        self._kept: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """Decode a block.

        :returns: name -> value; the last value of a name that occurs more than once.
        :raises EtcdProtocolViolation: it is not a valid header block.
        """
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        try:
            headers = dict(self._decoder.decode(block, raw=True))
        except (HPACKError, IndexError, ValueError) as problem:
            raise EtcdProtocolViolation(f"headers that can't be read: {problem}") from problem
        if len(block) <= _KEPT_SIZE:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[block] = headers
        return headers
