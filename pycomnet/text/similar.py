"""Suggests the known name that is most similar to a misspelt one, for the text of an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from pycomnet.text.printable import visible_line

#: How similar a name has to be to be suggested, from 0 to 1: as in :mod:`difflib`.
SIMILAR = 0.6
#: Longer names are not compared, and no more than so many: the time grows with the square of a
#: length, and another process may have chosen the names.
LONGEST = 200
MOST = 10_000


def most_similar(word: object, known: Iterable[str], similar: float = SIMILAR) -> str | None:
    """The known name that is most similar to a word, in any case; or whose last part is the word,
    as ``calc`` of ``org.example.calc``. None if there is none.

    :param similar: how similar it has to be.
    """
    wanted = str(word).lower()
    if len(wanted) > LONGEST:
        return None
    names = {name.lower(): name for name in islice(known, MOST) if len(name) <= LONGEST}
    found = difflib.get_close_matches(wanted, names, 1, similar)
    found = found or [name for name in names if name.rpartition(".")[2] == wanted]
    return names[found[0]] if found else None


def suggestion(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'call'?``; an empty text if no known name is similar."""
    found = most_similar(word, known)
    return "" if found is None else f"; did you mean {visible_line(found)!r}?"


def suggestion_or_all(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'call'?``; ``; there are: call, run`` if no known name is similar."""
    names = list(known)
    return suggestion(word, names) or f"; there are: {visible_line(', '.join(names))}"
