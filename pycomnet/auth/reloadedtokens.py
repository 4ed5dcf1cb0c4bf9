"""The tokens file of a daemon, which is read again when it changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from pycomnet.auth.reloadedfiles import ReloadedFiles
from pycomnet.auth.tokens import IBearerToken, KnownToken, TokenChecker, avatar_id, load_tokens
from pycomnet.text.logs import Logger

log = Logger()

#: Seconds between two checks whether the files have changed. A login checks, too.
POLL_EVERY = 1.0


@implementer(ICredentialsChecker)
class ReloadedTokens(ReloadedFiles[TokenChecker]):
    """The tokens of a tokens file (:func:`~pycomnet.auth.tokens.load_tokens`) and of the files that
    it names.

    A token is withdrawn when its section is gone or has another token. If no section is left, all
    tokens are withdrawn half a minute later. It is used in the reactor's thread only.

    :param path: the file.
    :param known: the keys that a section may have.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(self, path: str | os.PathLike[str], known: Collection[str] = ()) -> None:
        super().__init__()
        self.path = os.path.abspath(os.path.expanduser(path))
        self._known = known
        self._withdrawn: Callable[[frozenset[str]], object] = lambda names: None
        self._polling: LoopingCall | None = None

    def files(self) -> tuple[str, ...]:
        checker = self.latest()
        own = () if checker is None else (one.file for one in checker.tokens.values())
        return (self.path, *(path for path in own if path is not None))

    def read(self) -> TokenChecker:
        return TokenChecker(load_tokens(self.path, self._known))

    def is_empty(self, contents: TokenChecker) -> bool:
        return not contents.tokens

    def refresh(self) -> None:
        before = self.latest()
        super().refresh()
        after = self.latest()
        if before is None or after is None or after is before:
            return
        gone = frozenset(one.name for one in before.tokens.values() if not after.holds(one))
        if gone:
            log.info("the tokens of {names} are withdrawn", names=", ".join(sorted(gone)))
            self._withdrawn(gone)

    def find(self, given: bytes) -> KnownToken | None:
        """The known token that this is, or None.

        A token that was known already is withdrawn only by a change of the tokens file or of its
        own file. So the others are not looked at, however many there are.
        """
        checker = self.latest()
        found = None if checker is None else checker.find(given)
        if found is not None:
            own = () if found.file is None else (found.file,)
            if self.is_unchanged(self.path, *own):
                return found
        return self.current().find(given)

    def requestAvatarId(self, credentials: Any) -> defer.Deferred[bytes | tuple[()]]:
        """As :class:`~twisted.cred.checkers.ICredentialsChecker` has it."""
        return avatar_id(self.find(credentials.token))

    def watch(self, reactor: IReactorTime, withdrawn: Callable[[frozenset[str]], object]) -> None:
        """Check regularly for changes, until :meth:`unwatch`.

        :param withdrawn: called with the names of the users whose tokens are withdrawn, before a
            new token of theirs is accepted.
        """
        self._withdrawn = withdrawn
        self.seconds = reactor.seconds
        self._polling = polling = LoopingCall(self._poll)
        polling.clock = reactor
        polling.start(POLL_EVERY)

    def _poll(self) -> None:
        try:
            self.refresh()
        except Exception:  # of what ends the sessions: the next poll comes all the same
            log.failure("the tokens can't be checked for changes")

    def unwatch(self) -> None:
        """End the checks."""
        if self._polling is not None and self._polling.running:
            self._polling.stop()
