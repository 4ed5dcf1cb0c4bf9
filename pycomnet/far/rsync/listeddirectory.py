"""A directory while its entries arrive from the other end, and an entry as it is to be made."""

from .entries import BadBatch
from .files import temporary_names


class ListedDirectory(object):
    """What is known of a directory while its entries come.

    :param tree: the tree that it is in; None where it is not there yet, as nothing is to be
        changed; False if it can't be made or opened.
    :ivar there: the names in it.
    :ivar listed: the names that the other end has.
    :ivar lowered: these with small ASCII letters.
    :ivar folded: form as :func:`.folding.fold` makes it -> the name; None as long as all are ASCII
        and differ.
    """

    __slots__ = ("folded", "listed", "lowered", "path", "there", "tree")

    def __init__(self, path, tree, there=()):
        self.path = path
        self.tree = tree
        self.there = frozenset(there)
        self.listed = set()
        self.lowered = set()
        self.folded = None

    @property
    def open(self):
        """It, open; None or False where it is not there.

        The tree is asked each time: between two entries it may have closed it.

        :raises OSError: it no longer exists.
        """
        return self.tree.directory(self.path) if self.tree else self.tree

    def list(self, listed):
        """These names have come.

        :raises BadBatch: one of them came before: what was made of it could be turned into
            something else.
        """
        before = len(self.listed)
        self.listed.update(listed)
        if len(self.listed) != before + len(listed):
            raise BadBatch("a name is listed twice in the directory %r" % (self.path,))

    def has_left(self, name):
        """Whether something has a temporary name of a file in it: a run may have left that."""
        return any([each in self.there for each in temporary_names(name)])

    def path_of(self, name):
        """The path of an entry of it."""
        return self.path + b"/" + name if self.path else name


class TreeEntry(object):
    """An entry as it shall be.

    :ivar directory: its :class:`ListedDirectory`.
    :ivar native: its name, in the system's form.
    :ivar owner: user and group, or None.
    :ivar compared: the status of the file whose digest was sent, or None.
    """

    __slots__ = ("compared", "directory", "mode", "name", "native", "number", "owner", "time")

    def __init__(self, directory, number, name, native, mode, time, owner):
        self.directory = directory
        self.number = number
        self.name = name
        self.native = native
        self.mode = mode
        self.time = time
        self.owner = owner
        self.compared = None
