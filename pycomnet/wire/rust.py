"""The value codec on ormsgpack, which is written in Rust; imported only where that is installed.

It hands the usual value to ormsgpack as it is, and hooks that ormsgpack calls for the rest make
extensions of it. Whatever ormsgpack refuses goes to the pure codec, which knows: it encodes what
ormsgpack can't (keys that are not strings, lone surrogates), or raises the error that says where.

ormsgpack recurses on the C stack, about 650 bytes for each array that a peer cares to nest, and a
hook calls it again for the next extension. So only a few extensions deep are its own, and below
them only small ones: a payload that nests all it may would need 20 MB of stack.
"""

from struct import Struct

from ormsgpack import (
    OPT_NON_STR_KEYS,
    OPT_PASSTHROUGH_BIG_INT,
    OPT_PASSTHROUGH_DATACLASS,
    OPT_PASSTHROUGH_DATETIME,
    OPT_PASSTHROUGH_ENUM,
    OPT_PASSTHROUGH_SUBCLASS,
    OPT_PASSTHROUGH_TUPLE,
    OPT_PASSTHROUGH_UUID,
    Ext,
    __version__,
    packb,
    unpackb,
)

from .values import (
    CHANNEL,
    COMPLEX,
    FROZENSET,
    INT,
    MAKE,
    MAX_ITEMS,
    MAX_VALUE,
    SET,
    TUPLE,
    InvalidValue,
    PureCodec,
    check_items,
    dump_complex,
    dump_int,
    dump_with,
    dumper_of,
    load_extension,
)

if [int(part) for part in __version__.split(".")[:2]] < [1, 13] or __version__ == "1.13.0":
    # Up to 1.12 a payload of 4 kB can take 2.5 GB, and each that isn't valid leaks what it held.
    raise ImportError("ormsgpack 1.13.1 is needed for what comes from a network")

# Without OPT_NON_STR_KEYS: with it keys that are enums, dates or UUIDs become something else.
OPTIONS = (
    OPT_PASSTHROUGH_BIG_INT
    | OPT_PASSTHROUGH_DATACLASS
    | OPT_PASSTHROUGH_DATETIME
    | OPT_PASSTHROUGH_ENUM
    | OPT_PASSTHROUGH_SUBCLASS
    | OPT_PASSTHROUGH_TUPLE
    | OPT_PASSTHROUGH_UUID
)
#: Stands behind values that are decoded together, so that one which doesn't end where it should
#: shows.
LAST = "pycomnet: the run ends here"
_LAST = packb(LAST)
_ARRAY32 = Struct(">BI").pack
#: How many extensions deep it goes when it encodes: 255 dicts in each take 60 kB of stack.
DUMP_NESTING = 8
#: How many extensions deep it goes when it decodes, ...
LOAD_NESTING = 4
#: ... and the longest extension within another that it decodes: nothing in it nests deeper.
LOAD_NESTED = 256


def _dump_hook(pure, nesting, deeper):
    """What ormsgpack calls for a value that it doesn't know and that is in so many extensions.

    :param deeper: the hook for what is in one more, or None to leave that to the pure codec.
    """

    def hook(value):
        kind = type(value)
        if kind is tuple:
            code = TUPLE
        elif kind is set:
            code = SET
        elif kind is frozenset:
            code = FROZENSET
        elif kind is int:
            return Ext(INT, dump_int(value))
        elif kind is complex:
            return Ext(COMPLEX, dump_complex(value.real, value.imag))
        else:
            dump = None if pure.is_channel(kind) else dumper_of(kind)
            if dump is None:
                return Ext(CHANNEL, pure.dump_channel(value))
            code, value = dump_with(dump, value)
            if type(value) is bytes:
                return Ext(code, value)
        if deeper is None:
            return Ext(code, pure.encode(list(value), nesting + 1))
        return Ext(code, packb(list(value), deeper, OPTIONS))

    return hook


class _NotYet(dict):
    """Stands for the loaded channels at the first try, which leaves them to the second."""

    def __contains__(self, data):
        raise InvalidValue("a channel")


def _load_hook(pure, nesting, deeper, option, loaded):
    """What ormsgpack calls for an extension that is in so many others."""

    def hook(code, data):
        if code in MAKE:
            if deeper is None or (nesting and len(data) > LOAD_NESTED):
                array = pure.decode(data, nesting + 1, loaded)
            else:
                array = unpackb(data, ext_hook=deeper, option=option)
            if type(array) is not list:
                raise InvalidValue("a tuple or set is no array")
            return MAKE[code](array)
        if code == CHANNEL:
            return pure.load_channel(data, loaded)
        return load_extension(code, data)

    return hook


def _load_hooks(pure, option, loaded):
    hook = None
    for nesting in range(LOAD_NESTING - 1, -1, -1):
        hook = _load_hook(pure, nesting, hook, option, loaded)
    return hook


class RustCodec(object):
    """Encodes and decodes values; the parameters are those of :class:`~.values.PureCodec`."""

    name = "rust"

    def __init__(
        self, channel_type=None, dump_channel=None, load_channel=None, max_items=MAX_ITEMS
    ):
        self.max_items = max_items
        pure = PureCodec(channel_type, dump_channel, load_channel, max_items)
        dump_hook = None
        for nesting in range(DUMP_NESTING - 1, -1, -1):
            dump_hook = _dump_hook(pure, nesting, dump_hook)
        load_hook = _load_hooks(pure, None, _NotYet())
        pure_encode = pure.encode
        pure_decode = pure.decode

        def encode(value):
            # For bytes ormsgpack makes a buffer up to four times as large, and then cuts it.
            if type(value) is not bytes:
                try:
                    data = packb(value, dump_hook, OPTIONS)
                    if len(data) <= MAX_VALUE:
                        return data
                except Exception:
                    pass
            return pure_encode(value)

        def decode(payload):
            if len(payload) > max_items:
                check_items(payload, max_items)
            try:
                return unpackb(payload, ext_hook=load_hook)
            except Exception:
                pass
            # It has keys that are not strings, channels, or errors. A channel is loaded only now,
            # and once, as its user may count on.
            loaded = {}
            hook = _load_hooks(pure, OPT_NON_STR_KEYS, loaded)
            try:
                return unpackb(payload, ext_hook=hook, option=OPT_NON_STR_KEYS)
            except Exception:
                pass
            return pure_decode(payload, 0, loaded)

        def decode_run(payloads):
            """The values of several payloads at once; None when each has to be decoded by itself.

            That is where one is not valid, has channels, or has keys that are not strings.
            """
            data = b"".join([_ARRAY32(0xDD, len(payloads) + 1)] + payloads + [_LAST])
            try:
                values = unpackb(data, ext_hook=load_hook)
            except Exception:
                return None
            return values if values.pop() == LAST else None

        # Functions and not methods, so that what they need is at hand.
        self.encode = encode
        self.decode = decode
        self.decode_run = decode_run
        self.packing = (packb, dump_hook, OPTIONS)
