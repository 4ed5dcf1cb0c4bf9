"""Parses and checks gateway specs: ``ssh=me@host -p 2222//python=pypy3//env:LANG=C``."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from typing import Any

import attrs

from pycomnet.errors import SpecError
from pycomnet.gateways.transports import TRANSPORTS
from pycomnet.ranges import MAX_NICE, NumberRefused, real, whole
from pycomnet.text.similar import most_similar
from pycomnet.wire.frames import MAX_VALUE

EXECMODELS = ("thread", "main_thread_only")
WEBSOCKET = ("yes", "no", "auto")
#: The keys of specs and their meanings, beside ``env:NAME``.
#: :data:`~pycomnet.gateways.transports.TRANSPORTS` has the keys of each transport.
KEYS = {
    "python": "the interpreter, with its arguments split as a shell does",
    "id": "the gateway's name in its group",
    "chdir": "the directory that the far side works in",
    "nice": "added to the far side's niceness",
    "execmodel": "thread or main_thread_only",
    "fork": "no: an interpreter of its own; yes: forked by the fork server, the first too",
    "via": "the id of the gateway to start it from",
    "ssh_config": "a file of ssh's options, instead of the user's own",
    "keepalive": "seconds of silence after which the other end is asked for a sign of life",
    "token": "what the service knows this user by",
    "token_file": "a file that holds the token",
    "ca": "a file of certificates that the service's one is signed by",
    "cert": "a file with the certificate that this user is known by",
    "key": "a file with the certificate's private key",
    "linger": "seconds that it stays when its program is gone, with a factory or over http",
    "websocket": "yes, no or auto: over http, whether to use a WebSocket",
    "trusted": "no: little may come from there at a time",
    "max_value": "bytes of one value that comes from there",
    "max_items": "elements, keys and values of one value that comes from there",
    "resume": "yes: take over the gateway of that id that the factory has; or no",
}
#: How similar a key has to be to be suggested: some are short, as ``env`` for ``env:NAME``.
SIMILAR_KEY = 0.5
#: Environment variables that matter when an interpreter starts, by the start of their names:
#: gateways that differ in them are not forked from the same interpreter.
STARTUP = (
    *("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENSSL_"),
    *("JAVA_", "JYTHON", "PYPY"),
)
#: The size in bytes, its name and NUL included, that no system accepts for an argument or variable.
MAX_STRING = 131072
#: The keys whose values are text, file names included.
_TEXTS = ("id", "chdir", "via", "ssh_config", "token", "token_file", "ca", "cert", "key")
_SECONDS = ("keepalive", "linger")
_SECRETS = ("token",)
#: The keys whose values are whole numbers, and their ranges. A value in one frame is never too
#: long, one of a kilobyte never has too many items, and the upper limit is MessagePack's.
_NUMBERS = {
    "nice": (-MAX_NICE, MAX_NICE),
    "max_value": (65536, MAX_VALUE),
    "max_items": (1024, MAX_VALUE),
}


def _arguments(value: object) -> tuple[str, ...] | None:
    """A command as its arguments: text or a path is one argument, whatever it contains."""
    if value is None:
        return None
    if isinstance(value, (str, os.PathLike)):
        return (os.fspath(value),)
    words: tuple[Any, ...] = tuple(value) if isinstance(value, Iterable) else (value,)
    return words


def split_command(text: str) -> tuple[str, ...]:
    """Split a command's text into arguments, as a shell does.

    :raises ValueError: a quote is missing.
    """
    return tuple(shlex.split(text))


def _hidden(value: object) -> str:
    return "None" if value is None else "'...'"


@attrs.frozen
class Spec:
    """The parts of a gateway spec.

    :ivar transport: a key of :data:`~pycomnet.gateways.transports.TRANSPORTS`.
    :ivar target: the text after ``transport=``; None for ``popen``.
    :ivar python: the interpreter and its arguments, or None for the transport's own choice. It is
        split only in a spec's text: as an option it is one path, or a list of arguments.
    :ivar id: the gateway's name, or None for one that the group makes.
    :ivar chdir: the far side's working directory, or None.
    :ivar nice: the increment of its niceness.
    :ivar execmodel: ``thread``: the first request runs in the main thread, others that come
        meanwhile in threads of their own; ``main_thread_only``: they wait for the main thread.
    :ivar fork: whether it is forked from a running interpreter. None: the first that a group starts
        on this machine is not, those after it are.
    :ivar via: the id of the gateway from which it is started, or None.
    :ivar ssh_config: a file of ssh's options, or None.
    :ivar keepalive: seconds of silence after which the other end is pinged; None is the transport's
        default.
    :ivar token: authenticates this user at the service; never shown.
    :ivar token_file: a file with the token.
    :ivar ca: a file with the authorities' certificates for the service's certificate.
    :ivar cert: a file with this user's certificate.
    :ivar key: a file with its private key.
    :ivar linger: seconds that it lives on when its program, or the connection, is gone: with a
        factory, and over http.
    :ivar websocket: over http, ``yes``: a WebSocket, or fail; ``no``: only POST and GET; ``auto``:
        a WebSocket if the server and all proxies support it.
    :ivar resume: whether to take over the gateway of that id.
    :ivar trusted: False: the far side may be hostile, so the limits on what it sends are strict.
        None: as for its group.
    :ivar max_value: the most bytes of a value that it sends; None: as for its group. A longer value
        ends the gateway.
    :ivar max_items: the most elements, keys and values of one, nested ones included, likewise.
    :ivar env: environment variables that are set there.
    """

    transport: str = "popen"
    target: str | None = None
    python: tuple[str, ...] | None = attrs.field(default=None, converter=_arguments)
    id: str | None = None
    chdir: str | None = None
    nice: int = 0
    execmodel: str = "thread"
    fork: bool | None = None
    via: str | None = None
    ssh_config: str | None = None
    keepalive: float | None = None
    token: str | None = attrs.field(default=None, repr=_hidden)
    token_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    linger: float | None = None
    websocket: str = "auto"
    resume: bool = False
    trusted: bool | None = None
    max_value: int | None = None
    max_items: int | None = None
    # The values are often secrets.
    env: dict[str, str] = attrs.field(factory=dict, hash=False, repr=lambda env: f"{[*env]}")

    @classmethod
    def parse(cls, text: str | Spec, **options: Any) -> Spec:
        """Parse a spec.

        :param text: ``transport//key=value...`` or ``transport=target//key=value...``; or a Spec,
            to make a changed one.
        :param options: further keys, for values that a spec's text cannot hold; ``env`` is a dict.
            They override the text.
        :raises SpecError: the message says which part is wrong, and may suggest the right one.
        """
        if isinstance(text, Spec):
            values = {field.name: getattr(text, field.name) for field in attrs.fields(cls)}
        else:
            values = _read(text)
        where = f"spec {_shown(text)}"
        known = _keys(values["transport"])
        for key, value in options.items():
            if key not in known and key != "env":
                raise SpecError(f"{where}: {_unknown('option', key, (*known, 'env'))}")
            if value is not None:
                values[key] = {**values["env"], **value} if key == "env" else value
        values["python"] = _command(where, values.get("python"))
        for key in _TEXTS:
            if key in values:
                values[key] = _text(where, key, values[key])
        for key in _SECONDS:
            if values.get(key) is not None:
                values[key] = _seconds(where, key, values[key])
        for name, value in values["env"].items():
            _check_variable(where, name, value)
        for key, (least, most) in _NUMBERS.items():
            if values.get(key) is not None:
                values[key] = _integer(where, key, values[key], least, most)
        if values.get("fork") is not None:
            values["fork"] = _yes(where, "fork", values["fork"])
        if values.get("trusted") is not None:
            values["trusted"] = _yes(where, "trusted", values["trusted"])
        values["resume"] = _yes(where, "resume", values.get("resume", False))
        execmodel = values.get("execmodel", "thread")
        if execmodel not in EXECMODELS:
            raise SpecError(
                f"{where}: execmodel is {' or '.join(EXECMODELS)}, "
                f"not {execmodel!r}{_suggest(str(execmodel), EXECMODELS)}"
            )
        websocket = values.get("websocket", "auto")
        if websocket not in WEBSOCKET:
            raise SpecError(f"{where}: websocket is yes, no or auto, not {websocket!r}")
        return cls(**values)

    def __str__(self) -> str:
        """The spec's text, without the values of environment variables and secrets."""
        parts = [self.transport if self.target is None else f"{self.transport}={self.target}"]
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name in KEYS and value != field.default:
                if isinstance(value, bool):
                    value = "yes" if value else "no"
                elif isinstance(value, float):
                    value = f"{value:g}"
                elif isinstance(value, tuple):
                    value = shlex.join(value)
                parts.append(f"{field.name}={'...' if field.name in _SECRETS else value}")
        parts.extend(f"env:{name}=..." for name in self.env)
        return "//".join(parts)


def _keys(transport: str) -> tuple[str, ...]:
    """The keys of a transport's specs, in the order of :data:`KEYS`."""
    return tuple(key for key in KEYS if key in TRANSPORTS[transport].keys)


def _read(text: str) -> dict[str, Any]:
    """Parse a spec's text; return its fields, and ``env``."""
    first, *parts = text.split("//")
    where = f"spec {_shown(text)}"
    transport, equals, target = first.partition("=")
    if transport not in TRANSPORTS:
        raise SpecError(
            f"{where}: no transport {transport!r}{_suggest(transport, tuple(TRANSPORTS))}; "
            f"there are: {', '.join(TRANSPORTS)}"
        )
    env: dict[str, str] = {}
    values: dict[str, Any] = {"transport": transport, "env": env}
    wanted = TRANSPORTS[transport].target
    if wanted is None and equals:
        raise SpecError(f"{where}: {transport!r} alone, with nothing after it")
    if wanted is not None:
        if not target.strip():
            raise SpecError(f"{where}: expected {transport}=... ({wanted})")
        values["target"] = _target(where, transport, target)
    known = _keys(transport)
    for part in parts:
        key, equals, value = part.partition("=")
        variable = key.startswith("env:")
        if not equals or not (value or variable):
            raise SpecError(f"{where}: expected key=value, not {part!r}")
        if not variable and key not in known:
            raise SpecError(
                f"{where}: {_unknown('key', key, (*known, 'env:NAME'), transport)}; "
                f"there are: {', '.join(known)}, env:NAME"
            )
        if key in values or (variable and key[4:] in env):
            raise SpecError(f"{where}: {key} twice")
        if variable:
            env[key[4:]] = value
        elif key == "python":
            values[key] = _split(where, key, value)
        else:
            values[key] = value
    return values


def _split(where: str, key: str, text: str) -> tuple[str, ...]:
    try:
        return split_command(text)
    except ValueError as problem:
        raise SpecError(
            f"{where}: {key}={text!r} can't be split as a shell does: {problem}"
        ) from None


def _target(where: str, transport: str, target: str) -> str:
    if "\0" in target:
        raise SpecError(f"{where}: what follows {transport}= is text without NUL")
    if transport == "ssh":
        _split(where, transport, target)
    return target


def _unknown(kind: str, key: str, known: tuple[str, ...], transport: str = "") -> str:
    if key in KEYS and transport:
        return f"{key!r} is no key of {transport} gateways"
    return f"no {kind} {key!r}{_suggest(key, known)}"


def _shown(text: str | Spec) -> str:
    """A spec, for messages: without the values of environment variables and secrets."""
    if isinstance(text, Spec):
        return f"'{text}'"
    parts = text.split("//")
    return repr(
        "//".join(
            f"{part.partition('=')[0]}=..." if re.match("(env:[^=]*|token)=", part) else part
            for part in parts
        )
    )


def _command(where: str, value: Any) -> tuple[str, ...] | None:
    words = _arguments(value)
    if words is None:
        return None
    if not words or not words[0] or not all(isinstance(w, str) and "\0" not in w for w in words):
        raise SpecError(
            f"{where}: python is a path, or a list of one and its arguments, not {value!r}"
        )
    return words


def _text(where: str, key: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = os.fspath(value)
    except TypeError:
        text = b""
    if not isinstance(text, str) or not text or "\0" in text:
        shown = f", not {value!r}" if key not in _SECRETS else ""
        raise SpecError(f"{where}: {key} is text{shown}")
    return text


def _check_variable(where: str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[^=\0]+", name):
        raise SpecError(f"{where}: no environment variable can be called {name!r}")
    if not isinstance(value, str) or "\0" in value:
        raise SpecError(f"{where}: the environment variable {name} is text without NUL")
    size = len(os.fsencode(f"{name}={value}"))
    if name.startswith(STARTUP) and size >= MAX_STRING:
        raise SpecError(
            f"{where}: the environment variable {name} has {size} bytes; the system takes at most "
            f"{MAX_STRING - 1} of one that is read when an interpreter starts"
        )


def _integer(where: str, key: str, value: Any, least: int, most: int) -> int:
    try:
        return whole(key, value, least, most, text=True)
    except NumberRefused as problem:
        raise SpecError(f"{where}: {problem}") from None


def _seconds(where: str, key: str, value: Any) -> float:
    try:
        return real(key, value, above=True, text=True)
    except NumberRefused as problem:
        raise SpecError(f"{where}: {problem}") from None


def _yes(where: str, key: str, value: Any) -> bool:
    if value in (True, "yes"):
        return True
    if value in (False, "no"):
        return False
    raise SpecError(f"{where}: {key} is yes or no, not {value!r}")


def _suggest(word: str, known: tuple[str, ...]) -> str:
    found = most_similar(word, known, SIMILAR_KEY)
    return "" if found is None else f" (did you mean {found!r}?)"
