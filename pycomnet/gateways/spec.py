"""Gateway specs: ``popen//python=pypy3//chdir=/tmp//env:LANG=C``, read and checked."""

from __future__ import annotations

import difflib
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
    env: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str | Spec, **options: Any) -> Spec:
        """Read a spec.

        :param text: ``transport//key=value//key=value...``; or a Spec, which is only changed.
        :param options: further keys, for values that a spec string cannot hold; ``env`` is a dict.
        :raises SpecError: it says which part is wrong and what it may have been meant to be.
        """
        if isinstance(text, Spec):
            return attrs.evolve(text, **options)
        parts = text.split("//")
        transport = parts[0]
        if transport not in TRANSPORTS:
            raise SpecError(
                f"spec {text!r}: no transport {transport!r}{_suggest(transport, TRANSPORTS)}; "
                f"there is: {', '.join(TRANSPORTS)}"
            )
        values: dict[str, Any] = {"transport": transport}
        env: dict[str, str] = {}
        for part in parts[1:]:
            key, equals, value = part.partition("=")
            if not equals or not value:
                raise SpecError(f"spec {text!r}: expected key=value, not {part!r}")
            if key.startswith("env:"):
                env[_env_name(text, key[4:])] = value
            elif key not in KEYS:
                raise SpecError(
                    f"spec {text!r}: no key {key!r}{_suggest(key, (*KEYS, 'env:NAME'))}; "
                    f"there are: {', '.join(KEYS)}, env:NAME"
                )
            elif key in values:
                raise SpecError(f"spec {text!r}: {key} twice")
            else:
                values[key] = value
        env.update(options.pop("env", None) or {})
        values.update(options)
        unknown = set(values) - set(KEYS) - {"transport"}
        if unknown:
            key = sorted(unknown)[0]
            raise SpecError(f"no option {key!r}{_suggest(key, tuple(KEYS))}")
        values["nice"] = _integer(text, "nice", values.get("nice", 0))
        if values.get("execmodel", "thread") not in EXECMODELS:
            raise SpecError(
                f"spec {text!r}: execmodel is {' or '.join(EXECMODELS)}, "
                f"not {values['execmodel']!r}{_suggest(values['execmodel'], EXECMODELS)}"
            )
        return cls(env=env, **values)

    def __str__(self) -> str:
        parts = [self.transport]
        for key in KEYS:
            value = getattr(self, key)
            if value and value != "thread":
                parts.append(f"{key}={value}")
        parts.extend(f"env:{name}={value}" for name, value in self.env.items())
        return "//".join(parts)


def _env_name(text: str, name: str) -> str:
    if not re.fullmatch(r"[^=\0]+", name):
        raise SpecError(f"spec {text!r}: env:NAME=value, not env:{name}")
    return name


def _integer(text: str, key: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise SpecError(f"spec {text!r}: {key} is a whole number, not {value!r}") from None


def _suggest(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
