"""Keeps how long a server, or one kind of request to it, has been failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import PycomnetError
from pycomnet.mediator.client.requests import explain

#: Seconds between two checks whether there has been no connection for too long.
LOOK = 1.0


@attrs.define
class Outage:
    """One kind of request that has been failing.

    :ivar since: when it first failed.
    :ivar tries: how often it has failed.
    :ivar problem: the reason for the last failure.
    """

    since: float
    tries: int = 0
    problem: str = "it was never reached"


class Outages:
    """The kinds of requests that have been failing; the kind "" stands for any connection.

    :param url: the server.
    :param limit: seconds that a kind of request may fail.
    :param too_long: called with a message when one has failed for longer.
    """

    def __init__(
        self, url: str, limit: float, too_long: Callable[[str], object], reactor: IReactorTime
    ) -> None:
        self._url = url
        self._limit = limit
        self._too_long = too_long
        self._reactor = reactor
        self._outages = {"": Outage(reactor.seconds())}
        self._looking: Any = None

    def alive(self, way: str = "") -> None:
        """Note that the server has answered.

        :param way: the kind of request that worked. Other kinds may still be failing.
        """
        if self._outages:
            self._outages.pop("", None)
            self._outages.pop(way, None)

    def failed(self, problem: BaseException, way: str = "") -> None:
        """Note that a request has failed. It will be made again.

        :param way: the kind of request. A proxy may reject one kind for ever.
        """
        words = str(problem) if isinstance(problem, PycomnetError) else explain(problem)
        outage = self._outages.setdefault(way, Outage(self._reactor.seconds()))
        outage.tries += 1
        outage.problem = words

    def look(self) -> None:
        """Check whether a kind of request fails for too long, now and from time to time."""
        self._looking = self._reactor.callLater(LOOK, self.look)
        for way, outage in self._outages.items():
            seconds = self._reactor.seconds() - outage.since
            if seconds >= self._limit:
                tries = f"; tried {outage.tries} times" if outage.tries > 1 else ""
                where = f"{self._url} was out of reach for {seconds:.0f} s"
                if way == "websocket":
                    where = f"no WebSocket to {self._url} lasted for {seconds:.0f} s"
                self._too_long(f"{where}: {outage.problem}{tries}")
                return

    def stop(self) -> None:
        """Stop checking."""
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
