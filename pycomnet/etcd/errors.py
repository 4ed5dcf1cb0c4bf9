"""The errors of the etcd client.

:class:`EtcdUncertain` means that the request may have been executed. After any other error nothing
has changed, with one exception: a renewal of a lease that fails with :class:`EtcdTimeout` or
:class:`EtcdUnavailable` may have been executed, which is harmless.
"""

from __future__ import annotations

from pycomnet.errors import PycomnetError


class EtcdError(PycomnetError):
    """The base class of the client's errors.

    :ivar status: the gRPC status of the reply, or None if there was no reply.
    """

    status: int | None = None


class EtcdUnavailable(EtcdError):
    """No member accepted the request: none is reachable or has a leader. Nothing has changed."""


class EtcdTimeout(EtcdError, TimeoutError):
    """The timeout has passed. Nothing has changed: it was a read, or was never sent."""


class EtcdUncertain(EtcdError):
    """A write was sent and has no reply: it may have been executed, or may be executed later.

    The connection was lost, the timeout has passed, or etcd does not know the outcome (it has lost
    its leader). Read the keys, or repeat a transaction whose compares let it succeed only once.
    """


class EtcdCompacted(EtcdError):
    """etcd no longer has the requested revision.

    :ivar revision: the oldest revision that can be watched, or 0 if the reply does not contain it.
    """

    revision: int = 0


class EtcdRevisionInFuture(EtcdError):
    """The requested revision does not exist yet on this member."""


class EtcdNoSpace(EtcdError):
    """The databases have reached their quota: etcd accepts only reads and deletes."""


class EtcdOverloaded(EtcdError):
    """etcd has too many requests in progress, or the reply is too long. Nothing has changed."""


class EtcdAuthFailed(EtcdError):
    """The user or the password is wrong, or the cluster requires a user and none was given."""


class EtcdPermissionDenied(EtcdError):
    """The user has no permission for the keys."""


class EtcdLeaseNotFound(EtcdError, LookupError):
    """There is no such lease: it has expired, was revoked, or was never granted."""


class EtcdLeaseExists(EtcdError):
    """A lease with this id exists already."""


class EtcdRequestRefused(EtcdError, ValueError):
    """etcd has rejected the request: it is too large, has a key twice, ...; see the message."""


class EtcdProtocolViolation(EtcdError):
    """A member has sent data that are not valid; the client has closed its connection."""


class EtcdClosed(EtcdError):
    """The client is closed."""
