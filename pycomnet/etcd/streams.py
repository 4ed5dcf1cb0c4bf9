"""A stream of HTTP/2: one request and its answer."""

from __future__ import annotations

from pycomnet.etcd.headers import Headers

#: The window of each stream: what a member may send before somebody takes it.
STREAM_WINDOW = 1 << 20


class Http2Stream:
    """One request and its answer. Subclasses say what happens with the answer.

    :ivar id: its number; 0 before it is sent.
    """

    __slots__ = ("id", "is_ended", "receive_window", "send_window", "unacknowledged", "unsent")

    def __init__(self) -> None:
        self.id = 0
        #: Of the connection: whether this end has sent all, or has all of it in ``unsent``;
        self.is_ended = False
        #: the data that wait for the member's windows;
        self.unsent: bytearray | None = None
        #: what may still be sent, and received;
        self.send_window = 0
        self.receive_window = STREAM_WINDOW
        #: what was taken, and the member was not told yet.
        self.unacknowledged = 0

    def headers_received(self, headers: Headers, is_end: bool) -> None:
        """Headers came: those of the answer, or (at the end) trailers."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> bool:
        """Data came.

        :returns: whether they are taken; else tell the connection later that they are.
        """
        raise NotImplementedError

    def data_ended(self) -> None:
        """The answer has ended without trailers."""
        raise NotImplementedError

    def lost(self, reason: Exception, was_processed: bool) -> None:
        """There will be no more: the stream was reset, or the connection is lost.

        :param was_processed: False if the member surely has done nothing of the request.
        """
        raise NotImplementedError

    def going_away(self) -> None:
        """The member wants to end the connection, when its requests are answered. A request that
        would go on for ever has to move now.
        """


__all__ = ["STREAM_WINDOW", "Http2Stream"]
