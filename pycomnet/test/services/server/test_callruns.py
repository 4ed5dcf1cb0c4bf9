"""Runs: calls of a batch that are encoded together."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    InvalidArguments,
    Overloaded,
    PycomnetError,
    RemoteError,
    ResultNotSendable,
    from_map,
)
from pycomnet.services.interface import Method
from pycomnet.services.server import callruns
from pycomnet.services.server.callruns import CallRuns, elements
from pycomnet.services.server.limits import ServerLimits
from pycomnet.test.properties import examples, given, settings
from pycomnet.test.services.server.test_hostile_batches import Raw, RawCase
from pycomnet.wire.codec import make_codec
from pycomnet.wire.frames import ERROR
from pycomnet.wire.values import InvalidValue

#: What can be sent, of every kind of encoding.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=20)
    ),
    max_leaves=20,
)


class ElementTests(SynchronousTestCase):
    """An array is taken apart without being decoded."""

    @settings(max_examples=examples(200))
    @given(st.lists(VALUES, max_size=40))
    def test_elements_are_encoded_values(self, values: list[Any]) -> None:
        """Of both codecs, and all kinds."""
        for pure in (False, True):
            codec = make_codec(pure=pure)
            found = elements(codec.encode(values))
            self.assertEqual([codec.decode(one) for one in found], values)

    @settings(max_examples=examples(300))
    @given(st.binary(max_size=60))
    def test_other_bytes_are_refused(self, data: bytes) -> None:
        """Whatever is taken apart is the whole."""
        try:
            found = elements(data)
        except InvalidValue:
            return
        self.assertIn(len(data) - len(b"".join(found)), (1, 3, 5))

    def test_long_numbers_are_refused_soon(self) -> None:
        """An array or a map of four thousand million values, as often as one likes."""
        for first in (b"\xdd\xff\xff\xff\xff", b"\x91" + b"\xdf\xff\xff\xff\xff" * 700):
            self.assertRaises(InvalidValue, elements, first)
            self.assertRaises(InvalidValue, elements, first + bytes(100))

    def test_each_has_its_place(self) -> None:
        """The run, and what is before it there."""
        two = CallRuns([b"\x92\x01\x02", b"\x91\x03"], [2, 1], 100)
        self.assertEqual((two.count, two.each([7, 8])), (3, [7, 7, 8]))
        self.assertEqual([two.split(n) for n in range(3)], [[b"\1", b"\2"], [b"\2"], [b"\3"]])

    def test_arguments_of_a_single_call_are_not_looked_at(self) -> None:
        """They may have as many bytes as a request; decoding them has its own limits."""
        for head in (b"\x91", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"):
            inner = b"\xdd\x00\x10\x00\x01" + b"\xc0" * 0x1000  # ends too early
            self.assertEqual(CallRuns([head + inner], [1], 10).split(0), [inner])
        self.assertRaises(InvalidValue, CallRuns([b"\xdc\x00\x02" + inner], [1], 10).split, 0)


class ValidTests(SynchronousTestCase):
    """The arguments of several calls are checked together."""

    @settings(max_examples=examples(200))
    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from("abc"),
                st.integers() | st.booleans() | st.none() | st.text(max_size=2) | st.floats(),
            )
            | st.none(),
            max_size=4,
        )
    )
    def test_valid_together_is_valid_alone(self, several: list[Any]) -> None:
        """What passes there passes by itself."""
        method = Method("m", "m", "", args={"a": "int", "b": "float?"})
        if several and method.are_valid(several):
            for one in several:
                method.check(one)

    def test_usual_arguments_are_valid_together(self) -> None:
        """That is what it is for."""
        method = Method("m", "m", "", args={"a": "int", "b": "str"})
        self.assertTrue(method.are_valid([{"a": 1, "b": "x"}] * 3))
        self.assertFalse(method.are_valid([{"a": 1, "b": "x"}, {"a": True, "b": "x"}]))
        self.assertFalse(method.are_valid([{"a": 1, "b": "x"}, {"a": 1, "c": "x"}]))


class RunCase(RawCase):
    """A test of runs that no client of ours sends."""

    def outcomes(self, raw: Raw) -> list[tuple[int, Any]]:
        """The numbers and the outcomes in replies."""
        decode = make_codec().decode
        found: list[tuple[int, Any]] = []
        for _, payload in raw.ends:
            places, payloads, *more = decode(payload)
            if isinstance(places, int):
                places = range(places, places + len(payloads))
            for place, one in zip(places, payloads, strict=True):
                value = decode(one)
                found.append((place, from_map(value) if type(value) is dict else value[0]))
            results = more[0] if more else []
            for first, values in zip(results[::2], results[1::2], strict=True):
                found += enumerate(values, first)
        return found


class RunTests(RunCase):
    """Calls in runs are calls as any others."""

    def test_results_come_in_order_whatever_they_are(self) -> None:
        """Those that are encoded together, and the others between them."""
        values: list[Any] = [1, "x", None, [1], "x" * 5000, 2.5, {"a": 1}, b"b", 1 << 80, True, ()]
        values[-1] = -1
        calls = [("echo", one) for one in values * 20]
        self.assertEqual(self.kinds(*calls), values * 20)
        self.assertIdle()

    def test_error_within_a_run_is_its_calls_alone(self) -> None:
        """Of arguments, of the method, and of what it returns."""
        calls: list[Any] = [("note", {"n": n}) for n in range(30)]
        calls[10] = ("note", {"n": "ten"})
        calls[20] = ("note", {})
        wanted: list[Any] = list(range(30))
        wanted[10] = wanted[20] = InvalidArguments
        self.assertEqual(self.kinds(*calls), wanted)
        self.worker.fail_at = 7
        found = self.kinds(*[("note_or_fail", {"n": n}) for n in range(20)])
        self.assertEqual(found, [*range(7), RemoteError, ResultNotSendable, *range(9, 20)])

    def test_calls_that_wait_are_bounded_within_a_run(self) -> None:
        """A run is no way round the limit on calls under way."""
        self.server.limits = ServerLimits(running=3, queued=4)
        takers, ended = self.send(*["wait"] * 20)
        self.network.deliver()
        self.assertEqual(self.server.stat()["calls"], {"running": 3, "waiting": 4})
        self.assertEqual([one.kind for one in takers], [None] * 7 + [Overloaded] * 13)
        ended.cancel()
        self.failureResultOf(ended)
        self.network.deliver()
        self.assertIdle()

    def test_run_that_cannot_be_decoded_is_taken_apart(self) -> None:
        """One call's arguments are of a type that the server does not know."""
        (connection,) = self.server.connections
        encode = connection.encode
        unknown = b"\xc7\x05\x12" + b"\x92\xa1x\x91\x01"  # registered, by a name that nobody has
        payload = b"\x93" + encode({"n": 1}) + unknown + encode({"n": 3})
        raw = self.raw(["t.batch", "note", None, False, [0], [payload], [3]])
        outcomes = dict(self.outcomes(raw))
        self.assertEqual(sorted(outcomes), [0, 1, 2])
        self.assertEqual((outcomes[0], outcomes[2]), (1, 3))
        self.assertIsInstance(outcomes[1], InvalidArguments)

    def test_run_is_taken_apart_once(self) -> None:
        """Also if each of its calls has a turn of its own."""
        apart: list[bytes] = []
        self.patch(callruns, "elements", lambda payload: apart.append(payload) or elements(payload))
        unknown = b"\xc7\x05\x12" + b"\x92\xa1x\x91\x01"
        payload = b"\x96" + b"\xc0" * 5 + unknown
        raw = self.raw(["t.batch", "wait", None, True, [0], [payload], [6]])
        for n in range(5):
            self.assertEqual(len(self.worker.waiting), n + 1)
            self.worker.waiting[n].callback(n)
            self.network.deliver()
        self.assertEqual(apart, [payload])
        outcomes = dict(self.outcomes(raw))
        self.assertEqual([outcomes[n] for n in range(5)], [*range(5)])
        self.assertIsInstance(outcomes[5], InvalidArguments)
        self.assertIdle()

    def test_what_is_no_run_is_refused_and_runs_nothing(self) -> None:
        """With an error for the call, or for the connection; nothing is left of it."""
        note = b"\x81\xa1n\x01"
        long = b"\x92" + note + b"\xda\x20\x00" + bytes(0x2000)
        for which, args, counts in (
            ([0], [b"\x91" + note], [0]),
            ([0], [b"\x91" + note], [-1]),
            ([0], [b"\x91" + note], [True]),
            ([0], [b"\x91" + note], [1 << 40]),
            ([0], [b"\x91" + note], []),
            ([0], [b"\x91" + note], 1),
            ([0], [b"\x91" + note], [[]]),
            ([0], [b"\x91" + note], [2]),
            ([0], [b"\x92" + note], [1]),
            ([0], [note], [1]),
            ([0], [b"\xc1"], [1]),
            ([0], [b""], [1]),
            ([0], [b"\xdd\xff\xff\xff\xff"], [5]),
            ([0], [long], [2]),
            ([0] * 40, [b"\xdc\x0f\xa0" + bytes(4000)] * 40, [4000] * 40),  # beyond the limit
        ):
            raw = self.raw(["t.batch", "note", None, False, which, args, counts])
            with self.subTest(args=args[0][:20], counts=repr(counts)[:20]):
                ends = [end for end in raw.ends if end[0] == ERROR]
                self.assertTrue(ends or raw.lost, raw.ends)
                self.assertEqual(self.worker.ran, [])
                self.assertEqual(self.server.held.size, 0)
                if ends:
                    problem = from_map(make_codec().decode(ends[0][1]))
                    self.assertIsInstance(problem, PycomnetError)
        self.assertEqual(self.kinds(("note", {"n": 1})), [1])

    def test_server_without_runs_gets_single_arguments(self) -> None:
        """And answers each."""
        peer = self.context.peer(self.address)
        self.result(peer.connect())
        peer.run = 0
        (connection,) = self.server.connections
        decode = connection.decode
        asked: list[Any] = []
        connection.decode = lambda payload: asked.append(decode(payload)) or asked[-1]
        self.assertEqual(self.kinds(("echo", 1), ("echo", 2)), [1, 2])
        self.assertEqual(asked[0][4:], [[0, 0], [b"\1", b"\2"]])

    def test_what_is_said_of_calls_is_said_in_batches(self) -> None:
        """On whose behalf, and by which key: such calls go each by itself."""
        service = self.remote.saying(key="k", on_behalf_of="alice")
        self.remote = service
        self.assertEqual(self.kinds("said", "said"), [["k", "alice"]] * 2)


class FewItemsTests(RunCase):
    """A server that takes short arrays only."""

    limits = ServerLimits(items=1000)

    def test_single_call_with_too_many_items_has_its_error(self) -> None:
        """Whatever kind of array it is in; the others run."""
        long = b"\xdc\x07\xd0" + b"\xc0" * 2000
        for head in (b"\x91", b"\xdc\x00\x01"):
            args = [head + long, b"\x91\x05"]
            raw = self.raw(["t.batch", "echo", None, False, [0, 0], args, [1, 1]])
            outcomes = dict(self.outcomes(raw))
            self.assertIsInstance(outcomes[0], InvalidArguments)
            self.assertEqual(outcomes[1], 5)
