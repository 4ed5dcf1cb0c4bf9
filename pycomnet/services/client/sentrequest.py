"""What calls and batches have in common while they wait for the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer
    from pycomnet.services.client.remoteservice import RemoteService


class SentRequest:
    """A request that was sent on a channel of its own, and waits for what the server sends.

    :ivar service: the service that is called.
    :ivar peer: the server.
    :ivar connection: the connection on which the request was sent.
    :ivar expires: the reactor's time of the deadline; None if there is none.
    :ivar id: the channel's id; None before the request is sent, and once the channel is closed.
    :ivar bucket: the deadlines among which this one is; None if there is none.
    """

    __slots__ = ("bucket", "connection", "expires", "id", "peer", "service")

    def __init__(
        self,
        service: RemoteService,
        peer: PooledServer,
        connection: ClientConnection,
        expires: float | None,
    ) -> None:
        self.service = service
        self.peer = peer
        self.connection = connection
        self.expires = expires
        self.id: int | None = None
        self.bucket: dict[Any, None] | None = None

    def consumed(self, cost: int) -> None:
        """Give back the credit for what has arrived, if the channel is still open.

        :param cost: in bytes.
        """
        mux = self.connection.mux
        if cost and self.id in mux.streams:
            mux.consumed(mux.streams[self.id], cost)

    def forget_deadline(self) -> None:
        """It has ended: its deadline does not matter any more."""
        bucket, self.bucket = self.bucket, None
        if bucket is not None:
            bucket.pop(self, None)

    def close(self) -> None:
        """Close the channel: the server cancels what has no result."""
        connection = self.connection
        if self.id is not None and connection.lost is None:
            connection.mux.cancel_call(self.id)
            connection.flush_soon()
        self.id = None
