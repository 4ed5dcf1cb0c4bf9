"""A batch of a tree's entries, in columns: both ends read and write it at the speed of C."""

import struct

#: Kinds of entries. A link into the tree is an absolute one; its text is a path from the root. A
#: leader is a file that later hard links refer to. What is skipped stays as it is there.
DIRECTORY, FILE, LINK, LINK_INTO_TREE, HARD_LINK, LEADER, SKIPPED = range(7)
#: Flags of a directory in a batch: its last entries are in this one; not all could be read.
LAST, INCOMPLETE = 1, 2
#: Kinds of needs: the whole file; the whole, unless its digest is the given one; what differs.
WHOLE, UNLESS_EQUAL, DELTA = range(3)
#: What was done with an entry for which nothing is needed.
MADE, CHANGED = 1, 2
#: Beginnings of the pieces of a long file's content (docs/protocol.rst, "rsync").
LITERAL, PACKED, COPY, HOLE, END, ABORT = b"L", b"Z", b"C", b"H", b"E", b"X"
#: The most bytes of a literal piece; a multiple of all block sizes.
PIECE = 1048576
#: What is no name of an entry.
NO_NAMES = frozenset((b"", b".", b".."))
#: Bytes of a digest that decides whether a short file is equal.
DIGEST = 16


class BadBatch(ValueError):
    """A batch that is not well formed."""


def pack(first, directories, names, kinds, modes, sizes, times, texts, firsts, owners):
    """Make the message of a batch.

    :param first: the number of its first entry.
    :param directories: ``[path, number of entries, flags]`` for each.
    :param kinds: a bytearray, with the kind of each entry.
    :param texts: the texts of its links, in order.
    :param firsts: for each of its hard links the number of the file, in order.
    :param owners: the owner and the group of each entry, one after the other; or empty.
    """
    count = len(names)
    numbers = struct.pack(">%dI" % count, *modes) + struct.pack(
        ">%dq" % (2 * count), *sizes + times
    )
    return [
        "list",
        first,
        directories,
        binary(b"\0".join(names)),
        binary(bytes(kinds)),
        binary(numbers),
        binary(b"\0".join(texts)),
        numbers_of("Q", firsts),
        numbers_of("I", owners),
    ]


class ReceivedBatch(object):
    """A batch that has come.

    :ivar first: the number of its first entry.
    :ivar directories: ``[path, number of entries, flags]`` for each.
    """

    def __init__(self, message):
        try:
            _, self.first, directories, names, kinds, numbers, texts, firsts, owners = message
            self.kinds = bytearray(kinds)
            count = len(self.kinds)
            self.names = names.split(b"\0") if count else []
            self.modes = struct.unpack(">%dI" % count, numbers[: 4 * count])
            both = struct.unpack(">%dq" % (2 * count), numbers[4 * count :])
            self.sizes, self.times = both[:count], both[count:]
            self.texts = texts.split(b"\0") if texts else []
            self.firsts = numbers_from("Q", firsts)
            self.owners = numbers_from("I", owners)
            self.directories = [(path, each, flags) for path, each, flags in directories]
            told = sum([each for _, each, _ in self.directories])
            links = [kind for kind in self.kinds if kind in (LINK, LINK_INTO_TREE)]
        except (struct.error, ValueError, TypeError, AttributeError) as error:
            raise BadBatch("a list of entries that can't be read: %s" % error)
        if len(self.names) != count or told != count or len(self.texts) != len(links):
            raise BadBatch("a list whose columns differ in length")
        if len(self.firsts) != self.kinds.count(bytearray((HARD_LINK,))):
            raise BadBatch("a list whose hard links refer to nothing")
        if self.owners and len(self.owners) != 2 * count:
            raise BadBatch("a list whose owners are missing")
        if b"/" in names or not NO_NAMES.isdisjoint(self.names):
            for name in self.names:
                check_name(name)


def numbers_of(code, values):
    """Pack numbers of one kind of ``struct``'s."""
    return binary(struct.pack(">%d%s" % (len(values), code), *values))


def binary(data):
    """Bytes in the form that is sent as bytes: Python 2's own may be sent as text."""
    return bytearray(data) if bytes is str else data


def numbers_from(code, data):
    """What :func:`numbers_of` packed."""
    return struct.unpack(">%d%s" % (len(data) // struct.calcsize(">" + code), code), data)


def check_name(name):
    """Refuse a name that is none, or would lead elsewhere.

    :raises BadBatch: it is refused.
    """
    if name in NO_NAMES or b"/" in name or b"\0" in name:
        raise BadBatch("%r is no name of an entry" % (name,))
