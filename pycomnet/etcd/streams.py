"""The base class of HTTP/2 streams: one request and its reply."""

from __future__ import annotations

from pycomnet.etcd.headers import Headers

#: Each stream's window: the bytes that a member may send before they are processed.
STREAM_WINDOW = 1 << 20


class Http2Stream:
    """One request and its reply. Subclasses process the reply.

    :ivar id: the stream's id; 0 before the request is sent.
    """

    __slots__ = ("id", "is_ended", "receive_window", "send_window", "unacknowledged", "unsent")

    def __init__(self) -> None:
        self.id = 0
        # These belong to the connection.
        #: whether this end adds no more data to those in ``unsent``
        self.is_ended = False
        #: the data that wait for the member's windows
        self.unsent: bytearray | None = None
        #: the bytes that may still be sent, and received
        self.send_window = 0
        self.receive_window = STREAM_WINDOW
        #: the bytes that were processed, for which no WINDOW_UPDATE was sent yet
        self.unacknowledged = 0

    def headers_received(self, headers: Headers, is_end: bool) -> None:
        """Headers were received: those of the reply, or its trailers."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> bool:
        """Data were received.

        :returns: whether they are processed. If not, call
            :meth:`~pycomnet.etcd.http2.Http2Connection.taken` when they are.
        """
        raise NotImplementedError

    def data_ended(self) -> None:
        """The reply has ended without trailers."""
        raise NotImplementedError

    def lost(self, reason: Exception, was_processed: bool) -> None:
        """The stream was reset, or the connection is lost. No other method is called after this.

        :param was_processed: False if the member has certainly not processed the request.
        """
        raise NotImplementedError

    def going_away(self) -> None:
        """The member closes the connection once all requests have their replies. A stream without
        an end has to move to another connection now.
        """
