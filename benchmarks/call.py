"""Where a call's microseconds go: what the client and the server each take, without a network.

``python benchmarks/call.py`` prints, for calls of which 64 are in flight, the quickest of many
turns; ``--profile`` adds what they consist of, by cProfile (which makes small functions look larger
than they are).
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "peers")]

import calls  # noqa: E402
from pycomnet_calls import JOBS, NAME, Echo  # noqa: E402
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse  # noqa: E402
from twisted.internet import defer  # noqa: E402
from twisted.internet.abstract import FileDescriptor  # noqa: E402
from twisted.internet.address import IPv4Address  # noqa: E402
from twisted.internet.task import Clock  # noqa: E402

from pycomnet.ext import access  # noqa: E402
from pycomnet.ext.access.rules import Rule  # noqa: E402
from pycomnet.services.client.context import Context  # noqa: E402
from pycomnet.services.server.server import ServiceServer  # noqa: E402

TURNS = 2000


class Wire(FileDescriptor):
    """A transport that keeps what is written to it."""

    connected = 1

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._written: list[bytes] = []

    def writeSomeData(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)

    getHost = getPeer

    def take(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data


class Ends:
    """A client and a server, joined in memory, with calls of a job going on for ever.

    :param rule: the service has an access rule, and the client has logged in: ``"all"``, and may
        call all methods; ``"part"``, and may not call one of them.
    """

    def __init__(self, job: str, rule: str | None = None) -> None:
        self.clock: Any = Clock()
        service: Any = Echo
        control = credentials = None
        if rule is not None:
            users = InMemoryUsernamePasswordDatabaseDontUse(alice=b"a password")
            service = access.auth(users)(type("Guarded", (Echo,), {}))
            credentials = access.Password("alice", "a password")
            rules = {(NAME, "introspect"): Rule((users,), roles=frozenset({"admin"}))}
            control = access.AccessControl(self.clock, rules=rules if rule == "part" else {})
        self._server = ServiceServer(self.clock, access=control)
        self._server.add(service())
        context = Context(self.clock, credentials=credentials)
        self.client_wire, self.server_wire = Wire(self.clock), Wire(self.clock)
        self.clock.connectTCP = self._connect
        self.server = self._server.connected()
        assert self.server is not None
        connecting = context.connect("tcp:127.0.0.1:1", NAME)
        self.clock.advance(0)
        self.server.makeConnection(self.server_wire)
        for _ in range(8):
            self.turn()
        remote: Any = connecting.result
        method, args = JOBS[job]

        async def caller() -> None:
            while True:
                await remote.invoke(method, args)

        for _ in range(calls.FLIGHT):
            defer.Deferred.fromCoroutine(caller())
        self.clock.advance(0)

    def _connect(self, host: str, port: int, factory: Any, *args: Any, **kwargs: Any) -> None:
        self.client = factory.buildProtocol(IPv4Address("TCP", host, port))
        self.client.makeConnection(self.client_wire)

    def turn(self) -> tuple[float, float]:
        """What each side has written is read by the other; the seconds of client and server."""
        times = []
        for source, reader in (
            (self.client_wire, self.server),
            (self.server_wire, self.client),
        ):
            data = source.take()
            start = time.perf_counter()
            if data:
                reader.dataReceived(data)
            self.clock.advance(0)
            times.append(time.perf_counter() - start)
        server, client = times
        return client, server


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="profile the null call")
    options = parser.parse_args()
    print(f"{'':20} {'client':>8} {'server':>8}")
    rows = {
        "null call": Ends("null"),
        "... with a rule": Ends("null", "all"),
        "... allowed a part": Ends("null", "part"),
        "small dict echoed": Ends("dict"),
    }
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(TURNS):  # in turns, so that a busy machine is busy for all of them
        for name, ends in rows.items():
            turns[name].append(ends.turn())
    for name, found in turns.items():
        shown = (min(times) / calls.FLIGHT * 1e6 for times in zip(*found, strict=True))
        print(f"{name:20} " + " ".join(f"{each:5.2f} us" for each in shown))
    if options.profile:
        ends = Ends("null")
        profile = cProfile.Profile()
        profile.runcall(lambda: [ends.turn() for _ in range(TURNS // 5)])
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
