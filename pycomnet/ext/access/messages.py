"""Reads the message with a client's credentials, for the server."""

from __future__ import annotations

import unicodedata
from typing import Any

import attrs
from twisted.cred.credentials import ICredentials, UsernamePassword
from zope.interface import Attribute, implementer

from pycomnet.auth.admission import peer_credentials
from pycomnet.auth.tokens import BearerToken, digest
from pycomnet.net import endpoints
from pycomnet.services.client.login import is_private
from pycomnet.wire.values import InvalidValue, PureCodec

#: The most characters of a user's name.
MAX_NAME = 255
#: kind -> the texts that come after it
KINDS = {"password": 2, "token": 1, "certificate": 0, "peer": 0}
#: An array of at most three texts: no other type is decoded, so no other type's code runs.
_codec = PureCodec(max_items=4, kinds=False)


class IClientCertificate(ICredentials):
    """Credentials: a certificate that TLS has verified."""

    certificate = Attribute("The certificate, a :class:`cryptography.x509.Certificate`.")


class IPeerUser(ICredentials):
    """Credentials: the user of the process at the other end of a unix socket."""

    uid = Attribute("The user's number.")
    gid = Attribute("The number of the process's group.")


@implementer(IClientCertificate)
@attrs.frozen
class ShownCertificate:
    """The certificate of a client."""

    certificate: Any


@implementer(IPeerUser)
@attrs.frozen
class PeerProcess:
    """A process, as the system reports it."""

    uid: int
    gid: int


@attrs.frozen
class LoginMessage:
    """Credentials as they arrived.

    :ivar kind: as in the message.
    :ivar user: the user whose credentials they claim to be; empty if they do not name one.
    :ivar credentials: for twisted.cred's checkers; None if the transport does not provide
        credentials of this kind, or if they can't belong to any user.
    :ivar why: the reason why the transport has none.
    :ivar key: the key by which tries are counted: equal for names that some checker may treat as
        one; of a token its digest.
    """

    kind: str
    user: str
    credentials: Any = attrs.field(repr=False)
    why: str = ""
    key: str = ""


def read_message(payload: bytes, transport: Any) -> LoginMessage:
    """Read the message with a client's credentials.

    :param transport: the connection's.
    :raises InvalidValue: it is not a valid login message.
    """
    message = _codec.decode(payload)
    if (
        type(message) is not list
        or not message
        or not all(type(text) is str for text in message)
        or KINDS.get(message[0]) != len(message) - 1
    ):
        raise InvalidValue("a login is an array: a kind of credentials, and its texts")
    kind, *rest = message
    if kind == "certificate":
        shown = getattr(transport, "getPeerCertificate", lambda: None)()
        if shown is None:
            return LoginMessage(kind, "", None, "the connection has no client certificate")
        name = endpoints.peer_name(transport) or ""
        return LoginMessage(kind, name, ShownCertificate(shown.to_cryptography()))
    if kind == "peer":
        peer = peer_credentials(transport)
        if peer is None:
            return LoginMessage(kind, "", None, "the connection is no unix socket")
        return LoginMessage(kind, f"uid {peer.uid}", PeerProcess(peer.uid, peer.gid))
    user = rest[0] if kind == "password" else ""
    if not is_private(transport):
        return LoginMessage(
            kind, user[:MAX_NAME], None, "others can read what is sent here: use TLS"
        )
    try:
        secret = rest[-1].encode()
    except UnicodeEncodeError:
        return LoginMessage(kind, "", None)
    if kind == "token":
        return LoginMessage(kind, user, BearerToken(secret), key=digest(secret).hex())
    if not is_name(user):
        # No checker gets it: a checker may cut it at a NUL, for example, and others may not.
        return LoginMessage(kind, "", None)
    return LoginMessage(kind, user, UsernamePassword(user.encode(), secret), key=_same_name(user))


def is_name(user: str) -> bool:
    """Whether a user may have this name: logs, terminals and other checkers read it as it is."""
    return 0 < len(user) <= MAX_NAME and user.isprintable()


def _same_name(user: str) -> str:
    """A form that is equal for names that a directory, for example, treats as one user's."""
    return " ".join(unicodedata.normalize("NFKC", user).casefold().split())
