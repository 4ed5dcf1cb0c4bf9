"""What precedes a far side's hello: the bootstrap message, and the preamble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.far.preamble import TOO_LONG, Preamble, died_early


class AfterMarker(Protocol):
    """Waits for the marker that a far side prints first, then hands its transport over.

    The preamble, which a login banner, a shell's profile or ``sitecustomize`` prints before that,
    is shown. It is also kept for the error, in case the marker never comes.

    :param connection: the connection that gets the transport.
    :param output: called with the preamble, str, when the marker has come.
    :param bootstrap_message: the first bytes for the far side. The connection then begins with the
        marker, as it may take long to reach the far side; without such a message it may write at
        once.
    """

    def __init__(
        self,
        connection: Any,
        output: Callable[[str], Any] = lambda text: None,
        bootstrap_message: bytes = b"",
    ) -> None:
        self._connection = connection
        self._output = output
        self._bootstrap_message = bootstrap_message
        self._preamble = Preamble()

    @property
    def begun(self) -> bool:
        """Whether the marker has come, so that further output is the far side's own."""
        return self._preamble.begun

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if self._bootstrap_message:
            transport.write(self._bootstrap_message)
        else:
            self._connection.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        after = self._preamble.feed(data)
        if after is None:
            if self._preamble.too_long:
                transport.abortConnection()
            return
        text = self._preamble.text()
        if text:
            self._output(text + "\n")
        transport.hand_over(self._connection)
        if self._bootstrap_message:
            self._connection.makeConnection(transport)
        if after:
            self._connection.dataReceived(after)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connection.connectionLost(reason)

    def describe_end(self, words: str) -> str:
        """How the far side ended, with its output if there was no marker.

        :param words: how it ended, as far as that is known.
        """
        if self.begun:
            return words
        if self._preamble.too_long:
            words = TOO_LONG
        return died_early(words, self._preamble.text())
