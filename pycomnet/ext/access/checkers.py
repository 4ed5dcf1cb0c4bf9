"""Checkers of credentials: the base of this package's checkers, and how checkers of other libraries
are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.auth.principal import Principal
from pycomnet.auth.tokens import IBearerToken
from pycomnet.ext.access.messages import IClientCertificate, IPeerUser, is_name

#: The kind of credentials of each interface of twisted.cred.
KIND_OF = {
    IUsernamePassword: "password",
    IBearerToken: "token",
    IClientCertificate: "certificate",
    IPeerUser: "peer",
}
#: Runs a function in a thread.
RunInThread = Callable[[Callable[[], Any]], "defer.Deferred[Any]"]


class CheckLater(Exception):
    """A checker can't decide yet whether credentials are right: the client is to try again."""


@attrs.frozen
class Login:
    """A user whom a checker has accepted.

    :ivar stamp: the data that the checker used: when the checker has another stamp for this user,
        the login is over.
    :ivar expires: the time (``time.time()``) at which the login ends by itself, or None.
    """

    user: Principal
    stamp: Any = attrs.field(default=None, repr=False)
    expires: float | None = None


@implementer(ICredentialsChecker)
class Checker:
    """The base of this package's checkers: a checker of twisted.cred that also knows roles.

    Equal checkers count as one: credentials that a rule's checker has accepted are valid for the
    rules of equal checkers as well, and are checked once.

    :cvar blocks: whether :meth:`check` reads files or computes, so that it runs in a thread.
    :cvar changes: whether the credentials that it accepts may change, so that :meth:`refresh` is
        called regularly.
    :ivar version: has a new value after each change of the accepted credentials, whichever call has
        noticed it.
    """

    credentialInterfaces: tuple[Any, ...] = ()
    blocks = True
    changes = False
    version = 0

    def open(self) -> None:
        """Called when a server begins to use it. It may block.

        :raises AccessConfigError: it can't be used.
        """

    def check(self, credentials: Any) -> Login:
        """Check credentials of one of the :attr:`credentialInterfaces`. Called in a thread.

        :raises twisted.cred.error.UnauthorizedLogin: they are not accepted.
        :raises CheckLater: they can't be checked now.
        """
        raise NotImplementedError

    def refresh(self) -> None:
        """Check for changes; after a change :attr:`version` has a new value. Called in a thread."""

    def holds(self, login: Login) -> bool:
        """Whether a login is still valid, as far as is known. Called after a change, and after each
        check, which may have begun before a change. It must not block.
        """
        return True

    def requestAvatarId(self, credentials: Any) -> defer.Deferred[bytes | tuple[()]]:
        """As in :class:`~twisted.cred.checkers.ICredentialsChecker`; it may block.

        :returns: fires with the user's name.
        """
        try:
            return defer.succeed(self.check(credentials).user.name.encode())
        except UnauthorizedLogin:
            return defer.fail(Failure())


class AnyOf:
    """Accepts credentials that any of several checkers accepts. The first of these determines the
    user.

    :param checkers: the checkers.
    """

    def __init__(self, *checkers: Any) -> None:
        if not checkers:
            raise TypeError("AnyOf of no checker accepts nobody: give some")
        self.checkers = flatten(*checkers)


def flatten(*checkers: Any) -> tuple[Any, ...]:
    """The checkers, with those of each :class:`AnyOf` in its place.

    :raises TypeError: one is not a checker.
    """
    found: list[Any] = []
    for one in checkers:
        if isinstance(one, AnyOf):
            found += one.checkers
        elif ICredentialsChecker.providedBy(one):
            found.append(one)
        else:
            raise TypeError(
                f"expected a checker: one of pycomnet.ext.access, or what provides twisted.cred's "
                f"ICredentialsChecker, not {one!r}"
            )
    return tuple(dict.fromkeys(found))


def kinds_of(checker: Any) -> list[str]:
    """The kinds of credentials that a checker takes."""
    return [
        kind
        for kind in dict.fromkeys(KIND_OF.values())
        if any(KIND_OF.get(one) == kind for one in checker.credentialInterfaces)
    ]


def takes(checker: Any, credentials: Any) -> bool:
    """Whether a checker can check these credentials."""
    return any(one.providedBy(credentials) for one in checker.credentialInterfaces)


async def identify(checker: Any, credentials: Any, kind: str, run: RunInThread) -> Login:
    """Ask a checker for the user with these credentials.

    :param kind: the credentials' kind, for a checker that returns only a name.
    :raises twisted.cred.error.UnauthorizedLogin: they are not accepted; or their name, which an
        issuer of tokens or certificates chose, is not one that a user may have.
    """
    if isinstance(checker, Checker):
        if checker.blocks:
            found: Login = await run(lambda: checker.check(credentials))
        else:
            found = checker.check(credentials)
        if not is_name(found.user.name):
            raise UnauthorizedLogin("no user has a name that is long or can't be printed")
        return found
    name = checker.requestAvatarId(credentials)
    if inspect.isawaitable(name):
        name = await name
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str) or not is_name(name):  # twisted.cred's ANONYMOUS is an empty tuple
        raise UnauthorizedLogin("the checker knows no name")
    return Login(Principal(name, how=kind))
