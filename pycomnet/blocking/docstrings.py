"""The docstrings of the Deferred API in the words of the blocking API."""

from __future__ import annotations

import inspect
import re

#: Added to the docstring of each function that gets a timeout.
TIMEOUT_FIELD = ":param timeout: seconds; then it is cancelled and raises TimeoutExpired."
#: Phrases of docstrings about Deferreds -> the blocking API's; a blank stands for any space.
WORDS = (
    (":returns: fires( with)?", ":returns:"),
    (": fires with", ": returns"),
    ("fails with", "raises"),
    ("Fails with", "Raises"),
    ("Fires with", "Returns"),
    (", (and|or) with :class:", r", \1 :class:"),
    ("; with None if", "; None if"),
    ("fires after the callbacks: when what they return has fired,", "returns after the callbacks,"),
    (" whose methods return Deferreds", ""),
    ("If it returns a Deferred or a coroutine, the next value waits for", "The next waits for"),
    ("; if it returns a Deferred, the next output waits for that", ", one at a time"),
    ("wait for the Deferreds of ``send`` first", "wait for the ``send`` of other threads first"),
)


def with_field(doc: str | None, field: str) -> str | None:
    """A docstring with one more field."""
    if doc is None:
        return None
    doc = inspect.cleandoc(doc)
    has_fields = re.search(r"^:\w+.*?:", doc, re.MULTILINE)
    return f"{doc}\n{field}" if has_fields else f"{doc}\n\n{field}"


def without_deferreds(doc: str) -> str:
    """A docstring of the Deferred API in the words of this one."""
    for there, here in WORDS:
        doc = re.sub(there.replace(" ", r"\s+"), here, doc)
    return doc


def blocking_docstring(doc: str | None, timeout: bool) -> str | None:
    """The docstring of a function here, from that of the Deferred API; None if it has none.

    :param timeout: whether the function has got a timeout.
    """
    if timeout:
        doc = with_field(doc, TIMEOUT_FIELD)
    return None if doc is None else without_deferreds(inspect.cleandoc(doc))
