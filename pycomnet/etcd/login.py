"""The user's token. All requests use it, until a member refuses it.

A token of etcd ends if it is not used for some minutes, when a member restarts, and with each
change of users or roles.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pycomnet.etcd.errors import EtcdAuthFailed, EtcdClosed
from pycomnet.etcd.grpc import NO_AUTHENTICATION
from pycomnet.etcd.headers import literal
from pycomnet.etcd.requests import encode_authenticate

#: The method that gives a token.
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class EtcdLogin:
    """A user and its token.

    :param user: the name and the password, or None.
    :param ask: sends an AuthenticateRequest; fires with the token.
    :param got: called when a token has arrived.
    :param refused: called when the user or the password is wrong.
    :param failed: called when the request has failed otherwise.
    :ivar header: the token as an encoded header; None while there is none, empty if none is
        needed.
    """

    def __init__(
        self,
        user: tuple[str, str] | None,
        ask: Callable[[bytes], Deferred[str]],
        got: Callable[[], object],
        refused: Callable[[EtcdAuthFailed], object],
        failed: Callable[[], object],
    ) -> None:
        self._user = user
        self._ask = ask
        self._got = got
        self._refused = refused
        self._failed = failed
        self._is_asking = False
        self.header: bytes | None = None if user is not None else b""

    @property
    def has_user(self) -> bool:
        """Whether there is a user, so that a new token can be requested."""
        return self._user is not None

    def forget(self, header: bytes) -> None:
        """Drop this token, which a member has refused."""
        if self._user is not None and self.header == header:
            self.header = None

    def begin(self) -> None:
        """Request a token, unless a request is in progress."""
        if self._is_asking or self._user is None:
            return
        self._is_asking = True
        self._ask(encode_authenticate(*self._user)).addCallbacks(self._answered, self._no_token)

    def _answered(self, token: str) -> None:
        self._is_asking = False
        self.header = literal(b"token", token.encode(), secret=True)
        self._got()

    def _no_token(self, failure: Failure) -> None:
        self._is_asking = False
        problem = failure.value
        if isinstance(problem, (EtcdClosed, CancelledError)):
            return
        if str(problem) == NO_AUTHENTICATION:
            self.header = b""
            self._got()
        elif isinstance(problem, EtcdAuthFailed):
            self._refused(problem)
        else:
            self._failed()
