"""How requests begin, audit lines, and messages of any bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import Forbidden, Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.audit import FREE_LINES
from pycomnet.ext.access.messages import KINDS, read_message
from pycomnet.services.server.accessgate import head_of, make_heads
from pycomnet.test.ext.access.kit import SHOP, AccessCase
from pycomnet.test.properties import examples, given, settings
from pycomnet.test.services.server.test_batches import Taken
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import InvalidValue, PureCodec

#: Up to 240 bytes
NAMES = st.text(max_size=60)
CODECS = [make_codec(), PureCodec()]


class HeadTests(SynchronousTestCase):
    """What is let through by its first bytes."""

    @settings(max_examples=examples(100), deadline=None)
    @given(NAMES, NAMES, st.booleans(), st.sampled_from(CODECS))
    def test_request_for_an_allowed_method_is_let_through(
        self, interface: str, method: str, blocks: bool, codec: Any
    ) -> None:
        """Whatever its names and arguments are, with either codec."""
        heads = make_heads(make_codec().encode, [("other", "x"), (interface, method)])
        request = [interface, method, {"a": 1}, 30.0, *([[]] if blocks else [])]
        self.assertTrue(head_of(codec.encode(request)) in heads)

    @settings(max_examples=examples(100), deadline=None)
    @given(NAMES, NAMES, NAMES, NAMES)
    def test_request_for_another_is_not(
        self, interface: str, method: str, allowed: str, name: str
    ) -> None:
        """Also if the one begins as the other does."""
        heads = make_heads(make_codec().encode, [(allowed, name)])
        payload = make_codec().encode([interface, method, None, None])
        self.assertIs(head_of(payload) in heads, (interface, method) == (allowed, name))

    @settings(max_examples=examples(200), deadline=None)
    @given(st.binary(max_size=100), st.binary(max_size=20))
    def test_bytes_that_are_let_through_are_such_a_request(self, noise: bytes, end: bytes) -> None:
        """Nothing else is, and no bytes raise an error."""
        heads = make_heads(make_codec().encode, [("a", "b"), ("org.example", "call")])
        (head, *_) = heads
        for payload in (noise, head + end, head[:-1] + end, noise[:1] + head[1:] + end):
            if head_of(payload) in heads:
                self.assertIn(payload[:1], (b"\x94", b"\x95"))
                self.assertTrue(any(payload.startswith(one) for one in heads))


class FuzzTests(SynchronousTestCase):
    """Messages with credentials."""

    @settings(max_examples=examples(300), deadline=None)
    @given(
        st.binary(max_size=200)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ).map(lambda value: make_codec().encode(value) if _fits(value) else b"")
    )
    def test_whatever_comes_is_a_message_or_an_error(self, payload: bytes) -> None:
        """A message has texts only, as many as its kind needs."""
        transport = _Transport()
        try:
            found = read_message(payload, transport)
        except InvalidValue:
            return
        self.assertIn(found.kind, KINDS)
        self.assertIsInstance(found.user, str)


def _fits(value: Any) -> bool:
    try:
        make_codec().encode(value)
    except Exception:
        return False
    return True


class _Transport:
    """A transport on this machine."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)


class AuditTests(AccessCase):
    """The audit log."""

    def lines(self, events: Any) -> list[dict[str, Any]]:
        """The lines, parsed."""
        return [
            json.loads(event["line"])
            for event in events
            if event["log_namespace"] == access.AUDIT_NAMESPACE
        ]

    def test_logins_and_refusals_have_a_line_each(self) -> None:
        """With who, where, what and the outcome; allowed calls have none."""
        with capturedLogs() as events:
            alice = self.shop_for("alice")
            self.result(alice.invoke("buy", "an argument"))
            self.failure(alice.invoke("stock", "an argument"), Forbidden)
            self.failure(self.shop_for().invoke("buy", "an argument"), Unauthenticated)
            wrong = self.shop_for("bob", "a wrong one").invoke("buy")
            self.network.wait(1)
            self.failureResultOf(wrong, Unauthenticated)
            del self.table.users["alice"]
            self.network.wait(5)
        lines = self.lines(events)
        shown = [(one["event"], one.get("user"), one["outcome"]) for one in lines]
        self.assertEqual(
            shown,
            [
                ("login", "alice", "ok"),
                ("refused", "alice", "forbidden"),
                ("refused", None, "missing"),
                ("login", "bob", "refused"),
                ("login ended", "alice", "withdrawn"),
            ],
        )
        self.assertEqual((lines[1]["interface"], lines[1]["method"]), (SHOP, "stock"))
        self.assertTrue(all(one["peer"].startswith("tcp:127.0.0.1:") for one in lines))
        for secret in ("argument", "wrong one", "a password"):
            self.assertNotIn(secret, json.dumps(lines))

    def test_flood_of_refusals_is_counted(self) -> None:
        """It does not fill the log."""
        shop = self.shop_for()
        with capturedLogs() as events:
            for _ in range(100):
                self.failure(shop.invoke("buy"), Unauthenticated)
            self.network.wait(2)
            self.failure(shop.invoke("buy"), Unauthenticated)
        lines = self.lines(events)
        self.assertEqual(len(lines), FREE_LINES + 1)
        self.assertEqual(lines[-1]["unlogged"], 100 - FREE_LINES)

    def test_names_of_a_peer_can_not_forge_a_line(self) -> None:
        """Nor make it long."""
        remote = self.context_of().at(self.address, f"x\n{'y' * 1000}")
        with capturedLogs() as events:
            self.failure(remote.invoke("hours"))
            wrong = self.shop_for("alice", "x").invoke("buy")
            self.network.wait(1)
            self.failureResultOf(wrong)
        for event in events:
            self.assertNotIn("\n", event.get("line", ""))
            self.assertLess(len(event.get("line", "")), 1000)


class CallAuditTests(AccessCase):
    """The audit log, where each call is to have a line."""

    def make_control(self, **options: Any) -> access.AccessControl:
        return super().make_control(audit_calls=True, **options)

    def test_each_call_has_a_line(self) -> None:
        """On every way through the server."""
        shop = self.shop_for("alice")
        with capturedLogs() as events:
            for _ in range(3):
                self.assertEqual(self.result(shop.invoke("buy")), "alice")
            self.result(shop.stream("news").receive())
        self.assertEqual(called(events), [("alice", "buy")] * 3 + [("alice", "news")])

    def test_each_call_of_a_batch_has_a_line(self) -> None:
        """Once, also if the batch waits between them and who may call is asked anew."""
        shop = self.shop_for("alice")
        calls = [(name, None, Taken()) for name in ("buy", "hours", "buy", "buy")]
        with capturedLogs() as events:
            ended = shop.invoke_together(calls, one_by_one=True)
            self.network.wait(1)
            self.successResultOf(ended)
        self.assertEqual(called(events).count(("alice", "buy")), 3)


def called(events: Sequence[Any]) -> list[tuple[str, str]]:
    """The users and the methods of the calls that were logged."""
    found = [event["audit"] for event in events if "audit" in event]
    return [(one["user"], one["method"]) for one in found if one["event"] == "call"]
