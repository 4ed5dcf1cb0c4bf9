"""Finds a destination that lies in the source, or the source in it: a run would feed itself.

Directories are compared by device and inode, so it does not matter by which path or link each end
knows them, nor whether an end is in a container, as long as both are on one kernel.
"""

import os
import sys

from .entries import BadBatch, binary


def machine():
    """The kernel that numbers the devices here; empty if nothing tells it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode("ascii").strip()
    except (IOError, OSError, ValueError):
        pass
    try:
        return os.uname()[1]
    except (AttributeError, OSError):
        return os.environ.get("COMPUTERNAME", "")


def place_of(path):
    """Where a directory is: the machine; and for it, and each directory above it, the name and the
    device and inode, which are empty if it is not there yet.

    :param path: in the system's form.
    """
    path = os.path.realpath(path)
    levels = []
    while True:
        above, name = os.path.split(path)
        try:
            status = os.stat(path)
            which = "%d:%d" % (status.st_dev, status.st_ino) if status.st_ino else ""
        except (IOError, OSError):
            which = ""
        levels.append([binary(_encode(name)), which])
        if above == path:
            return [machine(), levels]
        path = above


def _encode(name):
    if isinstance(name, bytes):
        return name
    return name.encode(sys.getfilesystemencoding() or "utf-8", "replace")


def refuse_nested(source, path, takes):
    """Refuse a destination that is the source, lies in it, or has it in it.

    It is none of these if it is excluded: then it is neither sent nor deleted.

    :param source: the source's place.
    :param path: the destination's path.
    :param takes: path relative to the root, bytes -> whether it takes part; a directory's path ends
        with ``/``.
    :raises OSError: it is refused.
    :raises BadBatch: the source's place is none.
    """
    there, levels = _checked(source)
    here, ours = place_of(path)
    if not there or there != here:
        return
    found = _level_of(levels[0][1], ours)
    if found == 0:
        raise OSError(None, "the destination is the source itself")
    if found is not None:
        what = "the destination lies in the source, as %r: exclude %r"
        words = "it would be sent into itself"
    else:
        found, ours = _level_of(ours[0][1], levels), levels
        if found is None:
            return
        what = "the source lies in the destination, as %r: exclude %r"
        words = "the run could change or delete it"
    inside = [bytes(name) for name, _ in ours[:found]]
    inside.reverse()
    for count in range(1, len(inside) + 1):
        if not takes(b"/".join(inside[:count]) + b"/"):
            return
    shown = b"/".join(inside).decode("utf-8", "replace")
    if str is bytes:
        shown = shown.encode("utf-8")
    raise OSError(None, (what + ", or %s") % (shown, "/%s/" % shown, words))


def _checked(source):
    """A place as the other end has sent it.

    :raises BadBatch: it is none.
    """
    try:
        there, levels = source
        for name, which in levels:
            if not isinstance(name, (bytes, bytearray)) or not hasattr(which, "encode"):
                raise ValueError
    except (TypeError, ValueError):
        levels = []
    if not levels:
        raise BadBatch("the source's place is none")
    return there, levels


def _level_of(which, levels):
    """How far above the first one a directory is, or None."""
    if which:
        for number, (_, other) in enumerate(levels):
            if other == which:
                return number
    return None
