"""Sets the owner, mode and time of files and directories."""

import stat

from .entries import CHANGED
from .times import Times

#: The bits of a mode that are kept.
MODE = 0o7777


class Attributes(object):
    """The owners, modes and times of one destination.

    :param receiver: the receiver.
    """

    def __init__(self, receiver):
        self._flavour = receiver.flavour
        self._dry_run = receiver.dry_run
        self._times = Times(receiver)

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
        """Give what is there the owner, mode and time that it shall have; return what was done."""
        opened = entry.directory.open
        changed = self.set_owner(entry, status)
        is_link = self._flavour.is_link(status)
        # Who sets an owner takes the set-user-id bits away.
        other = changed or stat.S_IMODE(status.st_mode) != entry.mode
        if other and not is_link and self._flavour.modes:
            changed = CHANGED
            if not self._dry_run:
                opened.chmod(entry.native, entry.mode)
        if not self.same_time(opened, status, entry.time):
            changed = changed if is_link else CHANGED
            if not self._dry_run:
                opened.utime(entry.native, entry.time)
        return changed

    def set_owner(self, entry, status):
        """Give it the owner that it shall have; return what was done."""
        if not entry.owner or (status.st_uid, status.st_gid) == tuple(entry.owner):
            return 0
        if not self._dry_run:
            entry.directory.open.chown(entry.native, *entry.owner)
        return CHANGED
