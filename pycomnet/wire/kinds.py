"""Types that MessagePack does not have: those of the standard library, and registered types.

docs/protocol.rst, "Values", is the specification. The codecs import this module when they first
meet such a type or its extension. This module imports a type's own module only when a value of the
type arrives. So a far side that uses none of them does not load them.
"""

import struct
import sys

from .values import (
    DUMPERS,
    MAX_INT,
    InvalidValue,
    Refused,
    ValueNotReceivable,
    is_plain,
    text,
    type_name,
)

DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, UUID = 8, 9, 10, 11, 12, 13
FRACTION, RANGE, PATH, ORDERED, REGISTERED = 14, 15, 16, 17, 18

#: The most bytes of each number of a Fraction: the time to reduce it grows with the square.
MAX_FRACTION = 1024
#: The most characters of a Decimal: Python 2's time to read it grows with the square.
MAX_DECIMAL = MAX_INT
#: The most characters of a registered type's name.
MAX_NAME = 255

_DATETIME = struct.Struct(">HBBBBBBI")
_TIME = struct.Struct(">BBBBI")
_DATE = struct.Struct(">HBB")
_TIMEDELTA = struct.Struct(">iII")
_OFFSET = struct.Struct(">q")
#: The first byte of an encoded time zone.
_FIXED, _NAMED = b"\x01", b"\x02"
#: Microseconds of a day.
_DAY = 86400 * 1000000
_INTS = (int, type(1 << 70))
_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
_DECIMAL_CHARACTERS = frozenset("0123456789+-.eEnNsSaAiIfFtTyY")

#: name -> the class that is registered under it, and its ``from_value``
_registered = {}
#: the classes that users registered
_classes = set()


def register_type(cls, name, to_value, from_value):
    """Register a class, so that its objects can be sent and arrive as that class.

    Both ends have to do this.

    :param cls: the class itself; subclasses are not included.
    :param name: its name on the wire; the same at both ends.
    :param to_value: makes a value of any type that can be sent from an object of the class.
    :param from_value: makes the object again. It gets whatever the other end sends, and has to
        check that if the other end isn't trusted.
    :raises ValueError: another class has the name, or the class needs no registration.
    """
    if not isinstance(cls, type):
        raise TypeError("a class is registered, not %s" % type_name(type(cls)))
    if type(name) not in (str, text) or not 0 < len(name) <= MAX_NAME:
        raise ValueError("name: text of 1 to %d characters, not %.60r" % (MAX_NAME, name))
    if not callable(to_value) or not callable(from_value):
        raise TypeError("to_value and from_value are functions")
    if is_plain(cls) or (cls not in _classes and dumper_of(cls) is not None):
        raise ValueError("%s can be sent without being registered" % type_name(cls))
    name = text(name)
    other = _registered.get(name)
    if other is not None and type_name(other[0]) != type_name(cls):
        raise ValueError("the name %s is that of %s" % (name, type_name(other[0])))

    def dump(value):
        try:
            plain = to_value(value)
        except Exception as error:
            raise Refused("its to_value raised %s: %s" % (type_name(type(error)), error))
        return REGISTERED, [name, plain]

    _registered[name] = cls, from_value
    _classes.add(cls)
    DUMPERS[cls] = dump


# -- sending -------------------------------------------------------------------------------------


def dumper_of(kind):
    """The function that turns a type's values into a code, and bytes or a list; or None.

    A standard type is recognised only if it is the class that its loaded module has by that name.
    """
    found = DUMPERS.get(kind)
    if found is None:
        name = type.__dict__["__name__"].__get__(kind)
        known = _STANDARD.get(name)
        if known is None:
            return None
        module, found = known
        loaded = sys.modules.get(module)
        if loaded is None or getattr(loaded, name, None) is not kind:
            return None
        DUMPERS[kind] = found
    return found


def _dump_datetime(value):
    data = _DATETIME.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        getattr(value, "fold", 0),
        value.microsecond,
    )
    return DATETIME, data + _dump_zone(value.tzinfo)


def _dump_time(value):
    fold = getattr(value, "fold", 0)
    data = _TIME.pack(value.hour, value.minute, value.second, fold, value.microsecond)
    return TIME, data + _dump_zone(value.tzinfo)


def _dump_zone(zone):
    if zone is None:
        return b""
    kind = type(zone)
    fixed = _fixed_offset()
    if kind is fixed:
        delta = zone.utcoffset(None)
        micros = (delta.days * 86400 + delta.seconds) * 1000000 + delta.microseconds
        name = zone.tzname(None)
        if name == fixed(delta).tzname(None):
            name = ""
        return _FIXED + _OFFSET.pack(micros) + _utf8(name)
    loaded = sys.modules.get("zoneinfo")
    if loaded is not None and kind is loaded.ZoneInfo:
        if not zone.key:
            raise Refused("its ZoneInfo has no key: it was made from a file")
        return _NAMED + _utf8(zone.key)
    words = "its tzinfo is a %s: only datetime.timezone and zoneinfo.ZoneInfo can be sent, so"
    words += " convert it with astimezone() first"
    raise Refused(words % type_name(kind))


def _utf8(name):
    try:
        return name.encode("utf-8")
    except UnicodeError as error:
        raise Refused("its time zone's name is not UTF-8: %s" % error)


def _dump_decimal(value):
    data = str(value).encode("ascii")
    if len(data) > MAX_DECIMAL:
        raise Refused("it has %d characters, and %d are the limit" % (len(data), MAX_DECIMAL))
    return DECIMAL, data


def _dump_fraction(value):
    for number in (value.numerator, value.denominator):
        if number.bit_length() > 8 * MAX_FRACTION - 1:
            raise Refused("its numbers are longer than %d bytes" % MAX_FRACTION)
    return FRACTION, [value.numerator, value.denominator]


def _dump_range(value):
    if hasattr(value, "start"):
        return RANGE, [value.start, value.stop, value.step]
    numbers = value.__reduce__()[1]  # Python 2's xrange has no other way to get them
    return RANGE, list(numbers)


def _dump_ordered(value):
    flat = []
    for pair in list(value.items()):
        flat.extend(pair)
    return ORDERED, flat


def _dump_path(value):
    return PATH, [_PATHS.index(type(value).__name__), str(value)]


_STANDARD = {
    "datetime": ("datetime", _dump_datetime),
    "date": ("datetime", lambda value: (DATE, _DATE.pack(value.year, value.month, value.day))),
    "time": ("datetime", _dump_time),
    "timedelta": (
        "datetime",
        lambda value: (TIMEDELTA, _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)),
    ),
    "Decimal": ("decimal", _dump_decimal),
    "UUID": ("uuid", lambda value: (UUID, value.bytes)),
    "Fraction": ("fractions", _dump_fraction),
    "OrderedDict": ("collections", _dump_ordered),
    "range": ("builtins", _dump_range),
    "xrange": ("__builtin__", _dump_range),
}
_STANDARD.update((name, ("pathlib", _dump_path)) for name in _PATHS)


# -- receiving -----------------------------------------------------------------------------------


def load(code, data):
    """Decode an extension whose data are bytes."""
    if code == DATETIME:
        return _load_datetime(data)
    if code == TIME:
        return _load_time(data)
    if code == DATE:
        import datetime

        return _checked("date", datetime.date, *_unpacked(_DATE, data, "date"))
    if code == TIMEDELTA:
        import datetime

        days, seconds, micros = _unpacked(_TIMEDELTA, data, "timedelta")
        if seconds >= 86400 or micros >= 1000000:
            raise InvalidValue("a timedelta of %d seconds, %d microseconds" % (seconds, micros))
        return _checked("timedelta", datetime.timedelta, days, seconds, micros)
    if code == DECIMAL:
        return _load_decimal(data)
    if code == UUID and len(data) == 16:
        import uuid

        return uuid.UUID(bytes=data)
    raise InvalidValue("no value is an extension of type %d and %d bytes" % (code, len(data)))


def make(code, items):
    """Decode an extension whose data are an array."""
    if code == REGISTERED:
        return _load_registered(items)
    if code == ORDERED:
        from collections import OrderedDict

        if len(items) % 2:
            raise InvalidValue("an OrderedDict of %d keys and values" % len(items))
        return OrderedDict(zip(items[::2], items[1::2]))
    if code == PATH:
        return _load_path(items)
    for number in items:
        if type(number) not in _INTS:
            raise InvalidValue("a Fraction or range of %s" % type_name(type(number)))
    if code == FRACTION and len(items) == 2:
        numerator, denominator = items
        limit = 8 * MAX_FRACTION - 1
        if denominator <= 0 or max(numerator.bit_length(), denominator.bit_length()) > limit:
            raise InvalidValue("a Fraction's denominator is above 0, and its numbers have a limit")
        from fractions import Fraction

        return Fraction(numerator, denominator)
    if code == RANGE and len(items) == 3 and items[2]:
        try:
            return _range(*items)
        except OverflowError as error:  # Python 2's xrange is limited to a C long
            raise ValueNotReceivable("a range can't be had here: %s" % error)
    raise InvalidValue("a Fraction or range of %d numbers" % len(items))


_range = range if str is not bytes else xrange  # noqa: F821


def _unpacked(form, data, name):
    if len(data) != form.size:
        raise InvalidValue("a %s of %d bytes" % (name, len(data)))
    return form.unpack(data)


def _checked(name, cls, *fields):
    try:
        return cls(*fields)
    except (ValueError, OverflowError) as error:
        raise InvalidValue("a %s that is none: %s" % (name, error))


def _load_datetime(data):
    import datetime

    size = _DATETIME.size
    fields = _unpacked(_DATETIME, data[:size], "datetime")
    value = _checked("datetime", datetime.datetime, *(fields[:6] + fields[7:]))
    return _completed(value, fields[6], data[size:])


def _load_time(data):
    import datetime

    size = _TIME.size
    fields = _unpacked(_TIME, data[:size], "time")
    value = _checked("time", datetime.time, *(fields[:3] + fields[4:]))
    return _completed(value, fields[3], data[size:])


def _completed(value, fold, zone):
    """Add zone and fold to a date or time."""
    if fold > 1:
        raise InvalidValue("a fold of %d" % fold)
    if zone:
        value = value.replace(tzinfo=_load_zone(zone))
    if fold and hasattr(value, "fold"):
        value = value.replace(fold=1)
    return value


def _load_zone(data):
    kind, data = data[:1], data[1:]
    if kind == _FIXED and len(data) >= _OFFSET.size:
        (micros,) = _OFFSET.unpack(data[: _OFFSET.size])
        name = data[_OFFSET.size :].decode("utf-8")
        if not -_DAY < micros < _DAY:
            raise InvalidValue("an offset of %d microseconds" % micros)
        from datetime import timedelta

        offset = timedelta(microseconds=micros)
        try:
            fixed = _fixed_offset()
            return fixed(offset, name) if name else fixed(offset)
        except ValueError as error:  # older Pythons want whole minutes
            raise ValueNotReceivable("a time's offset can't be had here: %s" % error)
    if kind == _NAMED and data:
        key = data.decode("utf-8")
        try:
            from zoneinfo import ZoneInfo

            return ZoneInfo(key)
        except Exception as error:
            raise ValueNotReceivable(
                "the time zone %s can't be had here (%s): send the time with a fixed offset,"
                " as astimezone(timezone.utc) makes it" % (ascii_of(key), error)
            )
    raise InvalidValue("a time zone of kind %r and %d bytes" % (kind, len(data)))


def ascii_of(name):
    """An untrusted name for a message: shortened, without control characters."""
    return repr(name[:60]).lstrip("u")


_fixed = []


def _fixed_offset():
    """``datetime.timezone``, or a replacement for it in Python 2."""
    if not _fixed:
        import datetime

        found = getattr(datetime, "timezone", None)
        _fixed.append(found if found is not None else _make_fixed_offset(datetime))
    return _fixed[0]


def _make_fixed_offset(datetime):
    class FixedOffset(datetime.tzinfo):
        """A fixed offset from UTC, as ``datetime.timezone`` of Python 3."""

        def __init__(self, offset, name=None):
            if offset.microseconds or offset.seconds % 60:
                raise ValueError("it is not of whole minutes")
            self._offset = offset
            minutes = offset.days * 1440 + offset.seconds // 60
            shown = "UTC"
            if minutes:
                shown += "%s%02d:%02d" % (("-" if minutes < 0 else "+",) + divmod(abs(minutes), 60))
            self._name = name or text(shown)

        def utcoffset(self, when):
            """The offset."""
            return self._offset

        def dst(self, when):
            """No summer time."""
            return None

        def tzname(self, when):
            """The name."""
            return self._name

        def __eq__(self, other):
            return type(other) is FixedOffset and other._offset == self._offset

        def __ne__(self, other):
            return not self == other

        def __hash__(self):
            return hash(self._offset)

        def __repr__(self):
            return "FixedOffset(%r, %r)" % (self._offset, self._name)

        def __reduce__(self):
            return _fixed_offset, ()

    return FixedOffset


def _load_decimal(data):
    written = data.decode("ascii")
    if len(written) > MAX_DECIMAL or not written or not _DECIMAL_CHARACTERS.issuperset(written):
        raise InvalidValue("a Decimal of %d characters" % len(written))
    import decimal

    # The user's context may have no traps; then any text would become NaN.
    context = decimal.Context(traps=[decimal.InvalidOperation])
    try:
        with decimal.localcontext(context):
            return decimal.Decimal(written)
    except (decimal.InvalidOperation, ValueError, OverflowError, MemoryError):
        if _is_number(written):
            raise ValueNotReceivable("the Decimal %s is too large here" % ascii_of(written))
        raise InvalidValue("the Decimal %s" % ascii_of(written))


def _is_number(written):
    """Whether the text is a number, perhaps with an exponent of any size."""
    digits, _, exponent = written.lower().partition("e")
    digits = digits.lstrip("+-").replace(".", "", 1)
    return digits.isdigit() and exponent.lstrip("+-").isdigit()


def _load_path(items):
    if len(items) != 2 or type(items[0]) is not int or not 0 <= items[0] < len(_PATHS):
        raise InvalidValue("a path that is none")
    kind, written = items
    if type(written) is not text and type(written) is not str:
        raise InvalidValue("a path of %s" % type_name(type(written)))
    try:
        import pathlib
    except ImportError:
        raise ValueNotReceivable(
            "a pathlib.%s came, and this Python has no pathlib: send str(path)" % _PATHS[kind]
        )
    if kind >= 2 and type(pathlib.Path()).__name__ != _PATHS[kind]:
        kind -= 2  # another system's path becomes a pure path
    return getattr(pathlib, _PATHS[kind])(written)


def _load_registered(items):
    if len(items) != 2 or type(items[0]) not in (str, text):
        raise InvalidValue("a registered type is its name and a value")
    name, value = items
    known = _registered.get(name)
    if known is None:
        raise ValueNotReceivable(
            "a value of the registered type %s came, and no type is registered by that name at"
            " this end: import the module that registers it (register_type) here, too"
            % ascii_of(name)
        )
    cls, from_value = known
    try:
        return from_value(value)
    except Exception as error:
        problem = ValueNotReceivable(
            "a %s: its from_value raised %s: %s" % (type_name(cls), type_name(type(error)), error)
        )
        problem.__cause__ = error  # the user's own code is in its traceback
        raise problem
