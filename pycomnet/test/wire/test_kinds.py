"""Types of the standard library and of users arrive as what they were, from both codecs."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import sys
import uuid
import zoneinfo
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import HealthCheck
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.test.properties import examples, given, settings
from pycomnet.test.wire.bothcodecs import same_bytes
from pycomnet.test.wire.vectors import nested, unhex
from pycomnet.wire import kinds
from pycomnet.wire.rust import RustCodec
from pycomnet.wire.values import InvalidValue, PureCodec, ValueNotReceivable, ValueNotSendable

if TYPE_CHECKING:
    _Case = SynchronousTestCase
else:
    _Case = object

PURE = PureCodec()
RUST = RustCodec()
bounded = settings(
    max_examples=examples(40),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

zones = (
    st.none()
    | st.just(datetime.timezone.utc)
    | st.builds(
        datetime.timezone,
        st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
        st.sampled_from(["X", "é", "long" * 20]),
    )
    | st.sampled_from([zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("UTC")])
)
hashables = (
    st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.fractions()
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
    | st.builds(
        lambda kind, text: kind(text),
        st.sampled_from([pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.Path]),
        st.text(max_size=20),
    )
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashables, inner, max_size=5)
        | st.dictionaries(hashables, inner, max_size=5).map(OrderedDict)
        | st.sets(hashables, max_size=3)
    ),
    max_leaves=10,
)


def shape(value: Any) -> Any:
    """What is equal for two values only when their types are too, all the way down."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, tuple(shape(one) for one in value)
    if kind in (set, frozenset):
        return kind, frozenset(shape(one) for one in value)
    if kind in (dict, OrderedDict):
        return kind, tuple((shape(key), shape(one)) for key, one in value.items())
    if kind in (datetime.datetime, datetime.time):
        zone = value.tzinfo
        named = (type(zone), str(zone), zone.utcoffset(None) if zone else None)
        return kind, value.replace(tzinfo=None), value.fold, named
    return kind, str(value), value if value == value else None


class Color(enum.Enum):
    """Registered below."""

    RED = "red"


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Job:
    """Registered below."""

    name: str
    when: Any


class Refusing:
    """Registered below; can't be made again, and not be sent with ``bad``."""

    def __init__(self, bad: bool = False) -> None:
        self.bad = bad


def refuse(value: Any) -> Any:
    """A ``from_value`` that has found something wrong."""
    raise LookupError(f"nobody knows {value}")


def value_of_refusing(one: Refusing) -> Any:
    """A ``to_value`` that fails when it is told to."""
    if one.bad:
        raise ZeroDivisionError("not now")
    return [object()] if one.bad is None else 5


pycomnet.register_type(Color, "test.Color", lambda one: one.value, Color)
pycomnet.register_type(Point, "test.Point", tuple, lambda value: Point(*value))
pycomnet.register_type(Job, "test.Job", vars, lambda value: Job(**value))
pycomnet.register_type(Refusing, "test.Refusing", value_of_refusing, refuse)


class KindTests(_Case):
    """What either codec does."""

    make: type[PureCodec] | type[RustCodec]

    def setUp(self) -> None:
        self.codec: Any = self.make()

    def again(self, value: Any) -> Any:
        """What a value arrives as."""
        return self.codec.decode(self.codec.encode(value))

    @bounded
    @given(values)
    def test_nested_values_keep_their_types(self, value: Any) -> None:
        """A value of these types, nested in any way, arrives with the same types."""
        self.assertEqual(shape(self.again(value)), shape(value))

    @bounded
    @given(st.integers(8, 18), st.binary(max_size=40))
    def test_extension_noise_is_a_value_or_a_named_error(self, code: int, data: bytes) -> None:
        """Any bytes in one of the extensions are a value, or an error with a name."""
        payload = b"\xc7" + bytes([len(data), code]) + data
        try:
            self.codec.decode(payload)
        except (InvalidValue, ValueNotReceivable) as problem:
            self.assertTrue(str(problem))
            self.assertIsNone(problem.__context__)

    def test_errors_hold_nothing_of_the_failed_conversion(self) -> None:
        """An error holds nothing of the conversion that failed, whatever the type and the depth."""
        for written in (
            "d6 09 07ea 0d 01",  # a date
            "c7 0b 08 07ea 0101 190000 00 00000000",  # a datetime
            "c7 08 0a 18 00 00 00 00000000",  # a time
            "c7 0c 0b 7fffffff 00000000 00000000",  # a timedelta
            "d4 0c 78",  # a Decimal
            "c7 17 0c 31 45" + "39" * 21,  # one that is too large
            "c7 13 08 07ea 0102 030405 00 00000006 02 4e6f77686572",  # of no known zone
        ):
            data = unhex(written)
            in_tuple = b"\xc7" + bytes([1 + len(data), 1]) + b"\x91" + data
            for payload in (data, b"\x91" + data, b"\x81" + data + b"\x01", in_tuple):
                problem = self.assertRaises(ValueError, self.codec.decode, payload)
                self.assertIsInstance(problem, (InvalidValue, ValueNotReceivable))
                self.assertIsNone(problem.__context__, payload)

    def test_fold_of_a_repeated_hour_is_kept(self) -> None:
        """Which of the two hours it is that a clock shows twice."""
        berlin = zoneinfo.ZoneInfo("Europe/Berlin")
        for fold in (0, 1):
            when = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold)
            arrived = self.again(when)
            self.assertEqual((arrived.fold, arrived.tzinfo), (fold, berlin))
            self.assertEqual(arrived.utcoffset(), when.utcoffset())
            self.assertEqual(self.again(datetime.time(1, fold=fold)).fold, fold)

    def test_decimals_arrive_whatever_the_context(self) -> None:
        """Also those that are no numbers; the user's own context does not matter."""
        with decimal.localcontext(decimal.Context(prec=2, traps=[])):
            for text in ("NaN", "sNaN12", "-0", "0E-20", "1" * 60000, "Infinity"):
                self.assertEqual(str(self.again(Decimal(text))), text)
            self.assertRaises(InvalidValue, self.codec.decode, b"\xd4\x0cx")
        self.assertIn("limit", str(self.refused(Decimal("1" * 70000))))
        with self.assertRaises(ValueNotReceivable):
            self.codec.decode(b"\xc7\x17\x0c1E999999999999999999999")

    def test_other_systems_path_arrives_as_a_pure_one(self) -> None:
        """A path of another system arrives as a pure one."""
        path = pathlib.Path("/tmp/x")
        self.assertIs(type(self.again(path)), type(path))
        other = self.codec.decode(unhex("c7 04 10 92 03 a1 61"))
        self.assertEqual(other, pathlib.PureWindowsPath("a"))
        odd = pathlib.Path("a\udcff")
        self.assertEqual(self.again(odd), odd)
        with mock.patch.dict(sys.modules, {"pathlib": None}):
            payload = unhex("c7 04 10 92 02 a1 61")
            problem = self.assertRaises(ValueNotReceivable, self.codec.decode, payload)
        self.assertIn("PosixPath", str(problem))

    def refused(self, value: Any) -> ValueNotSendable:
        """The error of a value that can't be sent."""
        problem: ValueNotSendable = self.assertRaises(ValueNotSendable, self.codec.encode, value)
        return problem

    def test_unknown_time_zones_are_refused_at_both_ends(self) -> None:
        """What has no key or is somebody's own class can't be sent; unknown ones not received."""

        class Own(datetime.tzinfo):
            """Neither of the two kinds that can be sent."""

            utcoffset = dst = tzname = None  # type: ignore[assignment]

        now = datetime.datetime(2026, 1, 1)
        problem = self.refused({"a": now.replace(tzinfo=Own())})
        self.assertEqual(problem.path, 'value["a"]')
        self.assertIn("Own", str(problem))
        self.assertIn("astimezone", str(problem))
        for key in (b"Nowhere/Town", b"../../etc/passwd", b"/etc/passwd", b"\0"):
            data = unhex("07ea 0102 030405 00 00000006 02") + key
            payload = b"\xc7" + bytes([len(data), 8]) + data
            self.assertRaises(ValueNotReceivable, self.codec.decode, payload)
            self.assertRaises(ValueNotReceivable, self.codec.decode, b"\x91" + payload)

    # -- registered types --

    def test_registered_types_arrive_as_what_they_were(self) -> None:
        """An Enum, a namedtuple and a dataclass arrive as what they were, in each other and as
        keys."""
        job = Job("x", datetime.date(2026, 1, 1))
        for value in (
            Color.RED,
            Point(1, Color.RED),
            [job, {"a": (Point(job, {}),)}],
            {Color.RED: {Color.RED}},
            nested(15, Color.RED, lambda one: Point(one, None)),
        ):
            arrived = self.again(value)
            self.assertEqual(arrived, value)
            self.assertIs(type(arrived), type(value))

    def test_registered_functions_errors_name_the_place(self) -> None:
        """What goes wrong in either function is an error with the place, or of that value only."""
        problem = self.refused({"a": [Refusing(True)]})
        self.assertEqual(problem.path, 'value["a"][0]')
        self.assertIn("ZeroDivisionError: not now", str(problem))
        problem = self.refused({"a": Refusing(None)})  # type: ignore[arg-type]
        self.assertEqual(problem.path, 'to_value(value["a"])[0]')
        self.assertEqual(problem.type_name, "object")
        received = self.assertRaises(ValueNotReceivable, self.again, [Refusing()])
        self.assertIn("nobody knows 5", str(received))
        self.assertIn("nobody knows 5", str(received.__cause__))
        self.assertIsNone(received.__context__)
        payload = self.codec.encode(Point(1, 2)).replace(b"test.Point", b"test.P\x1bint")
        received = self.assertRaises(ValueNotReceivable, self.codec.decode, payload)
        self.assertIn(repr("test.P\x1bint"), str(received))
        self.assertIn("register_type", str(received))
        self.refused(nested(17, Color.RED, lambda one: Point(one, None)))

    def test_senseless_registrations_are_refused(self) -> None:
        """Classes that can be sent as they are, names that are another's, and what is no class."""
        function: Callable[[Any], Any] = str
        for cls in (int, str, dict, datetime.date, Decimal, uuid.UUID, range, pathlib.Path("x")):
            kind = cls if isinstance(cls, type) else type(cls)
            self.assertRaises(ValueError, pycomnet.register_type, kind, "t", function, function)
        for name in ("", "x" * 300, "test.Color"):
            self.assertRaises(ValueError, pycomnet.register_type, Fake, name, function, function)
        self.assertRaises(TypeError, pycomnet.register_type, Color.RED, "t", function, function)
        self.assertRaises(TypeError, pycomnet.register_type, Fake, "t", None, function)
        # The same class again, as a module that is loaded again has it.
        functional: Any = enum.Enum
        again = functional("Color", {"RED": "red"}, module=__name__, qualname="Color")
        kinds.register_type(again, "test.Color", lambda one: one.value, again)
        self.assertIs(type(self.again(again.RED)), again)
        kinds.register_type(Color, "test.Color", lambda one: one.value, Color)


class Fake:
    """Not registered."""


class PureKindTests(KindTests, SynchronousTestCase):
    """The codec in pure Python."""

    make = PureCodec

    def test_hello_codec_makes_none_of_these_types(self) -> None:
        """What comes before a peer is known makes none of them, and runs nobody's function."""
        plain = PureCodec(kinds=False)
        kept: Any = OrderedDict()
        for value in (datetime.date.today(), Point(1, 2), pathlib.Path("a"), [kept]):
            self.assertRaises(InvalidValue, plain.decode, PURE.encode(value))
        self.assertEqual(plain.decode(PURE.encode([(1,)])), [(1,)])


class RustKindTests(KindTests, SynchronousTestCase):
    """The codec on ormsgpack."""

    make = RustCodec


def outcome(decode: Callable[[bytes], object], payload: bytes) -> Any:
    """The shape of what a payload is decoded to, or the class of its error."""
    try:
        return shape(decode(payload))
    except (InvalidValue, ValueNotReceivable) as problem:
        return type(problem)


class BothKindTests(SynchronousTestCase):
    """The two codecs against each other."""

    test_both_codecs_make_the_same_bytes = bounded(same_bytes(PURE, RUST, values, shape))

    @settings(bounded, max_examples=examples(150))
    @given(values, st.data())
    def test_both_codecs_read_mutated_bytes_alike(self, value: Any, data: st.DataObject) -> None:
        """They accept the same of what was changed on its way, and read the same in it."""
        payload = bytearray(PURE.encode(value))
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(payload) - 1))
            payload[place] = data.draw(st.integers(0, 255))
        self.assertEqual(outcome(RUST.decode, bytes(payload)), outcome(PURE.decode, bytes(payload)))
