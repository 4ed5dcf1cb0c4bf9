"""What each kind of value is as bytes: the vectors that every codec is held to.

They are from docs/protocol.rst and MessagePack's specification, written out by hand. This is in the
common subset of Python 2.7 and 3, so that any interpreter that the codec runs on can be asked.
"""

# ruff: noqa: UP004, UP010, UP031, SIM105
from __future__ import unicode_literals

import datetime
from binascii import unhexlify
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

try:
    import pathlib
except ImportError:  # Python 2
    pathlib = None  # type: ignore[assignment]


class Channel(object):
    """Stands for a channel, which is its id."""

    def __init__(self, id):
        self.id = id

    def __eq__(self, other):
        return type(other) is Channel and other.id == self.id

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return "Channel(%d)" % self.id


def channel_id(channel):
    """What a codec is given to dump channels."""
    return channel.id


#: The arguments of a codec that knows these channels.
CHANNELS = (Channel, channel_id, Channel)

RANGE = range
if bytes is str:  # type: ignore[comparison-overlap]
    RANGE = xrange  # type: ignore[name-defined,misc] # noqa: F821
INFINITY = float("inf")


def nested(depth, inner, make):
    """``inner`` in so many containers."""
    for _ in range(depth):
        inner = make(inner)
    return inner


#: (name, value, its bytes in hex); spaces are for the eye
VECTORS = [
    ("nil", None, "c0"),
    ("false", False, "c2"),
    ("true", True, "c3"),
    # int: the shortest form at each boundary
    ("int 0", 0, "00"),
    ("int 7 bits, most", 127, "7f"),
    ("uint8, least", 128, "cc 80"),
    ("uint8, most", 255, "cc ff"),
    ("uint16, least", 256, "cd 0100"),
    ("uint16, most", 65535, "cd ffff"),
    ("uint32, least", 65536, "ce 00010000"),
    ("uint32, most", 2**32 - 1, "ce ffffffff"),
    ("uint64, least", 2**32, "cf 0000000100000000"),
    ("int64, most", 2**63 - 1, "cf 7fffffffffffffff"),
    ("uint64 above int64", 2**63, "cf 8000000000000000"),
    ("uint64, most", 2**64 - 1, "cf ffffffffffffffff"),
    ("int -1", -1, "ff"),
    ("int 5 bits, least", -32, "e0"),
    ("int8, most", -33, "d0 df"),
    ("int8, least", -128, "d0 80"),
    ("int16, most", -129, "d1 ff7f"),
    ("int16, least", -32768, "d1 8000"),
    ("int32, most", -32769, "d2 ffff7fff"),
    ("int32, least", -(2**31), "d2 80000000"),
    ("int64, below int32", -(2**31) - 1, "d3 ffffffff7fffffff"),
    ("int64, least", -(2**63), "d3 8000000000000000"),
    # int: the extension; the top bit is the sign
    ("big int, least positive", 2**64, "c7 09 05 01 0000000000000000"),
    ("big int, most negative", -(2**63) - 1, "c7 09 05 ff 7fffffffffffffff"),
    ("big int, -2**64", -(2**64), "c7 09 05 ff 0000000000000000"),
    ("big int, 9 bytes, most", 2**71 - 1, "c7 09 05 7f ffffffffffffffff"),
    ("big int, 10 bytes, least", 2**71, "c7 0a 05 00 80 0000000000000000"),
    ("big int, 9 bytes, least", -(2**71), "c7 09 05 80 0000000000000000"),
    ("big int, 16 bytes", 2**127 - 1, "d8 05 7f" + "ff" * 15),
    ("big int, 17 bytes", 2**127, "c7 11 05 00 80" + "00" * 15),
    ("big int, 256 bytes", 2**2047 - 1, "c8 0100 05 7f" + "ff" * 255),
    ("big int, all bytes", 2**524287 - 1, "c9 00010000 05 7f" + "ff" * 65535),
    # float: always 64 bit
    ("float 0", 0.0, "cb 0000000000000000"),
    ("float -0", -0.0, "cb 8000000000000000"),
    ("float 1.5", 1.5, "cb 3ff8000000000000"),
    ("float 1e300", 1e300, "cb 7e37e43c8800759c"),
    ("float, least above 0", 5e-324, "cb 0000000000000001"),
    ("float inf", INFINITY, "cb 7ff0000000000000"),
    ("float -inf", -INFINITY, "cb fff0000000000000"),
    # str
    ("str, empty", "", "a0"),
    ("str", "abc", "a3 616263"),
    ("str, 31 bytes", "a" * 31, "bf" + "61" * 31),
    ("str, 32 bytes", "a" * 32, "d9 20" + "61" * 32),
    ("str, 255 bytes", "a" * 255, "d9 ff" + "61" * 255),
    ("str, 256 bytes", "a" * 256, "da 0100" + "61" * 256),
    ("str, 65535 bytes", "a" * 65535, "da ffff" + "61" * 65535),
    ("str, 65536 bytes", "a" * 65536, "db 00010000" + "61" * 65536),
    ("str, UTF-8", "\xe9\u20ac\U0001f600", "a9 c3a9 e282ac f09f9880"),
    ("str, 32 bytes in 16 characters", "\xe9" * 16, "d9 20" + "c3a9" * 16),
    ("str, NUL", "\0", "a1 00"),
    ("str, last before the surrogates", "\ud7ff\ue000", "a6 ed9fbf ee8080"),
    # bin
    ("bytes, empty", b"", "c4 00"),
    ("bytes", b"\x00\xff", "c4 02 00ff"),
    ("bytes, 255", b"\xff" * 255, "c4 ff" + "ff" * 255),
    ("bytes, 256", b"\xff" * 256, "c5 0100" + "ff" * 256),
    ("bytes, 65535", b"\xff" * 65535, "c5 ffff" + "ff" * 65535),
    ("bytes, 65536", b"\xff" * 65536, "c6 00010000" + "ff" * 65536),
    # array and map
    ("list, empty", [], "90"),
    ("list", [1, ["a"], None], "93 01 91 a161 c0"),
    ("list of 15", [1] * 15, "9f" + "01" * 15),
    ("list of 16", [1] * 16, "dc 0010" + "01" * 16),
    ("list of 65535", [1] * 65535, "dc ffff" + "01" * 65535),
    ("list of 65536", [1] * 65536, "dd 00010000" + "01" * 65536),
    ("list, 255 deep", nested(254, [], lambda x: [x]), "91" * 254 + "90"),
    ("dict, empty", {}, "80"),
    ("dict", {"a": [1.0]}, "81 a161 91 cb3ff0000000000000"),
    ("dict, 255 deep", nested(254, {}, lambda x: {"k": x}), "81a16b" * 254 + "80"),
    ("dict, a long key", {"a" * 40: 1}, "81 d928" + "61" * 40 + "01"),
    ("dict, None as key", {None: None}, "81 c0 c0"),
    ("dict, bool as key", {False: 1}, "81 c2 01"),
    ("dict, int as key", {-1: 1}, "81 ff 01"),
    ("dict, long int as key", {300: 1}, "81 cd012c 01"),
    ("dict, big int as key", {2**64: 1}, "81 c709 05 010000000000000000 01"),
    ("dict, float as key", {1.5: 1}, "81 cb3ff8000000000000 01"),
    ("dict, complex as key", {1j: 1}, "81 d804 0000000000000000 3ff0000000000000 01"),
    ("dict, bytes as key", {b"\xff": 1}, "81 c401ff 01"),
    ("dict, empty tuple as key", {(): 1}, "81 90 01"),
    ("dict, tuple as key", {(1, "a"): 1}, "81 92 01 a161 01"),
    ("dict, tuple in tuple as key", {(1, (2, ())): (3,)}, "81 92 01 92 02 90 d5019103"),
    ("dict, frozenset as key", {frozenset([1]): 1}, "81 d5039101 01"),
    ("dict, tuple in frozenset as key", {frozenset([(1,)]): 1}, "81 c7050391 d5019101 01"),
    ("dict, frozenset in tuple as key", {(frozenset([1]),): 1}, "81 91 d5039101 01"),
    ("dict, channel as key", {Channel(3): 1}, "81 d606 00000003 01"),
    # the extensions
    ("tuple, empty", (), "d4 01 90"),
    ("tuple", (1, "a"), "d6 01 92 01 a161"),
    ("tuple of 14, 15 bytes", (1,) * 14, "c7 0f 01 9e" + "01" * 14),
    ("tuple of 15, 16 bytes", (1,) * 15, "d8 01 9f" + "01" * 15),
    ("tuple of 16", (1,) * 16, "c7 13 01 dc0010" + "01" * 16),
    ("tuple of 256", (1,) * 256, "c8 0103 01 dc0100" + "01" * 256),
    ("tuple of 65536", (1,) * 65536, "c9 00010005 01 dd00010000" + "01" * 65536),
    ("tuple in tuple", ((), (1,)), "d7 01 92 d40190 d5019101"),
    ("tuple in list in tuple", ([(1,)],), "c7 06 01 91 91 d5019101"),
    ("set, empty", set(), "d4 02 90"),
    ("set", set([1]), "d5 02 91 01"),
    ("set of a tuple", set([(1,)]), "c7 05 02 91 d5019101"),
    ("frozenset, empty", frozenset(), "d4 03 90"),
    ("frozenset in set", set([frozenset([None])]), "c7 05 02 91 d50391c0"),
    ("complex", complex(1.5, -0.0), "d8 04 3ff8000000000000 8000000000000000"),
    ("channel", Channel(1), "d6 06 00000001"),
    (
        "channels",
        [Channel(1), {"c": (Channel(2**32 - 1),)}],
        "92 d60600000001 81 a163 c707 01 91 d606ffffffff",
    ),
]

VECTORS += [
    (
        "datetime",
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
        "c7 0c 08 07ea 0102 030405 00 00000006",
    ),
    ("datetime, last", datetime.datetime.max, "c7 0c 08 270f 0c1f 173b3b 00 000f423f"),
    ("date", datetime.date(2026, 1, 2), "d6 09 07ea 01 02"),
    ("date, first", datetime.date.min, "d6 09 0001 01 01"),
    ("time", datetime.time(23, 59, 58, 999999), "d7 0a 17 3b 3a 00 000f423f"),
    ("timedelta", datetime.timedelta(1, 2, 3), "c7 0c 0b 00000001 00000002 00000003"),
    ("timedelta, -1 us", datetime.timedelta(0, 0, -1), "c7 0c 0b ffffffff 0001517f 000f423f"),
    ("timedelta, least", datetime.timedelta.min, "c7 0c 0b c4653601 00000000 00000000"),
    ("Decimal", Decimal("-1.50"), "c7 05 0c 2d312e3530"),
    ("Decimal, exponent", Decimal("1E+400"), "c7 06 0c 31452b343030"),
    ("Decimal, infinity", Decimal("-Infinity"), "c7 09 0c 2d496e66696e697479"),
    ("UUID", UUID(int=1), "d8 0d 00000000000000000000000000000001"),
    ("Fraction", Fraction(-3, 4), "c7 03 0e 92 fd 04"),
    ("Fraction, long", Fraction(2**70, 3), "c7 0e 0e 92 c70905400000000000000000 03"),
    ("range", RANGE(1, 9, 2), "d6 0f 93 01 09 02"),
    ("OrderedDict", OrderedDict([("b", 1), ("a", [])]), "c7 07 11 94 a162 01 a161 90"),
    ("OrderedDict, empty", OrderedDict(), "d4 11 90"),
    ("OrderedDict, a tuple as key", OrderedDict([((1,), 2)]), "c7 06 11 92 d5019101 02"),
    ("date as key", {datetime.date(2026, 1, 2): 1}, "81 d60907ea0102 01"),
    ("UUID in set", set([UUID(int=0)]), "c7 13 02 91 d80d" + "00" * 16),
    ("Fraction in tuple", (Fraction(1, 2),), "c7 07 01 91 c7030e920102"),
]
if pathlib is not None:
    VECTORS += [
        ("path, pure", pathlib.PurePosixPath("/a"), "c7 05 10 92 00 a2 2f61"),
        ("path, pure, of Windows", pathlib.PureWindowsPath("a"), "d6 10 92 01 a161"),
    ]
if hasattr(datetime, "timezone"):
    _zone = datetime.timezone(datetime.timedelta(hours=-1), "X")
    VECTORS += [
        (
            "datetime, UTC",
            datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc),
            "c7 15 08 07ea 0102 030405 00 00000006 01 0000000000000000",
        ),
        (
            "time, named offset",
            datetime.time(1, 2, 3, 4, _zone),
            "c7 12 0a 01 02 03 00 00000004 01 ffffffff296c5c00 58",
        ),
    ]

#: Each way in which bytes are not a value.
INVALID = [
    "",
    "c1",  # MessagePack never uses it
    "91 c1",
    "a1",  # nothing follows
    "91",
    "81",
    "81 01",
    "c4",
    "cb 00",
    "d6 ff 00000000",  # a timestamp
    "d4 00 00",  # other extensions
    "d4 13 00",
    "d4 7f 00",
    "d4 80 00",
    "d4 08 00",  # datetime, date, time, timedelta: too short, too long, or none
    "c7 0c 08 07ea 0d02 030405 00 00000006",
    "c7 0c 08 07ea 0102 030405 02 00000006",
    "c7 0c 08 07ea 0102 030405 00 000f4240",
    "c7 0c 08 0000 0102 030405 00 00000006",
    "c7 0d 08 07ea 0102 030405 00 00000006 03",  # a zone of no kind, ...
    "c7 0d 08 07ea 0102 030405 00 00000006 01",
    "c7 0d 08 07ea 0102 030405 00 00000006 02",  # ... without a key, or not UTF-8
    "c7 0e 08 07ea 0102 030405 00 00000006 02 ff",
    "c7 15 08 07ea 0102 030405 00 00000006 01 000000141dd76000",  # a day
    "d5 09 07ea",
    "d6 09 07ea 02 1e",
    "c7 05 09 07ea 01 02 00",
    "d4 0a 00",
    "d7 0a 18 00 00 00 00000000",
    "d4 0b 00",
    "c7 0c 0b 00000001 00015180 00000000",
    "c7 0c 0b 00000001 00000000 000f4240",
    "c7 0c 0b 7fffffff 00000000 00000000",
    "c7 00 0c",  # Decimal
    "d4 0c 78",
    "d5 0c 3120",
    "d5 0c 315f",
    "d5 0c ff31",
    "c9 00010001 0c" + "31" * 65537,
    "d4 0d 00",  # UUID
    "d4 0e 90",  # Fraction
    "d5 0e 91 01",
    "c7 03 0e 92 01 00",
    "c7 03 0e 92 01 ff",
    "c7 03 0e 92 01 c3",
    "c7 04 0e 93 01 01 01",
    "c8 0407 0e 92 01 c8 0401 05 01" + "00" * 1024,
    "d4 0f 90",  # range
    "d6 0f 93 01 09 00",
    "d6 0f 93 01 09 c2",
    "d4 10 90",  # path
    "c7 03 10 92 04 a0",
    "c7 03 10 92 ff a0",
    "c7 03 10 92 00 01",
    "d5 11 91 01",  # OrderedDict
    "c7 03 11 92 90 01",
    "d4 12 90",  # registered
    "c7 03 12 92 01 01",
    "c7 05 12 93 a1 61 01 01",
    "c7 00 05",  # an int of no bytes, and of too many
    "c9 00010001 05" + "01" * 65537,
    "d4 04 00",  # complex
    "d7 04 0000000000000000",
    "d4 06 00",  # channel
    "c7 05 06 0000000001",
    "d4 07 ff",  # str with surrogates
    "a1 ff",  # not UTF-8
    "a3 eda080",
    "a2 c080",
    "81 a1 ff 01",
    "d9 01 ff",
    "d4 01 01",  # a tuple that is no array
    "d4 01 80",
    "d5 01 a161",
    "d4 01 91",
    "c7 00 01",
    "d4 01 91 01",  # an array that ends after its extension
    "d5 01 92 01 02",
    "93 d5 01 92 01 02 03",
    "c7 ff 01 90",  # an extension that ends after the payload
    "d5 02 91 90",  # a list, dict or set in a set
    "d5 03 91 80",
    "c7 04 02 91 d4 02 90",
    "81 80 01",  # and as a key
    "81 91 80 01",
    "81 d4 02 90 01",
    "81 d5 01 91 90 01",
    "81 91 d4 02 90 01",
]

#: Forms that a receiver reads though a sender doesn't use them, and what they are.
OTHER_FORMS = [
    ("cc 01", 1),
    ("d3 ffffffffffffffff", -1),
    ("ca 3fc00000", 1.5),
    ("d9 01 61", "a"),
    ("db 00000001 61", "a"),
    ("c6 00000001 ff", b"\xff"),
    ("dd 00000001 01", [1]),
    ("df 00000001 a161 01", {"a": 1}),
    ("81 d9 01 61 01", {"a": 1}),
    ("81 dc 0001 01 02", {(1,): 2}),
    ("c9 00000002 01 91 01", (1,)),
    ("c7 02 05 00 01", 1),
    ("81 d5 01 91 01 02", {(1,): 2}),
    ("82 a161 01 a161 02", {"a": 2}),
    ("82 01 02 c3 04", {1: 4}),
    ("d4 07 61", "a"),
    ("c7 04 01 91 01 c1 c1 02", (1,)),
]


def unhex(written):
    """The bytes that are written so in this file."""
    return unhexlify(written.replace(" ", "").encode("ascii"))


def escaped(s):
    """What ``\\u`` escapes stand for; as literals Jython would refuse the whole file for them."""
    return s.encode("ascii").decode("unicode_escape")


try:
    VECTORS += [
        ("str, a lone surrogate", escaped("\\ud800"), "c7 03 07 eda080"),
        ("str, a low surrogate", escaped("a\\udfff"), "d6 07 61 edbfbf"),
        ("str, many surrogates", escaped("\\udc80") * 100, "c8 012c 07" + "edb280" * 100),
        ("dict, lone surrogate as key", {escaped("\\ud800"): 1}, "81 c70307eda080 01"),
    ]
except UnicodeDecodeError:  # it has none
    pass
