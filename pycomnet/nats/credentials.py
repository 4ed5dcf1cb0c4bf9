"""How a client authenticates: by a password, a token, or an nkey."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pycomnet.errors import CredentialsNotSent
from pycomnet.nats.errors import NatsAddressError
from pycomnet.nats.settings import NatsServer, NatsSettings

#: The first bytes of a seed, "S" and the kind: a user's is "SU".
_SEED, _USER = 18 << 3, 20 << 3


def credentials(
    settings: NatsSettings, server: NatsServer, nonce: object, is_private: bool
) -> dict[str, Any]:
    """The credentials that a client adds to ``CONNECT``.

    :param nonce: the text that the server wants signed.
    :param is_private: whether nobody else can read the connection.
    :raises CredentialsNotSent: somebody else could read them, or the server sent no nonce.
    """
    user, password, token = settings.user, settings.password, settings.token
    if server.user is not None:
        if server.password is None:
            user, password, token = None, None, server.user
        else:
            user, password, token = server.user, server.password, None
    if settings.nkey is not None and server.user is None:
        if not isinstance(nonce, str) or not nonce:
            raise CredentialsNotSent(f"{server} does not accept nkeys: it sent no nonce to sign")
        return _signed(settings.nkey, nonce.encode())
    if user is None and token is None:
        return {}
    if not is_private and not settings.plain_credentials:
        raise CredentialsNotSent(
            f"{server}: the password would be sent where others can read it: use tls://, or allow "
            "it with plain_credentials=True"
        )
    if token is not None:
        return {"auth_token": token}
    return {"user": user, "pass": password}


def _signed(path: str, nonce: bytes) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        with open(path, "rb") as file:
            text = file.read(10_000)
    except OSError as problem:
        raise NatsAddressError(f"nkey: {path}: {problem.strerror}") from None
    key = Ed25519PrivateKey.from_private_bytes(_seed(path, text))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    named = bytes([_USER]) + public
    full = named + binascii.crc_hqx(named, 0).to_bytes(2, "little")
    signature = base64.urlsafe_b64encode(key.sign(nonce)).rstrip(b"=")
    return {"nkey": base64.b32encode(full).rstrip(b"=").decode(), "sig": signature.decode()}


def _seed(path: str, text: bytes) -> bytes:
    """Find the 32 bytes of a user's seed in a seed file or a credentials file."""
    for word in text.split():
        if word.startswith(b"SU") and len(word) == 58:
            try:
                raw = base64.b32decode(word + b"=" * (-len(word) % 8))
            except binascii.Error:
                continue
            kind = (raw[0] & 7) << 5 | raw[1] >> 3
            right = raw[0] & 0xF8 == _SEED and kind == _USER
            if right and binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little"):
                return raw[2:34]
    raise NatsAddressError(f"nkey: {path} has no seed of a user (SU...)")
