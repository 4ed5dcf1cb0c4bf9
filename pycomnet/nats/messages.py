"""Messages of NATS, their headers, and the subjects that they may have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pycomnet.errors import InvalidArguments

_VERSION = b"NATS/1.0"
#: The most characters of a subject here; servers allow lines of 4,096.
MAX_SUBJECT = 2048


class NatsMessage:
    """A received message.

    :ivar payload: its bytes.
    :ivar raw_subject: its subject, as bytes.
    """

    __slots__ = ("payload", "raw_headers", "raw_reply", "raw_subject")

    def __init__(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self.raw_subject = subject
        self.raw_reply = reply
        self.raw_headers = headers
        self.payload = payload

    def __repr__(self) -> str:
        return f"<NatsMessage {self.subject!r}, {len(self.payload)} bytes>"

    @property
    def subject(self) -> str:
        """Its subject."""
        return self.raw_subject.decode("utf-8", "replace")

    @property
    def reply(self) -> str:
        """The subject for a reply; empty if none is expected."""
        return self.raw_reply.decode("utf-8", "replace")

    @property
    def status(self) -> int | None:
        """The number in a server's own reply, such as 503."""
        first = self.raw_headers.partition(b"\r\n")[0].split(None, 2)
        if len(first) > 1 and first[1].isdigit() and len(first[1]) <= 3:
            return int(first[1])
        return None

    @property
    def description(self) -> str:
        """The text beside the status."""
        first = self.raw_headers.partition(b"\r\n")[0].split(None, 2)
        return first[2].decode("utf-8", "replace") if len(first) > 2 else ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers; the first one if several have the same name."""
        found: dict[str, str] = {}
        for line in self.raw_headers.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                text = value.strip().decode("utf-8", "replace")
                found.setdefault(name.decode("utf-8", "replace"), text)
        return found


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Encode headers.

    :raises InvalidArguments: a header has a line end, or a name with a colon.
    """
    lines = [_VERSION]
    for name, value in headers.items():
        line = f"{name}: {value}"
        if not name or ":" in name or not name.isprintable() or "\r" in line or "\n" in line:
            raise InvalidArguments(f"{name!r}: {value!r} can't be a header of NATS")
        lines.append(line.encode())
    return b"\r\n".join([*lines, b"", b""])


def check_subject(subject: str, pattern: bool = False) -> bytes:
    """Check a subject of NATS.

    :param pattern: whether it may have ``*`` and ``>``.
    :returns: its bytes.
    :raises InvalidArguments: it is not valid: it has an empty part, a blank, or is too long.
    """
    if isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT:
        parts = subject.split(".")
        wild = [part for part in parts if part == "*" or part == ">"]
        fits = not wild or (pattern and ">" not in parts[:-1])
        if fits and all(parts) and subject.isprintable() and not set(subject) & set(" \t"):
            return subject.encode("utf-8")
    shown = repr(subject)
    what = "a subject that may have '*' and '>'" if pattern else "a subject such as 'eu.created'"
    raise InvalidArguments(f"expected {what}, not {shown[:80]}")


def encode_json(value: Any) -> bytes:
    """Encode the body of a request to JetStream."""
    return json.dumps(value, separators=(",", ":")).encode()
