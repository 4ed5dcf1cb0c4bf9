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
        """The names of a list that the destination would take for others: name -> reason.

        :param listed: those of the directory's names that are in this list.
        """
        blob = b"\0".join(listed)
        seen = directory.lowered
        before = len(seen)
        seen.update(blob.lower().split(b"\0") if listed else ())
        if directory.folded is None:
            if len(seen) == before + len(listed) and _is_ascii(blob):
                return {}
            directory.folded = {}
            for name in directory.listed.difference(listed):
                directory.folded.setdefault(fold(name), []).append(name)
        groups = [directory.folded.setdefault(fold(name), []) for name in listed]
        for name, group in zip(listed, groups):
            group.append(name)
        if not any([len(group) > 1 for group in groups]) or not self.folds(directory):
            return {}
        refused = {}
        for name, group in zip(listed, groups):
            if len(group) > 1:
                # One of an earlier list is there already; so only the later one is refused.
                shown = [repr(each.decode("utf-8", "replace")).lstrip("u") for each in group]
                refused[name] = "the destination takes these for one name: %s" % ", ".join(shown)
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
