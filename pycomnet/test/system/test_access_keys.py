"""An issuer's keys that come over https, from a server with a certificate of an authority."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.tokens import BearerToken
from pycomnet.errors import AccessConfigError
from pycomnet.ext import access

AUTHORITY = trustme.CA()
ISSUER = "https://issuer.example"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Keys(http.server.BaseHTTPRequestHandler):
    """Answers with the issuer's keys; ``/moved`` leads to them."""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
        data = json.dumps({"keys": [{**key, "kid": "one", "use": "sig"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[str]:
    """The URL of a server of keys, with a certificate for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    with http.server.HTTPServer(("127.0.0.1", 0), Keys) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def made(url: str) -> access.Jwt:
    """A checker that has read its keys."""
    checker = access.Jwt(url, issuer=ISSUER, audience="shop")
    checker.open()
    return checker


def test_keys_come_from_a_server_whose_authority_is_known(
    issuer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that one of them has signed gets in; one that another key has signed doesn't."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    checker = made(f"{issuer}/keys")
    claims = {"iss": ISSUER, "aud": "shop", "sub": "alice", "exp": time.time() + 60}
    token = jwt.encode(claims, KEY, "RS256", headers={"kid": "one"})
    assert checker.check(BearerToken(token.encode())).user.name == "alice"
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims, other, "RS256", headers={"kid": "one"})
    with pytest.raises(UnauthorizedLogin):
        checker.check(BearerToken(token.encode()))


def test_keys_of_an_unknown_authority_are_refused(issuer: str) -> None:
    """The error says why."""
    with pytest.raises(AccessConfigError, match="certificate verify failed"):
        made(f"{issuer}/keys")


def test_keys_are_not_looked_for_elsewhere(
    issuer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirection may lead to a server that others own: it is an error."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(AccessConfigError, match="302"):
        made(f"{issuer}/moved")
