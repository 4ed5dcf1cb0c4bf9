"""Compares times of the last change, at the precision that the destination can keep."""

import os

from .files import other_temporary_name
from .tree import time_of

#: The precisions of file systems, in nanoseconds: NTFS, several, HFS+, FAT.
PRECISIONS = (100, 1000, 1000000, 1000000000, 2000000000)
#: A time with digits of all precisions.
PROBE = 1234567891123456789
#: Python 2 has times as floats: it sets and reads microseconds, give or take one.
FLOATS = 2000


class Times(object):
    """The times of one destination.

    :param receiver: the receiver.
    """

    def __init__(self, receiver):
        self._receiver = receiver
        #: device -> the precision
        self._known = {}

    def same(self, opened, status, time):
        """Whether a file has a time, as far as its file system can have it.

        :param opened: its directory, open.
        """
        found = time_of(status)
        if found == time:
            return True
        if not hasattr(status, "st_mtime_ns"):
            return abs(found - time) <= FLOATS
        if not any(found == time // each * each for each in PRECISIONS):
            return False
        # It may be that it was truncated; or it is another time that happens to end with zeros.
        precision = self._precision(opened, status.st_dev)
        return found == time // precision * precision

    def _precision(self, opened, device):
        known = self._known.get(device)
        if known is None:
            known = 1
            if not self._receiver.dry_run:
                known = self._known[device] = self._probe(opened)
        return known

    def _probe(self, opened):
        name = self._receiver.flavour.native(other_temporary_name())
        try:
            os.close(opened.create(name))
            try:
                opened.utime(name, PROBE)
                found = time_of(opened.status(name))
            finally:
                opened.remove(name)
        except OSError:
            return 1
        for each in PRECISIONS:
            if found == PROBE // each * each:
                return each
        return 1
