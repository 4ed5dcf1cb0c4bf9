"""Twisted's AMP on the epoll reactor, with typed arguments."""

from __future__ import annotations

from typing import Any

import calls
import measure
from measure import Amounts
from twisted.internet import endpoints, epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols import amp

#: AMP's values are at most 65 535 bytes long, and so a megabyte is cut into arguments.
PIECE = 65_000
PIECES = [f"p{number}" for number in range(-(-len(calls.BLOCK) // PIECE))]
_BLOCK = [(name.encode(), amp.String()) for name in PIECES]
_DICT = [
    (b"id", amp.Integer()),
    (b"name", amp.Unicode()),
    (b"score", amp.Float()),
    (b"ok", amp.Boolean()),
]


class Null(amp.Command):
    """No arguments, no answer."""


class EchoDict(amp.Command):
    """A small dict: its keys are the arguments."""

    arguments = response = _DICT


class EchoBlock(amp.Command):
    """A megabyte, in pieces."""

    arguments = response = _BLOCK


class Echo(amp.AMP):
    """The service."""

    @Null.responder
    def null(self) -> dict[str, Any]:
        return {}

    @EchoDict.responder
    def echo_dict(self, **value: Any) -> dict[str, Any]:
        return value

    @EchoBlock.responder
    def echo_block(self, **pieces: bytes) -> dict[str, bytes]:
        return pieces


def serve() -> None:
    epollreactor.install()

    async def main(reactor: Any) -> None:
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Echo))
        calls.announce(str(port.getHost().port))
        await Deferred()

    react(main)


def _block(pieces: dict[str, bytes]) -> bytes:
    return b"".join(pieces[name] for name in PIECES)


def run(job: str, amounts: Amounts) -> calls.Figures:
    one, flying = calls.amount(job, amounts)
    found: calls.Figures = {}

    async def main(reactor: Any) -> None:
        with calls.server(__file__) as port:
            endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
            client = await endpoints.connectProtocol(endpoint, amp.AMP())

            async def null() -> None:
                await client.callRemote(Null)

            async def echo_dict() -> Any:
                return await client.callRemote(EchoDict, **calls.SMALL)

            async def echo_block() -> bytes:
                pieces = {
                    name: calls.BLOCK[at * PIECE : (at + 1) * PIECE]
                    for at, name in enumerate(PIECES)
                }
                return _block(await client.callRemote(EchoBlock, **pieces))

            call, wanted = {
                "null": (null, None),
                "dict": (echo_dict, calls.SMALL),
                "bytes": (echo_block, calls.BLOCK),
            }[job]
            calls.check(await call(), wanted)
            alone = await calls.sequential(call, one)
            flying_rate = await calls.flight(call, flying, _gather)
            found.update(calls.figures(job, alone, flying_rate))

    measure.run_reactor(main)
    return found


def _gather(callers: list[Any]) -> Deferred[Any]:
    return gatherResults([Deferred.fromCoroutine(caller) for caller in callers])


if __name__ == "__main__":
    calls.program(serve, run)
