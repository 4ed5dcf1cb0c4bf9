"""gRPC on HTTP/2: length-prefixed messages, and the status of a call.

The specification is https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import struct
from urllib.parse import unquote_to_bytes

from pycomnet.etcd.errors import (
    EtcdAuthFailed,
    EtcdCompacted,
    EtcdError,
    EtcdLeaseExists,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdOverloaded,
    EtcdPermissionDenied,
    EtcdProtocolViolation,
    EtcdRequestRefused,
    EtcdRevisionInFuture,
    EtcdUnavailable,
    EtcdUncertain,
)
from pycomnet.etcd.headers import Headers

#: The longest message that is received. etcd's requests are limited to 1.5 MiB; a range of many
#: records may be long.
MAX_MESSAGE = 1 << 26
_PREFIX = struct.Struct(">BI")

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = range(6)
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
OUT_OF_RANGE, UNAVAILABLE, UNAUTHENTICATED = 11, 14, 16

#: The text of an error on the wire -> the error. etcd's ``rpctypes/error.go`` has them all.
_BY_TEXT: dict[str, type[EtcdError]] = {
    "etcdserver: mvcc: required revision has been compacted": EtcdCompacted,
    "etcdserver: mvcc: required revision is a future revision": EtcdRevisionInFuture,
    "etcdserver: mvcc: database space exceeded": EtcdNoSpace,
    "etcdserver: requested lease not found": EtcdLeaseNotFound,
    "etcdserver: lease already exists": EtcdLeaseExists,
    "etcdserver: too many requests": EtcdOverloaded,
    "etcdserver: authentication failed, invalid user ID or password": EtcdAuthFailed,
    "etcdserver: permission denied": EtcdPermissionDenied,
    "etcdserver: no leader": EtcdUnavailable,
    "etcdserver: not capable": EtcdUnavailable,
    "etcdserver: rpc not supported for learner": EtcdUnavailable,
}
#: The token is not known (any more), or is older than the last change of users and roles.
_OLD_TOKEN = frozenset(
    {
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty",  # no token was sent, and now one is needed
    }
)
NO_AUTHENTICATION = "etcdserver: authentication is not enabled"
#: Statuses with which etcd surely has not executed a request.
_REFUSED = frozenset({INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, NOT_FOUND})


class TokenRefused(EtcdAuthFailed):
    """The token is no longer valid: authenticate and repeat. Nothing has changed."""


def framed(message: bytes) -> bytes:
    """Put gRPC's prefix, with the length, before a message."""
    return _PREFIX.pack(0, len(message)) + message


def unframed(data: bytes) -> bytes:
    """The message of a reply that has exactly one.

    :raises EtcdProtocolViolation: it is not one uncompressed message.
    """
    if len(data) < 5:
        raise EtcdProtocolViolation("an answer without a message")
    compressed, size = _PREFIX.unpack_from(data)
    if compressed or size != len(data) - 5:
        raise EtcdProtocolViolation("an answer that is not one uncompressed message")
    return bytes(data[5:])  # many frames come as a bytearray


class MessageReader:
    """Splits a stream's data into messages."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """Add received data; returns the messages that are complete now."""
        buffer = self._data
        buffer += data
        found = []
        at = 0
        while len(buffer) - at >= 5:
            compressed, size = _PREFIX.unpack_from(buffer, at)
            if compressed or size > MAX_MESSAGE:
                raise EtcdProtocolViolation(
                    f"a message of {size} bytes, expected an uncompressed one of at most"
                    f" {MAX_MESSAGE}"
                )
            if len(buffer) - at - 5 < size:
                break
            found.append(bytes(buffer[at + 5 : at + 5 + size]))
            at += 5 + size
        del buffer[:at]
        return found


def check_headers(headers: Headers) -> EtcdError | None:
    """The error if a reply's first headers are not gRPC's; else None."""
    status = headers.get(b":status")
    if status == b"200" and headers.get(b"content-type", b"").startswith(b"application/grpc"):
        return None
    shown = (status or b"none").decode("ascii", "replace")
    return EtcdProtocolViolation(f"HTTP status {shown}, and no gRPC: is this etcd's client port?")


def check_status(trailers: Headers, is_write: bool) -> EtcdError | None:
    """The error in the trailers of a call; None if the call has succeeded.

    :param is_write: whether the request may have changed something.
    """
    text = trailers.get(b"grpc-status", b"")
    if text == b"0":
        return None
    status = int(text) if text.isdigit() and len(text) < 3 else UNKNOWN
    message = unquote_to_bytes(trailers.get(b"grpc-message", b"")).decode("utf-8", "replace")
    return error_of(status, message, is_write)


def error_of(status: int, message: str, is_write: bool) -> EtcdError:
    """The error for a gRPC status and message."""
    kind = _BY_TEXT.get(message)
    if kind is None:
        if status == UNAUTHENTICATED or message in _OLD_TOKEN:
            kind = TokenRefused
        elif status == RESOURCE_EXHAUSTED:
            # gRPC's own: the request is larger than the member accepts, or the answer larger than
            # it sends; that it finds after the request was executed.
            kind = EtcdRequestRefused if "larger than max" in message else EtcdOverloaded
            if is_write and "trying to send" in message:
                kind = EtcdUncertain
        elif status in _REFUSED:
            kind = EtcdRequestRefused
        elif status == PERMISSION_DENIED:
            kind = EtcdPermissionDenied
        elif is_write:
            kind = EtcdUncertain
        else:
            kind = EtcdUnavailable if status == UNAVAILABLE else EtcdError
    error = kind(message or f"etcd has answered with gRPC status {status}")
    error.status = status
    return error
