"""Values as bytes: MessagePack and its extension types, in pure Python.

docs/protocol.rst, "Values", is the specification. This source is sent to bare far sides: it is
stdlib only, short, and in the common subset of Python 2.7 and 3. Neither direction recurses, so
that no value and no payload reaches the interpreter's recursion limit. Both are one loop, because
a call per item is what a pure Python codec spends its time on.
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
text = type("".encode("ascii").decode("ascii"))

#: Containers within each other when sent, from the value or from the extension they are in.
MAX_DEPTH = 255
#: Tuples, sets and frozensets within each other.
MAX_EXTENSIONS = 32
#: What is open at a time, per extension, when received. A container takes one, or two under a key
#: that is more than a short string. It is lenient as ormsgpack is (1022 containers), so that what
#: the two accept is the same.
MAX_OPEN = 2100
#: Bytes of an int: decoding takes time that grows with the square.
MAX_INT = 65536
#: Bytes of an encoded value, and of each part of it.
MAX_VALUE = 0xFFFFFFFF
#: Keys that are kept with their encoding, both ways: messages repeat them.
MAX_KEYS = 1024

TUPLE, SET, FROZENSET, COMPLEX, INT, CHANNEL, SURROGATES = 1, 2, 3, 4, 5, 6, 7

SENDABLE = (
    "None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, complex and channels can"
)


class ValueNotSendable(TypeError):
    """A value, or something in it, can't be sent.

    :ivar path: where in the value it is, such as ``value["jobs"][3]``.
    :ivar type_name: its type, with its module unless that is the builtin one.
    """

    def __init__(self, message, path="value", type_name=""):
        TypeError.__init__(self, message)
        self.path = path
        self.type_name = type_name


class InvalidValue(ValueError):
    """Bytes that are not a value, or one over the limits."""


class _Refused(Exception):
    """Why the value at hand can't be sent; encode() adds where it is."""


def _packer(form):
    return struct.Struct(">" + form).pack


_U8, _U16, _U32, _U64 = _packer("BB"), _packer("BH"), _packer("BI"), _packer("BQ")
_I8, _I16, _I32, _I64 = _packer("Bb"), _packer("Bh"), _packer("Bi"), _packer("Bq")
_FLOAT, _COMPLEX, _ID, _BYTE = _packer("Bd"), _packer("dd"), _packer("I"), _packer("B")

_STR = [_BYTE(0xA0 + n) for n in range(32)]
_ARRAY = [_BYTE(0x90 + n) for n in range(16)]
_MAP = [_BYTE(0x80 + n) for n in range(16)]
# An index below 0 counts from the list's end, so the negative ints are there.
_INTS = [_BYTE(n) if n < 128 else _U8(0xCC, n) for n in range(256)]
_INTS += [_BYTE(256 + n) for n in range(-32, 0)]


def _long_head(n, first):
    # The header of an array (first is 0xDC), a map (0xDE) or a str (0xDA) that isn't a short one.
    return _U16(first, n) if n < 65536 else _U32(first + 1, n)


def _str_head(n):
    return _U8(0xD9, n) if n < 256 else _long_head(n, 0xDA)


def _bin_head(n):
    return _U8(0xC4, n) if n < 256 else _long_head(n, 0xC5)


def _ext_head(n, code):
    if n in (1, 2, 4, 8, 16):
        return _U8(0xD3 + n.bit_length(), code)
    return (_U8(0xC7, n) if n < 256 else _long_head(n, 0xC8)) + _BYTE(code)


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
    data = dump_int(n)
    return _ext_head(len(data), INT) + data


def dump_int(n):
    """The shortest two's complement of an int, as bytes."""
    from binascii import unhexlify

    size = (n if n >= 0 else ~n).bit_length() // 8 + 1
    if size > MAX_INT:
        raise _Refused("it takes %d bytes, and %d is the limit" % (size, MAX_INT))
    if n < 0:
        n += 1 << 8 * size
    return unhexlify(("%0*x" % (2 * size, n)).encode("ascii"))


def _text(s):
    try:
        data = s.encode("utf-8")
    except UnicodeEncodeError:
        data = s.encode("utf-8", "surrogatepass")
        return _ext_head(len(data), SURROGATES) + data
    n = len(data)
    if PY2:
        # It encodes lone surrogates without a word: ED A0 and up, which UTF-8 doesn't have.
        at = data.find(b"\xed")
        while at >= 0:
            if data[at + 1] >= b"\xa0":
                return _ext_head(n, SURROGATES) + data
            at = data.find(b"\xed", at + 1)
    return (_STR[n] if n < 32 else _str_head(n)) + data


def _bytes(data):
    return _bin_head(len(data)) + data


def _buffer(view):
    try:
        return _bytes(view.tobytes())
    except ValueError as error:  # it has been released
        raise _Refused(str(error))


def _native_str(s):
    # Python 2's str is text when it is ASCII, and else bytes.
    try:
        return _text(s.decode("ascii"))
    except UnicodeDecodeError:
        return _bytes(s)


# The encoder of each type that is neither a container nor a channel.
_PLAIN = {
    type(None): lambda none: b"\xc0",
    bool: {False: b"\xc2", True: b"\xc3"}.__getitem__,
    int: _int,
    float: lambda x: _FLOAT(0xCB, x),
    complex: lambda z: b"\xd8\x04" + _COMPLEX(z.real, z.imag),
    bytes: _bytes,
    bytearray: lambda data: _bytes(bytes(data)),
    memoryview: _buffer,
    text: _text,
}
# The types that encode() deals with itself, for speed. Python 2's have to be looked at first.
_FAST_TEXT, _FAST_BYTES = text, bytes
if PY2:
    _PLAIN[str] = _native_str
    _PLAIN[long] = _int  # noqa: F821
    _FAST_TEXT = _FAST_BYTES = None


class _KeysOut(dict):
    def __missing__(self, key):
        data = _PLAIN[type(key)](key)
        if len(data) <= 32:
            if len(self) >= MAX_KEYS:
                self.clear()
            self[key] = data
        return data


class _KeysIn(dict):
    def __missing__(self, data):
        if len(self) >= MAX_KEYS:
            self.clear()
        key = self[data] = text(data, "utf-8")
        return key


_keys_out, _keys_in = _KeysOut(), _KeysIn()

# Stand where a dict's items have their key: what follows is an element, or an element of a key (in
# which tuples are arrays).
_ELEMENT, _IN_KEY = object(), object()
_elements, _in_key = repeat(_ELEMENT), repeat(_IN_KEY)


def type_name(kind):
    """A type's name for messages; no code of a metaclass runs."""
    name, module = [
        type.__dict__[attr].__get__(kind)
        for attr in ("__qualname__" if "__qualname__" in type.__dict__ else "__name__", "__module__")
    ]
    return name if module in ("builtins", "__builtin__", "exceptions") else module + "." + name


def _show(thing):
    # repr() of what has no user's code in its repr(), kept short.
    if type(thing) not in _PLAIN or type(thing) in (bytearray, memoryview):
        return "<%s>" % type_name(type(thing))
    try:
        shown = repr(thing)
    except ValueError:  # an int that Python won't show
        return "<int>"
    if type(thing) in (text, str):
        shown = '"%s"' % shown.lstrip("u")[1:-1].replace('"', '\\"')
    return shown if len(shown) <= 60 else shown[:50] + "..." + shown[-7:]


def _path(parents, bad):
    path = "value"
    for parent, child in zip(parents, parents[1:] + [bad]):
        outer = "(%s)" % path if path.startswith("key of ") else path
        if type(parent) is dict:
            for key, value in parent.items():
                if key is child:
                    path = "key of " + outer
                    break
                if value is child:
                    path = "%s[%s]" % (outer, _show(key))
                    break
        elif type(parent) in (set, frozenset):
            path = "%s{%s}" % (outer, _show(child))
        else:
            path = "%s[%s]" % (outer, ([i for i, x in enumerate(parent) if x is child] + ["?"])[0])
    return path


# The decoder's tables, by the first byte.
_ONE = {b"\xc0": None, b"\xc2": False, b"\xc3": True}
_ONE.update((_BYTE(n & 0xFF), n) for n in range(-32, 128))
_SHORT = dict((head, n) for n, head in enumerate(_STR))
# The roles of what is in a container: 0 an element, 1 a key and its value, 2 only the value.
_OPEN = dict((head, (0,) * n) for n, head in enumerate(_ARRAY))
_OPEN.update((head, (1,) * n) for n, head in enumerate(_MAP))
_FIXED = {}
for _first, _form in enumerate("fdBHIQbhiq", 0xCA):
    _FIXED[_BYTE(_first)] = (struct.Struct(">" + _form).unpack, struct.calcsize(">" + _form))
# str, bin, array, map and ext that give their length: what they are, and how to read the length.
_LONG = {}
for _kind, _first, _forms in (
    ("bin", 0xC4, "BHI"),
    ("ext", 0xC7, "BHI"),
    ("str", 0xD9, "BHI"),
    ("array", 0xDC, "HI"),
    ("map", 0xDE, "HI"),
):
    for _n, _form in enumerate(_forms):
        _LONG[_BYTE(_first + _n)] = (
            _kind,
            struct.Struct(">" + _form).unpack,
            struct.calcsize(">" + _form),
        )
for _n in range(5):
    _LONG[_BYTE(0xD4 + _n)] = ("ext", (1 << _n,).__add__, 0)
_MAKE = {b"\x01": tuple, b"\x02": set, b"\x03": frozenset}


class PureCodec(object):
    """Encodes and decodes values.

    :param channel_type: the class, or a tuple of them, of what is sent as a channel.
    :param dump_channel: called with a channel, returns its id. What it raises makes a
        :class:`ValueNotSendable`. It may be called more than once for a value.
    :param load_channel: called with an id, returns the channel. What it raises makes an
        :class:`InvalidValue`. It is called once for each id in a payload.
    """

    name = "pure"

    def __init__(self, channel_type=None, dump_channel=None, load_channel=None):
        self.channel_type = () if channel_type is None else channel_type
        self._dump_channel = dump_channel
        self._load_channel = load_channel

    def encode(self, value, nesting=0):
        """The bytes of a value.

        :param nesting: how many extensions this value is in.
        :raises ValueNotSendable: for what can't be sent.
        """
        out = []
        write = out.append
        # What is open around the current container: the rest of each container, what to do at the
        # current one's end, and the container.
        stack = []
        closing = parent = None
        room = MAX_DEPTH
        extensions = MAX_EXTENSIONS - nesting
        keys = _keys_out
        k = _ELEMENT
        v = value
        it = iter(((k, v),))
        try:
            t = type(v)
            if t in _PLAIN:
                return _PLAIN[t](v)
            while True:
                for k, v in it:
                    if k is not _ELEMENT:
                        t = type(k)
                        if t is text or t is str:
                            write(keys[k])
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
                            write(_STR[n] if n < 32 else _str_head(n))
                            write(data)
                    elif t is int:
                        write(_INTS[v] if -32 <= v < 256 else _int(v))
                    elif t is dict or t is list:
                        if not room:
                            raise _Refused("it nests more than %d deep" % MAX_DEPTH)
                        room -= 1
                        stack.append((it, closing, parent))
                        closing = None
                        parent = v
                        if t is dict:
                            n = len(v)
                            write(_MAP[n] if n < 16 else _long_head(n, 0xDE))
                            it = iter(v.items())
                        else:
                            v = tuple(v)  # another thread may change the list
                            n = len(v)
                            write(_ARRAY[n] if n < 16 else _long_head(n, 0xDC))
                            it = zip(_elements, v)
                        break
                    elif v is None:
                        write(b"\xc0")
                    elif t is float:
                        write(_FLOAT(0xCB, v))
                    elif t is _FAST_BYTES:
                        write(_bin_head(len(v)))
                        write(v)
                    elif t in _PLAIN:
                        write(_PLAIN[t](v))
                    elif t is tuple or t is set or t is frozenset:
                        array = t is tuple and k is _IN_KEY
                        if not (room if array else extensions):
                            raise _Refused("it nests too deep")
                        stack.append((it, closing, parent))
                        parent = v
                        v = tuple(v)
                        if array:
                            room -= 1
                            closing = None
                            it = zip(_in_key, v)
                        else:
                            extensions -= 1
                            closing = (_CODES[t], len(out), room)
                            room = MAX_DEPTH - 1
                            it = zip(_elements, v)
                        n = len(v)
                        write(_ARRAY[n] if n < 16 else _long_head(n, 0xDC))
                        break
                    elif issubclass(t, self.channel_type):
                        try:
                            data = _ID(self._dump_channel(v))
                        except Exception as error:
                            raise _Refused(str(error))
                        write(b"\xd6\x06" + data)
                    else:
                        raise _Refused(SENDABLE)
                else:
                    if not stack:
                        break
                    if closing:
                        code, start, room = closing
                        extensions += 1
                        data = b"".join(out[start:])
                        out[start:] = (_ext_head(len(data), code), data)
                    elif closing is None:
                        room += 1
                    it, closing, parent = stack.pop()
            v = value
            data = b"".join(out)
            if len(data) > MAX_VALUE:
                raise _Refused("it takes %d bytes, and %d is the limit" % (len(data), MAX_VALUE))
            return data
        except (_Refused, RuntimeError, struct.error) as error:
            pass
