"""Batches do not pass by access control."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.logger import capturedLogs

from pycomnet.errors import Forbidden, Unauthenticated, UnknownMethod
from pycomnet.ext.proxy import proxy
from pycomnet.test.ext.access.kit import AccessCase
from pycomnet.test.services.server.test_batches import Taken


class BatchTests(AccessCase):
    """Each call in a batch is judged as one by itself."""

    def kinds(self, shop: Any, *calls: Any, **options: Any) -> list[Any]:
        made = [(one, None) if isinstance(one, str) else one for one in calls]
        takers = [Taken() for _ in made]
        triples = [(name, args, taker) for (name, args), taker in zip(made, takers, strict=True)]
        ended = shop.invoke_together(triples, **options)
        self.network.wait(1)
        self.successResultOf(ended)
        return [taker.kind for taker in takers]

    def test_nobody_calls_without_credentials(self) -> None:
        """Nothing of the batch is decoded, and no method runs."""
        shop = self.shop_for()
        self.assertEqual(self.kinds(shop, "hours"), ["9 to 5"])
        ((_, side),) = self.network.wires
        decoded: list[Any] = []
        decode, side.protocol.decode = side.protocol.decode, decoded.append
        self.assertEqual(self.kinds(shop, "buy", "buy"), [Unauthenticated] * 2)
        self.assertEqual(decoded, [])
        side.protocol.decode = decode
        self.assertEqual(self.kinds(shop, "buy", ("stock", 1)), [Unauthenticated] * 2)
        self.assertEqual(self.shop.ran, ["hours"])

    def test_each_call_is_judged(self) -> None:
        """By its own rule, whatever is beside it; arguments of refused calls are not decoded."""
        found = self.kinds(
            self.shop_for("alice"),
            "buy",
            "stock",
            "hours",
            ("note", "short"),
            ("note", "long" * 100),
            "news",
            "nothing",
            "buy",
        )
        self.assertEqual(
            found,
            ["alice", Forbidden, "9 to 5", 5, Forbidden, UnknownMethod, UnknownMethod, "alice"],
        )
        self.assertNotIn("stock", self.shop.ran)
        guest = self.kinds(self.shop_for(), "hours", "buy", ("note", "x"), "hours")
        self.assertEqual(guest, ["9 to 5", Unauthenticated, Unauthenticated, "9 to 5"])

    def test_long_batch_is_judged_while_it_comes(self) -> None:
        """Whatever way it takes into the server."""
        shop = self.shop_for("alice")
        calls = [("stock", "x" * 100_000), ("note", "x")]
        self.assertEqual(self.kinds(shop, *calls), [Forbidden, 1])
        calls = [("note", "x" * 100_000), ("hours", "x" * 300_000)]
        self.assertEqual(self.kinds(shop, *calls), [Forbidden, "9 to 5"])
        self.assertEqual(self.kinds(self.shop_for(), *calls), [Unauthenticated, "9 to 5"])

    def test_withdrawn_while_it_waits(self) -> None:
        """What has not begun does not begin."""
        shop = self.shop_for("alice")
        self.result(shop.invoke("buy"))
        self.shop.ran.clear()
        del self.table.users["alice"]
        self.network.wait(5)
        found = self.kinds(shop, "buy", "hours", "buy")
        self.assertEqual([found[0], found[2]], [Unauthenticated] * 2)
        self.assertEqual(self.shop.ran.count("buy"), 0)

    def test_expired_login_is_given_anew(self) -> None:
        """The calls are made again with it."""
        shop = self.shop_for("alice")
        self.result(shop.invoke("buy"))
        self.table.users["alice"] = ("a password", "clerk")
        self.network.wait(5)
        found = self.kinds(shop, "stock", "buy")
        self.assertEqual(found, [["clerk"], "alice"])

    def test_withdrawn_between_its_calls(self) -> None:
        """Those that had not begun when the login ended do not begin."""
        shop = self.shop_for("alice")
        self.result(shop.invoke("buy"))
        waiting: defer.Deferred[Any] = defer.Deferred()
        bound = self.server.methods["org.example.shop"]["hours"]
        bound.function = lambda request: waiting
        takers = [Taken(), Taken(), Taken()]
        calls = [
            (name, None, one) for name, one in zip(("hours", "buy", "buy"), takers, strict=True)
        ]
        ended = shop.invoke_together(calls, one_by_one=True)
        self.network.deliver()
        self.shop.ran.clear()
        del self.table.users["alice"]
        self.network.wait(5)
        waiting.callback("late")
        self.network.wait(5)
        self.successResultOf(ended)
        self.assertEqual(takers[0].kind, "late")
        self.assertEqual(takers[1].kind, Unauthenticated)
        self.assertEqual(self.shop.ran, [])

    def test_login_that_a_call_of_the_batch_ends(self) -> None:
        """The calls behind it are judged anew, whether they are of one method or not."""
        shop = self.shop_for("alice")
        self.result(shop.invoke("buy"))
        bound = self.server.methods["org.example.shop"]["buy"]
        buy, bought = bound.function, []

        def buy_and_go(request: Any) -> Any:
            bought.append(request.user)
            if len(bought) == 3:
                del self.table.users["alice"]
                self.table.refresh()
                self.control.changed(self.table)
            return buy(request)

        bound.function = buy_and_go
        found = self.kinds(shop, *["buy"] * 20)
        self.assertEqual(found, ["alice"] * 3 + [Unauthenticated] * 17)
        self.assertEqual(len(bought), 3)

    def test_each_call_may_be_in_the_audit_log(self) -> None:
        """As one by itself."""
        self.control.audit.calls = True
        self.control.changed(self.table)
        shop = self.shop_for("alice")
        with capturedLogs() as events:
            found = self.kinds(shop, *["buy"] * 5, *["stock"] * 3)
        self.assertEqual(found, ["alice"] * 5 + [Forbidden] * 3)
        lines = [event["audit"] for event in events if "audit" in event]
        of_calls = [(one["method"], one["outcome"]) for one in lines if "method" in one]
        self.assertEqual(of_calls.count(("buy", "allowed")), 5)
        self.assertEqual(of_calls.count(("stock", "forbidden")), 3)

    def test_proxy_batch_of_a_user(self) -> None:
        """With the checks of a proxy."""
        shop = proxy(self.shop_for("bob"))

        async def use() -> Any:
            async with shop.batch() as calls:
                bought, stock = calls.buy(), calls.stock()
            return bought.result(), stock.result()

        used = defer.Deferred.fromCoroutine(use())
        self.network.wait(1)
        self.assertEqual(self.successResultOf(used), ("bob", ["clerk", "reader"]))
