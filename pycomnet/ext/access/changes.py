"""Polls checkers for changes of the credentials that they accept, and reports each change once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.ext.access.checkers import Checker
from pycomnet.services.threads import MethodThreads
from pycomnet.text.logs import Logger

log = Logger()

#: Threads that read files and fetch keys. A checker that takes long is polled again only when it
#: has finished.
READERS = 4


class ChangeWatch:
    """Watches the checkers of a server.

    A checker may read its files at any time, for a login for example, and several servers may use
    it. So each server compares the checker's :attr:`~pycomnet.ext.access.checkers.Checker.version`
    with the one that it has acted on.

    :param every: seconds between polls.
    :param changed: called with a checker whose accepted credentials have changed.
    :param threads: a thread pool for polls; by default one of its own.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        every: float,
        changed: Callable[[Checker], None],
        threads: Any = None,
    ) -> None:
        self._reactor = reactor
        self._every = every
        self._changed = changed
        self._readers = MethodThreads(reactor, READERS, threads)
        #: checker -> the version that was acted on
        self._acted: dict[Checker, int] = {}
        #: the checkers that are being polled
        self._polling: set[Checker] = set()
        self._timer: Any = None

    def add(self, checker: Checker) -> None:
        """Watch a checker that has been opened."""
        self._acted[checker] = checker.version

    def start(self) -> None:
        """Poll regularly, until :meth:`stop`."""
        if self._timer is None and any(one.changes for one in self._acted):
            self._timer = self._reactor.callLater(self._every, self._poll)

    def stop(self) -> None:
        """Stop polling."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """The server has ended."""
        self.stop()
        self._readers.close()

    def _poll(self) -> None:
        self._timer = None
        self.start()
        for checker in list(self._acted):
            if checker.changes and checker not in self._polling:
                self._polling.add(checker)
                polling = self._readers.run("a poll for changes", checker.refresh)
                polling.addBoth(self._polled, checker)

    def _polled(self, result: Any, checker: Checker) -> None:
        self._polling.discard(checker)
        if result is not None:
            log.failure("{checker} can't be read again", result, checker=type(checker).__name__)
        self.notice()

    def notice(self) -> None:
        """Act on the changes since the last time."""
        for checker, acted in list(self._acted.items()):
            version = checker.version
            if version != acted:
                self._acted[checker] = version
                self._changed(checker)
