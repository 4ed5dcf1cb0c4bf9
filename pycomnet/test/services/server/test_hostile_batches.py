"""Batches that no client of ours sends."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import PycomnetError, from_map
from pycomnet.test.services.server.test_batches import BatchCase
from pycomnet.wire.codec import make_codec
from pycomnet.wire.frames import ERROR


class Raw:
    """Takes what comes of a channel."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, bytes]] = []
        self.lost: Any = None

    def replied(self, payload: bytes) -> None:
        self.ends.append((0, payload))

    def arrived(self, payload: bytes, cost: int) -> None:
        self.ends.append((0, payload))

    def closed(self, kind: int, payload: bytes) -> None:
        self.ends.append((kind, payload))

    def connection_lost(self, lost: Any) -> None:
        self.lost = lost


#: Requests that are none.
NONE: list[Any] = [
    None,
    [],
    ["t.batch"],
    ["t.batch", "note"],
    ["t.batch", "note", None, False],
    ["t.batch", "note", None, False, [0]],
    ["t.batch", "note", None, False, [0], []],
    ["t.batch", "note", None, False, [1], [b"\xc0"]],
    ["t.batch", "note", None, False, [-1], [b"\xc0"]],
    ["t.batch", "note", None, False, ["0"], [b"\xc0"]],
    ["t.batch", "note", None, False, [[]], [b"\xc0"]],
    ["t.batch", "note", None, False, [0], [None]],
    ["t.batch", "note", None, False, [0], [{"n": 1}]],
    ["t.batch", "note", None, False, 0, 0],
    ["t.batch", "note", None, False, {0: 1}, {0: b""}],
    ["t.batch", "note", "soon", False, [0], [b"\x81\xa1n\x01"]],
    ["t.batch", "note", 0, False, [0], [b"\x81\xa1n\x01"]],
    ["t.batch", "note", -1.0, False, [0], [b"\x81\xa1n\x01"]],
    ["t.batch", "note", 10**400, False, [0], [b"\x81\xa1n\x01"]],
    ["t.batch", "note", float("nan"), False, [0], [b"\x81\xa1n\x01"]],
    ["t.batch", "\n" * 200, None, False, [0], [b"\xc0"]],
    ["t.batch", "note\n" + "\n".join(map(str, range(200))), None, False, [0], [b"\xc0"]],
    ["t.batch", "note", None, False, [0] * 20_000, [b"\x81\xa1n\x01"] * 20_000],
    ["t.batch", 5, None, False, [0], [b"\xc0"]],
    [5, "note", None, False, [0], [b"\xc0"]],
    ["t.other", "note", None, False, [0], [b"\xc0"]],
    # arguments that are no value
    ["t.batch", "note", None, False, [0, 0], [b"", b"\x81\xa1n\x01"]],
    ["t.batch", "note", None, False, [0], [b"\xc1"]],
    ["t.batch", "note", None, False, [0], [b"\xdd\xff\xff\xff\xff"]],
]


class RawCase(BatchCase):
    """A test that sends what no client of ours sends."""

    def raw(self, asked: Any) -> Raw:
        """What comes of a request."""
        peer = self.context.peer(self.address)
        self.result(peer.connect())
        connection: Any = peer.connection
        raw = Raw()
        connection.call("batch", connection.encode(asked), raw)
        connection.flush()
        self.network.deliver()
        return raw


class HostileTests(RawCase):
    """Batches that no client of ours sends."""

    def test_what_is_no_batch_is_refused_and_runs_nothing(self) -> None:
        """With an error for the call, or for the connection; nothing is left of it."""
        for asked in NONE:
            raw = self.raw(asked)
            ends = [end for end in raw.ends if end[0] == ERROR]
            with self.subTest(asked=repr(asked)[:80]):
                self.assertTrue(ends or raw.lost, raw.ends)
                self.assertEqual(self.worker.ran, [])
                self.assertEqual(self.server.held.size, 0)
                if ends:
                    problem = from_map(make_codec().decode(ends[0][1]))
                    self.assertIsInstance(problem, PycomnetError)
        self.assertEqual(self.kinds(("note", {"n": 1})), [1])

    def test_stream_of_values_is_no_batch(self) -> None:
        """It is one value."""
        peer = self.context.peer(self.address)
        connection: Any = peer.connection
        core = connection.open("batch", connection.encode(["t.batch", "note", None, False, [], []]))
        connection.mux.send(core.stream, connection.encode(1))
        connection.flush()
        self.network.deliver()
        self.assertIsNotNone(connection.lost)

    def test_empty_batch_is_over_at_once(self) -> None:
        """It has no outcomes."""
        peer = self.context.peer(self.address)
        connection: Any = peer.connection
        raw = Raw()
        payload = connection.encode(["t.batch", "note", None, False, [], []])
        connection.call("batch", payload, raw)
        connection.flush()
        self.network.deliver()
        self.assertEqual([connection.decode(end[1]) for end in raw.ends], [[0, []]])
        self.assertIdle()
