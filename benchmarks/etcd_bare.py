"""The least that a client of etcd in Python can do: the messages, the frames and a socket.

Other programs here measure it beside the client: what a client takes beyond it is for Deferreds,
timeouts, failover and flow control. It has a blocking socket to one member. It encodes each message
with the client's encoders, writes the requests of one read together, and decodes each reply. If
anything is not as expected, it raises.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

from pycomnet.etcd import frames, requests, responses
from pycomnet.etcd.grpc import MessageReader, framed, unframed
from pycomnet.etcd.headers import HeaderDecoder, RequestHeaders

KEEPALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
#: Bytes of a read, of each stream's window, and after which the connection's is refilled.
READ, WINDOW, REFILL = 1 << 16, 1 << 20, 1 << 15
#: Renewals without a reply, so that they fit in the member's window; seconds for the last replies.
MOST_OPEN, PATIENCE = 2_000, 30


class BareConnection:
    """A connection to a member.

    :param replied: called with a stream's id and its data: of all of a unary call's reply, when the
        reply has ended; of each frame of the stream ``keepalive``.
    """

    def __init__(self, port: int, replied: Callable[[int, bytes], object]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replied = replied
        self._requests = RequestHeaders(f"127.0.0.1:{port}", "http")
        self._header_decoder = HeaderDecoder()
        self._next_id = 1
        self._keepalive = 0
        self._data: dict[int, bytes] = {}
        self._rest = b""
        self._unacknowledged = 0
        settings = {frames.HEADER_TABLE_SIZE: 0, frames.INITIAL_WINDOW_SIZE: WINDOW}
        self._out = [frames.PREFACE, frames.settings(settings)]

    def request(self, path: str, message: bytes) -> int:
        """Write a unary call with the next :meth:`flush`; returns its stream's id."""
        ident = self._begin(path)
        self._out.append(frames.frame(frames.DATA, frames.END_STREAM, ident, framed(message)))
        return ident

    def _begin(self, path: str) -> int:
        ident = self._next_id
        self._next_id += 2
        self._out.append(frames.headers(ident, self._requests.block(path, True)))
        return ident

    def renew(self, leases: list[int]) -> None:
        """Write renewals in one frame, with the next :meth:`flush`."""
        if not self._keepalive:
            self._keepalive = self._begin(KEEPALIVE)
        messages = b"".join([framed(requests.encode_numbers(lease)) for lease in leases])
        self._out.append(frames.frame(frames.DATA, 0, self._keepalive, messages))

    def flush(self) -> None:
        """Write."""
        if self._out:
            self.socket.sendall(b"".join(self._out))
            self._out.clear()

    def read(self) -> None:
        """Read once, and write what that causes."""
        received = self.socket.recv(READ)
        assert received, "the member has closed the connection"
        data = self._rest + received
        at, size = 0, len(data)
        while size - at >= frames.HEAD.size:
            word, flags, ident = frames.HEAD.unpack_from(data, at)
            start = at + frames.HEAD.size
            end = start + (word >> 8)
            if end > size:
                break
            at = end
            kind = word & 255
            if kind == frames.DATA:
                self._received(ident, data[start:end])
            elif kind == frames.HEADERS:
                headers = self._header_decoder.decode(data[start:end])
                if flags & frames.END_STREAM:
                    assert headers[b"grpc-status"] == b"0", headers
                    self._replied(ident, self._data.pop(ident))
            elif kind in (frames.PING, frames.SETTINGS) and not flags & frames.ACK:
                payload = data[start:end] if kind == frames.PING else b""
                self._out.append(frames.frame(kind, frames.ACK, 0, payload))
        self._rest = data[at:]
        self.flush()

    def _received(self, ident: int, data: bytes) -> None:
        self._unacknowledged += len(data)
        if self._unacknowledged > REFILL:
            streams = (0, self._keepalive) if self._keepalive else (0,)
            self._out += [frames.window_update(one, self._unacknowledged) for one in streams]
            self._unacknowledged = 0
        if ident == self._keepalive:
            self._replied(ident, data)
        else:
            self._data[ident] = self._data.get(ident, b"") + data


def call(
    port: int,
    path: str,
    encode: Callable[[int], bytes],
    decode: Callable[[bytes], Any],
    flight: int,
    goes_on: Callable[[int], bool],
) -> int:
    """Make unary calls, some at a time, each again as soon as it has its reply.

    :param encode: called with a number under ``flight``.
    :param goes_on: called with the number of replies so far, before each read; whether to go on.
    :returns: the number of replies.
    """
    numbers: dict[int, int] = {}
    count = 0

    def replied(ident: int, data: bytes) -> None:
        nonlocal count
        decode(unframed(data))
        count += 1
        send(numbers.pop(ident))

    def send(number: int) -> None:
        numbers[connection.request(path, encode(number))] = number

    connection = BareConnection(port, replied)
    with connection.socket:
        for number in range(flight):
            send(number)
        connection.flush()
        while goes_on(count):
            connection.read()
    return count


def renew(
    port: int, leases: list[int], rate: float, together: int, connections: int, seconds: float
) -> int:
    """Renew leases at an even pace; returns how many renewals were answered.

    :param rate: renewals a second.
    :param together: how many are sent in one frame.
    :param connections: to the member, which take turns.
    """
    count = 0

    def connect() -> BareConnection:
        reader = MessageReader()

        def replied(ident: int, data: bytes) -> None:
            nonlocal count
            for message in reader.receive(data):
                assert responses.decode_keepalive(message)[1] > 0, "there is no such lease"
                count += 1

        return BareConnection(port, replied)

    made = [connect() for _ in range(connections)]
    by_socket = {one.socket: one for one in made}
    turns = cycle(made)
    following = cycle(leases)
    begun = time.monotonic()
    sent = 0
    try:
        while (now := time.monotonic() - begun) < seconds or count < sent:
            assert now < seconds + PATIENCE, f"{sent - count} renewals have no answer"
            wait = 1.0
            if now < seconds and sent - count < MOST_OPEN:
                wait = sent / rate - now
                if wait <= 0:
                    one = next(turns)
                    one.renew(list(islice(following, together)))
                    one.flush()
                    sent += together
            for readable in select.select(list(by_socket), [], [], max(0.0, wait))[0]:
                by_socket[readable].read()
    finally:
        for one in made:
            one.socket.close()
    return count


__all__ = ["call", "renew"]
