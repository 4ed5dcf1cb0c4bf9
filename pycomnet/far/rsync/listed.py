"""A directory of the other end while its entries come, and an entry as it shall be."""

from .entries import BadBatch


class ListedDirectory(object):
    """What is known of a directory while its entries come.

    :param tree: has it, open.
    :ivar is_open: whether it is open; None where it is not there yet, as nothing is to be changed;
        False if it can't be made or opened.
    :ivar there: the names in it.
    :ivar listed: the names that the other end has.
    :ivar lowered: the same, as bytes, in lower case.
    :ivar folded: their form in which case does not count -> these names; None: not needed so far.
    """

    __slots__ = ("_tree", "folded", "is_open", "listed", "lowered", "path", "there")

    def __init__(self, path, tree, is_open, there=()):
        self.path = path
        self._tree = tree
        self.is_open = is_open
        self.there = frozenset(there)
        self.listed = set()
        self.lowered = set()
        self.folded = None

    @property
    def open(self):
        """It, open, until the tree closes directories next. Other entries may come before that.

        :raises OSError: it can't be opened any more.
        """
        return self._tree.directory(self.path) if self.is_open else None

    def add(self, names):
        """The other end has these names in it, too.

        :raises BadBatch: it has listed one of them before.
        """
        before = len(self.listed)
        self.listed.update(names)
        if len(self.listed) != before + len(names):
            raise BadBatch("a name that is listed twice")

    def path_of(self, name):
        """The path of an entry of it."""
        return self.path + b"/" + name if self.path else name


class TreeEntry(object):
    """An entry as it shall be.

    :ivar directory: its :class:`ListedDirectory`.
    :ivar native: its name, in the system's form.
    :ivar owner: user and group, or None.
    """

    __slots__ = ("directory", "mode", "name", "native", "number", "owner", "time")

    def __init__(self, directory, number, name, native, mode, time, owner):
        self.directory = directory
        self.number = number
        self.name = name
        self.native = native
        self.mode = mode
        self.time = time
        self.owner = owner
