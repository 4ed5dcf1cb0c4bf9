"""The errors of publishing and subscribing, beside those of calls."""

from __future__ import annotations

from pycomnet.errors import ServiceError


class InvalidSubject(ServiceError, ValueError):
    """A subject or pattern is not valid, or exceeds a limit; the message says what was expected."""

    code = "subject"


class SlowSubscriber(ServiceError):
    """The subscription was ended: its bound was reached, and its policy says so."""

    code = "slow-subscriber"


class PublisherGone(ServiceError):
    """The publisher has ended, so an event can't be published."""

    code = "publisher-gone"
