"""Which paths take part: rsync's patterns, as regular expressions.

A path is relative to the root, with ``/``; a directory's ends with one. The first rule that matches
decides; a path that none matches takes part.
"""

import re


def translate(pattern):
    """The regular expression of a pattern, as bytes.

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
    suffix = b"/?"
    if rest[-4:] == b"/***":
        rest = rest[:-4]
        suffix = b"/(?:.*)?"
    elif rest[-1:] == b"/":
        rest = rest[:-1]
        suffix = b"/"
    if not rest:
        raise ValueError("the pattern %r matches nothing" % (pattern,))
    return prefix + _core(rest, pattern) + suffix + b"\\Z"


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

    :param rules: pairs: whether a path that matches takes part, and a regular expression, bytes.
    """

    def __init__(self, rules):
        self.rules = [(bool(takes), bytes(regex)) for takes, regex in rules]
        self._compiled = [(takes, re.compile(regex, re.S).match) for takes, regex in self.rules]

    def takes(self, path):
        """Whether a path takes part.

        :param path: bytes; a directory's ends with ``/``.
        """
        for takes, match in self._compiled:
            if match(path):
                return takes
        return True
