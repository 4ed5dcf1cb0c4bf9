"""The errors of the client of NATS."""

from __future__ import annotations

from pycomnet.errors import Overloaded, PycomnetError, TimeoutExpired


class NatsError(PycomnetError):
    """The base of NATS's errors."""


class NatsAddressError(NatsError, ValueError):
    """The addresses or options of servers can't be used; the message says what was expected."""


class NatsUnreachable(NatsError):
    """None of the servers can be reached; the message has each with its reason."""


class NatsAuthFailed(NatsError):
    """The server refuses this client's credentials."""


class NatsProtocolError(NatsError):
    """The server has violated NATS's protocol, or exceeded a limit."""


class NatsClosed(NatsError):
    """The client was closed, or the connection ended before the answer came."""


class NatsBufferFull(NatsError, Overloaded):
    """The buffer of messages that wait to be sent is full: wait for ``when_writable()``."""


class NatsTimeout(NatsError, TimeoutExpired):
    """No answer has come in time."""


class NoResponders(NatsError):
    """Nobody subscribes to the subject that a request was sent to."""


class NatsPermissionDenied(NatsError):
    """The server does not let this user publish or subscribe to a subject.

    :ivar subject: that subject; empty if the server does not say which.
    :ivar publishing: whether it is about publishing.
    """

    def __init__(self, message: str, subject: str = "", publishing: bool = False) -> None:
        super().__init__(message)
        self.subject = subject
        self.publishing = publishing


class JetStreamError(NatsError):
    """JetStream has refused a request.

    :ivar number: JetStream's number of the error, such as 10059 (there is no such stream).
    """

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number
