"""The value codec on ormsgpack, which is written in Rust; imported only if that is installed.

ormsgpack encodes ordinary values itself. For others it calls hooks, which make extensions. Whatever
ormsgpack refuses goes to the pure codec, which encodes what ormsgpack can't (keys that are not
strings, lone surrogates), or raises the error that says where the problem is.

ormsgpack recurses on the C stack: about 650 bytes for each nested array, and a hook calls it again
for the next extension. A payload that nests as deep as it may would need 20 MB of stack. So
ormsgpack gets only a few levels of extensions, and below them only small ones.
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
    # Up to 1.12, a payload of 4 kB can take 2.5 GB, and each invalid payload leaks its content.
    raise ImportError("ormsgpack 1.13.1 is needed for what comes from a network")

# Without OPT_NON_STR_KEYS, which turns keys that are enums, dates or UUIDs into something else.
OPTIONS = (
    OPT_PASSTHROUGH_BIG_INT
    | OPT_PASSTHROUGH_DATACLASS
    | OPT_PASSTHROUGH_DATETIME
    | OPT_PASSTHROUGH_ENUM
    | OPT_PASSTHROUGH_SUBCLASS
    | OPT_PASSTHROUGH_TUPLE
    | OPT_PASSTHROUGH_UUID
)
#: The last element behind values that are decoded together. It is not there if one of them does not
#: end where its payload ends.
LAST = "pycomnet: the run ends here"
_LAST = packb(LAST)
_ARRAY32 = Struct(">BI").pack
#: How many levels of extensions it encodes: 255 dicts in each take 60 kB of stack.
DUMP_NESTING = 8
#: How many levels of extensions it decodes.
LOAD_NESTING = 4
#: The longest extension within another that it decodes: so little can't nest deep.
LOAD_NESTED = 256


def _dump_hook(pure, nesting, deeper):
    """The hook that ormsgpack calls for a value of a type it doesn't know.

    :param nesting: the number of extensions around the value.
    :param deeper: the hook for one level more, or None to leave that to the pure codec.
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
    """The table of loaded channels in the first attempt, which leaves channels to the second."""

    def __contains__(self, data):
        raise InvalidValue("a channel")


def _load_hook(pure, nesting, deeper, option, loaded):
    """The hook that ormsgpack calls for an extension within ``nesting`` others."""

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
            # Not for bytes: ormsgpack makes a buffer up to four times as large, and cuts it.
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
            # The payload has keys that are not strings, channels, or errors. Channels are loaded
            # only now, so each exactly once: load_channel may rely on that.
            loaded = {}
            hook = _load_hooks(pure, OPT_NON_STR_KEYS, loaded)
            try:
                return unpackb(payload, ext_hook=hook, option=OPT_NON_STR_KEYS)
            except Exception:
                pass
            return pure_decode(payload, 0, loaded)

        def decode_run(payloads):
            """Decode several payloads at once; None if each has to be decoded by itself.

            That is so if one is not valid, has channels, or has keys that are not strings.
            """
            data = b"".join([_ARRAY32(0xDD, len(payloads) + 1)] + payloads + [_LAST])
            try:
                values = unpackb(data, ext_hook=load_hook)
            except Exception:
                return None
            return values if values.pop() == LAST else None

        # Closures and not methods, as their variables are found faster.
        self.encode = encode
        self.decode = decode
        self.decode_run = decode_run
        self.packing = (packb, dump_hook, OPTIONS)
