"""Values as bytes: MessagePack with its extension types, in pure Python.

docs/protocol.rst, "Values", is the specification. This source is sent to bare far sides: stdlib
only, short, and in the common subset of Python 2.7 and 3. Each direction is one loop with a stack
of its own: a pure Python codec that calls a function per item spends most of its time on that, and
a loop never hits the interpreter's recursion limit.
"""

import struct
import sys
from io import BytesIO
from itertools import chain, repeat

try:
    from itertools import izip as zip
except ImportError:
    pass

PY2 = sys.version_info[0] == 2
text = type(b"".decode("ascii"))

#: How deep containers nest when sent, counted from the value or the extension around them.
MAX_DEPTH = 255
#: How deep tuples, sets and frozensets nest.
MAX_EXTENSIONS = 32
#: How deep containers nest when received. ormsgpack has about this limit, and both codecs accept
#: the same.
MAX_OPEN = 1024
#: The most bytes of an int: a decoder's time may grow with the square.
MAX_INT = 65536
#: The most bytes of an encoded value and of each part of it.
MAX_VALUE = 0xFFFFFFFF
#: The most elements, keys and values of one received value, nested ones included. This bounds the
#: memory that a payload can become: one byte can be an empty dict, which takes about a hundred.
#: Sixteen million are 1.6 GB of those, or 128 MB of small ints.
MAX_ITEMS = 1 << 24
#: How many keys are cached with their encoding, in each direction, as messages repeat them.
MAX_KEYS = 1024

TUPLE, SET, FROZENSET, COMPLEX, INT, CHANNEL, SURROGATES = 1, 2, 3, 4, 5, 6, 7
#: The extensions from here on are in ``kinds.py``; those from the second on are arrays.
FIRST_KIND, FIRST_ARRAY, LAST_KIND = 8, 14, 18


def _maker(code):
    def make(items):
        from .kinds import make

        return make(code, items)

    return make


#: extension code -> what makes its value from an array: without ``kinds.py``, and with it
MAKE_PLAIN = {TUPLE: tuple, SET: set, FROZENSET: frozenset}
MAKE = dict(MAKE_PLAIN)
MAKE.update((code, _maker(code)) for code in range(FIRST_ARRAY, LAST_KIND + 1))

SENDABLE = "None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex, "
SENDABLE += "channels, and datetime, date, time, timedelta, Decimal, UUID, Fraction, range, path "
SENDABLE += "and OrderedDict of the standard library can; others with register_type"

#: type -> its dumper (``kinds.dumper_of``), for the types met so far
DUMPERS = {}
#: Stands for the whole value in a path, until the user's name for it is known.
_ROOT = "\0"


class ValueNotSendable(TypeError):
    """A value, or something in it, can't be sent.

    :ivar path: where in the value it is, such as ``value["jobs"][3]``.
    :ivar type_name: its type, with the module unless that is builtins.
    :ivar reason: why it can't be sent.
    """

    def __init__(self, message, path="value", type_name="", reason="", template=""):
        TypeError.__init__(self, message)
        self.path = path
        self.type_name = type_name
        self.reason = reason
        self._template = template or path

    def renamed(self, place, name, part):
        """The same error, with the user's name for the part of the value that can't be sent.

        :param place: where that part is in the value: ``'["args"][0]'``; empty for all of it.
        :param name: the user's name for the part.
        :param part: the part; the error names it itself if the path does not lead through it.
        """
        outer = _ROOT + place
        if outer in self._template:
            template = self._template.replace(outer, name, 1)
            kind = self.type_name
        else:
            template = name
            kind = type_name(type(part))
        return _refusal(template, kind, self.reason)


class InvalidValue(ValueError):
    """Bytes that are not a value, or a value over the limits."""


class TooManyItems(InvalidValue):
    """A value with more elements, keys and values than this end accepts."""


class ValueNotReceivable(ValueError):
    """A value of a type that this end does not have, or whose ``from_value`` raised.

    The connection goes on: only this value is lost. What ``from_value`` raised is the
    ``__cause__``.
    """


class Refused(Exception):
    """The reason why something can't be sent; ``encode`` adds its type and its place."""


class _TooDeep(Exception):
    pass


def _packer(form):
    return struct.Struct(">" + form).pack


def _unpacker(form):
    return struct.Struct(">" + form).unpack, struct.calcsize(">" + form)


_U8, _U16, _U32, _U64 = _packer("BB"), _packer("BH"), _packer("BI"), _packer("BQ")
_I8, _I16, _I32, _I64 = _packer("Bb"), _packer("Bh"), _packer("Bi"), _packer("Bq")
_BYTE, _FLOAT, dump_complex, _ID = _packer("B"), _packer("Bd"), _packer("dd"), _packer("I")

_STR = [_BYTE(0xA0 + n) for n in range(32)]
_ARRAY = [_BYTE(0x90 + n) for n in range(16)]
_MAP = [_BYTE(0x80 + n) for n in range(16)]
_FIXEXT = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}
# The negative ints are at the end, where a negative index finds them.
_INTS = [_BYTE(n) for n in range(128)] + [_U8(0xCC, n) for n in range(128, 256)]
_INTS += [_BYTE(256 + n) for n in range(-32, 0)]


def _head16(n, first):
    return _U16(first, n) if n < 65536 else _U32(first + 1, n)


def _head8(n, first):
    return _U8(first, n) if n < 256 else _head16(n, first + 1)


def _ext(data, code):
    n = len(data)
    return (_FIXEXT[n] if n in _FIXEXT else _head8(n, 0xC7)) + code + data


def _int(n):
    if n >= 0:
        if n < 256:
            return _INTS[n]
        if n < 65536:
            return _U16(0xCD, n)
        if n < 1 << 32:
            return _U32(0xCE, n)
        if n < 1 << 64:
            return _U64(0xCF, n)
    elif n >= -32:
        return _INTS[n]
    elif n >= -128:
        return _I8(0xD0, n)
    elif n >= -32768:
        return _I16(0xD1, n)
    elif n >= -1 << 31:
        return _I32(0xD2, n)
    elif n >= -1 << 63:
        return _I64(0xD3, n)
    return _ext(dump_int(n), b"\x05")


def dump_int(n):
    """The shortest two's complement of an int."""
    from binascii import unhexlify

    size = (n if n >= 0 else ~n).bit_length() // 8 + 1
    if size > MAX_INT:
        raise Refused("it takes %d bytes, and %d are the limit" % (size, MAX_INT))
    return unhexlify(("%0*x" % (2 * size, n if n >= 0 else n + (1 << 8 * size))).encode("ascii"))


def _bytes(data):
    return _head8(len(data), 0xC4) + data


def _buffer(view):
    try:
        _head8(getattr(view, "nbytes", 0), 0xC4)  # refuse an int that is too long before copying it
        return _bytes(view.tobytes())
    except ValueError as error:  # it has been released
        raise Refused(str(error))


def _text(s):
    try:
        data = s.encode("utf-8")
    except UnicodeEncodeError:
        return _ext(s.encode("utf-8", "surrogatepass"), b"\x07")
    if PY2:
        # Python 2 encodes lone surrogates like characters: ED A0 and up.
        at = data.find(b"\xed")
        while at >= 0:
            if data[at + 1] >= b"\xa0":
                return _ext(data, b"\x07")
            at = data.find(b"\xed", at + 1)
    n = len(data)
    return (_STR[n] if n < 32 else _head8(n, 0xD9)) + data


def _native(s):
    try:
        return _text(s.decode("ascii"))
    except UnicodeDecodeError:
        return _bytes(s)


# type -> its encoder, for types that are neither containers nor channels.
_PLAIN = {
    type(None): lambda none: b"\xc0",
    bool: lambda yes: b"\xc3" if yes else b"\xc2",
    int: _int,
    float: lambda x: _FLOAT(0xCB, x),
    complex: lambda z: b"\xd8\x04" + dump_complex(z.real, z.imag),
    bytes: _bytes,
    bytearray: lambda data: _bytes(bytes(data)),
    memoryview: _buffer,
    text: _text,
}
# The containers -> their extension's code, if they are one.
_CONTAINERS = {dict: None, list: None, tuple: b"\x01", set: b"\x02", frozenset: b"\x03"}
# The types that encode() inlines as they are frequent; Python 2's are not so simple.
_FAST_TEXT, _FAST_BYTES = text, bytes
if PY2:
    _FAST_TEXT = _FAST_BYTES = None
    _PLAIN[str] = _native
    _PLAIN[long] = _int  # noqa: F821


class _Keys(dict):
    # A cache of short keys. When it is full it is emptied: few programs have that many keys.
    def __init__(self, convert):
        self.convert = convert

    def __missing__(self, key):
        converted = self.convert(key)
        if len(key) < 32:
            if len(self) >= MAX_KEYS:
                self.clear()
            self[key] = converted
        return converted


_keys_out = _Keys(lambda key: _PLAIN[type(key)](key))
_keys_in = _Keys(lambda data: data.decode("utf-8"))
_utf8 = text
if "__pypy__" in sys.builtin_module_names:  # there str() of bytes accepts lone surrogates
    _utf8 = bytes.decode

# encode() iterates over pairs of a key and a value. These two stand for the key: of an array's
# element, and of an element of a tuple within a key, in which tuples are encoded as arrays.
_ELEMENT, _IN_KEY = object(), object()
_elements, _in_key = repeat(_ELEMENT), repeat(_IN_KEY)

# The decoder's tables, by a value's first byte. The roles in a container: 0 an element, 1 a key,
# 2 a key's value.
_ONE = {b"\xc0": None, b"\xc2": False, b"\xc3": True}
_ONE.update((_BYTE(n & 255), n) for n in range(-32, 128))
_SHORT = dict((head, n) for n, head in enumerate(_STR))
_OPEN = dict((head, (0,) * n) for n, head in enumerate(_ARRAY))
_OPEN.update((head, (1, 2) * n) for n, head in enumerate(_MAP))
_FIXED = dict((_BYTE(n), _unpacker(form)) for n, form in enumerate("fdBHIQbhiq", 0xCA))
_SIZED = dict((_BYTE(n), _unpacker(form)) for n, form in enumerate("BHI", 0xC4))
_SIZED.update((_BYTE(n), _unpacker(form)) for n, form in enumerate("BHI", 0xD9))
_LONG = dict((_BYTE(n), _unpacker(form)) for n, form in enumerate("HIHI", 0xDC))
_ARRAYS = frozenset(_ARRAY + [b"\xdc", b"\xdd"])
_EXT = dict((_BYTE(n), _unpacker(form)) for n, form in enumerate("BHI", 0xC7))
_EXT.update((head, (lambda nothing, n=n: (n,), 0)) for n, head in _FIXEXT.items())


def is_plain(kind):
    """Whether a type is one of MessagePack's own, or of the first seven extensions."""
    return kind in _PLAIN or kind in _CONTAINERS


def load_extension(code, data):
    """Decode an extension that holds no other values."""
    if FIRST_KIND <= code < FIRST_ARRAY:
        from .kinds import load

        return load(code, data)
    if code == COMPLEX:
        return complex(*struct.unpack(">dd", data))
    if code == INT and 0 < len(data) <= MAX_INT:
        from binascii import hexlify

        n = int(hexlify(data), 16)
        return n - (1 << 8 * len(data)) if data[:1] >= b"\x80" else n
    if code == SURROGATES:
        # Python 2 decodes surrogates in any case, except Jython, which does not have them.
        return data.decode("utf-8", "replace" if PY2 else "surrogatepass")
    raise InvalidValue("no value is an extension of type %d and %d bytes" % (code, len(data)))


def type_name(kind):
    """A type's name for messages, found without running any code of the type."""
    own = type.__dict__
    name = own["__qualname__" if "__qualname__" in own else "__name__"].__get__(kind)
    module = own["__module__"].__get__(kind)
    return name if module in ("builtins", "__builtin__") else "%s.%s" % (module, name)


def _show(thing):
    if type(thing) not in _PLAIN or type(thing) in (bytearray, memoryview):
        return "<%s>" % type_name(type(thing))
    try:
        shown = repr(thing)
    except ValueError:  # an int too long for Python to show
        return "<int>"
    if type(thing) in (text, str):
        shown = '"%s"' % shown.lstrip("u")[1:-1].replace('"', '\\"')
    return shown if len(shown) <= 60 else shown[:50] + "..." + shown[-7:]


def dumper_of(kind):
    """A type's dumper, as ``kinds.dumper_of``; None if there is none."""
    found = DUMPERS.get(kind)
    if found is None:
        from .kinds import dumper_of

        found = dumper_of(kind)
    return found


def dump_with(dump, value):
    """Dump a value: returns a code, and bytes or a list.

    :raises Refused: the dumper failed.
    """
    try:
        return dump(value)
    except Refused:
        raise
    except Exception as error:
        raise Refused("%s: %s" % (type_name(type(error)), error))


def blame(encode, error, parts):
    """The error for a value that was built around a user's values, in that user's terms.

    :param error: what encoding the whole raised.
    :param parts: for each of the user's values: its name there, its place in the whole (as
        :meth:`ValueNotSendable.renamed`), itself, and the whole with nothing else in it.
    """
    for name, place, part, whole in parts:
        try:
            encode(whole)
        except ValueNotSendable as found:
            return found.renamed(place, name, part)
    return error


def show_key(key):
    """A key as paths show it: ``["jobs"]``."""
    return "[%s]" % _show(key)


def _refusal(template, name, reason):
    path = template.replace(_ROOT, "value")
    message = "%s: %s can't be sent (%s)" % (path, name, reason)
    return ValueNotSendable(message, path, name, reason, template)


def _not_sendable(parents, bad, reason):
    # parents: the containers around it, from the outermost.
    path = _ROOT
    for parent, child in zip(parents, parents[1:] + [bad]):
        if parent is child:  # a key's parent is listed twice
            continue
        outer = "(%s)" % path if path.startswith("key of") else path
        if type(parent) is dict or is_ordered(parent):
            for key, value in parent.items():
                if key is child:
                    path = "key of " + outer
                    break
                if value is child:
                    path = "%s[%s]" % (outer, _show(key))
                    break
        elif type(parent) in (list, tuple):
            places = [n for n, element in enumerate(parent) if element is child]
            path = "%s[%s]" % (outer, places[0] if places else "?")
        elif type(parent) in (set, frozenset):
            path = "%s{%s}" % (outer, _show(child))
        else:
            path = "to_value(%s)" % path
    return _refusal(path, type_name(type(bad)), reason)


def is_ordered(thing):
    """Whether something is an OrderedDict itself."""
    loaded = sys.modules.get("collections")
    return loaded is not None and type(thing) is getattr(loaded, "OrderedDict", None)


class PureCodec(object):
    """Encodes and decodes values.

    :param channel_type: the class of channels, or a tuple of classes.
    :param dump_channel: returns a channel's id; if it raises, the channel can't be sent. It may be
        called more than once for one channel.
    :param load_channel: returns the channel with an id; if it raises, the payload is not valid. It
        is called once for each id in a payload.
    :param max_items: the most elements, keys and values of a decoded value in all.
    :param kinds: False: the extensions of ``kinds.py`` are not valid, and their code never runs.
    """

    name = "pure"
    #: A function that encodes most values faster than :meth:`encode`, and its second and third
    #: argument; or None. When it raises, :meth:`encode` has to be called.
    packing = None

    def __init__(
        self,
        channel_type=None,
        dump_channel=None,
        load_channel=None,
        max_items=MAX_ITEMS,
        kinds=True,
    ):
        self.max_items = max_items
        self._make = MAKE if kinds else MAKE_PLAIN
        self._channel_type = channel_type or ()
        self._dump_channel = dump_channel
        self._load_channel = load_channel

    def is_channel(self, kind):
        """Whether objects of a class are sent as channels."""
        return issubclass(kind, self._channel_type)

    def dump_channel(self, channel):
        """A channel's id, as bytes."""
        if not issubclass(type(channel), self._channel_type):
            raise Refused(SENDABLE)
        try:
            return _ID(self._dump_channel(channel))
        except Exception as error:
            raise Refused(str(error))

    def load_channel(self, data, loaded):
        """The channel with an id in bytes; ``loaded`` has those of this payload so far."""
        if data not in loaded:
            if len(data) != 4 or self._load_channel is None:
                raise InvalidValue("it has a channel where there can be none")
            loaded[data] = self._load_channel(struct.unpack(">I", data)[0])
        return loaded[data]

    def decode_run(self, payloads):
        """Decode several payloads at once if that is faster; here it is not: returns None."""
        return None

    def encode(self, value, nesting=0):
        """Encode a value.

        :param nesting: the number of extensions around it.
        :raises ValueNotSendable: it, or something in it, can't be sent.
        """
        t = type(value)
        # The containers around the current one: the rest of each, how it ends, and itself.
        stack = []
        parent = None
        k = _ELEMENT
        v = value
        try:
            if t in _PLAIN:
                return _PLAIN[t](value)
            out = []
            write = out.append
            # How the current container ends: None for most, False for a key and its value; for an
            # extension its code, its start in out, and the depth that was left around it.
            closing = None
            room = MAX_DEPTH
            extensions = MAX_EXTENSIONS - nesting
            it = iter(((k, v),))
            while True:
                for k, v in it:
                    if k is not _ELEMENT:
                        t = type(k)
                        if t is text or t is str:
                            write(_keys_out[k])
                        elif t in _PLAIN:
                            write(_PLAIN[t](k))
                        elif k is not _IN_KEY:
                            stack.append((it, closing, parent))
                            closing = False
                            it = iter(((_IN_KEY, k), (_ELEMENT, v)))
                            break
                    t = type(v)
                    if t is _FAST_TEXT:
                        try:
                            data = v.encode("utf-8")
                        except UnicodeEncodeError:
                            write(_text(v))
                        else:
                            n = len(data)
                            write(_STR[n] if n < 32 else _head8(n, 0xD9))
                            write(data)
                    elif t is int:
                        write(_INTS[v] if -32 <= v < 256 else _int(v))
                    elif t is float:
                        write(_FLOAT(0xCB, v))
                    elif v is True:
                        write(b"\xc3")
                    elif v is False:
                        write(b"\xc2")
                    elif v is None:
                        write(b"\xc0")
                    elif t in _CONTAINERS:
                        code = None if k is _IN_KEY and t is tuple else _CONTAINERS[t]
                        if not (extensions if code else room):
                            raise _TooDeep
                        stack.append((it, closing, parent))
                        if code:
                            closing = (code, len(out), room)
                            extensions -= 1
                            room = MAX_DEPTH
                        else:
                            closing = None
                        room -= 1
                        parent = v
                        if t is dict:
                            n = len(v)
                            write(_MAP[n] if n < 16 else _head16(n, 0xDE))
                            it = iter(v.items())
                        else:
                            v = tuple(v)  # another thread may change it
                            n = len(v)
                            write(_ARRAY[n] if n < 16 else _head16(n, 0xDC))
                            it = zip(_in_key if t is tuple and not code else _elements, v)
                        break
                    elif t is _FAST_BYTES:
                        write(_head8(len(v), 0xC4))
                        write(v)
                    elif t in _PLAIN:
                        write(_PLAIN[t](v))
                    else:
                        dump = None if self.is_channel(t) else dumper_of(t)
                        if dump is None:
                            write(b"\xd6\x06" + self.dump_channel(v))
                            continue
                        code, data = dump_with(dump, v)
                        if type(data) is not list:
                            write(_ext(data, _BYTE(code)))
                            continue
                        if not extensions:
                            raise _TooDeep
                        stack.append((it, closing, parent))
                        closing = (_BYTE(code), len(out), room)
                        extensions -= 1
                        room = MAX_DEPTH - 1
                        parent = v
                        n = len(data)
                        write(_ARRAY[n] if n < 16 else _head16(n, 0xDC))
                        it = zip(_elements, data)
                        break
                else:
                    if not stack:
                        break
                    if closing:
                        code, start, room = closing
                        extensions += 1
                        out[start:] = [_ext(b"".join(out[start:]), code)]
                    elif closing is None:
                        room += 1
                    it, closing, parent = stack.pop()
            data = b"".join(out)
            if len(data) <= MAX_VALUE:
                return data
            v = value
            reason = "it takes %d bytes, and %d are the limit" % (len(data), MAX_VALUE)
        except _TooDeep:
            v = value
            parent = None
            del stack[:]
            reason = "it holds itself, or nests more than %d deep, or tuples and sets more than %d"
            reason %= MAX_DEPTH, MAX_EXTENSIONS
        except struct.error:
            reason = "it is longer than %d" % MAX_VALUE
        except (Refused, TypeError, RuntimeError, OverflowError) as error:
            reason = str(error)
        if k is not _ELEMENT and k is not _IN_KEY:
            try:
                _PLAIN[type(k)](k)
            except Exception:
                v = k
        parents = [frame[2] for frame in stack] + [parent]
        raise _not_sendable([p for p in parents if p is not None], v, reason)

    def decode(self, payload, nesting=0, loaded=None):
        """Decode the value that the bytes begin with. It raises nothing but these two errors.

        :param payload: bytes, or a bytearray or memoryview of them.
        :param nesting: the number of extensions around it.
        :param loaded: id as bytes -> channel, for those that are loaded already.
        :raises InvalidValue: they begin with no value, or with one over the limits.
        :raises ValueNotReceivable: this end does not have a type in the value.
        """
        b = b""
        loaded = {} if loaded is None else loaded
        try:
            if type(payload) is not bytes:
                payload = payload.tobytes() if type(payload) is memoryview else bytes(payload)
            if len(payload) > self.max_items:
                check_items(payload, self.max_items)
            if len(payload) == 1 and payload in _ONE:
                return _ONE[payload]
            stream = BytesIO(payload)
            read = stream.read
            # The containers around the current one: the roles of the rest of each, itself, the key
            # and the role of the value within it that is open, and how it ends.
            stack = []
            # How the current container ends: None for most; else its type, the end of its extension
            # (0 in a key, in which arrays are tuples), and the limit around it.
            closing = key = None
            extensions = MAX_EXTENSIONS - nesting
            limit = MAX_OPEN
            # The last str or bin, and its length. If it is shorter, the payload ended within it:
            # then the next read gets nothing or, if there is none, the check at the end sees it.
            data = b""
            n = 0
            b = read(1)
            direct = b in _OPEN  # the value is the first container; else a list holds it
            target = {} if b"\x80" <= b < b"\x90" else []
            if direct:
                it = iter(_OPEN[b])
            else:
                it = iter((0,))
                stream.seek(0)
            while True:
                for role in it:
                    b = read(1)
                    if b in _SHORT:
                        n = _SHORT[b]
                        data = read(n)
                        if role == 1:
                            key = _keys_in[data]
                            continue
                        v = _utf8(data, "utf-8")
                    elif b in _ONE:
                        v = _ONE[b]
                    elif b in _FIXED:
                        unpack, size = _FIXED[b]
                        (v,) = unpack(read(size))
                    elif b in _SIZED:
                        unpack, size = _SIZED[b]
                        (n,) = unpack(read(size))
                        v = data = read(n)
                        if b >= b"\xd9":
                            v = _utf8(data, "utf-8")
                    else:
                        make = None
                        end = 0
                        if b in _EXT:
                            unpack, size = _EXT[b]
                            (size,) = unpack(read(size))
                            code = ord(read(1))
                            end = stream.tell() + size
                            if end > len(payload):
                                raise InvalidValue("it ends in an extension")
                            make = self._make.get(code)
                            if make:
                                b = read(1)
                                if b not in _ARRAYS or not extensions:
                                    raise InvalidValue("a tuple or set is no array, or too deep")
                            elif code == CHANNEL:
                                v = self.load_channel(read(size), loaded)
                            elif code >= FIRST_KIND and self._make is MAKE_PLAIN:
                                raise InvalidValue("an extension of type %d" % code)
                            else:
                                v = load_extension(code, read(size))
                        if make or not end:
                            if len(stack) >= limit:
                                raise InvalidValue("it nests too deep")
                            stack.append((it, target, key, role, closing))
                            if make:
                                closing = (make, end, limit)
                                extensions -= 1
                                limit = len(stack) + MAX_OPEN
                            elif b in _ARRAYS and (role == 1 or (closing and not closing[1])):
                                closing = (tuple, 0, limit)
                            else:
                                closing = None
                            target = [] if b in _ARRAYS else {}
                            if b in _OPEN:
                                it = iter(_OPEN[b])
                            else:
                                unpack, size = _LONG[b]
                                (size,) = unpack(read(size))
                                it = repeat(0, size)
                                if b >= b"\xde":
                                    it = chain.from_iterable(repeat((1, 2), size))
                            break
                    if role == 2:
                        target[key] = v
                    elif role:
                        key = v
                    else:
                        target.append(v)
                else:
                    if not stack:
                        break
                    v = target
                    if closing:
                        make, end, limit = closing
                        v = make(v)
                        if end:
                            if stream.tell() > end:
                                raise InvalidValue("an array is longer than its extension")
                            stream.seek(end)
                            extensions += 1
                    it, target, key, role, closing = stack.pop()
                    if role == 2:
                        target[key] = v
                    elif role:
                        key = v
                    else:
                        target.append(v)
            if len(data) < n:
                raise InvalidValue("it ends in a str or bin")
            return target if direct else target[0]
        except (InvalidValue, ValueNotReceivable) as error:
            # The message says how a conversion failed; its exception would only keep frames alive.
            error.__context__ = None
            raise
        except MemoryError:
            raise
        except KeyError:
            reason = "no value begins with byte 0x%02x" % ord(b) if b else "it ends too early"
        except Exception as error:
            reason = str(error)
        raise InvalidValue(reason)


def read_texts(payload, count):
    """Decode the first elements of an array, which are texts; the rest is not read.

    :raises InvalidValue: the payload does not begin with such an array.
    """
    first = ord(payload[:1] or b"\0")
    at = 1 if 0x90 <= first < 0xA0 else {0xDC: 3, 0xDD: 5}.get(first, 0)
    texts = []
    for _ in range(count):
        head = ord(payload[at : at + 1] or b"\0") if at else 0
        at += 1
        if 0xA0 <= head < 0xC0:
            size = head - 0xA0
        elif 0xD9 <= head <= 0xDB:
            wide = 1 << (head - 0xD9)
            size = 0
            for byte in bytearray(payload[at : at + wide]):
                size = size << 8 | byte
            at += wide
        else:
            raise InvalidValue("expected an array that begins with %d texts" % count)
        data = payload[at : at + size]
        at += size
        try:
            texts.append(_utf8(data, "utf-8"))
        except UnicodeError as error:
            raise InvalidValue(str(error))
    return texts


# first byte -> the length of a value that holds no others; 0 if more bytes have to be read.
_STEPS = [1] * 256
_STEPS[0xA0:0xC0] = range(1, 33)
for _first, _size in enumerate((5, 9, 2, 3, 5, 9, 2, 3, 5, 9), 0xCA):
    _STEPS[_first] = _size
for _first in range(0xC4, 0xCA):
    _STEPS[_first] = 0
for _first in range(0xD4, 0xE0):
    _STEPS[_first] = 0
_SINGLE = b"".join([_BYTE(_first) for _first in range(256) if _STEPS[_first] == 1])
#: ``check_items`` stops after so many bytes, and checks whether the rest can be too many items.
_CHECK_EVERY = 65536


def check_items(payload, most):
    """Refuse a payload that holds more than ``most`` items, without decoding it.

    :param payload: bytes, more than ``most``, as each item takes at least one.
    :raises TooManyItems: it holds more. Nothing else is checked.
    """
    data = payload if type(payload) is bytes and not PY2 else bytearray(payload)
    steps = _STEPS
    # The ends of the payload and of the extensions that are arrays: bytes behind such an array, but
    # within its extension, are skipped, as decoders do.
    ends = [len(data)]
    count = -1  # the value itself
    at = 0
    while ends:
        end = ends[-1]
        if count + ends[0] - at <= most:
            return
        stop = end if end - at < _CHECK_EVERY else at + _CHECK_EVERY
        step = steps[data[at]] if at < stop else 0
        if step:
            # Many items of one kind, such as numbers, are counted with one call.
            heads = data[at:stop:step]
            same = len(heads) - len(heads.lstrip(_SINGLE if step == 1 else heads[:1]))
            count += same
            at += same * step
        while at < stop:
            count += 1
            b = data[at]
            step = steps[b]
            if step:
                at += step
                continue
            at += 1
            if b >= 0xDC:
                at += 2 if b in (0xDC, 0xDE) else 4
                continue
            if b >= 0xD9:
                head, extra = 1 << (b - 0xD9), 0
            elif b >= 0xD4:
                head, extra = 0, 1
            else:
                head, extra = 1 << ((b - 0xC4) % 3), 1 if b >= 0xC7 else 0
            size = 1 << (b - 0xD4) if extra and not head else 0
            for byte in bytearray(data[at : at + head]):
                size = size << 8 | byte
            at += head + extra
            if extra and at <= end and (data[at - 1] in MAKE):
                ends.append(min(end, at + size))
                count -= 1  # the extension and its array are one item
                break
            at += size
        if count > most:
            words = "it holds more than %d elements, keys and values, this end's limit on items"
            raise TooManyItems(words % most)
        if at >= ends[-1]:
            at = ends.pop()
