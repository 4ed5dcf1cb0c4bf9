"""Compares the entries that the other end lists with what is here.

What needs no content is made at once: directories, links, modes, times.
"""

import errno
import os
import stat

from . import names
from .attributes import Attributes
from .entries import (
    CHANGED,
    DELTA,
    DIRECTORY,
    FILE,
    HARD_LINK,
    INCOMPLETE,
    LAST,
    LEADER,
    LINK,
    LINK_INTO_TREE,
    MADE,
    SKIPPED,
    UNLESS_EQUAL,
    WHOLE,
    BadBatch,
    ReceivedBatch,
    binary,
    check_name,
    numbers_of,
)
from .files import digest_of, other_temporary_name, read_at
from .finish import NOT_EMPTY, reason_of
from .folding import Folding
from .listeddirectory import ListedDirectory, TreeEntry
from .tree import ENTRY_ERRORS, is_directory, time_of

#: A file up to this size comes whole, with others in one message.
SHORT = 65536
#: An old file of at least this size may have parts of a long new one.
USEFUL = 16384


class Comparison(object):
    """Compares, and replies to each list.

    :param receiver: the receiver.
    """

    def __init__(self, receiver):
        self._receiver = receiver
        self._finish = receiver.finish
        self._flavour = receiver.flavour
        self._dry_run = receiver.dry_run
        self.attributes = Attributes(receiver)
        self._folding = Folding(receiver)
        #: the directory whose entries are not all here
        self._current = None
        #: paths of the directories whose entries were all here
        self._complete = set()
        #: the number of the next list's first entry
        self._next = 0

    def compare(self, message):
        """Compare a list; return the reply."""
        batch = ReceivedBatch(message)
        if batch.first != self._next:
            # Entries in between would count as deleted.
            raise BadBatch("a list from entry %r on, expected %d" % (batch.first, self._next))
        self._next += len(batch.names)
        need, kinds, digests, done, what = [], bytearray(), [], [], bytearray()
        texts, firsts = iter(batch.texts), iter(batch.firsts)
        receiver, native = self._receiver, self._flavour.native
        owners = batch.owners if receiver.owners else ()
        mask = receiver.mask
        sizes, modes, times = batch.sizes, batch.modes, batch.times
        at = 0
        for path, count, flags in batch.directories:
            directory = self._enter(path)
            listed = batch.names[at : at + count]
            directory.list(listed)
            refused = self._folding.conflicts(directory, listed)
            places = range(at, at + count)
            for each in places if refused else self._unlike(directory, batch, places):
                name, kind = batch.names[each], batch.kinds[each]
                number = batch.first + each
                extra = None
                if kind == FILE or kind == LEADER:
                    extra = sizes[each]
                elif kind in (LINK, LINK_INTO_TREE):
                    extra = next(texts)
                elif kind == HARD_LINK:
                    extra = next(firsts)
                elif kind == SKIPPED:
                    continue
                try:
                    if directory.tree is False:
                        raise OSError(None, "its directory can't be made or opened")
                    if name in refused:
                        raise names.NameRefused(refused[name])
                    entry = TreeEntry(
                        directory,
                        number,
                        name,
                        native(name),
                        modes[each] & mask,
                        times[each],
                        owners[2 * each : 2 * each + 2] or None if owners else None,
                    )
                    if kind in (LINK, LINK_INTO_TREE) and not receiver.links:
                        raise OSError(None, "it is a link, and none was asked for")
                    result = self._one(entry, kind, extra)
                except ENTRY_ERRORS + (names.NameRefused,) as error:
                    receiver.fail(number, reason_of(error))
                    continue
                if isinstance(result, tuple):
                    need.append(number)
                    kinds.append(result[0])
                    digests.append(result[1])
                elif result:
                    done.append(number)
                    what.append(result)
            at += count
            self._leave(directory, flags)
        return [
            "need",
            batch.first,
            len(batch.names),
            numbers_of("Q", need),
            binary(bytes(kinds)),
            binary(b"".join(digests)),
            numbers_of("Q", done),
            binary(bytes(what)),
        ]

    def _unlike(self, directory, batch, places):
        """The places in a batch whose entries are not files that are equal here.

        Most entries of a tree that was sent before are equal. So this skips them fast, and leaves
        the rest to :meth:`_one`.
        """
        receiver = self._receiver
        if receiver.checksum or receiver.owners or not self._flavour.is_exact:
            return places
        try:
            opened = directory.open
        except (OSError, IOError):
            opened = None
        if not opened:
            return places  # _one reports the reason
        there, mask, native = directory.there, receiver.mask, self._flavour.native
        status_of, regular = opened.status, stat.S_IFREG
        names_, kinds, modes, sizes, times = (
            batch.names,
            batch.kinds,
            batch.modes,
            batch.sizes,
            batch.times,
        )
        found = []
        for place in places:
            name = names_[place]
            if kinds[place] == FILE and name in there:
                try:
                    status = status_of(native(name))
                except (OSError, IOError, names.NameRefused):
                    status = None  # _one reports the reason
                if (
                    status is not None
                    and status.st_size == sizes[place]
                    and status.st_mode == regular | modes[place] & mask
                    and time_of(status) == times[place]
                ):
                    continue
            found.append(place)
        return found

    def _one(self, entry, kind, extra):
        """Compare an entry: return a need and its digest; or what was done."""
        if kind == LEADER:
            self._finish.leaders[entry.number] = entry.directory.path, entry.name
        if kind in (FILE, LEADER):
            return self._file(entry, extra)
        if kind == DIRECTORY:
            return self._directory(entry)
        if kind == HARD_LINK:
            return self._finish.hard_link(entry, extra)
        if kind in (LINK, LINK_INTO_TREE):
            return self._link(entry, extra, kind == LINK_INTO_TREE)
        raise OSError(None, "an entry of the unknown kind %d" % kind)

    def _enter(self, path):
        if self._current is not None and self._current.path == path:
            return self._current
        if self._current is not None or path in self._complete:
            raise BadBatch(
                "the directory %r is listed twice, or before another one's end" % (path,)
            )
        receiver = self._receiver
        tree = receiver.tree
        there = ()
        if path:
            for part in path.split(b"/"):
                check_name(part)
        if path in self._finish.unmade:
            tree = None if self._dry_run else False
        elif tree is not None:
            try:
                there = tree.directory(path).names()
            except (OSError, IOError, names.NameRefused):
                tree = False
        if not path and tree:
            mode, time = receiver.root_mode, receiver.root_time
            as_wanted = self.attributes.are(tree.root, tree.root.own_status(), mode, time)
            self._finish.directory(b"", mode, time, as_wanted)
        self._current = ListedDirectory(path, tree, there)
        return self._current

    def _leave(self, directory, flags):
        if not flags & LAST:
            return
        self._current = None
        self._complete.add(directory.path)
        if directory.tree and not flags & INCOMPLETE:
            extra = directory.there - directory.listed
            if extra:
                self._finish.extra(directory.path, self._folding.unlike(directory, extra))

    def _status(self, entry):
        """The status of what is there in an entry's place, or None."""
        directory = entry.directory
        if directory.tree is None:
            return None
        if entry.name in directory.there or not self._flavour.is_exact:
            return directory.open.status(entry.native)
        return None

    # -- single entries --------------------------------------------------------------------------

    def _file(self, entry, size):
        directory = entry.directory
        status = self._status(entry)
        need = WHOLE, b""
        if status is None:
            if size > SHORT and directory.has_left(entry.name):
                need = DELTA, b""
        elif stat.S_ISREG(status.st_mode):
            if status.st_size == size:
                if not self._receiver.checksum and self.attributes.same_time(
                    directory.open, status, entry.time
                ):
                    return self.attributes.set(entry, status)
                if size <= SHORT:
                    digest = self._digest(entry)
                    if digest is not None:
                        need = UNLESS_EQUAL, digest
                        entry.compared = status
            if size > SHORT and (status.st_size >= USEFUL or directory.has_left(entry.name)):
                need = DELTA, b""
        elif (
            is_directory(self._flavour, status)  # removed when the content is here
            and not self._receiver.deletes
            and self._has_names(directory.open, entry.native)
        ):
            raise OSError(None, NOT_EMPTY)
        if not self._dry_run:
            self._receiver.pending[entry.number] = entry
        return need

    def _has_names(self, opened, native):
        inner = opened.child(native)
        try:
            return bool(inner.names())
        finally:
            inner.close()

    def _digest(self, entry):
        """The digest of a short file that is here; None if it can't be read."""
        try:
            descriptor = entry.directory.open.open(entry.native)
        except (OSError, IOError):
            return None
        try:
            data = read_at(descriptor)(0, SHORT + 1)
        except (OSError, IOError):
            return None
        finally:
            os.close(descriptor)
        return digest_of(data)

    def _directory(self, entry):
        directory = entry.directory
        path = directory.path_of(entry.name)
        status = self._status(entry)
        if status is not None and is_directory(self._flavour, status):
            as_wanted = self.attributes.are(directory.open, status, entry.mode, entry.time)
            self._finish.directory(path, entry.mode, entry.time, as_wanted)
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o700 != 0o700 and self._flavour.modes and not self._dry_run:
                # Else nothing in it could be changed. It gets its mode at the end.
                directory.open.chmod(entry.native, mode | 0o700)
                self._finish.touched.add(path)
            return self.attributes.set_owner(entry, status) or (0 if as_wanted else CHANGED)
        self._finish.unmade.add(path)
        if self._dry_run:
            return MADE
        if status is not None:
            directory.open.remove(entry.native)
        try:
            directory.open.mkdir(entry.native)
        except OSError as error:
            # Another run may make it as well: one that was cancelled, and has not seen that yet.
            there = directory.open.status(entry.native) if error.errno == errno.EEXIST else None
            if there is None or not is_directory(self._flavour, there):
                raise
        if entry.owner:
            directory.open.chown(entry.native, *entry.owner)
        self._finish.unmade.discard(path)
        self._finish.directory(path, entry.mode, entry.time, False)
        self._finish.touched.add(directory.path)
        return MADE

    def _link(self, entry, text, into_tree):
        opened = entry.directory.open
        flavour = self._flavour
        if into_tree:
            # An absolute link into the tree there points to the same place in this one.
            root = flavour.text_of(self._receiver.root).rstrip(b"/")
            text = root + b"/" + text if text else root or b"/"
        status = self._status(entry)
        if status is not None and flavour.is_link(status):
            there = flavour.text_of(opened.readlink(entry.native))
            if there == text:
                return self.attributes.set(entry, status)
        if self._dry_run:
            return MADE
        if status is None:
            made = entry.native
        else:
            made = flavour.native(other_temporary_name())
        try:
            opened.symlink(flavour.link_text(text), made)
        except OSError as error:
            # Another run may make it as well: one that was cancelled, and has not seen that yet.
            if status is None and error.errno == errno.EEXIST and opened.status(made) is not None:
                entry.directory.there |= {entry.name}
                return self._link(entry, text, False)
            remedy = flavour.link_remedy(error)
            if remedy is None:
                raise
            raise OSError(error.errno, remedy)
        try:
            if entry.owner:
                opened.chown(made, *entry.owner)
            opened.utime(made, entry.time)
            if status is not None:
                if is_directory(flavour, status):
                    self._finish.make_room(entry.directory.path, opened, entry.name)
                opened.rename(made, entry.native)
        except ENTRY_ERRORS:
            opened.remove(made)
            raise
        self._finish.touched.add(entry.directory.path)
        return MADE
