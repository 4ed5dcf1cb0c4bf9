"""The errors: one root, and a class for each thing that a caller would catch."""

from __future__ import annotations

from typing import Any


class PycomnetError(Exception):
    """The root of all errors that pycomnet raises."""


class SpecError(PycomnetError, ValueError):
    """A gateway spec that can't be read; the message says which part and what was expected."""


class EndpointError(PycomnetError, ValueError):
    """An address that is no endpoint string, or whose files can't be read."""


class TokenError(PycomnetError, ValueError):
    """A token or a file of tokens that can't be used; the message says why, and not the token."""


class CodeNotSendable(PycomnetError, ValueError):
    """A function or module whose source can't run on its own; the message names what it needs."""


class ChannelClosed(PycomnetError, EOFError):
    """The channel is closed: by its other end, which has sent all it had, or by this one."""


class ConnectionLost(PycomnetError, EOFError):
    """The connection ended, and everything on it with it.

    :ivar reason: what ended it, as a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProtocolViolation(ConnectionLost):
    """One end broke the wire protocol, so the connection was dropped.

    :ivar code: the stable name of what was broken (docs/protocol.rst).
    """

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code


class CertificateRefused(ConnectionLost):
    """The other end's TLS certificate was refused: its name, its dates or who signed it."""


class GatewayDied(ConnectionLost):
    """The far process ended while something still waited for it.

    :ivar exit_status: its exit status, or None when a signal ended it or it isn't known.
    :ivar signal: the number of the signal that ended it, or None.
    :ivar stderr: the last lines of its standard error.
    """

    def __init__(
        self,
        reason: str,
        exit_status: int | None = None,
        signal: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.signal = signal
        self.stderr = stderr


class GatewayNotStarted(PycomnetError):
    """A gateway could not be made; the message has what its process said on standard error.

    :ivar exit_status: the process's exit status, or None.
    :ivar stderr: the last lines of its standard error.
    """

    def __init__(self, reason: str, exit_status: int | None = None, stderr: str = "") -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.stderr = stderr


class RemoteError(PycomnetError):
    """Code at the other end raised.

    :ivar type: the exception's class there, with its module unless it is a builtin one.
    :ivar message: the exception as a string.
    :ivar formatted: the traceback there, with source lines, causes and notes.
    :ivar code: ``remote``, or the stable name of what else failed there.
    """

    def __init__(self, type: str, message: str, formatted: str = "", code: str = "remote") -> None:
        super().__init__(type, message, formatted, code)
        self.type = type
        self.message = message
        self.formatted = formatted
        self.code = code

    def __str__(self) -> str:
        if self.formatted:
            return self.formatted.rstrip()
        return f"{self.type}: {self.message}" if self.type else self.message

    @classmethod
    def from_map(cls, error: dict[str, Any]) -> RemoteError:
        """Make one of an error's map (docs/protocol.rst, "Errors"); what is missing is empty."""
        return cls(
            str(error.get("type", "")),
            str(error.get("message", "")),
            str(error.get("formatted", "")),
            str(error.get("code", "remote")),
        )

    def as_map(self) -> dict[str, str]:
        """The error's map, as CLOSE carries it."""
        return {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "formatted": self.formatted,
        }


class TimeoutExpired(PycomnetError, TimeoutError):
    """What a timeout was given for did not happen in that time."""
