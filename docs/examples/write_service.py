"""A service with each kind of method, and calls of them."""

import time
from typing import Any

from twisted.internet.task import deferLater, react

import pycomnet


class OutOfStock(pycomnet.PycomnetError):
    """There is none left."""

    code = "org.example.shop.out-of-stock"
    fields = ("article",)  # these travel with it

    def __init__(self, message: str, article: str) -> None:
        super().__init__(message)
        self.article = article


@pycomnet.interface("org.example.shop", stateful=True)
class Shop(pycomnet.Service):
    """Sells things."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    @pycomnet.method(args={"article": str, "count": "int?"}, results=int)
    def add(self, request: Any) -> int:
        """Put something into the basket; how many things are in it."""
        if request.args["article"] == "moon":
            raise OutOfStock("the moon is sold", article="moon")
        basket = request.session.setdefault("basket", [])
        basket += [request.args["article"]] * request.args.get("count", 1)
        return len(basket)

    @pycomnet.method(idempotent=True)
    async def price(self, request: Any) -> int:
        """What one costs. Asking twice does no harm."""
        await deferLater(self.reactor, 0.01)  # a database, say
        return 10 * len(request.args)

    @pycomnet.method(thread=True)
    def print_bill(self, request: Any) -> str:
        """A slow printer: it blocks, and stalls nobody."""
        time.sleep(0.1)
        return f"for {request.peer}"


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    await server.add(Shop(reactor))
    address = await server.listen("tcp:0:interface=127.0.0.1")

    async with pycomnet.Context(reactor, timeout=10) as context:
        shop = await context.connect(address)  # it has one interface
        assert await shop.invoke("add", {"article": "pen"}) == 1
        assert await shop.invoke("add", {"article": "ink", "count": 2}) == 3
        assert await shop.invoke("price", "pencil") == 60
        print(await shop.invoke("print_bill"))

        try:
            await shop.invoke("add", {"article": "moon"})
        except OutOfStock as problem:  # the same class here, with what it says
            assert problem.article == "moon"
        try:
            await shop.invoke("print_bill", timeout=0.01)
        except pycomnet.DeadlineExceeded as problem:
            print(problem)
    await server.close()


react(main)
