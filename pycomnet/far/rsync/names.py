"""What differs between systems: the names that they can have, their paths, and their links.

The table in docs/architecture/rsync.rst says what is decided here, and why.
"""

from __future__ import unicode_literals

import os
import stat
import sys

#: Characters that Windows takes in no name, beside those below the blank.
NT_REFUSED = '<>:"/\\|?*'
_DEVICES = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
_NUMBERS = "123456789\u00b9\u00b2\u00b3"
#: Names that are devices on Windows, in every directory and with any ending.
NT_DEVICES = frozenset(_DEVICES + [name + number for name in ("COM", "LPT") for number in _NUMBERS])
#: The privilege that Windows asks for before it makes a link.
NT_NO_PRIVILEGE = 1314
#: ``st_reparse_tag`` of a junction.
NT_JUNCTION = 0xA0000003
#: The attribute of a file that is a link, a junction, or the like.
NT_REPARSE_POINT = 0x400
NT_LONG = "\\\\?\\"


class NameRefused(Exception):
    """A name that this system can't have; the message says why."""


class Posix(object):
    """Names are bytes. Nothing but ``/`` and NUL is refused."""

    name = "posix"
    #: whether modes can be set
    modes = True
    #: whether a name that is listed is the one that opens the file
    is_exact = True

    def native(self, name):
        """The form of a name or a path for this system's functions.

        :raises NameRefused: this system can't have it.
        """
        return name

    def root(self, path):
        """The form of the path of the root, which the user has named."""
        return self.native(path)

    def wire(self, name):
        """The form on the wire of what :meth:`native` makes."""
        return name

    def long(self, path):
        """A path in the form that may have any length."""
        return path

    def link_text(self, text):
        """The text of a link, for this system's ``symlink``."""
        return text

    def text_of(self, link):
        """A link's text as ``readlink`` returns it, in the form on the wire."""
        return link

    def is_link(self, status):
        """Whether it is a link of any kind: what must not be entered."""
        return stat.S_ISLNK(status.st_mode)

    def link_remedy(self, error):
        """What to do about a link that could not be made; None if that is the error's own."""
        return None


class Unicode(Posix):
    """POSIX where names are text: Jython."""

    def native(self, name):
        """Text; the wire's bytes have to be UTF-8."""
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NameRefused(
                "byte %d of the name is not UTF-8, and this Python has names in UTF-8 only"
                % error.start
            )

    def wire(self, name):
        """UTF-8."""
        return name.encode("utf-8") if not isinstance(name, bytes) or bytes is str else name

    link_text = native
    text_of = wire


class Nt(Unicode):
    """Windows: names are text without some characters, some are devices, and links need a right."""

    name = "nt"
    modes = False
    is_exact = False

    def native(self, name):
        """Text, if Windows can have the name.

        :raises NameRefused: it can't; the message has the character and its position.
        """
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NameRefused("byte %d of the name is not UTF-8" % error.start)
        for part in text.split("/"):
            self._check(part)
        return text.replace("/", "\\")

    def root(self, path):
        """With a drive, perhaps: its names are not checked."""
        return path.decode("utf-8").replace("/", "\\")

    def _check(self, name):
        for place, character in enumerate(name):
            if character in NT_REFUSED or character < " ":
                raise NameRefused(
                    "Windows has no names with %s (character %d)" % (_shown(character), place + 1)
                )
        if name not in ("", ".", "..") and name[-1] in ". ":
            raise NameRefused(
                "Windows has no names that end in %s (character %d)" % (_shown(name[-1]), len(name))
            )
        base = name.partition(".")[0].rstrip(" ").upper()
        if base in NT_DEVICES:
            raise NameRefused(
                "%s is a device on Windows, with any ending (characters 1 to %d)"
                % (str(base.encode("ascii", "backslashreplace").decode("ascii")), len(base))
            )

    def wire(self, name):
        """UTF-8, with ``/``. Half of a surrogate pair, which Windows allows, is not UTF-8: nothing
        else than such a name itself has its bytes.
        """
        name = name.replace("\\", "/")
        try:
            return name.encode("utf-8")
        except UnicodeEncodeError:
            return name.encode("utf-8", "surrogatepass")

    def long(self, path):
        """With the prefix that lifts the limit of 260 characters."""
        if path.startswith(NT_LONG):
            return path
        if path.startswith("\\\\"):
            return NT_LONG + "UNC" + path[1:]
        return NT_LONG + path

    def link_text(self, text):
        """With backslashes: Windows does not follow others. The names in it are not checked."""
        try:
            return text.decode("utf-8").replace("/", "\\")
        except UnicodeDecodeError as error:
            raise NameRefused("byte %d of the link's text is not UTF-8" % error.start)

    def text_of(self, link):
        """Without the prefix that ``readlink`` puts in front, and with ``/``."""
        if link.startswith(NT_LONG + "UNC\\"):
            link = "\\" + link[len(NT_LONG) + 3 :]
        elif link.startswith(NT_LONG):
            link = link[len(NT_LONG) :]
        return link.replace("\\", "/").encode("utf-8")

    def is_link(self, status):
        """A link or a junction.

        Before Python 3.8 the kind of a reparse point is not known, so it is taken for one: else
        what a junction leads to could be deleted.
        """
        if stat.S_ISLNK(status.st_mode):
            return True
        if hasattr(status, "st_reparse_tag"):
            return status.st_reparse_tag == NT_JUNCTION
        return bool(getattr(status, "st_file_attributes", 0) & NT_REPARSE_POINT)

    def link_remedy(self, error):
        """The remedy where the right to make links is missing."""
        if getattr(error, "winerror", None) == NT_NO_PRIVILEGE:
            return (
                "this user may not make links: turn on Windows' developer mode, run as an "
                "administrator, or copy what links point to (links='copy')"
            )
        return None


def _shown(character):
    if character < " " or character > "~":
        return "the character U+%04X" % ord(character)
    return str("'%s'" % character)


def of_this_system():
    """The flavour of the system that this runs on."""
    if os.name == "nt":
        return Nt()
    if sys.platform.startswith("java"):
        return Unicode()
    return Posix()
