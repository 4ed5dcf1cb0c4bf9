"""execnet's dump format: values as bytes that any Python reads.

A version byte, the opcodes of one value, and STOP. An opcode pushes a value on a stack, or makes
one of the values on top of it. Integers of four bytes and floats are big-endian. Reading makes
plain values and nothing else, so bytes from anywhere can be read. Memory is limited by the size of
the input: a length without its bytes reserves none. Time is not limited: numbers can be chosen so
that a set of them takes long, as with any set in Python.
"""

import struct
from io import BytesIO

VERSION = b"\x02"
_PY2 = str is bytes
_INT4 = struct.Struct("!i")
_FLOAT = struct.Struct("!d")
_COMPLEX = struct.Struct("!dd")
_text = type("".encode("ascii").decode("ascii"))
_long = type(1 << 80)
_MIN, _MAX = -(1 << 31), (1 << 31) - 1
#: How deep tuples and frozensets may be nested in each other. Python computes their hashes by a
#: recursion in C, which crashes the process when it is too deep.
DEEPEST = 250
#: A long value is read in pieces of this many bytes, so that a false length reserves no memory.
PIECE = 1 << 20


class DataFormatError(Exception):
    """A value can't be dumped, or bytes can't be loaded."""


class DumpError(DataFormatError):
    """A value can't be dumped."""


class LoadError(DataFormatError):
    """Bytes are not a dumped value."""


class opcode(object):
    """The codes of the format."""

    BUILDTUPLE = b"@"
    BYTES = b"A"
    CHANNEL = b"B"
    FALSE = b"C"
    FLOAT = b"D"
    FROZENSET = b"E"
    INT = b"F"
    LONG = b"G"
    LONGINT = b"H"
    LONGLONG = b"I"
    NEWDICT = b"J"
    NEWLIST = b"K"
    NONE = b"L"
    PY2STRING = b"M"
    PY3STRING = b"N"
    SET = b"O"
    SETITEM = b"P"
    STOP = b"Q"
    TRUE = b"R"
    UNICODE = b"S"
    COMPLEX = b"T"


# -- writing ---------------------------------------------------------------------------------------


def dumps(obj):
    """Dump a value.

    :param obj: None, bool, int, float, complex, bytes, text, and lists, tuples, dicts, sets and
        frozensets of these.
    :returns: bytes.
    :raises DumpError: the value, or something in it, has another type.
    """
    return VERSION + dumps_internal(obj)


def dumps_internal(obj):
    """As :func:`dumps`, without the version."""
    pieces = []
    try:
        _save(obj, pieces.append, 0)
    except RuntimeError:  # Python 3's RecursionError is one
        raise DumpError("can't serialize a value that nests that deep, or holds itself")
    pieces.append(opcode.STOP)
    return b"".join(pieces)


def dump(byteio, obj):
    """Dump a value into a binary file."""
    byteio.write(dumps(obj))


def _sized(code, data, write):
    if len(data) > _MAX:
        raise DumpError("can't serialize %d bytes in one value" % len(data))
    write(code + _INT4.pack(len(data)))
    write(data)


def _save(obj, write, depth):
    """Write a value.

    :param depth: the number of tuples and frozensets directly around it.
    """
    save = _SAVERS.get(type(obj))
    if save is None:
        raise DumpError("can't serialize %s" % (type(obj),))
    save(obj, write, depth)


def _save_int(obj, write, depth=0):
    if _MIN <= obj <= _MAX:
        write(opcode.INT + _INT4.pack(obj))
        return
    try:
        digits = str(obj)
    except ValueError as error:  # Python's limit of digits
        raise DumpError("can't serialize an int: %s" % error)
    _sized(opcode.LONGINT, digits.rstrip("L").encode("ascii"), write)


def _save_text(obj, write, depth):
    try:
        data = obj.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DumpError("can't serialize text that is not valid Unicode: %s" % error)
    _sized(opcode.UNICODE if _PY2 else opcode.PY3STRING, data, write)


def _save_bytes(obj, write, depth):
    _sized(opcode.PY2STRING if _PY2 else opcode.BYTES, obj, write)


def _save_list(obj, write, depth):
    write(opcode.NEWLIST + _INT4.pack(len(obj)))
    for index, item in enumerate(obj):
        _save_int(index, write)
        _save(item, write, 0)
        write(opcode.SETITEM)


def _save_dict(obj, write, depth):
    write(opcode.NEWDICT)
    for key, value in obj.items():
        _save(key, write, 0)
        _save(value, write, 0)
        write(opcode.SETITEM)


def _saves_items(code):
    def save(obj, write, depth):
        if depth >= DEEPEST:
            raise DumpError("can't serialize tuples or sets that nest deeper than %d" % DEEPEST)
        for item in obj:
            _save(item, write, depth + 1)
        write(code + _INT4.pack(len(obj)))

    return save


_SAVERS = {
    type(None): lambda obj, write, depth: write(opcode.NONE),
    bool: lambda obj, write, depth: write(opcode.TRUE if obj else opcode.FALSE),
    int: _save_int,
    _long: _save_int,
    float: lambda obj, write, depth: write(opcode.FLOAT + _FLOAT.pack(obj)),
    complex: lambda obj, write, depth: write(opcode.COMPLEX + _COMPLEX.pack(obj.real, obj.imag)),
    bytes: _save_bytes,
    _text: _save_text,
    list: _save_list,
    dict: _save_dict,
    tuple: _saves_items(opcode.BUILDTUPLE),
    set: _saves_items(opcode.SET),
    frozenset: _saves_items(opcode.FROZENSET),
}


# -- reading ---------------------------------------------------------------------------------------


def loads(bytestring, py2str_as_py3str=False, py3str_as_py2str=False):
    """Load a value from bytes.

    :param py2str_as_py3str: Python 3 reads Python 2's ``str`` as text, and not as bytes.
    :param py3str_as_py2str: text of Python 3 is read as bytes, which Python 2 calls ``str``.
    :raises LoadError: the bytes are not a dumped value.
    :raises EOFError: there are too few.
    """
    return load(BytesIO(bytestring), py2str_as_py3str, py3str_as_py2str)


def load(io, py2str_as_py3str=False, py3str_as_py2str=False):
    """Load a value from a binary file; as :func:`loads`."""
    return Unserializer(io, None, (py2str_as_py3str, py3str_as_py2str)).load(versioned=True)


class Unserializer(object):
    """Reads one value.

    :param stream: a binary file.
    :param strconfig: the two flags of :func:`loads`.
    """

    def __init__(self, stream, channel_or_gateway=None, strconfig=None):
        self.stream = stream
        self._py2_text, self._py3_bytes = strconfig or (True, False)
        self._stack = []
        #: lists that are being read, with the lengths that they have to reach
        self._lists = []
        #: id of a tuple or frozenset -> how deep others are nested in it
        self._depths = {}

    def load(self, versioned=False):
        """Read it.

        :param versioned: whether the format's version comes first.
        """
        if versioned:
            version = self.stream.read(1)
            if version != VERSION:
                raise LoadError("wrong dumpformat version %r" % version)
        stack = self._stack
        try:
            while True:
                code = self._read(1)
                if code == opcode.STOP:
                    break
                read = _READERS.get(code)
                if read is None:
                    raise LoadError("unknown opcode %r: not a dumped value" % code)
                read(self, stack)
        except (IndexError, TypeError, ValueError, RuntimeError) as error:
            # too little on the stack; a key that can't be hashed; text that is not valid UTF-8,
            # digits that are not a number; keys that are nested too deeply to be compared
            raise LoadError("not a dumped value: %s" % error)
        if len(stack) != 1 or any(len(items) != size for items, size in self._lists):
            raise LoadError("not a dumped value: it is not complete, or more than one")
        return stack.pop()

    def _read(self, size):
        data = self.stream.read(min(size, PIECE)) if size else b""
        if len(data) == size:
            return data
        pieces, there = [data], len(data)
        while data and there < size:
            data = self.stream.read(min(size - there, PIECE))
            pieces.append(data)
            there += len(data)
        if there != size:
            raise EOFError("a dumped value ends after %d of %d bytes" % (there, size))
        return b"".join(pieces)

    def _size(self):
        size = _INT4.unpack(self._read(4))[0]
        if size < 0:
            raise LoadError("not a dumped value: it has a size below zero")
        return size

    def _sized(self):
        return self._read(self._size())

    def top(self, stack):
        size = self._size()
        if size > len(stack):
            raise LoadError("not a dumped value: %d items, and %d are there" % (size, len(stack)))
        items = stack[len(stack) - size :]
        del stack[len(stack) - size :]
        return items

    def hashable(self, made, items):
        """Make a tuple or frozenset of these items, unless that nests too deep."""
        depths = self._depths
        depth = 1
        for item in items:
            if type(item) is tuple or type(item) is frozenset:
                # An empty one may be Python's only one, which was not made here.
                depth = max(depth, 1 + depths.get(id(item), 1))
        if depth > DEEPEST:
            raise LoadError("not a dumped value: it nests deeper than %d" % DEEPEST)
        result = made(items)
        depths[id(result)] = depth
        return result

    # Each of these reads what follows an opcode, and changes the stack.

    def read_int(self, stack):
        stack.append(_INT4.unpack(self._read(4))[0])

    def read_long_int(self, stack):
        stack.append(int(self._sized()))

    def read_float(self, stack):
        stack.append(_FLOAT.unpack(self._read(8))[0])

    def read_complex(self, stack):
        stack.append(complex(*_COMPLEX.unpack(self._read(16))))

    def read_bytes(self, stack):
        stack.append(self._sized())

    def read_unicode(self, stack):
        stack.append(self._sized().decode("utf-8"))

    def read_py3_string(self, stack):
        data = self._sized()
        stack.append(data if self._py3_bytes else data.decode("utf-8"))

    def read_py2_string(self, stack):
        data = self._sized()
        # latin-1 has a character for each byte, whatever Python 2 had meant.
        stack.append(data.decode("latin-1") if self._py2_text and not _PY2 else data)

    def read_new_list(self, stack):
        items = []
        self._lists.append((items, self._size()))
        stack.append(items)

    def read_set_item(self, stack):
        value = stack.pop()
        key = stack.pop()
        holder = stack[-1]
        if type(holder) is list:
            if key != len(holder):
                raise LoadError("not a dumped value: a list's items are not in order")
            holder.append(value)
        elif type(holder) is dict:
            holder[key] = value
        else:
            raise LoadError("not a dumped value: an item of what is no list or dict")

    def read_no_channel(self, stack):
        raise LoadError("a channel can be sent over a channel, and not loaded from a dump")


_READERS = {
    opcode.NONE: lambda self, stack: stack.append(None),
    opcode.TRUE: lambda self, stack: stack.append(True),
    opcode.FALSE: lambda self, stack: stack.append(False),
    opcode.INT: Unserializer.read_int,
    opcode.LONG: Unserializer.read_int,
    opcode.LONGINT: Unserializer.read_long_int,
    opcode.LONGLONG: Unserializer.read_long_int,
    opcode.FLOAT: Unserializer.read_float,
    opcode.COMPLEX: Unserializer.read_complex,
    opcode.BYTES: Unserializer.read_bytes,
    opcode.UNICODE: Unserializer.read_unicode,
    opcode.PY2STRING: Unserializer.read_py2_string,
    opcode.PY3STRING: Unserializer.read_py3_string,
    opcode.NEWLIST: Unserializer.read_new_list,
    opcode.NEWDICT: lambda self, stack: stack.append({}),
    opcode.SETITEM: Unserializer.read_set_item,
    opcode.BUILDTUPLE: lambda self, stack: stack.append(self.hashable(tuple, self.top(stack))),
    opcode.SET: lambda self, stack: stack.append(set(self.top(stack))),
    opcode.FROZENSET: lambda self, stack: stack.append(self.hashable(frozenset, self.top(stack))),
    opcode.CHANNEL: Unserializer.read_no_channel,
}
