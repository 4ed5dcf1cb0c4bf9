"""Gateway specs: ``popen//python=pypy3//chdir=/tmp//env:LANG=C``, read and checked."""

from __future__ import annotations

import difflib
import os
import re
from typing import Any

import attrs

from pycomnet.errors import SpecError

#: The transports there are.
TRANSPORTS = ("popen",)
EXECMODELS = ("thread", "main_thread_only")
#: The keys that a spec may have, and what each is; ``env:NAME`` beside them.
KEYS = {
    "python": "the interpreter, with its arguments split as a shell does",
    "id": "the gateway's name in its group",
    "chdir": "the directory that the far side works in",
    "nice": "added to the far side's niceness",
    "execmodel": "thread or main_thread_only",
}


@attrs.frozen
class Spec:
    """A gateway spec, as parts.

    :ivar transport: how to get there: ``popen``.
    :ivar python: the interpreter and its arguments, or None for the near side's own.
    :ivar id: the gateway's name, or None for one that the group makes.
    :ivar chdir: the far side's working directory, or None.
    :ivar nice: what is added to its niceness.
    :ivar execmodel: ``thread``: the first request runs in the main thread, others that come
        meanwhile in threads of their own; ``main_thread_only``: they wait for the main thread.
    :ivar env: environment variables that are set there.
    """

    transport: str = "popen"
    python: str | None = None
    id: str | None = None
    chdir: str | None = None
    nice: int = 0
    execmodel: str = "thread"
    # Its values are often secrets.
    env: dict[str, str] = attrs.field(factory=dict, hash=False, repr=lambda env: f"{[*env]}")

    @classmethod
    def parse(cls, text: str | Spec, **options: Any) -> Spec:
        """Read a spec.

        :param text: ``transport//key=value//key=value...``; or a Spec, which is only changed.
        :param options: further keys, for values that a spec string cannot hold; ``env`` is a dict.
            They go before what the text says.
        :raises SpecError: it says which part is wrong and what it may have been meant to be.
        """
        if isinstance(text, Spec):
            values = {field.name: getattr(text, field.name) for field in attrs.fields(cls)}
        else:
            values = _read(text)
        where = f"spec {_shown(text)}"
        for key, value in options.items():
            if key not in KEYS and key != "env":
                raise SpecError(f"{where}: no option {key!r}{_suggest(key, (*KEYS, 'env'))}")
            if value is not None:
                values[key] = {**values["env"], **value} if key == "env" else value
        for key in ("python", "id", "chdir"):
            if key in values:
                values[key] = _text(where, key, values[key])
        for name, value in values["env"].items():
            _check_variable(where, name, value)
        values["nice"] = _integer(where, "nice", values.get("nice", 0))
        execmodel = values.get("execmodel", "thread")
        if execmodel not in EXECMODELS:
            raise SpecError(
                f"{where}: execmodel is {' or '.join(EXECMODELS)}, "
                f"not {execmodel!r}{_suggest(str(execmodel), EXECMODELS)}"
            )
        return cls(**values)

    def __str__(self) -> str:
        """As it may be written, but for the values of environment variables."""
        parts = [self.transport]
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name in KEYS and value != field.default:
                parts.append(f"{field.name}={value}")
        parts.extend(f"env:{name}=..." for name in self.env)
        return "//".join(parts)


def _read(text: str) -> dict[str, Any]:
    """What a spec's text says, as the fields that it has, and ``env``."""
    transport, *parts = text.split("//")
    where = f"spec {_shown(text)}"
    if transport not in TRANSPORTS:
        raise SpecError(
            f"{where}: no transport {transport!r}{_suggest(transport, TRANSPORTS)}; "
            f"there is: {', '.join(TRANSPORTS)}"
        )
    env: dict[str, str] = {}
    values: dict[str, Any] = {"transport": transport, "env": env}
    for part in parts:
        key, equals, value = part.partition("=")
        variable = key.startswith("env:")
        if not equals or not (value or variable):
            raise SpecError(f"{where}: expected key=value, not {part!r}")
        if not variable and key not in KEYS:
            raise SpecError(
                f"{where}: no key {key!r}{_suggest(key, (*KEYS, 'env:NAME'))}; "
                f"there are: {', '.join(KEYS)}, env:NAME"
            )
        if key in values or (variable and key[4:] in env):
            raise SpecError(f"{where}: {key} twice")
        if variable:
            env[key[4:]] = value
        else:
            values[key] = value
    return values


def _shown(text: str | Spec) -> str:
    """A spec, for messages: without the values of environment variables."""
    if isinstance(text, Spec):
        return f"'{text}'"
    parts = text.split("//")
    return repr(
        "//".join(
            f"{part.partition('=')[0]}=..." if re.match("env:[^=]*=", part) else part
            for part in parts
        )
    )


def _text(where: str, key: str, value: Any) -> str | None:
    if value is None:
        return None
    try:
        text = os.fspath(value)
    except TypeError:
        text = b""
    if not isinstance(text, str) or not text or "\0" in text:
        raise SpecError(f"{where}: {key} is text, not {value!r}")
    return text


def _check_variable(where: str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[^=\0]+", name):
        raise SpecError(f"{where}: no environment variable can be called {name!r}")
    if not isinstance(value, str) or "\0" in value:
        raise SpecError(f"{where}: the environment variable {name} is text without NUL")


def _integer(where: str, key: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value):
        raise SpecError(f"{where}: {key} is a whole number, not {value!r}")
    return number


def _suggest(word: str, known: tuple[str, ...]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, 1, 0.5)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
