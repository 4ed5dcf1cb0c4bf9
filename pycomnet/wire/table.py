"""The channels of a connection: their ids, and how many are open."""

from .frames import MAX_CHANNEL
from .stream import LocalError


class ChannelTable(object):
    """Which channels are open, and which ids have been used.

    :param initiator: whether this end made the connection: then its ids are odd, else even.
    """

    def __init__(self, initiator):
        #: id -> :class:`~.stream.Stream`; unary calls have none (:mod:`~.calls`)
        self.streams = {}
        #: the id of the next channel that this end opens, and the highest that the peer has opened
        self.next_id = 1 if initiator else 2
        self.last_peer_id = 0
        #: what the ids of the peer's channels are modulo 2
        self.peer_parity = 0 if initiator else 1
        #: how many channels are open that this end opened, and how many may be
        self.local_open = 0
        self.local_limit = 0
        #: how many are open that the peer opened
        self.peer_open = 0

    def check_room(self):
        """Check that this end can open another channel.

        :raises LocalError: the peer allows no more, or all ids have been used.
        """
        if self.local_open >= self.local_limit:
            raise LocalError("the peer allows %d open channels" % self.local_limit)
        if self.next_id > MAX_CHANNEL:
            raise LocalError("the connection has used all its channel ids")

    def add(self, stream):
        """Add an open channel."""
        self.streams[stream.id] = stream
        if stream.local:
            self.local_open += 1
        else:
            self.peer_open += 1

    def remove(self, stream):
        """Remove a channel that is over; return whether it was in the table."""
        if self.streams.pop(stream.id, None) is None:
            return False
        if stream.local:
            self.local_open -= 1
        else:
            self.peer_open -= 1
        return True

    def was_opened(self, id):
        """Whether either end has opened a channel with this id, or skipped the id."""
        if id & 1 == self.peer_parity:
            return 0 < id <= self.last_peer_id
        return 0 < id < self.next_id
