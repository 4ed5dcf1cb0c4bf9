"""What comes last: hard links, deletions, and the modes and times of directories."""

import errno
import os
import stat

from .entries import MADE, binary
from .files import is_left, is_temporary, other_temporary_name, remove_left
from .names import NameRefused
from .tree import ENTRY_ERRORS, Tree, is_directory, time_of

NO_LEADER = "the file that it is another name of is not there"
NOT_EMPTY = "there is a directory that is not empty: it is replaced with delete only"
#: Deleted paths in one message.
TOLD = 500


class Finish(object):
    """Collects the last steps while lists arrive, and takes them at the end.

    :param receiver: the receiver.
    :ivar leaders: number -> directory's path and name of a file that hard links refer to.
    :ivar unmade: paths of directories that are not there (yet).
    :ivar touched: paths of directories in which something was changed.
    """

    def __init__(self, receiver):
        self._receiver = receiver
        self.leaders = {}
        self.unmade = set()
        self.touched = set()
        self._directories = []
        self._links = []
        self._extra = []

    def directory(self, path, mode, time, as_wanted):
        """Note the mode and time that a directory is to get; it is there.

        :param as_wanted: whether it has them now.
        """
        self._directories.append((path, mode, time, as_wanted))

    def extra(self, path, found):
        """Note the names in a directory that only this end has."""
        self._extra.append((path, sorted(found)))

    def hard_link(self, entry, first):
        """Note another name of a file that came earlier in the list; return what will be done."""
        if first not in self.leaders:
            raise OSError(None, NO_LEADER)
        path, leader = self.leaders[first]
        self._links.append((entry.directory.path, entry.name, entry.number, first))
        if entry.name in entry.directory.there:
            status = entry.directory.open.status(entry.native)
            try:
                opened = self._receiver.tree.directory(path)
                other = opened.status(self._receiver.flavour.native(leader))
            except OSError:
                other = None
            if status is not None and other is not None and _same_file(status, other):
                return 0
        return MADE

    def run(self, clean):
        """Make hard links, delete, and give directories their modes and times.

        :param clean: whether the other end could read all of its tree: only then is anything
            deleted.
        """
        receiver = self._receiver
        if not receiver.dry_run:
            for link in self._links:
                try:
                    self._make_link(*link)
                except ENTRY_ERRORS as error:
                    path = link[0] + b"/" + link[1] if link[0] else link[1]
                    receiver.fail(path, reason_of(error))
        self._delete(clean)
        if receiver.dry_run:
            return
        for path, mode, time, as_wanted in reversed(self._directories):
            if not as_wanted or path in self.touched:
                try:
                    self._end_directory(path, mode, time)
                except ENTRY_ERRORS as error:
                    receiver.fail(path, reason_of(error))

    def _make_link(self, path, name, number, first):
        receiver = self._receiver
        native = receiver.flavour.native
        if first not in self.leaders:
            raise OSError(None, NO_LEADER)
        leader_path, leader = self.leaders[first]
        with receiver.tree.hold(leader_path) as source, receiver.tree.hold(path) as target:
            self._link_in(source, native(leader), target, path, name)

    def _link_in(self, source, leader, target, path, name):
        """Make a file's other name.

        :param source: the directory of the file, and ``leader`` its name there.
        :param target: the directory at ``path`` that gets the other name.
        """
        receiver = self._receiver
        native = receiver.flavour.native
        other = source.status(leader)
        if other is None or not stat.S_ISREG(other.st_mode):
            raise OSError(None, NO_LEADER)
        status = target.status(native(name))
        if status is not None and _same_file(status, other):
            return
        if status is not None and is_directory(receiver.flavour, status):
            self.make_room(path, target, name)
        made = native(other_temporary_name())
        target.link(source, leader, made)
        try:
            target.rename(made, native(name))
        except (OSError, IOError):
            target.remove(made)
            raise
        self.touched.add(path)

    def _end_directory(self, path, mode, time):
        receiver = self._receiver
        if not path:
            opened, name = receiver.tree.root, None
            status = opened.own_status()
        else:
            parent, _, last = path.rpartition(b"/")
            opened = receiver.tree.directory(parent)
            name = receiver.flavour.native(last)
            status = opened.status(name)
            if status is None or not is_directory(receiver.flavour, status):
                return  # another entry has replaced it
        # The time first: the owner can set it whatever the mode is, on some systems.
        if time_of(status) != time:
            if name is None:
                own_utime(opened, time)
            else:
                opened.utime(name, time)
        if receiver.flavour.modes and stat.S_IMODE(status.st_mode) != mode:
            if name is None:
                own_chmod(opened, mode)
            else:
                opened.chmod(name, mode)

    # -- deletions -------------------------------------------------------------------------------

    def _delete(self, clean):
        receiver = self._receiver
        deleted = []
        for path, found in self._extra:
            left_only = not receiver.deletes or not clean
            if left_only:
                found = [name for name in found if is_temporary(name)]
            if not found:
                continue
            remove = self._remove_left if left_only else self._remove
            try:
                opened = receiver.tree.directory(path)
            except OSError:
                continue  # another entry has replaced it
            for name in found:
                whole = path + b"/" + name if path else name
                try:
                    if remove(opened, whole, name):
                        deleted.append(binary(whole))
                except (OSError, IOError, NameRefused) as error:
                    receiver.fail(whole, reason_of(error))
            self.touched.add(path)
            if len(deleted) >= TOLD:
                receiver.send(["deleted", deleted])
                deleted = []
        if deleted:
            receiver.send(["deleted", deleted])

    def _remove_left(self, opened, path, name):
        """Remove a file that a run has left which has ended; False if it is none, or excluded."""
        receiver = self._receiver
        if not receiver.filter.takes(path):
            return False
        return remove_left(opened, receiver.flavour.native(name), receiver.dry_run)

    def _remove(self, opened, path, name):
        """Remove an entry and what is in it; False if something in it is excluded, and stays."""
        gone = self._remove_or_enter(opened, path, name)
        if gone is not None:
            return gone
        receiver = self._receiver
        native = receiver.flavour.native(name)
        # A tree of its own: it may be of any depth, and closes nothing that others have open.
        tree = Tree(opened.child(native), receiver.flavour)
        try:
            all_gone = self._remove_in(tree, path)
        finally:
            tree.close()
        if all_gone and not receiver.dry_run:
            receiver.tree.forget(path)
            opened.rmdir(native)
        return all_gone

    def _remove_in(self, tree, whole):
        """Remove what is in a tree; False if something in it is excluded, and stays.

        :param whole: the path of the tree's root.
        """
        receiver = self._receiver
        #: path in the tree, names that are left to remove, whether all in it was removed
        levels = [[b"", sorted(tree.root.names(), reverse=True), True]]
        while True:
            path, left, all_gone = level = levels[-1]
            if left:
                name = left.pop()
                below = path + b"/" + name if path else name
                gone = self._remove_or_enter(tree.directory(path), whole + b"/" + below, name)
                if gone is None:
                    found = tree.directory(below).names()
                    levels.append([below, sorted(found, reverse=True), True])
                elif not gone:
                    level[2] = False
                continue
            levels.pop()
            if not levels:
                return all_gone
            if not all_gone:
                levels[-1][2] = False
            elif not receiver.dry_run:
                receiver.tree.forget(whole + b"/" + path)
                tree.forget(path)
                parent, _, name = path.rpartition(b"/")
                tree.directory(parent).rmdir(receiver.flavour.native(name))

    def _remove_or_enter(self, opened, path, name):
        """Remove an entry: whether it was; None if it is a directory, which can be entered now."""
        receiver = self._receiver
        native = receiver.flavour.native(name)
        status = opened.status(native)
        if status is None:
            return False
        enters = is_directory(receiver.flavour, status)
        if not receiver.filter.takes(path + b"/" if enters else path):
            return False
        if not enters:
            if (
                is_temporary(name)
                and stat.S_ISREG(status.st_mode)
                and self._is_in_use(opened, native)
            ):
                return False
            if not receiver.dry_run:
                opened.remove(native)
            return True
        if not receiver.dry_run and status.st_mode & 0o700 != 0o700:
            opened.chmod(native, stat.S_IMODE(status.st_mode) | 0o700)
        return None

    def _is_in_use(self, opened, native):
        try:
            descriptor = opened.open(native)
        except (OSError, IOError):
            return False
        try:
            return not is_left(descriptor)
        finally:
            os.close(descriptor)

    def make_room(self, path, opened, name):
        """Remove a directory that is in the place of another entry.

        :raises OSError: it is not empty, and this run does not delete; or it has excluded entries.
        """
        whole = path + b"/" + name if path else name
        native = self._receiver.flavour.native(name)
        try:
            opened.rmdir(native)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not self._receiver.deletes:
                raise OSError(None, NOT_EMPTY)
            if not self._remove(opened, whole, name):
                raise OSError(None, "there is a directory with something in it that is excluded")
        self._receiver.tree.forget(whole)
        self.touched.add(path)


def _same_file(status, other):
    return (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


def own_utime(opened, time):
    """Set the time of an open directory itself."""
    if hasattr(opened, "descriptor"):
        os.utime(opened.descriptor, ns=(time, time))
    else:
        opened.utime(opened.path[:0], time)


def own_chmod(opened, mode):
    """Set the mode of an open directory itself."""
    if hasattr(opened, "descriptor"):
        os.fchmod(opened.descriptor, mode)
    else:
        opened.chmod(opened.path[:0], mode)


def reason_of(error):
    """Why something failed, as text, for people."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
