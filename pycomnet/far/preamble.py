"""What may precede a far side's hello on its standard output, and where the hello begins.

A shell's profile, a login banner, ``sitecustomize``, a ``.pth`` file or a wrapper script may print
something before our code runs. So a far side that is started as a program prints a marker first.
Whatever started it skips what comes before: the near side, a fork server, or code that makes
gateways. All of them use this parser, which does no I/O.
"""

from ..wire.frames import MARKER

#: The longest preamble, in bytes.
MAX_PREAMBLE = 1048576
#: How many bytes of it, the last ones, are kept and shown.
SHOWN = 1000
#: The error for a program that prints more than that.
TOO_LONG = "it printed more than %d bytes and no hello" % MAX_PREAMBLE


class Preamble(object):
    """Looks for the marker in the bytes that arrive.

    :ivar begun: whether the marker has come.
    :ivar too_long: whether more than the longest preamble has come without a marker.
    """

    def __init__(self):
        self.begun = False
        self.too_long = False
        self._kept = b""
        self._size = 0

    def feed(self, data):
        """Add the next bytes.

        :returns: what follows the marker; None until it has come.
        """
        # The marker may come in two pieces.
        tail = self._kept[-len(MARKER) :]
        before, found, after = (tail + data).partition(MARKER)
        kept = self._kept[: len(self._kept) - len(tail)] + before
        if not found:
            self._size += len(data)
            self.too_long = self._size > MAX_PREAMBLE
            self._kept = kept[-SHOWN - len(MARKER) :]
            return None
        self._kept = kept
        self.begun = True
        return after

    def shown(self):
        """The last bytes before the marker, without blanks around them."""
        return self._kept[-SHOWN:].strip()

    def text(self):
        """The same as text."""
        return self.shown().decode("utf-8", "replace")


def died_early(words, text):
    """The error for a far side that has ended before its marker.

    :param words: how it ended, or empty.
    :param text: what it printed, or empty.
    """
    if not text:
        return words
    return "%s; before its hello it had printed:\n%s" % (words or "it ended", text)
