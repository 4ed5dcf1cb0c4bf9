"""Sends a group member's acknowledgements to the publisher, and repeats them if needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot
from pycomnet.errors import CallInterrupted, DeadlineExceeded, Overloaded
from pycomnet.net.backoff import Backoff

#: The most numbers in one acknowledgement.
MOST_ACKNOWLEDGED = 1000
#: Seconds between attempts, at first and at most.
FIRST_RETRY, LONGEST_RETRY = 0.05, 5.0
#: Errors after which another attempt may succeed while the connection lasts.
REFUSED_FOR_NOW = (Overloaded, DeadlineExceeded)


class Acknowledgements:
    """Collects the numbers of processed events, and sends them until the publisher has confirmed
    them.

    The numbers of one reactor turn are sent together. If the publisher is overloaded, they are sent
    again, as long as the stream lasts: otherwise they would count as unacknowledged for ever, and
    the member would get no more events. When the stream is lost, the publisher delivers the
    unconfirmed events again, and they are acknowledged on the new stream.

    :param send: sends numbers; returns a Deferred.
    """

    def __init__(
        self, reactor: IReactorTime, send: Callable[[list[int]], defer.Deferred[Any]]
    ) -> None:
        self._reactor = reactor
        self._send = send
        #: the numbers of this turn, and the Deferreds that wait for their confirmation
        self._numbers: dict[int, None] = {}
        self._noted: OneShot[None] = OneShot()
        self._turn: Any = None
        #: the numbers that were refused for now
        self._refused: list[tuple[list[int], OneShot[None]]] = []
        self._retry: Any = None
        self._backoff = Backoff(reactor, FIRST_RETRY, LONGEST_RETRY)
        #: how many streams were lost before the current one
        self._streams = 0

    def add(self, number: int) -> defer.Deferred[None]:
        """Acknowledge an event.

        :returns: fires when the publisher has confirmed it. Fails with ``CallInterrupted`` if the
            stream is lost before, and as a call does if the publisher refuses it.
        """
        self._numbers[number] = None
        waiting = self._noted.when_fired()
        if len(self._numbers) >= MOST_ACKNOWLEDGED:
            self.flush()
        elif self._turn is None:
            self._turn = self._reactor.callLater(0, self.flush)
        return waiting

    def flush(self) -> None:
        """Send the numbers of this turn."""
        turn, self._turn = self._turn, None
        if turn is not None and turn.active():
            turn.cancel()
        numbers, self._numbers = self._numbers, {}
        noted, self._noted = self._noted, OneShot()
        if numbers:
            self._try(list(numbers), noted)

    def interrupt(self) -> None:
        """Fail all unconfirmed acknowledgements: the stream is lost."""
        self.flush()  # those of this turn fail as well, as there is no connection
        self._streams += 1
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._backoff.reset()
        refused, self._refused = self._refused, []
        for _, noted in refused:
            noted.fail(CallInterrupted("the connection was lost before it was acknowledged"))

    def _try(self, numbers: list[int], noted: OneShot[None]) -> None:
        sent = self._send(numbers)
        sent.addCallbacks(
            self._accepted, self._failed, (noted, len(numbers)), {}, (numbers, noted, self._streams)
        )

    def _accepted(self, result: Any, noted: OneShot[None], count: int) -> None:
        self._backoff.reset()
        if isinstance(result, dict) and result.get("count") == count:
            noted.fire(None)
            return
        text = (
            "the connection was lost after these events came: some may have gone to other members"
        )
        noted.fail(CallInterrupted(text))

    def _failed(
        self, failure: Failure, numbers: list[int], noted: OneShot[None], stream: int
    ) -> None:
        if stream != self._streams or failure.check(*REFUSED_FOR_NOW) is None:
            noted.fail(_error_of(failure))
            return
        self._refused.append((numbers, noted))
        if self._retry is None:
            self._retry = self._reactor.callLater(self._backoff.next_delay(), self._again)

    def _again(self) -> None:
        self._retry = None
        refused, self._refused = self._refused, []
        for numbers, noted in refused:
            self._try(numbers, noted)


def _error_of(failure: Failure) -> BaseException:
    error: BaseException = failure.value  # type: ignore[assignment]
    return error
