"""An order is paid and shipped; where it can't be shipped, the payment is given back."""

import os
import tempfile
from typing import Any

from twisted.internet.task import react

import pycomnet
from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow import RunFailed, WorkflowService, read_config, workflow
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.nameserver.daemon import NameserverService
from pycomnet.nameserver.stores.memory import MemoryStore

CONFIG = os.path.join(os.path.dirname(__file__), "workflow_order.json")


class NotSold(PycomnetError):
    """The shop does not sell this."""

    code = "shop.not-sold"


@pycomnet.interface("shop.payment")
class Payment(pycomnet.Service):
    def __init__(self) -> None:
        self.account = 0
        #: what was paid, by the key of the call that paid it
        self.paid: dict[str, int] = {}

    @pycomnet.method(once=True, args={"sum": "int"})
    def pay(self, request: Any) -> int:
        self.account += request.args["sum"]
        self.paid[request.key] = request.args["sum"]
        return int(request.args["sum"])

    @pycomnet.method(once=True, args={"order": "str"})
    def refund(self, request: Any) -> None:
        # Where it is not known whether there was a payment, there may be none.
        self.account -= self.paid.pop(request.args["order"], 0)


@pycomnet.interface("shop.shipping")
class Shipping(pycomnet.Service):
    @pycomnet.method(once=True, args={"item": "str", "payment": "int"})
    def ship(self, request: Any) -> str:
        if request.args["item"] != "tea":
            raise NotSold(f"there is no {request.args['item']}")
        return f"tea for {request.args['payment']}"


async def main(reactor: Any) -> None:
    names = NameserverService(MemoryStore(), ["tcp:0:interface=127.0.0.1"], reactor, print)
    names.startService()
    while not names.addresses:
        await pycomnet.Context(reactor).sleep(0.01)
    (nameserver,) = names.addresses
    async with pycomnet.Context(reactor, nameserver=nameserver) as context:
        shop = pycomnet.ServiceServer(reactor)
        payment = Payment()
        await shop.add(payment)
        await shop.add(Shipping())
        address = await shop.listen("tcp:0:interface=127.0.0.1")
        ns = await context.nameserver()
        offer = {"interfaces": ["shop.payment", "shop.shipping"], "address": address}
        await ns.invoke("register", {"service": "shop", "ttl": 60, **offer})

        # What twistd pycomnet-workflow does, in this process.
        path = os.path.join(tempfile.mkdtemp(), "runs.sqlite")
        store = make_run_store(f"sqlite:{path}", reactor)
        server = pycomnet.ServiceServer(reactor, context=context)
        await server.add(WorkflowService(read_config(CONFIG)["tasks"], store))
        at = await server.listen("tcp:0:interface=127.0.0.1")

        w = workflow(context=context, address=at)
        assert await w.invoke("order", {"item": "tea", "price": 5}, id="order-1") == "tea for 5"
        assert payment.account == 5
        (key,) = payment.paid
        assert key.startswith("order-1:pay:")
        try:
            await w.invoke("order", {"item": "beer", "price": 3}, id="order-2")
        except RunFailed as problem:
            print(problem)
            assert problem.error["code"] == "shop.not-sold"
        assert payment.account == 5  # paid, and given back
        history = (await w.show("order-2"))["steps"]
        assert [step["path"] for step in history] == ["pay", "ship", "pay~/1"]
        await server.close()
        await shop.close()
    await names.stopService()


react(main)
