"""The errors of the etcd client.

A caller has to distinguish these first: :class:`EtcdUncertain` means that the request may have been
executed. After every other error nothing has changed; but a renewal of a lease that fails with
:class:`EtcdTimeout` or :class:`EtcdUnavailable` may have been done: doing it twice does no harm.
"""

from __future__ import annotations

from pycomnet.errors import PycomnetError


class EtcdError(PycomnetError):
    """The root of the client's errors.

    :ivar status: the gRPC status of the answer, or None if there was no answer.
    """

    status: int | None = None


class EtcdUnavailable(EtcdError):
    """No member could take the request: none is reachable or has a leader. Nothing changed."""


class EtcdTimeout(EtcdError, TimeoutError):
    """The time is over and nothing changed: it was a read, or the request was never sent."""


class EtcdUncertain(EtcdError):
    """A write was sent, and its answer never came: it may have been executed, or may be still.

    The connection was lost, the time is over, or etcd itself does not know the outcome (a leader
    was lost). Read, or repeat a transaction that can be executed just once.
    """


class EtcdCompacted(EtcdError):
    """The revision that was asked for is no longer kept.

    :ivar revision: the oldest revision that can be watched, or 0 if the answer does not have it.
    """

    revision: int = 0


class EtcdRevisionInFuture(EtcdError):
    """The revision that was asked for does not exist yet, at this member's view of the store."""


class EtcdNoSpace(EtcdError):
    """The members' databases have reached their quota: only reads and deletes are accepted."""


class EtcdOverloaded(EtcdError):
    """etcd has too many requests in progress, or the answer is over its limits. Nothing changed."""


class EtcdAuthFailed(EtcdError):
    """The user or the password is wrong, or the cluster wants a user and none was given."""


class EtcdPermissionDenied(EtcdError):
    """The user has no permission for the keys."""


class EtcdLeaseNotFound(EtcdError, LookupError):
    """There is no such lease: it has expired, was revoked, or never was."""


class EtcdLeaseExists(EtcdError):
    """There is a lease of that id already."""


class EtcdRequestRefused(EtcdError, ValueError):
    """The request is not valid: too large, too many operations, a key twice; see the message."""


class EtcdProtocolViolation(EtcdError):
    """A member sent what is no HTTP/2, gRPC or etcd; its connection was closed."""


class EtcdClosed(EtcdError):
    """The client is closed."""


__all__ = [
    "EtcdAuthFailed",
    "EtcdClosed",
    "EtcdCompacted",
    "EtcdError",
    "EtcdLeaseExists",
    "EtcdLeaseNotFound",
    "EtcdNoSpace",
    "EtcdOverloaded",
    "EtcdPermissionDenied",
    "EtcdProtocolViolation",
    "EtcdRequestRefused",
    "EtcdRevisionInFuture",
    "EtcdTimeout",
    "EtcdUnavailable",
    "EtcdUncertain",
]
