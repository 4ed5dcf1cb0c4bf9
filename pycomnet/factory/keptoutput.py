"""Keeps the standard error of a far side until a program uses it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import defer

#: The number of kept characters at which the process has to wait.
MAX_SAID = 1 << 16


class KeptOutput:
    """The standard error of a far side that may have no program."""

    def __init__(self) -> None:
        self._text = ""
        self._room: defer.Deferred[None] | None = None

    def keep(self, text: str) -> defer.Deferred[None] | None:
        """Keep some text.

        :returns: None, or a Deferred that fires when there is room for more.
        """
        self._text += text
        if len(self._text) < MAX_SAID:
            return None
        if self._room is None:
            self._room = defer.Deferred()
        return self._room

    def give(self, tell: Callable[[str], object]) -> None:
        """Pass the kept text to a program."""
        if self._text:
            text, self._text = self._text, ""
            tell(text)
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)
