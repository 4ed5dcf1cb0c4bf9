"""Channels that only the user's code holds."""

try:
    from _weakref import ref  # the package itself imports much more
except ImportError:
    from weakref import ref


class HeldChannel(object):
    """Stands for a channel that only the user's code holds: when nobody does, the link closes it.

    It is asked what the channel is while there is one.
    """

    _claimed = True

    def __init__(self, channel):
        self._link = channel._link
        self._stream = channel._stream
        self.channel = ref(channel, self._freed)

    def _freed(self, reference):
        self._link.dropped(self._stream)

    def _arrived(self, payload, cost):
        channel = self.channel()
        if channel is not None:
            channel._arrived(payload, cost)

    def _run_arrived(self, payloads, cost):
        channel = self.channel()
        if channel is not None:
            channel._run_arrived(payloads, cost)

    def _ended(self):
        channel = self.channel()
        if channel is not None:
            channel._ended()

    def _closed(self, kind, payload):
        channel = self.channel()
        if channel is not None:
            channel._closed(kind, payload)

    def _lost(self, reason):
        self._stream.sending = False
        channel = self.channel()
        if channel is not None:
            channel._lost(reason)


__all__ = ["HeldChannel"]
