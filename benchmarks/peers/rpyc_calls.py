"""rpyc: its threaded server; calls in flight are its asynchronous ones, on one connection."""

from __future__ import annotations

import time
from typing import Any

import calls
import measure
import rpyc
from measure import Amounts
from rpyc.utils.server import ThreadedServer


class Echo(rpyc.Service):
    """The service.

    rpyc hands over a dict as a reference to it, whose every use is a call back. A dict by value is,
    at its fastest, a tuple of its items, of which the other end makes a dict again.
    """

    def exposed_null(self) -> None:
        return None

    def exposed_echo(self, value: Any) -> Any:
        return value

    def exposed_add(self, a: int, b: int) -> int:
        return a + b

    def exposed_echo_items(self, items: Any) -> Any:
        return tuple(dict(items).items())


def serve() -> None:
    server = ThreadedServer(Echo, hostname="127.0.0.1", port=0)
    server._listen()  # or the client may come before start() does it
    calls.announce(str(server.port))
    server.start()


def flight(connection: Any, function: Any, arguments: Any, count: int) -> float:
    """Calls a second with so many under way."""
    start_call = rpyc.async_(function)
    for total in measure.both(count):
        started = done = 0

        def answered(result: Any) -> None:
            nonlocal done
            result.value  # noqa: B018 - raises what the call raised
            done += 1
            begin()

        def begin(total: int = total, answered: Any = answered) -> None:
            nonlocal started
            if started < total:
                started += 1
                start_call(*arguments()).add_callback(answered)

        start = time.perf_counter()
        for _ in range(calls.FLIGHT):
            begin()
        while done < total:
            connection.serve()
        took = time.perf_counter() - start
    return total / took


def run(job: str, amounts: Amounts) -> calls.Figures:
    one, flying = calls.amount(job, amounts)
    with calls.server(__file__) as port:
        connection = rpyc.connect("127.0.0.1", int(port))
        root = connection.root
        if job in ("proxy", "proxy_blocking"):
            add = root.add
            calls.check(add(a=1, b=2), 3)
            took = calls.blocking(lambda: add(a=1, b=2), amounts.calls) * 1e6
            return {"proxy_one": took, "proxy_blocking": took}
        null, echo, echo_items = root.null, root.echo, root.echo_items

        def send_dict() -> dict[str, Any]:
            return dict(echo_items(tuple(calls.SMALL.items())))

        call, function, arguments, wanted = {
            "null": (null, null, tuple, None),
            "dict": (send_dict, echo_items, lambda: (tuple(calls.SMALL.items()),), calls.SMALL),
            "bytes": (lambda: echo(calls.BLOCK), echo, lambda: (calls.BLOCK,), calls.BLOCK),
        }[job]
        calls.check(call(), wanted)
        alone = calls.blocking(call, one)
        return calls.figures(job, alone, flight(connection, function, arguments, flying))


if __name__ == "__main__":
    calls.program(serve, run)
