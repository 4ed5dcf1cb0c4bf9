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
        """The names of a list that the destination would take for one: name -> reason.

        Of a name that came in an earlier list of the same directory, only the later one is refused.

        :param listed: the names; they are in the directory's ``listed`` already.
        """
        if not listed:
            return {}
        blob = b"\0".join(listed)
        directory.lowered.update(blob.lower().split(b"\0"))
        if (
            directory.folded is None
            and len(directory.lowered) == len(directory.listed)
            and _is_ascii(blob)
        ):
            return {}
        if directory.folded is None:
            earlier = directory.listed.difference(listed)
            directory.folded = dict([(fold(name), name) for name in earlier])
        found = {}
        for name in listed:
            found.setdefault(fold(name), []).append(name)
        for form, group in found.items():
            if form in directory.folded:
                group.insert(0, directory.folded[form])
            directory.folded[form] = group[0]
        groups = [group for group in found.values() if len(group) > 1]
        if not groups or not self.folds(directory):
            return {}
        refused = {}
        for group in groups:
            shown = ", ".join([repr(name.decode("utf-8", "replace")).lstrip("u") for name in group])
            for name in set(group).intersection(listed):
                refused[name] = "the destination takes these for one name: %s" % shown
        return refused

    def unlike(self, directory, extra):
        """The names among ``extra`` that are not just another form of a listed name."""
        listed = set([fold(name) for name in directory.listed])
        alike = [name for name in extra if fold(name) in listed]
        if alike and self.folds(directory):
            return set(extra).difference(alike)
        return extra

    def folds(self, directory):
        """Whether the file system of a directory folds names."""
        receiver = self._receiver
        try:
            opened = None if receiver.dry_run else directory.open
        except (OSError, IOError):
            opened = None
        if not opened:
            return receiver.flavour.name == "nt"
        device = opened.own_status().st_dev
        if device not in self._known:
            self._known[device] = self._probe(opened)
        return self._known[device]

    def _probe(self, opened):
        native = self._receiver.flavour.native
        base = other_temporary_name()
        # After a kill what is left is known by its name: is_temporary.
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
