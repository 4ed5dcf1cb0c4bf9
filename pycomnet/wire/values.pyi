from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, type_check_only

PY2: Final[bool]
text = str

MAX_DEPTH: Final = 255
MAX_EXTENSIONS: Final = 32
MAX_OPEN: Final = 1024
MAX_INT: Final = 65536
MAX_VALUE: Final = 0xFFFFFFFF
MAX_KEYS: Final = 1024

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
COMPLEX: Final = 4
INT: Final = 5
CHANNEL: Final = 6
SURROGATES: Final = 7

MAKE: Final[dict[int, Callable[[list[Any]], Any]]]
SENDABLE: Final[str]

_Buffer: TypeAlias = bytes | bytearray | memoryview
_ChannelType: TypeAlias = type | tuple[type, ...]

class ValueNotSendable(TypeError):
    path: str
    type_name: str
    def __init__(self, message: str, path: str = "value", type_name: str = "") -> None: ...

class InvalidValue(ValueError): ...
class Refused(Exception): ...

def dump_int(n: int) -> bytes: ...
def dump_complex(real: float, imag: float) -> bytes: ...
def load_extension(code: int, data: bytes) -> object: ...
def type_name(kind: type) -> str: ...

@type_check_only
class Codec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def encode(self) -> Callable[[object], bytes]: ...
    @property
    def decode(self) -> Callable[[_Buffer], Any]: ...
    @property
    def decode_run(self) -> Callable[[list[bytes]], list[Any] | None]: ...
    @property
    def packing(self) -> tuple[Callable[[object, Any, Any], bytes], Any, Any] | None: ...

class PureCodec:
    name: str
    def __init__(
        self,
        channel_type: _ChannelType | None = None,
        dump_channel: Callable[[Any], int] | None = None,
        load_channel: Callable[[int], object] | None = None,
    ) -> None: ...
    def dump_channel(self, channel: object) -> bytes: ...
    def load_channel(self, data: bytes, loaded: dict[bytes, object]) -> object: ...
    def decode_run(self, payloads: list[bytes]) -> None: ...
    packing: None
    def encode(self, value: object, nesting: int = 0) -> bytes: ...
    def decode(
        self, payload: _Buffer, nesting: int = 0, loaded: dict[bytes, object] | None = None
    ) -> Any: ...

def make_codec(
    channel_type: _ChannelType | None = None,
    dump_channel: Callable[[Any], int] | None = None,
    load_channel: Callable[[int], object] | None = None,
    pure: bool = False,
) -> Codec: ...
