"""Whole frames, cut out of a stream; their payloads are not decoded. No I/O."""

from ...wire.frames import (
    GOAWAY,
    HEADER,
    HEADER_SIZE,
    HELLO,
    MAX_HELLO,
    U32,
    frame_name,
)
from ...wire.mux import EV_FAILED, EV_HELLO, Mux, ProtocolError


def frame(kind, id, payload=b""):
    """A frame."""
    return HEADER.pack(len(payload), kind, id) + payload


class RelayedFrameReader(object):
    """Cuts a stream into frames. The first frame has to be a hello.

    :param limit: bytes of the longest payload of all other frames.
    :ivar problem: a :class:`ProtocolError` if a frame was too long, of an unknown type, or not the
        hello that has to be first; else None.
    """

    def __init__(self, limit):
        self._limit = limit
        self._longest = limit + HEADER_SIZE
        self._rest = b""
        self._begun = False
        self.problem = None

    def begin(self):
        """Begin behind the hello, which was read elsewhere."""
        self._begun = True

    def drop_part(self):
        """Drop a frame that is not complete."""
        self._rest = b""

    def feed(self, data):
        """The frames that are complete: type, channel, and the whole frame.

        The caller looks at :attr:`problem` once it has processed them. So what precedes an invalid
        frame is processed, however the stream was cut into pieces.
        """
        if self._rest:
            data = self._rest + data
        elif self._begun and len(data) >= HEADER_SIZE:
            # Mostly it is one frame, which need not be copied then.
            length, kind, id = HEADER.unpack_from(data)
            if HELLO < kind <= GOAWAY and length + HEADER_SIZE == len(data) <= self._longest:
                return [(kind, id, data)]
        frames = []
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            length, kind, id = HEADER.unpack_from(data, position)
            if not self._begun and (kind != HELLO or length > MAX_HELLO):
                self.problem = ProtocolError("hello", "expected a hello, got something else")
                break
            if self._begun and (kind > GOAWAY or kind == HELLO or length > self._limit):
                self.problem = ProtocolError("frame", "%s of %d bytes" % (frame_name(kind), length))
                break
            stop = position + HEADER_SIZE + length
            if stop > end:
                break
            self._begun = True
            frames.append((kind, id, bytes(data[position:stop])))
            position = stop
        self._rest = data[position:]
        return frames


def read_hello(whole):
    """The contents of a hello, checked as a multiplexer checks it.

    :param whole: the frame.
    :raises ProtocolError: it is not valid.
    """
    reader = Mux(False)
    for event in reader.receive_data(whole):
        if event[0] == EV_HELLO:
            return event[1]
        if event[0] == EV_FAILED:
            raise event[1]
    raise ProtocolError("hello", "expected a hello")


def read_credit(whole):
    """The credit in a CREDIT frame.

    :raises ProtocolError: it is not valid.
    """
    if len(whole) != HEADER_SIZE + U32.size:
        raise ProtocolError("frame", "CREDIT of %d bytes, not 4" % (len(whole) - HEADER_SIZE))
    credit = U32.unpack_from(whole, HEADER_SIZE)[0]
    return credit
