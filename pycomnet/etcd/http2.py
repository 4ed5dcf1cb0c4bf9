"""The client's half of HTTP/2 (RFC 9113), without I/O: bytes in; calls of streams and bytes out.

It has only what gRPC needs: no push, no priorities, no upgrade. The page "The etcd client" in
docs/architecture explains why this is not a library.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pycomnet.etcd import frames
from pycomnet.etcd.errors import EtcdProtocolViolation
from pycomnet.etcd.headers import MAX_HEADERS, HeaderDecoder, RequestHeaders
from pycomnet.etcd.streams import STREAM_WINDOW, Http2Stream

#: The connection's window: it is refilled at once, so that a slow stream stops no other.
CONNECTION_WINDOW = 1 << 24
#: The highest id of a stream; after it there has to be a new connection.
LAST_STREAM = (1 << 31) - 1
#: The most replies to PINGs and SETTINGS that wait while the member reads nothing.
MOST_UNREAD = 1000

_unpack = frames.HEAD.unpack_from
_pack = frames.HEAD.pack
_Request = tuple[Http2Stream, str, bool, bytes, bytes, bool]


class Http2Connection:
    """The state of a connection.

    :param write: writes bytes to the member. It must not call this object.
    :param headers: encodes the requests' headers.
    :ivar streams: id -> open stream.
    :ivar is_draining: whether new requests are refused: the member sent GOAWAY, or all stream ids
        are used.
    :ivar received: the number of reply frames received. If it grows, the member works.
    """

    def __init__(self, write: Callable[[bytes], object], headers: RequestHeaders) -> None:
        self._transmit = write
        #: what is written while data are processed, to be sent together
        self._pieces: list[bytes] | None = None
        self._headers = headers
        self._header_decoder = HeaderDecoder()
        self.streams: dict[int, Http2Stream] = {}
        self.is_draining = False
        self.received = 0
        #: called when the member's settings have arrived: it speaks HTTP/2
        self.on_settings: Callable[[], object] = lambda: None
        #: called when ``is_draining`` becomes true
        self.on_draining: Callable[[], object] = lambda: None
        self._rest = b""
        self._next_id = 1
        #: the requests that wait until the member allows more streams
        self._waiting: deque[_Request] = deque()
        self._max_streams = 1 << 31
        self._first_window = frames.FIRST_WINDOW
        self._frame_size = frames.FRAME_SIZE
        self._send_window = frames.FIRST_WINDOW
        self._unacknowledged = 0
        #: the streams with unsent data that wait for the connection's window, in turn
        self._blocked: dict[int, Http2Stream] = {}
        #: of a header block that came in several frames: its stream, flags and bytes
        self._block: tuple[int, int, bytearray] | None = None
        self._has_settings = False
        self.is_congested = False
        self._unread = 0
        #: kind -> what reads its frames, except DATA
        self._readers: dict[int, Callable[[int, int, bytes], None]] = {
            frames.HEADERS: self._headers_frame,
            frames.RST_STREAM: self._reset_frame,
            frames.SETTINGS: self._settings_frame,
            frames.PUSH_PROMISE: self._push,
            frames.PING: self._ping_frame,
            frames.GOAWAY: self._goaway_frame,
            frames.WINDOW_UPDATE: self._window_frame,
            frames.CONTINUATION: self._continuation,
        }

    def _write(self, data: bytes) -> None:
        if self._pieces is None:
            self._transmit(data)
        else:
            self._pieces.append(data)

    # -- sending -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Send the connection preface and the settings."""
        values = {
            frames.HEADER_TABLE_SIZE: 0,
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        }
        update = frames.window_update(0, CONNECTION_WINDOW - frames.FIRST_WINDOW)
        self._write(frames.PREFACE + frames.settings(values) + update)

    def request(
        self,
        stream: Http2Stream,
        path: str,
        needs_leader: bool,
        extra: bytes,
        data: bytes,
        is_end: bool,
    ) -> None:
        """Open a stream, or queue the request until the member allows one more stream.

        :param extra: further headers, encoded by :func:`~pycomnet.etcd.headers.literal`.
        :param data: the first data; ``is_end``: whether no more data follow.
        """
        request = stream, path, needs_leader, extra, data, is_end
        if self._waiting or len(self.streams) >= self._max_streams:
            stream.unsent = None
            self._waiting.append(request)
        else:
            self._begin(request)

    def _begin(self, request: _Request) -> None:
        stream, path, needs_leader, extra, data, is_end = request
        ident = stream.id = self._next_id
        self._next_id = ident + 2
        self.streams[ident] = stream
        block = self._headers.block(path, needs_leader) + extra
        size, window = len(data), self._first_window
        stream.receive_window = STREAM_WINDOW
        stream.unacknowledged = 0
        head = frames.headers(ident, block, self._frame_size)
        if size <= self._frame_size and size <= window and size <= self._send_window:
            # Nearly all requests: one write of both frames.
            self._send_window -= size
            stream.send_window = window - size
            stream.unsent = None
            stream.is_ended = is_end
            if data or is_end:
                head += _pack(size << 8, is_end, ident) + data
            self._write(head)
        else:
            self._write(head)
            stream.send_window = window
            stream.unsent = bytearray(data)
            stream.is_ended = is_end
            self._pump(stream)
        if ident >= LAST_STREAM:
            self._drain()

    def _begin_waiting(self) -> None:
        """Open streams for queued requests, as many as the member allows."""
        while self._waiting and len(self.streams) < self._max_streams and not self.is_draining:
            self._begin(self._waiting.popleft())

    def _drain(self) -> None:
        if not self.is_draining:
            self.is_draining = True
            self.on_draining()
            for stream in list(self.streams.values()):
                stream.going_away()

    def send(self, stream: Http2Stream, data: bytes, is_end: bool = False) -> None:
        """Send more data on a stream that this end has not closed."""
        if self.streams.get(stream.id) is not stream:
            for index, waiting in enumerate(self._waiting):
                if waiting[0] is stream:
                    self._waiting[index] = (*waiting[:4], waiting[4] + data, is_end)
            return
        stream.is_ended = is_end
        if stream.unsent is None:
            stream.unsent = bytearray()
        stream.unsent += data
        self._pump(stream)

    def _pump(self, stream: Http2Stream) -> None:
        """Send as much of a stream's data as both windows allow."""
        unsent = stream.unsent
        if unsent is None:
            return
        out = []
        while True:
            size = min(len(unsent), stream.send_window, self._send_window, self._frame_size)
            is_all = size == len(unsent)
            if size <= 0 and not (is_all and stream.is_ended):
                break
            flags = frames.END_STREAM if is_all and stream.is_ended else 0
            out.append(frames.frame(frames.DATA, flags, stream.id, bytes(unsent[:size])))
            del unsent[:size]
            stream.send_window -= size
            self._send_window -= size
            if is_all:
                break
        if unsent:
            if stream.send_window > 0:
                self._blocked[stream.id] = stream
        else:
            stream.unsent = None
            self._blocked.pop(stream.id, None)
        if out:
            self._write(b"".join(out))

    def reset(self, stream: Http2Stream, code: int = frames.CANCEL) -> None:
        """Reset a stream: nothing more is sent on it, and none of its methods is called."""
        if self.streams.get(stream.id) is stream:
            self._write(frames.reset(stream.id, code))
            self._close(stream)
            return
        self._waiting = deque(one for one in self._waiting if one[0] is not stream)

    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 bytes. Anything received after it shows that the member works."""
        self._write(frames.frame(frames.PING, 0, 0, payload))

    def goaway(self, code: int, text: str = "") -> None:
        """Send GOAWAY with an error code and a text."""
        self._write(frames.goaway(0, code, text.encode()[:200]))

    def taken(self, stream: Http2Stream, size: int) -> None:
        """Data that :meth:`Http2Stream.data_received` did not accept at once are processed now."""
        if self.streams.get(stream.id) is stream:
            self._refill(stream, size)

    def _refill(self, stream: Http2Stream, size: int) -> None:
        stream.unacknowledged += size
        if stream.unacknowledged >= STREAM_WINDOW // 2:
            self._write(frames.window_update(stream.id, stream.unacknowledged))
            stream.receive_window += stream.unacknowledged
            stream.unacknowledged = 0

    def _close(self, stream: Http2Stream) -> None:
        del self.streams[stream.id]
        if stream.unsent is not None:
            self._blocked.pop(stream.id, None)
            stream.unsent = None
        if self._waiting:
            self._begin_waiting()

    def lose(self, reason: Exception) -> None:
        """The connection is lost: call ``lost`` of all streams."""
        self.is_draining = True
        waiting, self._waiting = self._waiting, deque()
        streams = list(self.streams.values())
        self.streams.clear()
        self._blocked.clear()
        for one in waiting:
            one[0].lost(reason, False)
        for stream in streams:
            stream.unsent = None
            stream.lost(reason, True)

    # -- receiving ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Process received bytes.

        :raises EtcdProtocolViolation: they are not valid HTTP/2; close the connection.
        """
        if self._rest:
            data = self._rest + data
        self._pieces = []  # one write for all: a fifth of the row "get 64" of benchmarks/etcd.py
        try:
            at = self._read(data)
        finally:
            pieces, self._pieces = self._pieces, None
            if pieces:
                self._transmit(b"".join(pieces))
        self._rest = data[at:] if at < len(data) else b""

    def _read(self, data: bytes) -> int:
        """Process all complete frames; returns where they end."""
        at, size = 0, len(data)
        while size - at >= 9:
            word, flags, ident = _unpack(data, at)
            length, kind = word >> 8, word & 255
            start = at + 9
            end = start + length
            if length > frames.FRAME_SIZE:
                break
            if end > size:
                return at
            at = end
            if kind == frames.DATA and self._block is None:
                self._data_frame(ident & 0x7FFFFFFF, flags, data, start, end)
            else:
                self._other_frame(kind, ident & 0x7FFFFFFF, flags, data[start:end])
        else:
            return at
        raise EtcdProtocolViolation(
            f"a frame of {length} bytes, expected at most {frames.FRAME_SIZE}"
        )

    def _other_frame(self, kind: int, ident: int, flags: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise EtcdProtocolViolation("a frame within a header block")
        if not self._has_settings and kind != frames.SETTINGS:
            raise EtcdProtocolViolation("the first frame has to be SETTINGS")
        reader = self._readers.get(kind)
        # Others are extensions, and PRIORITY is for servers: to be ignored.
        if reader is not None:
            reader(ident, flags, payload)

    def _known(self, ident: int) -> Http2Stream | None:
        """An open stream; None if it is closed."""
        stream = self.streams.get(ident)
        if stream is None and (not ident & 1 or ident >= self._next_id):
            raise EtcdProtocolViolation(f"a frame of stream {ident}, which was never opened")
        return stream

    def _data_frame(self, ident: int, flags: int, data: bytes, start: int, end: int) -> None:
        size = end - start
        self._unacknowledged += size
        if self._unacknowledged > CONNECTION_WINDOW:
            raise EtcdProtocolViolation("more data than the connection's window")
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self._write(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        stream = self._known(ident)
        if stream is None:
            return
        self.received += 1
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise EtcdProtocolViolation("more data than the stream's window")
        is_end = flags & frames.END_STREAM
        if is_end:
            self._close(stream)
        if flags & frames.PADDED:
            start, end = frames.unpadded(data, start, end)
            if not is_end:
                self._refill(stream, size - (end - start))
            size = end - start
        if size and stream.data_received(data[start:end]) and not is_end:
            self.taken(stream, size)  # unless that has ended it
        if is_end:
            stream.data_ended()

    def _headers_frame(self, ident: int, flags: int, payload: bytes) -> None:
        start, end = 0, len(payload)
        if flags & frames.PADDED:
            start, end = frames.unpadded(payload, 0, end)
        if flags & frames.WITH_PRIORITY:
            start += 5
            if start > end:
                raise EtcdProtocolViolation("a HEADERS frame without its priority")
        block = payload[start:end] if end - start != len(payload) else payload
        if flags & frames.END_HEADERS:
            self._headers_received(ident, flags, block)
        else:
            self._block = (ident, flags, bytearray(block))

    def _continuation(self, ident: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != ident:
            raise EtcdProtocolViolation("a CONTINUATION frame that continues nothing")
        _, first, block = self._block
        block += payload
        if len(block) > MAX_HEADERS or not (payload or flags & frames.END_HEADERS):
            raise EtcdProtocolViolation(f"a header block of more than {MAX_HEADERS} bytes")
        if flags & frames.END_HEADERS:
            self._block = None
            self._headers_received(ident, first, bytes(block))

    def _headers_received(self, ident: int, flags: int, block: bytes) -> None:
        stream = self._known(ident)
        headers = self._header_decoder.decode(block)
        if stream is not None:
            self.received += 1
            is_end = bool(flags & frames.END_STREAM)
            if is_end:
                self._answer_ended(stream)
            stream.headers_received(headers, is_end)

    def _answer_ended(self, stream: Http2Stream) -> None:
        if not stream.is_ended or stream.unsent is not None:
            # It replies before it has the whole request: it needs no more of it.
            self._write(frames.reset(stream.id, frames.CANCEL))
        self._close(stream)

    def _reset_frame(self, ident: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise EtcdProtocolViolation("a RST_STREAM frame that has not 4 bytes")
        stream = self._known(ident)
        if stream is None:
            return
        (code,) = frames.NUMBER.unpack(payload)
        self._close(stream)
        reason = EtcdProtocolViolation(f"the member has reset the stream (code {code})")
        stream.lost(reason, code != frames.REFUSED_STREAM)

    def _settings_frame(self, ident: int, flags: int, payload: bytes) -> None:
        if ident or len(payload) % 6 or (flags & frames.ACK and payload):
            raise EtcdProtocolViolation("a SETTINGS frame that is not valid")
        if flags & frames.ACK:
            return
        change = 0
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.HEADER_TABLE_SIZE:
                self._headers.limit_table(value)
            elif key == frames.MAX_CONCURRENT_STREAMS:
                self._max_streams = value
            elif key == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_SIZE <= value < 1 << 24:
                    raise EtcdProtocolViolation(f"a MAX_FRAME_SIZE of {value}")
                self._frame_size = value
            elif key == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise EtcdProtocolViolation(f"an INITIAL_WINDOW_SIZE of {value}")
                change += value - self._first_window
                self._first_window = value
        # The reply comes first: everything after it follows the new settings.
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if change:
            self._change_windows(change)
        self._begin_waiting()
        if not self._has_settings:
            self._has_settings = True
            self.on_settings()

    def _change_windows(self, change: int) -> None:
        for stream in list(self.streams.values()):
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise EtcdProtocolViolation("a window of more than 2 GiB")
            self._pump(stream)

    def _answer(self, answer: bytes) -> None:
        """Reply to PING or SETTINGS; raises if the member sends them and reads no replies."""
        self._unread = self._unread + 1 if self.is_congested else 0
        if self._unread > MOST_UNREAD:
            raise EtcdProtocolViolation("the member sends PINGs and does not read the replies")
        self._write(answer)

    def _ping_frame(self, ident: int, flags: int, payload: bytes) -> None:
        if ident or len(payload) != 8:
            raise EtcdProtocolViolation("a PING frame that is not valid")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway_frame(self, ident: int, flags: int, payload: bytes) -> None:
        if ident or len(payload) < 8:
            raise EtcdProtocolViolation("a GOAWAY frame that is not valid")
        last, code = frames.TWO_NUMBERS.unpack_from(payload)
        text = payload[8:].decode("ascii", "replace")
        reason = EtcdProtocolViolation(f"the member goes away (code {code}{text and ': '}{text})")
        waiting, self._waiting = self._waiting, deque()
        unseen = [stream for number, stream in self.streams.items() if number > last & LAST_STREAM]
        for stream in unseen:
            self._close(stream)
        self._drain()
        for stream in [one[0] for one in waiting] + unseen:
            stream.lost(reason, False)

    def _window_frame(self, ident: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise EtcdProtocolViolation("a WINDOW_UPDATE frame that has not 4 bytes")
        size = frames.NUMBER.unpack(payload)[0] & 0x7FFFFFFF
        if not ident:
            self._send_window += size
            if self._send_window > frames.MAX_WINDOW or not size:
                raise EtcdProtocolViolation(f"a WINDOW_UPDATE by {size}")
            blocked, self._blocked = self._blocked, {}
            for one in blocked.values():
                self._pump(one)
            return
        stream = self._known(ident)
        if stream is None:
            return
        stream.send_window += size
        if stream.send_window > frames.MAX_WINDOW or not size:
            raise EtcdProtocolViolation(f"a WINDOW_UPDATE by {size}")
        if stream.unsent is not None:
            self._pump(stream)

    def _push(self, ident: int, flags: int, payload: bytes) -> None:
        raise EtcdProtocolViolation("a PUSH_PROMISE, which was switched off")
