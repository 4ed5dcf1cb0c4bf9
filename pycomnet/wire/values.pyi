from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias, type_check_only

PY2: Final[bool]
text = str

MAX_DEPTH: Final = 255
MAX_EXTENSIONS: Final = 32
MAX_OPEN: Final = 1024
MAX_INT: Final = 65536
MAX_VALUE: Final = 0xFFFFFFFF
MAX_ITEMS: Final[int]
MAX_KEYS: Final = 1024

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
COMPLEX: Final = 4
INT: Final = 5
CHANNEL: Final = 6
SURROGATES: Final = 7
FIRST_KIND: Final = 8
FIRST_ARRAY: Final = 14
LAST_KIND: Final = 18

MAKE_PLAIN: Final[dict[int, Callable[[list[Any]], Any]]]
MAKE: Final[dict[int, Callable[[list[Any]], Any]]]
SENDABLE: Final[str]

_Buffer: TypeAlias = bytes | bytearray | memoryview
_ChannelType: TypeAlias = type | tuple[type, ...]

class ValueNotSendable(TypeError):
    path: str
    type_name: str
    reason: str
    def __init__(
        self,
        message: str,
        path: str = "value",
        type_name: str = "",
        reason: str = "",
        template: str = "",
    ) -> None: ...
    def renamed(self, place: str, name: str, part: object) -> ValueNotSendable: ...

class InvalidValue(ValueError): ...
class TooManyItems(InvalidValue): ...
class ValueNotReceivable(ValueError): ...
class Refused(Exception): ...

def dump_int(n: int) -> bytes: ...
def dump_complex(real: float, imag: float) -> bytes: ...
def load_extension(code: int, data: bytes) -> object: ...
def type_name(kind: type) -> str: ...
def is_plain(kind: type) -> bool: ...
def is_ordered(thing: object) -> bool: ...

_Dumper: TypeAlias = Callable[[Any], tuple[int, bytes | list[Any]]]

DUMPERS: dict[type, _Dumper]

def dumper_of(kind: type) -> _Dumper | None: ...
def dump_with(dump: _Dumper, value: object) -> tuple[int, bytes | list[Any]]: ...
def show_key(key: object) -> str: ...
def blame(
    encode: Callable[[Any], bytes],
    error: ValueNotSendable,
    parts: Iterable[tuple[str, str, Any, Any]],
) -> ValueNotSendable: ...
def check_items(payload: _Buffer, most: int) -> None: ...
def read_texts(payload: bytes, count: int) -> list[str]: ...

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
        max_items: int = ...,
        kinds: bool = True,
    ) -> None: ...
    max_items: int
    def is_channel(self, kind: type) -> bool: ...
    def dump_channel(self, channel: object) -> bytes: ...
    def load_channel(self, data: bytes, loaded: dict[bytes, object]) -> object: ...
    def decode_run(self, payloads: list[bytes]) -> None: ...
    packing: None
    def encode(self, value: object, nesting: int = 0) -> bytes: ...
    def decode(
        self, payload: _Buffer, nesting: int = 0, loaded: dict[bytes, object] | None = None
    ) -> Any: ...
