"""Names that are one name where the destination folds case, or forms of Unicode."""

import os
import unicodedata

from .files import other_temporary_name


def fold(name):
    """The form in which names are compared that a system may take for one."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return name
    text = unicodedata.normalize("NFC", text).lower()
    return unicodedata.normalize("NFC", text)


class Folding(object):
    """Finds out whether a destination folds names, where that matters.

    :param receiver: the receiver.
    """

    def __init__(self, receiver):
        self._receiver = receiver
        #: device -> whether it folds
        self._known = {}

    def conflicts(self, directory, listed):
        """The names of one directory that the destination would take for one: name -> reason."""
        blob = b"\0".join(listed)
        lowered = blob.lower()
        if len(set(lowered.split(b"\0"))) == len(listed) and _is_ascii(blob):
            return {}
        found = {}
        for name in listed:
            found.setdefault(fold(name), []).append(name)
        groups = [group for group in found.values() if len(group) > 1]
        if not groups or not self.folds(directory):
            return {}
        refused = {}
        for group in groups:
            shown = ", ".join([repr(name.decode("utf-8", "replace")).lstrip("u") for name in group])
            for name in group:
                refused[name] = "the destination takes these for one name: %s" % shown
        return refused

    def unlike(self, directory, extra):
        """Those of the names that are here only that are no other form of a listed one."""
        listed = set([fold(name) for name in directory.listed])
        alike = [name for name in extra if fold(name) in listed]
        if alike and self.folds(directory):
            return set(extra).difference(alike)
        return extra

    def folds(self, directory):
        """Whether the file system of a directory folds names."""
        receiver = self._receiver
        if not directory.is_open or receiver.dry_run:
            return receiver.flavour.name == "nt"
        try:
            opened = directory.open
        except (OSError, IOError):
            return False  # all that is in it fails
        device = opened.own_status().st_dev
        if device not in self._known:
            self._known[device] = self._probe(opened)
        return self._known[device]

    def _probe(self, opened):
        native = self._receiver.flavour.native
        base = other_temporary_name()
        for made, other in ((b"A", b"a"), (b"\xc3\xa9", b"e\xcc\x81")):
            name = native(base + made)
            try:
                os.close(opened.create(name))
            except OSError:
                continue
            try:
                if opened.status(native(base + other)) is not None:
                    return True
            finally:
                opened.remove(name)
        return False


def _is_ascii(data):
    try:
        data.decode("ascii")
    except UnicodeDecodeError:
        return False
    return True
