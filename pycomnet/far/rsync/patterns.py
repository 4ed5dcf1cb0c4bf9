"""Which paths take part: rsync's patterns, as regular expressions.

A path is relative to the root, with ``/``. The first rule that matches decides; a path that none
matches takes part.
"""

import re


def translate(pattern):
    """The regular expressions of a pattern: pairs of one, bytes, and whether it matches directories
    only.

    :param pattern: as rsync's: ``/`` in front anchors it to the root; ``/`` at its end means
        directories only; with another ``/`` or a ``**`` in it the whole path counts, else the last
        name; ``*`` and ``?`` stop at ``/``, and ``**`` does not; a trailing ``/***`` means the
        directory and all that is in it; ``[...]`` and a backslash as in a shell.
    :raises ValueError: it is empty, or a bracket is not closed.
    """
    rest = pattern
    if rest[:1] == b"/":
        rest = rest[1:]
        prefix = b""
    else:
        prefix = b"(?:.*/)?"
        if rest[:3] == b"**/":
            rest = rest[3:]  # it matches in the root, too
    with_content = rest[-4:] == b"/***"
    if with_content:
        rest = rest[:-3]
    directories = rest[-1:] == b"/"
    if directories:
        rest = rest[:-1]
    if not rest:
        raise ValueError("the pattern %r matches nothing" % (pattern,))
    regex = prefix + _core(rest, pattern)
    found = [(regex + b"\\Z", directories)]
    if with_content:
        found.append((regex + b"/.*\\Z", False))
    return found


def _core(rest, pattern):
    made = []
    at = 0
    while at < len(rest):
        one = rest[at : at + 1]
        if one == b"*":
            if rest[at : at + 2] == b"**":
                made.append(b".*")
                at += 2
            else:
                made.append(b"[^/]*")
                at += 1
            while rest[at : at + 1] == b"*":
                at += 1
            continue
        if one == b"?":
            made.append(b"[^/]")
        elif one == b"[":
            end = rest.find(b"]", at + 3 if rest[at + 1 : at + 2] in (b"!", b"^") else at + 2)
            if end < 0:
                raise ValueError("the bracket of the pattern %r is not closed" % (pattern,))
            inside = rest[at + 1 : end].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
            if inside[:1] in (b"!", b"^"):
                inside = b"^/" + inside[1:]
            made.append(b"[" + inside + b"]")
            at = end
        elif one == b"\\" and at + 1 < len(rest):
            at += 1
            made.append(re.escape(rest[at : at + 1]))
        else:
            made.append(re.escape(one))
        at += 1
    return b"".join(made)


class Filter(object):
    """Rules in order.

    :param rules: triples: whether a path that matches takes part; a regular expression, bytes; and
        whether it is for directories only.
    """

    def __init__(self, rules):
        self._rules = [
            (bool(takes), re.compile(bytes(regex), re.S).match, directories)
            for takes, regex, directories in rules
        ]

    def takes(self, path):
        """Whether a path takes part.

        :param path: bytes; a directory's ends with ``/``.
        """
        is_directory = path[-1:] == b"/"
        if is_directory:
            path = path[:-1]
        for takes, match, directories in self._rules:
            if (is_directory or not directories) and match(path):
                return takes
        return True
