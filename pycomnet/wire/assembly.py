"""Values that come in fragments, put together as they come."""

from io import BytesIO

from .frames import BIN32, U32

#: Bytes of a value from which its fragments are copied together as they come, so that the last of a
#: gigabyte takes no longer than any other. Up to that they are joined at the end, which is several
#: times as fast, as nothing has to grow, and takes a tenth of a millisecond.
LARGE = 4194304

view = memoryview
try:
    b"".join([view(b"")])
except TypeError:  # Python 2's join takes no memoryview

    def view(data):
        return data


class Assembly(object):
    """The fragments of a value that is not complete yet."""

    __slots__ = ("_buffer", "_declared", "_pieces", "size")

    def __init__(self):
        self.size = 0
        self._pieces = []
        self._buffer = None
        #: the length that a value of bytes begins with, once it is known to be one
        self._declared = None

    def append(self, piece):
        """The next fragment: bytes, or a memoryview."""
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
        """The first fragment, without what says that the value is bytes and how many."""
        first = self._pieces[0]
        if view is memoryview and len(first) >= 5 and first[:1] == BIN32:
            self._declared = U32.unpack(bytes(first[1:5]))[0]
            return first[5:]
        return first

    def finish(self):
        """The value's encoding; or, when it is bytes, a memoryview whose ``obj`` is the value.

        That saves copying it: what bytes are encoded as is they themselves, behind five bytes.
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
