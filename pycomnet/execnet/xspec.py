"""Gateway specs as execnet has them: ``key=value`` and ``key`` with ``//`` between."""

from __future__ import annotations

from typing import Any


class XSpec:
    """A gateway spec.

    Each key is an attribute: text, True for a key without ``=``, or None for a missing key. Unknown
    keys are allowed.

    :ivar env: the values of ``env:NAME=value``.
    """

    chdir: Any = None
    dont_write_bytecode: Any = None
    execmodel: Any = None
    id: Any = None
    installvia: Any = None
    nice: Any = None
    popen: Any = None
    python: Any = None
    socket: Any = None
    ssh: Any = None
    ssh_config: Any = None
    vagrant_ssh: Any = None
    via: Any = None

    def __init__(self, string: str) -> None:
        self._spec = string
        self.env: dict[str, Any] = {}
        for part in string.split("//"):
            key, equals, text = part.partition("=")
            value: Any = text if equals else True
            if not key:
                raise ValueError(f"{string!r}: there is no key in {part!r}")
            if key.startswith("_"):
                raise AttributeError(f"{key!r} not a valid XSpec key")
            if key in self.__dict__:
                raise ValueError(f"duplicate key: {key!r} in {string!r}")
            if key.startswith("env:"):
                self.env[key[4:]] = value
            else:
                setattr(self, key, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None

    def __repr__(self) -> str:
        """Leave out tokens and values of variables, as this may be printed and logged."""
        parts = []
        for part in self._spec.split("//"):
            key, equals, _ = part.partition("=")
            secret = equals and (key == "token" or key.startswith("env:"))
            parts.append(f"{key}=..." if secret else part)
        return f"<XSpec {'//'.join(parts)!r}>"

    def __str__(self) -> str:
        return self._spec

    def __hash__(self) -> int:
        return hash(self._spec)

    def __eq__(self, other: object) -> bool:
        return self._spec == getattr(other, "_spec", None)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _samefilesystem(self) -> bool:
        return bool(self.popen and not self.chdir)
