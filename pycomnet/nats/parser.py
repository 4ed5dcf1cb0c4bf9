"""Reads NATS's protocol: bytes in, calls out. No I/O and no clock.

https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from pycomnet.nats.errors import NatsProtocolError

#: The most bytes of a line. The longest is a server's INFO with the addresses of a large cluster.
MAX_LINE = 1 << 15
#: The most bytes of a message, with its headers; servers allow 1 MB unless configured otherwise,
#: and never more than this.
MAX_MESSAGE = 64 << 20
_M, _H = b"MH"


class NatsReceiver(Protocol):
    """The methods that a parser calls."""

    def message(
        self, sid: bytes, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> None:
        """A message has come; ``reply`` and ``headers`` are empty if it has none."""

    def ping(self) -> None:
        """The server has sent a ping."""

    def pong(self) -> None:
        """The server has answered a ping."""

    def info(self, info: dict[str, Any]) -> None:
        """The server has sent data about itself."""

    def error(self, text: str) -> None:
        """The server has sent an error."""


class NatsParser:
    """Parses a server's bytes, in pieces of any size.

    :param most: the most bytes of a message.
    """

    def __init__(self, receiver: NatsReceiver, most: int = MAX_MESSAGE) -> None:
        self._receiver = receiver
        self._most = most
        #: the pieces of an incomplete message or line
        self._parts: list[bytes] = []
        self._have = 0
        #: how many bytes are needed to continue
        self._need = 0

    def feed(self, data: bytes) -> None:
        """Parse some bytes.

        :raises NatsProtocolError: they violate the protocol, or a limit; then nothing more can be
            parsed.
        """
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts = []
        size = len(data)
        find, message = data.find, self._receiver.message
        position = 0
        while position < size:
            end = find(b"\r\n", position, position + MAX_LINE)
            if end < 0:
                if size - position >= MAX_LINE:
                    raise NatsProtocolError(f"a line of over {MAX_LINE} bytes")
                self._keep(data[position:], 0)
                return
            first = data[position]
            if first != _M and first != _H:
                self._other(data[position:end])
                position = end + 2
                continue
            words = data[position:end].split()
            total = self._number(words)
            begin = end + 2
            stop = begin + total
            if stop + 2 > size:
                self._check(words)
                self._keep(data[position:], stop + 2 - position)
                return
            if data[stop] != 13 or data[stop + 1] != 10:
                raise NatsProtocolError(f"a message of {total} bytes does not end with a line end")
            count = len(words)
            if first == _M and words[0] == b"MSG" and 4 <= count <= 5:
                reply = b"" if count == 4 else words[3]
                message(words[2], words[1], reply, b"", data[begin:stop])
            else:
                self._with_headers(words, data, begin, stop)
            position = stop + 2

    def _keep(self, data: bytes, need: int) -> None:
        self._parts = [data]
        self._have = len(data)
        self._need = need

    def _number(self, words: list[bytes]) -> int:
        """The length of a message in bytes: the last word of its line."""
        last = words[-1]
        if not last.isdigit() or len(last) > 10:
            raise NatsProtocolError(f"expected a message's length, not {last[:40]!r}")
        total = int(last)
        if total > self._most:
            raise NatsProtocolError(f"a message of {total} bytes; the limit is {self._most}")
        return total

    def _check(self, words: list[bytes]) -> None:
        """Refuse a line that does not begin a message, before waiting for its bytes."""
        kinds = {b"MSG": (4, 5), b"HMSG": (5, 6)}
        if len(words) not in kinds.get(words[0], ()):
            raise NatsProtocolError(f"expected a message, not {b' '.join(words)[:80]!r}")

    def _with_headers(self, words: list[bytes], data: bytes, begin: int, stop: int) -> None:
        self._check(words)
        length = self._number(words[:-1])
        middle = begin + length
        if middle > stop:
            raise NatsProtocolError("a message's headers are longer than the message")
        reply = b"" if len(words) == 5 else words[3]
        self._receiver.message(words[2], words[1], reply, data[begin:middle], data[middle:stop])

    def _other(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if word == b"PING":
            self._receiver.ping()
        elif word == b"PONG":
            self._receiver.pong()
        elif word == b"-ERR":
            text = rest.strip().strip(b"'")
            self._receiver.error(text.decode("utf-8", "replace"))
        elif word == b"INFO":
            self._receiver.info(read_info(line))
        elif word != b"+OK":
            raise NatsProtocolError(f"this is not NATS's protocol: {line[:80]!r}")


def read_info(line: bytes) -> dict[str, Any]:
    """Read a server's description of itself, in its line ``INFO``.

    :raises NatsProtocolError: the line is not valid.
    """
    word, _, rest = line.partition(b" ")
    if word.upper() != b"INFO":
        raise NatsProtocolError(f"this is not a NATS server: it begins with {line[:80]!r}")
    try:
        found = json.loads(rest)
    except (ValueError, RecursionError):
        raise NatsProtocolError("the server's INFO is not JSON") from None
    if not isinstance(found, dict):
        raise NatsProtocolError("the server's INFO is not a JSON object")
    return found
