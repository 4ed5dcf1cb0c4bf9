"""Values arrive as what they were, from both codecs and between them, whatever the bytes are."""

from __future__ import annotations

import datetime
import enum
import json
import mmap
import os
import struct
import subprocess
import sys
import types
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import ormsgpack
from hypothesis import HealthCheck, example
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import examples, given, settings
from pycomnet.test.wire import vectors
from pycomnet.test.wire.bothcodecs import same_bytes
from pycomnet.test.wire.vectors import (
    CHANNELS,
    INVALID,
    OTHER_FORMS,
    VECTORS,
    Channel,
    nested,
    unhex,
)
from pycomnet.wire import codec, kinds
from pycomnet.wire import values as wire
from pycomnet.wire.codec import make_codec
from pycomnet.wire.rust import LOAD_NESTED, RustCodec
from pycomnet.wire.values import InvalidValue, PureCodec, ValueNotSendable

if TYPE_CHECKING:
    _Case = SynchronousTestCase
else:
    _Case = object

bounded = settings(
    max_examples=examples(40),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PURE = PureCodec(*CHANNELS)
RUST = RustCodec(*CHANNELS)

# A string can hold any code point, surrogates too.
texts = st.text(st.characters(codec=None, exclude_categories=())) | st.text(max_size=300)
integers = (
    st.integers()
    | st.integers(-(2**80), 2**80)
    | st.builds(
        lambda bits, sign, off: sign * 2**bits + off,
        st.integers(0, 200),
        st.sampled_from([1, -1]),
        st.integers(-2, 2),
    )
)


def plain(nan: bool) -> st.SearchStrategy[Any]:
    """What holds nothing; without NaN for what is looked up, as NaN is not itself."""
    return (
        st.none()
        | st.booleans()
        | integers
        | st.floats(allow_nan=nan)
        | texts
        | st.binary(max_size=300)
        | st.complex_numbers(allow_nan=nan)
        | st.builds(Channel, st.integers(0, 2**32 - 1))
    )


hashables = st.recursive(
    plain(False),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.recursive(
    plain(True),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=40), inner, max_size=20)
        | st.dictionaries(hashables, inner, max_size=5)
        | st.sets(hashables, max_size=5)
    ),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """What is equal for two values only when their types are too, all the way down."""
    kind = type(value)
    inner: Any = value
    if kind in (list, tuple):
        inner = tuple(shape(element) for element in value)
    elif kind in (set, frozenset):
        inner = frozenset(shape(element) for element in value)
    elif kind is dict:
        inner = tuple((shape(key), shape(element)) for key, element in value.items())
    elif kind is float:
        inner = struct.pack(">d", value)
    elif kind is complex:
        inner = struct.pack(">dd", value.real, value.imag)
    return kind, inner


def outcome(decode: Callable[[bytes], object], payload: bytes) -> Any:
    """The shape of what a payload is decoded to, or None where it isn't valid."""
    try:
        return shape(decode(payload))
    except InvalidValue:
        return None


class Hostile:
    """An object whose every method says that it was called."""

    def called(self, *args: object) -> Any:
        raise AssertionError("the user's code ran")

    __reduce__ = __reduce_ex__ = __getstate__ = __iter__ = __len__ = __getitem__ = called
    __eq__ = __ne__ = __repr__ = __str__ = __getattribute__ = __bool__ = called
    __index__ = __int__ = __float__ = __complex__ = __bytes__ = __buffer__ = called

    def __hash__(self) -> int:
        return 1


SENT = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


def hostile_subclass(base: type) -> type:
    """A subclass of a type that can be sent, with hostile methods."""
    names = ("__iter__", "__len__", "__repr__", "__str__", "__getattribute__", "items", "encode")
    return type("Hostile" + base.__name__, (base,), dict.fromkeys(names, Hostile.called))


class CodecTests(_Case):
    """What any codec does."""

    make: type[PureCodec] | type[RustCodec]

    def setUp(self) -> None:
        self.codec = self.make(*CHANNELS)

    def refused(self, value: object) -> ValueNotSendable:
        """The error of a value that can't be sent."""
        error: ValueNotSendable = self.assertRaises(ValueNotSendable, self.codec.encode, value)
        self.assertIsInstance(error, TypeError)
        self.assertIn(error.path, str(error))
        self.assertIn(error.type_name, str(error))
        self.assertIsNone(error.__context__)
        return error

    def invalid(self, payload: bytes) -> None:
        error = self.assertRaises(InvalidValue, self.codec.decode, payload)
        self.assertIsInstance(error, ValueError)
        self.assertTrue(str(error))
        self.assertIsNone(error.__context__)

    # -- valid ones --

    def test_vectors_encode_and_decode(self) -> None:
        """Each vector is encoded to its bytes and decoded from them."""
        for name, value, written in VECTORS:
            data = unhex(written)
            self.assertEqual(self.codec.encode(value), data, name)
            self.assertEqual(shape(self.codec.decode(data)), shape(value), name)

    @bounded
    @given(values)
    def test_nested_values_keep_their_types(self, value: object) -> None:
        """A value of any types, nested in any way, arrives with the same types."""
        self.assertEqual(shape(self.codec.decode(self.codec.encode(value))), shape(value))

    @bounded
    @given(values, st.binary(min_size=1))
    def test_truncated_payload_is_invalid_and_longer_is_not(
        self, value: object, rest: bytes
    ) -> None:
        """No beginning of a payload is valid; what comes after it is ignored."""
        payload = self.codec.encode(value)
        self.assertEqual(shape(self.codec.decode(payload + rest)), shape(value))
        for length in {*range(min(30, len(payload))), *range(0, len(payload), 37)}:
            self.invalid(payload[:length])

    def test_integers_arrive_in_fewest_bytes(self) -> None:
        """Ints around every power of two arrive, in the fewest bytes."""
        for bits in (*range(140), 2047, 2048, 4096, 8 * 65536 - 1):
            for n in (2**bits - 1, 2**bits, 2**bits + 1):
                for signed in (n, -n):
                    if bits == 8 * 65536 - 1 and signed not in (2**bits - 1, -(2**bits)):
                        continue
                    payload = self.codec.encode(signed)
                    self.assertEqual(shape(self.codec.decode(payload)), (int, signed))
                    if bits > 66:  # the extension's head and the shortest two's complement
                        size = ((~signed if signed < 0 else signed).bit_length() // 8) + 1
                        self.assertTrue(payload.endswith(signed.to_bytes(size, "big", signed=True)))
                        self.assertLessEqual(len(payload), size + 6)

    def test_forms_that_senders_do_not_use_are_read(self) -> None:
        """A receiver reads the forms that a sender doesn't use: longer heads, float32 and so on."""
        for written, value in OTHER_FORMS:
            self.assertEqual(shape(self.codec.decode(unhex(written))), shape(value), written)

    def test_buffers_are_sent_as_bytes(self) -> None:
        """Bytearrays and memoryviews are sent as their bytes, and can be decoded from."""
        for view in (
            bytearray(b"abc"),
            memoryview(b"abc"),
            memoryview(b"a-b-c-")[::2],
            memoryview(b"abc").cast("b"),
            memoryview(b"abc").cast("B", [1, 3]),
        ):
            sent = [self.codec.encode(v) for v in (view, [view], {"a": view}, (view,))]
            same = (b"abc", [b"abc"], {"a": b"abc"}, (b"abc",))
            self.assertEqual(sent, [self.codec.encode(v) for v in same])
        self.assertEqual(self.codec.decode(self.codec.encode({memoryview(b"k"): 1})), {b"k": 1})
        for payload in (b"\x92\x01\xa1a", b"\x05"):
            decoded = self.codec.decode(payload)
            self.assertEqual(self.codec.decode(bytearray(payload)), decoded)
            self.assertEqual(self.codec.decode(memoryview(payload)), decoded)
            self.assertEqual(
                self.codec.decode(memoryview(payload + payload)[len(payload) :]), decoded
            )

    def test_100_megabytes_arrive(self) -> None:
        """100 MB of bytes, and a list of a million."""
        data = bytes(100_000_000)
        payload = self.codec.encode(data)
        self.assertEqual(payload[:5], b"\xc6" + struct.pack(">I", len(data)))
        self.assertTrue(self.codec.decode(payload) == data)
        del payload, data
        many = [7] * 1_000_000
        self.assertTrue(self.codec.decode(self.codec.encode(many)) == many)

    def test_255_nested_containers_arrive(self) -> None:
        """255 containers in each other, and that again in each of 32 extensions."""
        makers: tuple[Callable[[Any], Any], ...] = (lambda x: [x], lambda x: {"k": x})
        for make in (*makers, lambda x: {1: x}):
            innermost: tuple[Any, ...] = (1, [], {}, ())
            for inner in innermost:
                fits = nested(254 if inner in ([], {}) else 255, inner, make)
                self.assertEqual(
                    self.codec.encode(self.codec.decode(self.codec.encode(fits))),
                    self.codec.encode(fits),
                )
                self.refused(make(fits))
        key = nested(253, 1, lambda x: (x,))
        for fits in ({key: 1}, {(key,): 1}):
            self.assertEqual(self.codec.decode(self.codec.encode(fits)), fits)
        self.refused({((key,),): 1})
        fits = nested(32, (), lambda x: (x,))[0]
        self.assertEqual(self.codec.decode(self.codec.encode(fits)), fits)
        self.refused((fits,))
        frozen = nested(32, 1, lambda x: frozenset([x]))
        self.assertEqual(self.codec.decode(self.codec.encode(frozen)), frozen)
        self.refused({frozen})
        for make in makers:
            full = nested(32, 1, lambda x, make=make: (nested(254, x, make),))
            payload = self.codec.encode(full)
            self.assertEqual(self.codec.encode(self.codec.decode(payload)), payload)
            self.refused((full,))
            self.refused(nested(32, 1, lambda x, make=make: (nested(255, x, make),)))

    def test_receiver_takes_1022_containers_and_refuses_more(self) -> None:
        """A receiver takes 1022 containers and refuses what would be without end."""
        for head in (b"\x91", b"\x81\x01", b"\x81\xa1k"):
            self.codec.decode(head * 1022 + b"\x01")
            self.codec.decode(head * 1022 + b"\x90")
            self.invalid(head * 1500 + b"\x01")
            self.invalid(head * 100_000)
        self.codec.decode(b"\x81" + b"\x91" * 1000 + b"\x01\x02")
        self.invalid(b"\x81" + b"\x91" * 1500 + b"\x01\x02")

    # -- what can't be sent --

    def test_error_says_where_in_the_value(self) -> None:
        """The error says where in the value the thing is, and what."""
        thing = object()
        in_set = {"a": {frozenset([(1, thing)])}}
        for value, path in (
            (thing, "value"),
            ({"jobs": [0, 1, 2, thing]}, 'value["jobs"][3]'),
            ({"a": {"b": (1, thing)}}, 'value["a"]["b"][1]'),
            ({1: {b"k": {None: thing}}}, "value[1][b'k'][None]"),
            ({'say "x"': [thing]}, 'value["say \\"x\\""][0]'),
            ({"é": thing}, 'value["é"]'),
            ({"k" * 100: thing}, 'value["' + "k" * 49 + "..." + "k" * 6 + '"]'),
            ({2**20000: thing}, "value[<int>]"),
            ({(1, 2): thing}, "value[<tuple>]"),
            ({thing: 1}, "key of value"),
            ({"a": [{thing: 1}]}, 'key of value["a"][0]'),
            ({(1, thing): 1}, "(key of value)[1]"),
            ({"a": {((thing,),): 1}}, '(key of value["a"])[0][0]'),
            ({thing}, "value{<object>}"),
            (in_set, 'value["a"]{<frozenset>}{<tuple>}[1]'),
            ([[[], [thing]], thing], "value[0][1][0]"),
            ({"a": OrderedDict(b=[thing])}, 'value["a"]["b"][0]'),
            ({"a": 1, "b": 2, "c": thing}, 'value["c"]'),
        ):
            error = self.refused(value)
            self.assertEqual(error.path, path)
            self.assertEqual(error.type_name, "object")
            self.assertEqual(
                str(error),
                f"{path}: object can't be sent (None, bool, int, float, str, bytes, list, tuple, "
                "dict, set, frozenset, complex, channels, and datetime, date, time, timedelta, "
                "Decimal, UUID, Fraction, range, path and OrderedDict of the standard library can; "
                "others with register_type)",
            )

    def test_types_that_resemble_are_refused(self) -> None:
        """Nothing else is sent, also not as something that it resembles."""
        pair = namedtuple("pair", "a b")
        number = enum.IntEnum("number", "one")
        letter = enum.Enum("letter", {"a": "a"}, type=str)
        others: list[object] = [type("Sub", (base,), {})() for base in SENT]
        others += [pair(1, 2), number.one, letter.a, defaultdict(), Counter()]
        others += [object(), ..., NotImplemented, type, Channel, len, iter([]), {}.keys()]
        others += [types.SimpleNamespace(), Exception("x")]
        for base in (datetime.timedelta, datetime.time, Decimal, Fraction):
            others.append(type("Sub", (base,), {})(2))
        others.append(type("Sub", (datetime.datetime,), {})(2026, 1, 2))
        others += [type("OrderedDict", (OrderedDict,), {})(), type("UUID", (), {})()]
        for value in others:
            name = wire.type_name(type(value))
            for outer, path in (
                (value, "value"),
                ([value], "value[0]"),
                ({"k": value}, 'value["k"]'),
                ((1, value), "value[1]"),
            ):
                error = self.refused(outer)
                self.assertEqual((error.path, error.type_name), (path, name))
            if type(value).__hash__ is not None:
                self.assertEqual(self.refused({value: 1}).path, "key of value")
                self.assertEqual(self.refused({0.5: 2, value: 1}).path, "key of value")
                self.assertEqual(self.refused({value}).path, f"value{{<{name}>}}")

    def test_refused_values_run_no_code(self) -> None:
        """What can't be sent is not asked for anything."""
        for value in (Hostile(), *(hostile_subclass(base)() for base in SENT)):
            for outer in (value, [value], {"k": value}, (value,), {1: {2: value}}):
                self.assertIn("Hostile", self.refused(outer).type_name)
        self.refused({Hostile(): 1})
        self.refused({(1, Hostile()): 1})
        self.refused({Hostile()})

    def test_value_that_holds_itself_is_refused(self) -> None:
        """What holds itself is refused, by its own name."""
        in_list: list[Any] = [1]
        in_list.append(in_list)
        in_dict: dict[str, Any] = {}
        in_dict["k"] = [in_dict]
        in_tuple: Any = ([],)
        in_tuple[0].append(in_tuple)
        for value in (in_list, in_dict, in_tuple):
            error = self.refused(value)
            self.assertEqual((error.path, error.type_name), ("value", type(value).__name__))
            self.assertIn("holds itself", str(error))

    def test_huge_integers_and_bytes_are_refused(self) -> None:
        """Ints of more than 65536 bytes, and anything of 4 GiB, are refused."""
        for n in (2 ** (8 * 65536 - 1), -(2 ** (8 * 65536 - 1)) - 1, 1 << 5_000_000):
            self.assertEqual(self.refused({"a": [n]}).path, 'value["a"][0]')
            self.assertEqual(self.refused({n: 1}).path, "key of value")
            self.assertIn("65536", str(self.refused(n)))
        with mmap.mmap(-1, 2**32) as pages, memoryview(pages) as view:  # takes no memory
            self.assertEqual(self.refused(["a", view]).path, "value[1]")
            self.assertIn("4294967295", str(self.refused(view)))

    def test_released_memoryview_is_refused(self) -> None:
        """A memoryview that has been released can't be sent."""
        view = memoryview(b"abc")
        view.release()
        self.assertIn("released", str(self.refused([view])))

    # -- channels --

    def test_channel_hooks_errors_become_codec_errors(self) -> None:
        """What dump_channel and load_channel raise makes the codec's own errors."""

        def fail(channel: object) -> Any:
            raise LookupError("it is closed")

        codec = self.codec = self.make(Channel, fail, fail)
        error = self.refused({"a": [Channel(1)]})
        self.assertEqual(error.path, 'value["a"][0]')
        self.assertIn("Channel can't be sent (it is closed)", str(error))
        for payload in (b"\xd6\x06\0\0\0\1", b"\x81\xa1a\x91\xd6\x06\0\0\0\1"):
            self.invalid(payload)
        for wrong in (-1, 2**32, "x", None):
            ids: Any = {Channel(1): wrong}
            self.codec = self.make(Channel, ids.get)
            self.refused((Channel(1),))
        codec = self.codec = self.make()
        self.refused([Channel(1)])
        self.invalid(b"\xd6\x06\0\0\0\1")
        self.assertEqual(codec.decode(codec.encode([(1,)])), [(1,)])

    def test_channel_subclasses_and_several_classes_are_channels(self) -> None:
        """Subclasses are channels, and there can be more than one class."""

        class Other:
            id = 7

        class Sub(Channel):
            pass

        codec = self.make((Channel, Other), vectors.channel_id, Channel)
        self.assertEqual(codec.decode(codec.encode([Sub(1), Other()])), [Channel(1), Channel(7)])

    def test_repeated_channel_is_loaded_once(self) -> None:
        """A channel that is twice in a value is loaded once, whatever else is in it."""
        loaded: list[int] = []

        def load(id: int) -> Channel:
            self.assertNotIn(id, loaded)
            loaded.append(id)
            return Channel(id)

        codec = self.make(Channel, vectors.channel_id, load)
        one, two = Channel(1), Channel(2)
        for value in (
            [one, one, two],
            {"a": one, 1: two, "b": (one,)},
            {"a": one, frozenset([1]): (two, {one})},
            [one, "\ud800", {two: one}],
            nested(20, one, lambda x: (x, one, two)),
            ({"a": ["x" * 2 * LOAD_NESTED, (one, ("y" * 2 * LOAD_NESTED, one))]}, two),
        ):
            del loaded[:]
            self.assertEqual(codec.decode(codec.encode(value)), value)
            self.assertEqual(sorted(loaded), [1, 2])

    def test_unhashable_channel_cannot_be_a_key(self) -> None:
        """A channel that can't be hashed can't be a key."""

        class Unhashable:
            __hash__ = None  # type: ignore[assignment]

        self.codec = self.make(None, None, lambda id: Unhashable())
        self.invalid(b"\x81\xd6\x06\0\0\0\1\x01")
        self.invalid(b"\xc7\x07\x02\x91\xd6\x06\0\0\0\1")

    # -- what isn't valid --

    def test_invalid_bytes_are_refused(self) -> None:
        """Each way in which bytes are not a value."""
        for written in INVALID:
            self.invalid(unhex(written))

    def test_lengths_beyond_the_end_are_invalid(self) -> None:
        """A head that promises more than there is is an error, wherever it is."""
        sizes = {1: (0xC4, 0xC7, 0xD9), 2: (0xC5, 0xC8, 0xDA, 0xDC, 0xDE)}
        sizes[4] = (0xC6, 0xC9, 0xDB, 0xDD, 0xDF)
        for size, heads in sizes.items():
            for head in heads:
                for length in (b"\xff", b"\x7f", b"\x80"):
                    lie = bytes([head]) + length * size
                    for before in (b"", b"\x92\x01", b"\x81\x01", b"\x81\xa1a", b"\x81"):
                        for after in (b"", b"\x01", b"\x01\x91\x01", b"\x01" * 100):
                            self.invalid(before + lie + after)

    @bounded
    @given(st.binary(max_size=60))
    @example(b"\xdf\xff\xff\xff\xff\xa1a\x01")
    def test_any_bytes_are_a_value_or_invalid(self, payload: bytes) -> None:
        """Any bytes are a value or not valid, and nothing else."""
        outcome(self.codec.decode, payload)


class PureTests(CodecTests, SynchronousTestCase):
    """The codec in pure Python."""

    make = PureCodec

    def test_value_changed_meanwhile_makes_no_invalid_bytes(self) -> None:
        """What another thread changes while it is encoded can't make bytes that aren't valid."""
        value: list[Any] = [Channel(1), {}, Channel(1)]

        def dump(channel: Channel) -> int:
            value.append(None)
            value[1][len(value)] = None
            return 1

        codec = PureCodec(Channel, dump, Channel)
        self.assertEqual(codec.decode(codec.encode(value)), [Channel(1), {4: None}, Channel(1)])
        value[:] = [{"a": Channel(1)}, 0]
        value[1] = value[0]
        self.codec = codec
        self.assertIn("changed", str(self.refused({"v": value[0]})))

    def test_deep_values_do_not_use_the_stack(self) -> None:
        """Neither direction uses the interpreter's stack, however deep the value is."""
        deep = nested(32, 1, lambda x: (nested(254, x, lambda y: [y]),))
        limit = sys.getrecursionlimit()
        frame: Any = sys._getframe()
        depth = 0
        while frame:
            depth += 1
            frame = frame.f_back
        self.addCleanup(sys.setrecursionlimit, limit)
        sys.setrecursionlimit(depth + 30)
        PURE.decode(PURE.encode(deep))

    def test_kept_keys_are_bounded(self) -> None:
        """Only so many keys are kept."""
        for n in range(3 * wire.MAX_KEYS):
            PURE.decode(PURE.encode({f"key {n}": 1}))
        for kept in (wire._keys_in, wire._keys_out):  # type: ignore[attr-defined]
            self.assertLessEqual(len(kept), wire.MAX_KEYS)


class RustTests(CodecTests, SynchronousTestCase):
    """The codec on ormsgpack."""

    make = RustCodec

    def test_ormsgpack_too_old_is_not_used(self) -> None:
        """An ormsgpack that a hostile payload brings down is not used."""
        path = Path(wire.__file__).with_name("rust.py")
        code = compile(path.read_text(), str(path), "exec")

        def load(version: str) -> None:
            other = types.ModuleType("ormsgpack")
            other.__dict__.update(vars(ormsgpack), __version__=version)
            with mock.patch.dict(sys.modules, {"ormsgpack": other}):
                exec(code, {"__name__": "pycomnet.wire.again", "__package__": "pycomnet.wire"})

        for version in ("1.5.0", "1.9.1", "1.12.2", "1.13.0"):
            self.assertRaises(ImportError, load, version)
        for version in ("1.13.1", "1.14.0", "2.0.0rc1"):
            load(version)


class BothTests(SynchronousTestCase):
    """The two codecs against each other."""

    test_both_codecs_make_the_same_bytes = bounded(same_bytes(PURE, RUST, values, shape))

    @settings(bounded, max_examples=examples(60))
    @given(values, st.data())
    def test_both_codecs_read_mutated_bytes_alike(self, value: object, data: st.DataObject) -> None:
        """They accept the same of what was changed on its way, and read the same in it."""
        payload = bytearray(PURE.encode(value))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(payload) - 1))
            heads = st.sampled_from(
                b"\x81\x91\xa1\xc0\xc1\xc4\xc7\xca\xd4\xd5\xd9\xdc\xde\x01\x02\x03"
            )
            change = data.draw(heads | st.integers(0, 255))
            if data.draw(st.booleans()):
                payload[place] = change
            else:
                payload.insert(place, change)
        pure = outcome(PURE.decode, bytes(payload))
        self.assertEqual(outcome(RUST.decode, bytes(payload)), pure)

    @bounded
    @given(st.lists(values, min_size=2, max_size=6))
    def test_run_decodes_to_what_each_is_alone(self, several: list[object]) -> None:
        """Values that are decoded together are what each is by itself."""
        payloads = [RUST.encode(value) for value in several]
        run = RUST.decode_run(payloads)
        if run is not None:
            self.assertEqual(shape(run), shape([RUST.decode(each) for each in payloads]))
        self.assertIsNone(PURE.decode_run(payloads))

    def test_run_with_a_value_to_decode_alone_is_none(self) -> None:
        """Values are decoded together, but for those that have to be decoded alone."""
        several = [1, {"a": (2, None)}, b"x", "y", [3.5]]
        payloads = [RUST.encode(value) for value in several]
        self.assertEqual(RUST.decode_run(payloads), several)
        for bad in (b"\x01\x02", b"\x92\x01", b"", b"\xc1", RUST.encode({1: 2})):
            for place in range(len(payloads) + 1):
                run = [*payloads[:place], bad, *payloads[place:]]
                self.assertIsNone(RUST.decode_run(run), (bad, place))

    @settings(bounded, max_examples=examples(200))
    @given(
        st.lists(
            st.sampled_from(
                [*range(0x80, 0x84), *range(0x90, 0x94)]
                + [0xA1, *range(5)] * 2
                + [0xC0, 0xC4, *range(0xC7, 0xCA), *range(0xD4, 0xD9), 0xDC, 0xDE]
            ),
            min_size=3,
        )
    )
    def test_both_codecs_read_noise_alike(self, payload: list[int]) -> None:
        """They read the same in bytes that nobody encoded."""
        self.assertEqual(outcome(RUST.decode, bytes(payload)), outcome(PURE.decode, bytes(payload)))

    def test_fast_codec_is_made_where_it_can_be_had(self) -> None:
        """The fast one where it can be had, and the pure one elsewhere or when asked for."""
        for made, name in ((make_codec(*CHANNELS), "rust"), (make_codec(*CHANNELS, True), "pure")):
            self.assertEqual(made.name, name)
            self.assertEqual(made.decode(made.encode((Channel(1),))), (Channel(1),))
        with mock.patch.dict(sys.modules, {"pycomnet.wire.rust": None}):
            self.assertEqual(make_codec().name, "pure")


#: Runs in an interpreter that has nothing: loads the codec under another name, as a far side does.
BARE = """
import json, sys, types
before = set(sys.modules)
for name, source in json.load(sys.stdin):
    module = sys.modules[name] = types.ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    exec(compile(source, name, "exec"), module.__dict__)
    if name == "far.values":
        print(*sorted(set(sys.modules) - before))
vectors = sys.modules["far.vectors"]
codec = sys.modules["far.codec"].make_codec(*vectors.CHANNELS)
for name, value, written in vectors.VECTORS:
    data = vectors.unhex(written)
    assert codec.encode(value) == data, (name, codec.encode(value))
    decoded = codec.decode(data)
    assert decoded == value and type(decoded) is type(value), (name, decoded)
print(codec.name, sys.modules.get("ormsgpack"))
"""

#: Runs in a process that may take 256 MB, and a thread with 2 MB of stack.
SMALL = """
import resource, threading
from pycomnet.test.wire.vectors import nested
from pycomnet.wire.rust import RustCodec
from pycomnet.wire.values import InvalidValue, PureCodec
done = []
def extension(data):
    return bytes([0xC9]) + len(data).to_bytes(4, "big") + bytes([1]) + data
def deep(levels, head):
    return nested(levels, bytes([1]), lambda inner: extension(bytes([0x91]) + head * 1000 + inner))
heads = [bytes.fromhex(head) for head in ("91", "8101", "81a16b")]
payloads = [deep(levels, head) for levels in (1, 2, 6, 32, 33) for head in heads]
payloads += [bytes.fromhex(head) * 1000 for head in (
    "dd10000000 ddffffffff dcffff deffff01 deffffa161 dfffffffff01 df01000000a161 c7ff01 d80191"
).split()]
payloads += [bytes([0x81]) + payload for payload in payloads]
payloads += [bytes.fromhex(head) for head in ("c9ffffffff0190", "c6ffffffff", "dbffffffff")]
def run():
    for codec in (PureCodec(), RustCodec()):
        for payload in payloads:
            try:
                codec.decode(payload)
            except InvalidValue:
                pass
        for make in (lambda x: [x], lambda x: {"k": x}):
            value = nested(32, 1, lambda inner: (nested(254, inner, make),))
            codec.decode(codec.encode(value))
    done.append(True)
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        resource.setrlimit(resource.RLIMIT_AS, (int(line.split()[1]) * 1024 + (256 << 20),) * 2)
threading.stack_size(2 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
print("all" if done else "failed")
"""


class ProcessTests(SynchronousTestCase):
    """What only another process shows."""

    def output(self, *arguments: str, input: str = "") -> str:
        ran = subprocess.run(
            [sys.executable, *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=Path(wire.__file__).parents[2],
        )
        return f"{ran.stdout}{ran.stderr}"

    def test_vectors_hold_in_a_bare_interpreter(self) -> None:
        """The vectors hold in an interpreter without packages, that is sent the source alone."""
        sources = [("far", ""), ("far.values", Path(wire.__file__).read_text())]
        sources.append(("far.kinds", Path(kinds.__file__).read_text()))
        sources.append(("far.codec", Path(codec.__file__).read_text()))
        sources.append(("far.vectors", Path(vectors.__file__).read_text()))
        output = self.output("-S", "-E", "-c", BARE, input=json.dumps(sources))
        modules, said, *rest = output.splitlines()
        self.assertEqual((said, rest), ("pure None", []))
        # It is loaded whenever a far side starts.
        self.assertLessEqual(
            set(modules.split()), {"far", "far.values", "_struct", "struct", "itertools"}
        )

    def test_hostile_payloads_take_neither_memory_nor_stack(self) -> None:
        """Hostile payloads take neither the memory nor the stack, and nor do the deepest values."""
        if not os.path.exists("/proc/self/status"):
            self.skipTest("needs /proc")
        self.assertEqual(self.output("-c", SMALL), "all\n")
