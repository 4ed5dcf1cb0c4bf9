"""A server and what calls it, in one process, without a nameserver."""

from typing import Any

from calc import Calc
from twisted.internet.task import react

import pycomnet


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    await server.add(Calc())
    address = await server.listen("tcp:0:interface=127.0.0.1")

    async with pycomnet.Context(reactor) as context:
        calc = await context.connect(address, "org.example.calc")
        assert await calc.invoke("add", {"a": 1, "b": 2}, timeout=5) == 3

        try:
            await calc.invoke("add", {"a": 1, "b": "two"})
        except pycomnet.InvalidArguments as problem:
            print(problem)
    await server.close()


react(main)
