"""How long a server, or one kind of request to it, has been failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pycomnet.errors import PycomnetError
from pycomnet.mediator.client.requests import explain

#: Seconds between two looks whether there has been no connection for too long.
LOOK = 1.0


@attrs.define
class Outage:
    """What has been failing.

    :ivar since: when it first did.
    :ivar tries: how often it has.
    :ivar problem: why, the last time.
    """

    since: float
    tries: int = 0
    problem: str = "it was never reached"


class Outages:
    """What has been failing, by kind; "" is any connection at all.

    :param url: the server.
    :param limit: seconds that something may fail.
    :param too_long: called when something has for longer, with words that say so.
    """

    def __init__(
        self, url: str, limit: float, too_long: Callable[[str], object], reactor: Any
    ) -> None:
        self._url = url
        self._limit = limit
        self._too_long = too_long
        self._reactor = reactor
        self._outages = {"": Outage(reactor.seconds())}
        self._looking: Any = None

    def alive(self, way: str = "") -> None:
        """The server has answered.

        :param way: what it did; that other things fail may go on.
        """
        if self._outages:
            self._outages.pop("", None)
            self._outages.pop(way, None)

    def failed(self, problem: BaseException, way: str = "") -> None:
        """A request has failed, and will be made again.

        :param way: what it was for. A proxy may answer one kind of request for ever by itself.
        """
        words = str(problem) if isinstance(problem, PycomnetError) else explain(problem)
        outage = self._outages.setdefault(way, Outage(self._reactor.seconds()))
        outage.tries += 1
        outage.problem = words

    def look(self) -> None:
        """See whether something fails for too long, now and from time to time."""
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
        """Look no more."""
        if self._looking is not None and self._looking.active():
            self._looking.cancel()
