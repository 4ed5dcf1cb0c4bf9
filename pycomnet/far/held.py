"""Channels that only the user's code holds."""

try:
    from _weakref import ref  # the package itself imports much more
except ImportError:
    from weakref import ref


class HeldChannel(object):
    """Stands for a channel that only the user's code refers to.

    It passes everything on to the channel while that exists. When nothing refers to the channel any
    more, the link closes it.
    """

    accepted = True

    def __init__(self, channel):
        self.link = channel.link
        self.stream = channel.stream
        self.channel = ref(channel, self._freed)

    def _freed(self, reference):
        self.link.dropped(self.stream)

    def arrived(self, payload, cost):
        channel = self.channel()
        if channel is not None:
            channel.arrived(payload, cost)

    def run_arrived(self, payloads, cost):
        channel = self.channel()
        if channel is not None:
            channel.run_arrived(payloads, cost)

    def peer_ended(self):
        channel = self.channel()
        if channel is not None:
            channel.peer_ended()

    def peer_closed(self, kind, payload):
        channel = self.channel()
        if channel is not None:
            channel.peer_closed(kind, payload)

    def connection_lost(self, reason):
        self.stream.sending = False
        channel = self.channel()
        if channel is not None:
            channel.connection_lost(reason)
