"""An issuer's keys at a URL: fetched, fetched again, and not from elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from twisted.cred.error import UnauthorizedLogin

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access import Jwt, jwt
from pycomnet.ext.access.checkers import CheckLater
from pycomnet.test.ext.access.test_passwords import looks
from pycomnet.test.ext.access.test_tokens import AUDIENCE, ISSUER, JwtCase


class _Issuer(BaseHTTPRequestHandler):
    """Answers with what the test says."""

    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.answers.get(self.path, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body.decode())
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/drip":
            with contextlib.suppress(OSError):
                for at in range(len(body)):
                    self.wfile.write(body[at : at + 1])
                    time.sleep(0.01)
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class UrlTests(JwtCase):
    """Keys at a URL; the server is on loopback, where http: may be."""

    def setUp(self) -> None:
        super().setUp()
        self.issuer = ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
        thread = threading.Thread(target=self.issuer.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.issuer.server_close)
        self.addCleanup(self.issuer.shutdown)
        self.url = f"http://127.0.0.1:{self.issuer.server_port}"
        _Issuer.asked.clear()
        self.publish(one=self.key)

    def publish(self, **keys: Any) -> None:
        """Set the issuer's keys."""
        _Issuer.answers = {"/keys": (200, self.key_set(**keys).encode())}

    def of_url(self, path: str = "/keys") -> Jwt:
        """A checker with keys at a URL, open."""
        checker = Jwt(self.url + path, issuer=ISSUER, audience=AUDIENCE)
        checker.open()
        return checker

    def test_keys_are_fetched_once_for_many_tokens(self) -> None:
        """And again when they are old."""
        checker = self.of_url()
        for _ in range(5):
            self.assertEqual(self.login(self.token(), checker).user.name, "alice")
        self.assertFalse(looks(checker))
        self.assertEqual(len(_Issuer.asked), 1)
        self.patch(jwt, "MAX_AGE", 0.0)
        self.publish(two=self.other)
        login = self.login(self.token(), checker)
        self.assertTrue(looks(checker))
        self.assertFalse(checker.holds(login))

    def test_new_key_is_looked_for_when_a_token_has_it(self) -> None:
        """Not for each such token: a guesser would have the issuer asked all the time."""
        checker = self.of_url()
        self.publish(one=self.key, two=self.other)
        new = self.token(self.other, {"kid": "two"})
        for _ in range(5):
            self.assertRaises(UnauthorizedLogin, self.login, new, checker)
            self.assertFalse(looks(checker))
        self.assertEqual(len(_Issuer.asked), 1)
        self.patch(jwt, "UNKNOWN_EVERY", 0.0)
        # A check does not wait for the issuer: a reader asks it, and the token is tried again.
        self.assertRaises(CheckLater, self.login, new, checker)
        self.assertEqual(len(_Issuer.asked), 1)
        self.assertTrue(looks(checker))
        self.login(new, checker)
        self.assertEqual(len(_Issuer.asked), 2)

    def test_issuer_that_is_gone_leaves_the_keys_in_force(self) -> None:
        """So does one that answers with something else; at the start it is an error."""
        checker = self.of_url()
        self.patch(jwt, "MAX_AGE", 0.0)
        for answer in ((404, b""), (200, b"rubbish"), (200, b"x" * (jwt.MAX_KEYS + 1))):
            _Issuer.answers = {"/keys": answer}
            self.assertFalse(looks(checker))
            self.login(self.token(), checker)
            self.assertRaises(AccessConfigError, self.of_url)

    def test_issuer_that_drips_is_given_up(self) -> None:
        """Each byte may come in time, and all of them never."""
        self.patch(jwt, "FETCH_TIMEOUT", 0.5)
        _Issuer.answers = {"/drip": (200, b"x" * 100_000)}
        self.assertRaises(AccessConfigError, self.of_url, "/drip")

    def test_redirection_is_not_followed(self) -> None:
        """It could lead to another's keys."""
        _Issuer.answers["/moved"] = (302, f"{self.url}/keys".encode())
        self.assertRaises(AccessConfigError, self.of_url, "/moved")
        self.assertEqual(_Issuer.asked, ["/moved"])
