"""The hello, each end's first frame, and the other maps of the protocol."""

from .frames import (
    CHANNELS,
    FRAGMENT,
    HELLO,
    MAGIC,
    MAX_CREDIT,
    MAX_HELLO,
    MIN_FRAME,
    MIN_WINDOW,
    U16,
    U32,
    VERSION,
    WINDOW,
    pack,
)
from .stream import LocalError, ProtocolError
from .values import InvalidValue, PureCodec

#: The most elements, keys and values of these maps: many times what any of them needs.
MAX_PLAIN = 16384
#: the codec of hellos, GOAWAYs and errors: they hold no channels, and may come from anyone
PLAIN = PureCodec(max_items=MAX_PLAIN, kinds=False)
# Python 2 has two types of each.
INTS = (int, type(1 << 70))
STRS = (str, type(b"".decode("ascii")))


def hello_frame(limits, info, credential):
    """The first frame of this end."""
    hello = {
        "window": limits.window,
        "frame": limits.frame,
        "channels": limits.channels,
        "info": info or {},
    }
    if credential is not None:
        hello["credential"] = bytearray(credential)
    payload = MAGIC + U16.pack(VERSION) + PLAIN.encode(hello)
    if len(payload) > MAX_HELLO:
        raise LocalError("a hello of %d bytes, the limit is %d" % (len(payload), MAX_HELLO))
    return pack(len(payload), HELLO, 0) + payload


def check_start(start):
    """Refuse the first bytes of a connection if they can't become a hello.

    As early as possible: the peer may send no more bytes, and wait for an answer.

    :raises ProtocolError: they can't.
    """
    start = bytes(start)
    if start[4:5] > b"\x00" or (len(start) > 4 and U32.unpack(start[:4])[0] > MAX_HELLO):
        refuse(start)


def refuse(start):
    """Raise the error for bytes that are no hello."""
    raise ProtocolError(
        "hello", "expected a hello, got %r: the peer does not speak this protocol" % start[:64]
    )


def read_hello(id, payload):
    """The peer's hello as a dict: ``window``, ``frame``, ``channels``, ``info``, ``credential``.

    :raises ProtocolError: it is not valid.
    """
    if id:
        raise ProtocolError("hello", "a hello on channel %d, not 0" % id)
    size = len(MAGIC)
    if payload[:size] != MAGIC:
        refuse(payload)
    if len(payload) < size + 2:
        raise ProtocolError("hello", "a hello of %d bytes, at least %d" % (len(payload), size + 2))
    (version,) = U16.unpack_from(payload, size)
    if version != VERSION:
        raise ProtocolError(
            "version", "the peer speaks version %d, this is version %d" % (version, VERSION)
        )
    hello = read_map(payload[size + 2 :], "hello", "the hello")
    peer = {"window": WINDOW, "frame": FRAGMENT, "channels": CHANNELS}
    lowest = {"window": MIN_WINDOW, "frame": MIN_FRAME, "channels": 0}
    for key in lowest:
        value = hello.get(key, peer[key])
        if type(value) not in INTS or not lowest[key] <= value <= MAX_CREDIT:
            raise ProtocolError(
                "hello", "%s: %d to %d, not %.60r" % (key, lowest[key], MAX_CREDIT, value)
            )
        peer[key] = value
    peer["credential"] = credential = hello.get("credential")
    if credential is not None and type(credential) is not bytes:
        raise ProtocolError("hello", "credential: bytes, not %s" % type(credential).__name__)
    peer["info"] = info = hello.get("info", {})
    if not isinstance(info, dict):
        raise ProtocolError("hello", "info: a map, not %s" % type(info).__name__)
    return peer


def read_map(payload, code, what):
    """Decode a map.

    :param code: the code of the error if it is not a map; ``what`` names it in that error.
    """
    try:
        value = PLAIN.decode(payload)
    except InvalidValue as error:
        raise ProtocolError(code, "%s: %s" % (what, error))
    if not isinstance(value, dict):
        raise ProtocolError(code, "%s: a map, not %s" % (what, type(value).__name__))
    return value


def cut_error(payload, most):
    """An error's map, cut so that it fits in ``most`` bytes."""
    message = "an error of %d bytes" % len(payload)
    cut = {"code": "remote", "message": message}
    try:
        error = PLAIN.decode(payload)
    except InvalidValue:
        error = None
    if isinstance(error, dict):
        half = most // 32 - 16  # four texts, of up to 4 bytes a character
        for key in ("code", "type", "message", "formatted"):
            value = error.get(key)
            if isinstance(value, STRS):
                short = len(value) <= 2 * half
                cut[key] = value if short else value[:half] + "..." + value[-half:]
    return PLAIN.encode(cut)
