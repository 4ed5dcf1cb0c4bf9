"""Makes text of other processes safe to show: control characters become visible.

A terminal obeys escape sequences, a carriage return overwrites a line, and the controls for
bidirectional text reorder it. So another process's output, or its name, could pretend to be
something else.
"""

from __future__ import annotations

import re
from typing import Any, TextIO

#: C0 but for the tab and the line's end, DEL, C1, what separates lines and paragraphs, and the
#: controls for bidirectional text (Unicode Technical Report 36).
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_LINE_CONTROLS = re.compile(f"{_CONTROLS.pattern[:-1]}\n]")
#: What some programs take for the end of a line, beside ``\n``, if something follows it.
_BREAKS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+(?=.)", re.DOTALL)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def visible(text: str) -> str:
    """Text with its control characters as Python writes them; tabs and ends of lines stay."""
    return _CONTROLS.sub(_escape, text)


def visible_line(text: str) -> str:
    """The same as a single line: ends of lines are made visible, too."""
    return _LINE_CONTROLS.sub(_escape, text)


def prefixed(prefix: str, line: str, terminal: bool) -> str:
    """A line under a prefix that the line can't forge.

    :param line: without its end.
    :param terminal: whether it is for a terminal: then control characters are made visible. Else
        they stay, and the prefix follows whatever a program could take for the end of a line.
    """
    if terminal:
        return prefix + visible(line.removesuffix("\r"))
    if not prefix:
        return line
    return prefix + _BREAKS.sub(lambda found: found[0] + prefix, line)


def message(text: str) -> str:
    """A message of several lines, none of which looks like the beginning of another message.

    For text with another process's output, such as its traceback: lines that look as if they had a
    prefix are indented.
    """
    return re.sub(r"(?m)(?<=\n)(?=\[|pycomnet:)", "  ", visible(text))


def is_terminal(file: Any) -> bool:
    """Whether text goes to a terminal; what stands in for a stream may have ``write`` alone."""
    isatty = getattr(file, "isatty", None)
    return isatty is not None and bool(isatty())


def write_text(file: TextIO, text: str) -> None:
    """Write to a text stream; what that can't encode is shown with backslashes."""
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = getattr(file, "encoding", None) or "ascii"
        file.write(text.encode(encoding, "backslashreplace").decode(encoding))
