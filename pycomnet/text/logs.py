"""The logger of all modules: text of peers in an event can't forge a line of the log."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel

from pycomnet.text.printable import visible_line
from twisted import logger


class Logger(logger.Logger):
    """A :class:`twisted.logger.Logger` that makes control characters in an event's fields visible.

    Others choose ids and the names of peers and users. In a text log, a newline in one of these
    would begin a line that looks like another event.
    """

    def emit(self, level: Any, format: str | None = None, **kwargs: object) -> None:
        # What begins with log_ is Twisted's own: a Failure, which is an exception, too.
        shown = {
            key: value if key.startswith("log_") else _shown(value) for key, value in kwargs.items()
        }
        super().emit(level, format, **shown)


def _shown(value: object) -> object:
    if isinstance(value, str):
        return visible_line(value)
    if isinstance(value, BaseException):
        # Only the text where it has to be: other observers may want the exception.
        try:
            text = str(value)
        except Exception:
            return f"{type(value).__name__} (its __str__ raises)"
        shown = visible_line(text)
        return value if shown == text else shown
    return value


__all__ = ["LogLevel", "Logger"]
