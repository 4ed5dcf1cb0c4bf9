"""Assembles values from fragments."""

from io import BytesIO

from .frames import BIN32, U32

#: The fragments of a value of more bytes than this are copied into a buffer as they arrive, so that
#: the last one of a gigabyte takes no longer than any other. Those of a shorter value are joined at
#: the end: that is several times as fast, as no buffer grows, and takes a tenth of a millisecond.
LARGE = 4194304

view = memoryview
try:
    b"".join([view(b"")])
except TypeError:  # Python 2's join takes no memoryview

    def view(data):
        return data


class Assembly(object):
    """The fragments of an incomplete value."""

    __slots__ = ("_buffer", "_declared", "_pieces", "size")

    def __init__(self):
        self.size = 0
        self._pieces = []
        self._buffer = None
        #: if the value is bytes: the length in its header
        self._declared = None

    def append(self, piece):
        """Add the next fragment: bytes, or a memoryview."""
        self.size += len(piece)
        if self._buffer is not None:
            self._buffer.write(piece)
            return
        self._pieces.append(piece)
        if self.size > LARGE:
            self._buffer = buffer = BytesIO()
            buffer.write(self._strip())
            for piece in self._pieces[1:]:
                buffer.write(piece)
            self._pieces = None

    def _strip(self):
        """The first fragment, without the header of a value that is bytes."""
        first = self._pieces[0]
        if view is memoryview and len(first) >= 5 and first[:1] == BIN32:
            self._declared = U32.unpack(bytes(first[1:5]))[0]
            return first[5:]
        return first

    def beginning(self, size):
        """The first ``size`` bytes that have arrived, at most."""
        if self._buffer is not None:
            return self._buffer.getvalue()[:size]
        return b"".join([piece[:size] for piece in self._pieces])[:size]

    def finish(self):
        """The value's encoding; or, if it is bytes, a memoryview whose ``obj`` is the value.

        That saves a copy: bytes are encoded as themselves, after a header of five bytes.
        """
        if self._buffer is not None:
            data = self._buffer.getvalue()
        else:
            self._pieces[0] = self._strip()
            data = b"".join(self._pieces)
        if self._declared is None:
            return data
        if self._declared == len(data):
            return memoryview(data)
        return BIN32 + U32.pack(self._declared) + data
