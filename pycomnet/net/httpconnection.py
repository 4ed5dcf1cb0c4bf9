"""A server's HTTP connection that refuses at once a peer that speaks another protocol."""

from __future__ import annotations

from typing import Any

from twisted.web import http

#: What may be the first byte of a request: visible ASCII, or the line end that some clients send
#: after the previous request (:rfc:`9112`, section 2.2).
FIRST = frozenset(range(0x21, 0x7F)) | frozenset(b"\r\n")
#: The answer to anything else.
_TEXT = b"this port speaks HTTP/1.1\n"
NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncache-control: no-store\r\n"
    b"content-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(_TEXT), _TEXT)
)


class TextConnection(http.HTTPChannel):
    """An HTTP/1.1 connection whose first byte has to be that of a request.

    Otherwise Twisted would wait for the end of a line, which the beginning of a TLS handshake does
    not have: client and server would wait for each other until one of them times out. A TLS client
    reports any answer that is no TLS as an error ("wrong version number").
    """

    __slots__ = ("_begun",)

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def dataReceived(self, data: bytes) -> None:
        if not self._begun and data:
            self._begun = True
            if data[0] not in FIRST:
                self.refuse()
                return
        super().dataReceived(data)

    def refuse(self) -> None:
        """Answer to bytes that are no HTTP, and close."""
        self.dataReceived = lambda data: None  # type: ignore[method-assign]
        self.transport.write(NOT_HTTP)
        self.loseConnection()
