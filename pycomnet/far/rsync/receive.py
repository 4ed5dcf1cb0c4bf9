"""Receives a tree: compares it with what is there, requests what differs, and applies that.

The messages are in docs/protocol.rst, "rsync".
"""

import os
import stat

from . import names
from .attributes import MODE
from .blocks import check_block, choose_marker, sums
from .compare import Comparison
from .compose import MOST, Basis, Composer, ContentRefused, Pieces, TooMuch, unpack
from .entries import BadBatch, binary, numbers_from, numbers_of
from .files import (
    NewFile,
    ShortFiles,
    is_at,
    is_left,
    remove_left,
    temporary_names,
)
from .finish import Finish, reason_of
from .nested import refuse_nested
from .oldfiles import OldFiles
from .patterns import Filter
from .tree import ENTRY_ERRORS, is_directory, open_tree


class Receiver(object):
    """The receiving end of one run.

    :param channel: carries the messages.
    :param data: the raw channel with the content of long files.
    :param options: a map: ``root``; ``mode`` and ``time`` of the root; ``place``, the source's
        (:mod:`.nested`); ``rules``, ``delete``,
        ``dry_run``, ``checksum``, ``owners``.
    :param flavour: of :mod:`.names`.
    :param system: as ``os``.
    :ivar check: called repeatedly during long work; may raise to end the run.
    :ivar left: how many bytes may still be written; None: any number.
    :ivar pending: number -> the entry of a file whose content is needed.
    """

    def __init__(self, channel, data, options, flavour=None, system=os):
        self._channel = channel
        self._pieces = Pieces(data)
        self.flavour = flavour or names.of_this_system()
        self.filter = Filter(options.get("rules") or ())
        self.deletes = bool(options.get("delete"))
        self.dry_run = bool(options.get("dry_run"))
        self.checksum = bool(options.get("checksum"))
        self.owners = bool(options.get("owners")) and self.flavour.modes
        self.links = options.get("links", True)
        self.mask = options.get("mask", MODE)
        self.root_mode = options["mode"] & self.mask
        self.root_time = options["time"]
        self._place = options.get("place")
        self.left = None
        self.check = lambda: None
        self._system = system
        expand = system.path.expanduser
        self.root = system.path.abspath(expand(self.flavour.root(options["root"])))
        self.tree = None
        self.pending = {}
        self.finish = Finish(self)
        self._shorts = ShortFiles(self.flavour.native)
        self._comparison = Comparison(self)
        #: number -> the basis of a long file, while it is being sent
        self.bases = {}
        #: whether the list has ended, and was complete
        self._ended = None
        #: number or path, and reason, that are sent before the next message
        self._failures = []

        self.handlers = {
            "list": lambda message: self.send(self._comparison.compare(message)),
            "short": self._short,
            "long": self._long,
            "sums": self._sums,
            "equal": self._equal,
            "unreadable": self._unreadable,
            "end": self._end,
        }

    def run(self):
        """Receive all.

        :raises OSError: the destination can't be opened, or is in the source, or around it.
        """
        if self._place:
            refuse_nested(self._place, self.root, self.filter.takes)
        self.tree = open_tree(self.root, self.flavour, not self.dry_run, self._system)
        try:
            while self._ended is None or self.pending:
                message = self._channel.receive()
                self.handlers[message[0]](message)
            self.finish.run(self._ended)
            self.send(["done"])
        finally:
            for number in list(self.bases):
                self._close_basis(number)
            if self.tree is not None:
                self.tree.close()

    def fail(self, which, reason):
        """Report that an entry failed.

        :param which: its number; or its path, as on the wire, if only this end has it.
        """
        self._failures.append([binary(which) if isinstance(which, bytes) else which, reason])
        self.finish.leaders.pop(which, None)

    def send(self, message):
        """Send a message, after the failures that came before."""
        if self._failures:
            failures, self._failures = self._failures, []
            self._channel.send(["failed", failures])
        self._channel.send(message)

    def _end(self, message):
        self._ended = bool(message[1])

    def _unreadable(self, message):
        """The other end can't read these files after all: leave them unchanged here."""
        for number in numbers_from("Q", message[1]):
            self.pending.pop(number, None)
            self.finish.leaders.pop(number, None)
            self._close_basis(number)

    def _equal(self, message):
        """The content of these files is equal: set their owners, modes and times."""
        done = []
        for number in numbers_from("Q", message[1]):
            entry = self.pending.pop(number)
            if entry.compared is None:
                raise BadBatch("a file is said to be equal whose digest was not sent")
            try:
                self._comparison.attributes.set(entry, entry.compared)
                done.append(number)
            except ENTRY_ERRORS as error:
                self.fail(number, reason_of(error))
        self.send(["same", numbers_of("Q", done)])

    # -- content ---------------------------------------------------------------------------------

    def _short(self, message):
        """Write short files: numbers, sizes, times, modes, and their joined content."""
        _, numbers, sizes, times, modes, content, unpacked = message
        if unpacked:
            content = unpack(content, unpacked)
        numbers, times = numbers_from("Q", numbers), numbers_from("q", times)
        sizes, modes = numbers_from("I", sizes), numbers_from("I", modes)
        if not len(numbers) == len(sizes) == len(times) == len(modes):
            raise BadBatch("short files whose columns differ in length")
        if sum(sizes) != len(content):
            raise BadBatch("short files whose content has another size")
        self._take(len(content))
        at = 0
        done = []
        write, mask = self._shorts.write, self.mask
        directory = opened = None
        for number, size, time, mode in zip(numbers, sizes, times, modes):
            data = content[at : at + size]
            at += size
            entry = self.pending.pop(number)
            try:
                if entry.directory is not directory:
                    opened = self.tree.directory(entry.directory.path)
                    self._shorts.enter(opened)
                    directory = entry.directory
                    self.finish.touched.add(directory.path)
                try:
                    write(entry.name, data, mode & mask, time, entry.owner)
                except (OSError, IOError):
                    status = opened.status(entry.native)
                    if status is None or not is_directory(self.flavour, status):
                        raise
                    self.finish.make_room(directory.path, opened, entry.name)
                    write(entry.name, data, mode & mask, time, entry.owner)
                done.append(number)
            except ENTRY_ERRORS as error:
                directory = None
                self.fail(number, reason_of(error))
        self.send(["written", numbers_of("Q", done)])

    def _take(self, size):
        """Count bytes to write.

        :raises TooMuch: that is more than may be written.
        """
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise TooMuch("the files have more than the bytes that may be written")

    def _commit(self, new, entry, opened):
        path = entry.directory.path
        self.finish.touched.add(path)
        given = entry.mode, entry.time, entry.owner
        try:
            new.commit(*given)
        except OSError:
            status = opened.status(entry.native)
            if status is None or not is_directory(self.flavour, status):
                raise
            self.finish.make_room(path, opened, entry.name)
            new.commit(*given)

    def _long(self, message):
        """Write a long file; its content is on the raw channel."""
        _, number, block, time, mode, is_sparse = message
        check_block(block)
        entry = self.pending.pop(number)
        entry.time, entry.mode = time, mode & self.mask
        basis = self.bases.pop(number, None)
        new = None
        most = MOST if self.left is None else self.left
        composer = Composer(self._pieces, None, basis, block, is_sparse, most, self.check)
        try:
            try:
                opened = self.tree.directory(entry.directory.path)
                new = NewFile(opened, self.flavour.native, entry.name)
                composer.output = new.descriptor
            except (OSError, IOError) as error:
                composer.problem = error
            composer.run()
            if composer.is_as_old and self._keep_old(entry, opened, basis):
                new.discard()
                return self.send(["same", numbers_of("Q", [number])])
            self._commit(new, entry, opened)
            if basis is not None:
                basis.close()  # it may have the lock of what is removed now
                basis = None
            for temporary in temporary_names(entry.name):
                if temporary != new.temporary:
                    remove_left(opened, self.flavour.native(temporary))
        except TooMuch:
            if new is not None:
                new.discard()
            raise
        except ContentRefused as error:
            new.discard()
            self.pending[number] = entry
            self.send(["again", number, reason_of(error)])
        except ENTRY_ERRORS as error:
            if new is not None:
                new.discard()
            self.fail(number, reason_of(error))
            self.send(["written", numbers_of("Q", [])])
        else:
            self.send(["written", numbers_of("Q", [number])])
        finally:
            if new is not None:
                new.close()  # after the end of the connection it stays, to go on from
            if basis is not None:
                basis.close()
            self._take(composer.size)

    def _keep_old(self, entry, opened, basis):
        """Keep the old file, which has this content; False if another one is there now."""
        native, descriptor = entry.native, basis.descriptor()
        if type(descriptor) is not int or not is_at(opened, native, descriptor):
            return False
        self._comparison.attributes.set(entry, os.fstat(descriptor))
        return True

    def _sums(self, message):
        """Send the sums of the old content of a long file."""
        number = message[1]
        entry = self.pending[number]
        self._close_basis(number)
        try:
            found = self.basis(entry)
        except (OSError, IOError):
            found = None
        if found is None:
            self._send_sums(number, 0, 0, b"", b"", True)
            return
        size, block, read = found.size, found.block, found.read
        basis = self.bases[number] = Basis(read, found)
        marker = b""
        try:
            marker = choose_marker(read, size, block)
            for part in sums(read, size, block, marker, basis.digests):
                self._send_sums(number, size, block, marker, part, False)
        except (OSError, IOError):
            pass  # what can't be read is no basis
        self._send_sums(number, size, block, marker, b"", True)

    def _send_sums(self, number, size, block, marker, part, complete):
        self.send(["sums", number, size, block, binary(marker), binary(part), complete])

    def basis(self, entry):
        """The old content of a file: :class:`.OldFiles`, or None.

        This is the longer one of the two temporary files that earlier runs may have left, and the
        old file.
        """
        opened = self.tree.directory(entry.directory.path)
        left = None
        for name in temporary_names(entry.name):
            found = self._open_basis(opened, self.flavour.native(name))
            if found is not None and not is_left(found[1]):
                os.close(found[1])  # another run is writing it
                found = None
            if left is None or (found is not None and left[0] < found[0]):
                left, found = found, left
            if found is not None:
                os.close(found[1])
        old = self._open_basis(opened, entry.native)
        files = [each for each in (left, old) if each is not None]
        return OldFiles(files, files == [old]) if files else None

    def _open_basis(self, opened, name):
        """Open a regular file; return its size and its descriptor, or None."""
        status = opened.status(name)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        try:
            return status.st_size, opened.open(name)  # Jython has no fstat
        except (OSError, IOError):
            return None

    def _close_basis(self, number):
        basis = self.bases.pop(number, None)
        if basis is not None:
            basis.close()


def receive(channel, data, options):
    """Receive a tree at the far side."""
    try:
        Receiver(channel, data, options).run()
    except (OSError, IOError, names.NameRefused, BadBatch) as error:
        channel.send(["stopped", reason_of(error)])
