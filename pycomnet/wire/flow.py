"""Flow control: charges the peer for what it sends, and gives the credit back."""

from .assembly import Assembly
from .frames import CREDIT, MAX_CREDIT, MIN_FRAGMENT, U32, frame_cost, pack
from .stream import EV_DATA, ProtocolError


class FlowControl(object):
    """Keeps the windows of a connection's channels.

    :param limits: this end's :class:`~.stream.Limits`.
    :param scheduler: takes the CREDIT frames, and the channels that got credit.
    :param fail: called with a :class:`~.stream.ProtocolError` that must not be raised to this end's
        user.
    """

    def __init__(self, limits, scheduler, fail):
        self._limits = limits
        self._scheduler = scheduler
        self._fail = fail

    # -- what the peer sends ---------------------------------------------------------------------

    def charge(self, stream, size):
        """Subtract a frame's cost from the peer's window; return the cost."""
        cost = frame_cost(size)
        stream.window -= cost
        if stream.window < 0:
            self.overrun(stream, stream.window)
        return cost

    def overrun(self, stream, window):
        """Refuse a frame for which there was no credit.

        :param window: the rest of the window: a negative number.
        """
        raise ProtocolError(
            "window",
            "channel %d: %d bytes over its credit (the window is %d)"
            % (stream.id, -window, self._limits.window),
        )

    def data(self, stream, payload, events):
        """Handle a value, or its last fragment, that the reader has not handled itself."""
        if not stream.receiving:
            self.drop(stream, len(payload))
            return
        cost = self.charge(stream, len(payload))
        if stream.partial is None:
            events.append((EV_DATA, stream, payload, cost))
        else:
            self.complete(stream, payload, cost, events)

    def complete(self, stream, payload, cost, events):
        """Handle the last fragment of a value; it has been charged already."""
        partial = stream.partial
        partial.append(payload)
        if partial.size > self._limits.value:
            self._too_long(stream)
        stream.partial = None
        cost += stream.partial_cost
        stream.partial_cost = 0
        # The awaited value is here. A reader of the next one calls demand_read again.
        stream.read_demand = False
        events.append((EV_DATA, stream, partial.finish(), cost))

    def more(self, stream, payload):
        """Handle a MORE frame: a fragment that is not the last."""
        size = len(payload)
        if stream.raw:
            raise ProtocolError("frame", "MORE on the raw channel %d" % stream.id)
        if size < MIN_FRAGMENT:
            raise ProtocolError("frame", "MORE of %d bytes, at least %d" % (size, MIN_FRAGMENT))
        if stream.receiving:
            self.fragment(stream, payload)
        else:
            self.drop(stream, size)

    def fragment(self, stream, payload):
        """Handle a fragment that is not the last.

        Its cost is given back at once while a reader waits for this value: the reader can't take
        any other value of this channel before it.
        """
        cost = self.charge(stream, len(payload))
        partial = stream.partial
        if partial is None:
            stream.partial = partial = Assembly()
        partial.append(payload)
        if partial.size > self._limits.value:
            self._too_long(stream)
        stream.partial_cost += cost
        if stream.read_demand:
            cost = stream.partial_cost + stream.unacked
            stream.partial_cost = 0
            if cost >= stream.half:
                self._give_credit(stream, cost)
                cost = 0
            stream.unacked = cost

    def _too_long(self, stream):
        raise ProtocolError(
            "value", "channel %d: a value over %d bytes" % (stream.id, self._limits.value)
        )

    def drop(self, stream, size):
        """Drop data that nobody will read. The peer may send it only until it has our CLOSE."""
        if stream.ended:
            raise ProtocolError("channel", "data on channel %d after its end" % stream.id)
        self.charge(stream, size)
        if not stream.close_sent:
            credit = self._credit_of_dropped(stream)
            if credit:
                self._give_credit(stream, credit)

    # -- credit for the peer ---------------------------------------------------------------------

    def consumed(self, stream, cost):
        """The user has taken what cost this much: give the credit back, in large portions."""
        unacked = stream.unacked + cost
        if unacked >= stream.half and stream.receiving:
            self._give_credit_quietly(stream, unacked)
            unacked = 0
        stream.unacked = unacked

    def demand_read(self, stream, demand=True):
        """Set whether a reader waits for the next value of this channel."""
        stream.read_demand = demand
        if demand and stream.partial_cost:
            cost = stream.partial_cost
            stream.partial_cost = 0
            self.consumed(stream, cost)

    def release(self, stream):
        """Give back the credit of a channel that is being closed: its data is dropped."""
        credit = self._credit_of_dropped(stream)
        if credit:
            self._give_credit_quietly(stream, credit)

    def _credit_of_dropped(self, stream):
        """The credit to give back on a channel whose CLOSE waits behind queued data.

        It is all that the peer has used, as what it sends is dropped. Otherwise the two ends could
        deadlock: this end's CLOSE waits for credit from the peer's user, who waits for credit to
        send.
        """
        used = self._limits.window - stream.window
        needs_none = stream.ended or self._scheduler.failed is not None
        return used if used >= stream.half and not needs_none else 0

    def _give_credit(self, stream, credit):
        self._scheduler.respond(pack(4, CREDIT, stream.id) + U32.pack(credit))
        stream.window += credit

    def _give_credit_quietly(self, stream, credit):
        # This end's user calls this, so it must not raise: receive_data returns the error.
        try:
            self._give_credit(stream, credit)
        except ProtocolError as error:
            self._fail(error)

    # -- credit from the peer --------------------------------------------------------------------

    def credit_received(self, stream, payload):
        """Handle a CREDIT frame."""
        if len(payload) != 4:
            raise ProtocolError("frame", "CREDIT of %d bytes, not 4" % len(payload))
        stream.credit += U32.unpack(payload)[0]
        if stream.credit > MAX_CREDIT:
            raise ProtocolError("window", "channel %d: credit over %d" % (stream.id, MAX_CREDIT))
        if stream.queue:
            self._scheduler.enqueue(stream)
