"""Sets the owner, mode and time of files and directories."""

import stat

from .entries import CHANGED
from .times import Times
from .tree import time_of

#: The bits of a mode that are kept.
MODE = 0o7777
#: How often attributes are set anew that another run changes at the same time.
TRIES = 10
REPLACED = "it was changed while it was compared: the next run tries again"


class Attributes(object):
    """The owners, modes and times of one destination.

    :param receiver: the receiver.
    """

    def __init__(self, receiver):
        self._flavour = receiver.flavour
        self._dry_run = receiver.dry_run
        self._times = Times(receiver)
        #: device and inode -> the time that was set here for one of several names of a file
        self._set_times = {}

    def same_time(self, opened, status, time):
        """Whether something has a time, as far as its file system can have it.

        :param opened: its directory, open.
        """
        return self._times.same(opened, status, time)

    def are(self, opened, status, mode, time):
        """Whether something has a mode and a time."""
        same_mode = not self._flavour.modes or stat.S_IMODE(status.st_mode) == mode
        return same_mode and self.same_time(opened, status, time)

    def set(self, entry, status):
        """Give what is there the owner, mode and time that it shall have; return what was done.

        Another run may set other ones at the same time, or replace a file. They are set for the
        file that was compared, and set again until none differs: so in the end a file has all of
        them from one run, and that run has found or written its content. This holds where the
        system sets attributes of open files, and for no directory or link.

        :param status: the status of what was compared.
        :raises OSError: another file has the name by now, or the compared one was changed.
        """
        opened = entry.directory.open
        if self._flavour.is_link(status):
            changed = self.set_owner(entry, status)
            if not self._dry_run and not self.same_time(opened, status, entry.time):
                opened.utime(entry.native, entry.time)
            return changed
        if self._are_set(entry, status):
            return 0
        if self._dry_run:
            return CHANGED
        file = opened.file(entry.native)
        try:
            found = file.status()
            if not self._is_compared(entry, status, found):
                raise OSError(None, REPLACED)
            for _ in range(TRIES):  # a file system may not have all modes: that is no failure
                self._set(file, entry, found)
                found = file.status()
                if found is None or self._are_set(entry, found):
                    break
            if found is not None and found.st_nlink > 1:
                self._set_times[found.st_dev, found.st_ino] = time_of(found)
        finally:
            file.close()
        return CHANGED

    def _are_set(self, entry, status):
        owner = entry.owner
        return (not owner or (status.st_uid, status.st_gid) == tuple(owner)) and self.are(
            entry.directory.open, status, entry.mode, entry.time
        )

    def _is_compared(self, entry, status, found):
        """Whether a file is the compared one, or has the size and time of the one to be sent."""
        if found is None or found.st_size != status.st_size:
            return False
        file = found.st_dev, found.st_ino
        if file == (status.st_dev, status.st_ino):
            time = time_of(found)
            if time == time_of(status) or time == self._set_times.get(file):
                return True
        return self.same_time(entry.directory.open, found, entry.time)

    def _set(self, file, entry, status):
        """Set what differs from a status."""
        owner = entry.owner
        gets_owner = owner and (status.st_uid, status.st_gid) != tuple(owner)
        if gets_owner:
            file.chown(*owner)
        # Who sets an owner takes the set-user-id bits away.
        other_mode = gets_owner or stat.S_IMODE(status.st_mode) != entry.mode
        if other_mode and self._flavour.modes:
            file.chmod(entry.mode)
        if not self.same_time(entry.directory.open, status, entry.time):
            file.utime(entry.time)

    def set_owner(self, entry, status):
        """Give it the owner that it shall have; return what was done."""
        if not entry.owner or (status.st_uid, status.st_gid) == tuple(entry.owner):
            return 0
        if not self._dry_run:
            entry.directory.open.chown(entry.native, *entry.owner)
        return CHANGED
