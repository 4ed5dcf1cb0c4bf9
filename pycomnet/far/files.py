"""File objects over a channel at the far side."""

from .live import Live


class _ChannelFile(Live):
    def __init__(self, channel, proxyclose):
        self.channel = channel
        self._proxyclose = proxyclose
        self.closed = False

    def isatty(self):
        return False

    def close(self):
        self.closed = True
        if self._proxyclose:
            self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class ChannelFileWrite(_ChannelFile):
    """Each ``write`` is one ``send``."""

    def write(self, out):
        self.channel.send(out)
        return len(out)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        pass


class ChannelFileRead(_ChannelFile):
    """Joins received values, str or bytes, to be read in pieces or lines."""

    def __init__(self, channel, proxyclose):
        _ChannelFile.__init__(self, channel, proxyclose)
        self._buffer = None

    def _more(self):
        try:
            item = self.channel.receive()
        except EOFError:
            return False
        self._buffer = item if self._buffer is None else self._buffer + item
        return True

    def _take(self, size):
        buffer = self._buffer
        if buffer is None:
            return ""
        self._buffer = buffer[size:]
        return buffer[:size]

    def read(self, size=-1):
        """Read at most ``size`` characters or bytes; up to the end if it is negative."""
        while (size < 0 or self._buffer is None or len(self._buffer) < size) and self._more():
            pass
        return self._take(len(self._buffer or "") if size < 0 else size)

    def readline(self):
        while True:
            buffer = self._buffer
            if buffer:
                at = buffer.find(b"\n" if isinstance(buffer, bytes) else b"\n".decode("ascii"))
                if at >= 0:
                    return self._take(at + 1)
            if not self._more():
                return self._take(len(buffer or ""))

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    next = __next__
