"""The checker of JSON Web Tokens (RFC 7519), with an issuer's public keys (RFC 7517).

The token does not choose its algorithm. The algorithms are pinned, all of them have public keys,
and a key is valid only for the algorithms of its own type. So a token with ``none`` is refused, and
so is a token that uses a public key as an HMAC secret (RFC 8725, sections 2.1 and 3.1).
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import attrs
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.principal import Principal
from pycomnet.auth.reloadedfiles import Stamp, stamp_of
from pycomnet.auth.tokens import IBearerToken
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.checkers import Checker, CheckLater, Login
from pycomnet.ext.access.libraries import load_library
from pycomnet.net import endpoints
from pycomnet.text.logs import Logger

log = Logger()

#: The algorithms that may be pinned, and the types of their keys.
ALGORITHMS = {
    **{name: "RSA" for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    **{name: "EC" for name in ("ES256", "ES384", "ES512")},
    "EdDSA": "OKP",
}
#: Seconds for which keys of a URL are used without reading it again; seconds between reads because
#: of tokens with unknown keys; the timeout of a read in seconds; the most bytes of a set of keys.
MAX_AGE = 300.0
UNKNOWN_EVERY = 30.0
FETCH_TIMEOUT = 5.0
MAX_KEYS = 1 << 20


@attrs.frozen
class _Key:
    """A public key.

    :ivar algorithms: the algorithms that it is valid for.
    :ivar id: the issuer's name for it, or None.
    :ivar thumbprint: identifies the key, whatever its name is.
    """

    key: Any
    algorithms: frozenset[str]
    id: str | None
    thumbprint: bytes


class Jwt(Checker):
    """Users with JSON Web Tokens of an issuer.

    A token needs the claims ``iss``, ``aud`` and ``exp``, and the claim with the user's name. The
    login ends when the token expires; it also ends when the issuer removes the key.

    :param keys: the issuer's keys (JWKS): a file, or an ``https://`` URL, which is read again every
        five minutes, and when a token has a key that is not in it.
    :param issuer: the required value of ``iss``.
    :param audience: the value that ``aud`` must contain: the name of this service at the issuer.
    :param algorithms: the algorithms that may sign.
    :param user: the claim with the user's name.
    :param roles: the claim with the user's roles: a list, or a text with spaces. ``a.b`` is the
        claim ``b`` in the claim ``a``.
    :param leeway: seconds by which clocks may differ.
    :param type: the required type in the token's header (``typ``): ``"at+jwt"`` for access tokens
        (RFC 9068), so that other tokens of the issuer for the same audience are refused. None: any
        type.
    """

    credentialInterfaces = (IBearerToken,)
    changes = True

    def __init__(
        self,
        keys: str,
        *,
        issuer: str,
        audience: str,
        algorithms: Collection[str] = ("RS256", "ES256"),
        user: str = "sub",
        roles: str = "roles",
        leeway: float = 30.0,
        type: str | None = None,
    ) -> None:
        if isinstance(algorithms, str):
            algorithms = (algorithms,)
        wrong = [one for one in algorithms if one not in ALGORITHMS]
        if wrong or not algorithms:
            raise AccessConfigError(
                f"algorithms: expected some of {', '.join(ALGORITHMS)}, which have public keys; "
                f"not {', '.join(map(str, wrong)) or 'none'}"
            )
        self._is_url = "://" in keys
        if self._is_url:
            _check_url(keys)
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
        self.algorithms = frozenset(algorithms)
        self._user = user
        self._roles = roles.split(".")
        self._leeway = leeway
        self._type = type
        self._jwt: Any = None
        self._known: tuple[_Key, ...] = ()
        self._read_at = self._unknown_at = float("-inf")
        self._stamp: Stamp | None = None
        self._logged = ""
        #: whether a token had an unknown key
        self._wanted = False
        #: held by the one thread that reads the keys; no check waits for it
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return f"Jwt({self.keys!r}, issuer={self.issuer!r}, audience={self.audience!r})"

    # -- keys ------------------------------------------------------------------------------------

    def open(self) -> None:
        self._jwt = load_library("jwt", "Jwt")
        with self._reading:
            if not self._known:
                self._read()

    def _read(self) -> None:
        """Read the keys.

        :raises AccessConfigError: they can't be.
        """
        self._read_at = time.monotonic()
        stamp = None
        try:
            if self._is_url:
                data = _fetch(self.keys)
            else:
                stamp = stamp_of((self.keys,))
                with open(self.keys, "rb") as file:
                    data = file.read(MAX_KEYS + 1)
        except (OSError, ValueError) as problem:
            reason: object = problem
            if isinstance(problem, URLError) and not isinstance(problem, HTTPError):
                reason = problem.reason
            raise AccessConfigError(f"{self.keys}: can't read the keys: {reason}") from None
        if len(data) > MAX_KEYS:
            raise AccessConfigError(f"{self.keys}: it is longer than {MAX_KEYS} bytes")
        try:
            listed = json.loads(data)["keys"]
            known = self._usable(listed)
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
            raise AccessConfigError(f"{self.keys}: not a valid JSON Web Key Set") from None
        if not known:
            raise AccessConfigError(
                f"{self.keys}: it has no key for {', '.join(sorted(self.algorithms))}"
            )
        self._known = known
        self._stamp = stamp

    def _usable(self, listed: Any) -> tuple[_Key, ...]:
        found: list[_Key] = []
        for one in listed:
            if one.get("use", "sig") != "sig":
                continue
            algorithms = {name for name in self.algorithms if ALGORITHMS[name] == one.get("kty")}
            if "alg" in one:
                algorithms &= {one["alg"]}
            if not algorithms:
                continue
            try:
                key = self._jwt.PyJWK(one, algorithm=min(algorithms)).key
            except self._jwt.PyJWTError:
                continue  # of a curve that is not known, say: others may be of use
            if hasattr(key, "private_bytes"):
                key = key.public_key()
            found.append(_Key(key, frozenset(algorithms), one.get("kid"), _thumbprint(key)))
        return tuple(found)

    def refresh(self) -> None:
        with self._reading:
            if self._is_url:
                if not self._is_due(time.monotonic()):
                    return
            else:
                try:
                    if stamp_of((self.keys,)) == self._stamp:
                        return
                except OSError:
                    pass  # reading it says why
            self._reread()

    def _is_due(self, now: float) -> bool:
        """Whether the URL is to be read: after a while, and for an unknown key."""
        if self._wanted and now - max(self._unknown_at, self._read_at) >= UNKNOWN_EVERY:
            self._unknown_at = now
            self._wanted = False
            return True
        return now - self._read_at >= MAX_AGE

    def _reread(self) -> None:
        before = self._thumbprints()
        try:
            self._read()
        except Exception as problem:  # whatever is wrong: it has to go on with what there is
            if str(problem) != self._logged:
                self._logged = str(problem)
                log.critical("the keys that were read before stay in force: {why}", why=problem)
            return
        self._logged = ""
        if self._thumbprints() != before:
            self.version += 1

    def _thumbprints(self) -> set[bytes]:
        return {one.thumbprint for one in self._known}

    def holds(self, login: Login) -> bool:
        return login.stamp in self._thumbprints()

    # -- tokens ----------------------------------------------------------------------------------

    def check(self, credentials: Any) -> Login:
        jwt = self._jwt
        token = credentials.token
        try:
            header = jwt.get_unverified_header(token)
            if self._type is not None and not self._is_type(header.get("typ")):
                raise UnauthorizedLogin("that is another kind of token")
            key, claims = self._verify(token, header.get("kid"), header.get("alg"))
            expires = float(claims["exp"]) + self._leeway
        except (
            *(jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError),
        ) as problem:
            raise UnauthorizedLogin(f"no valid token: {type(problem).__name__}") from None
        name = claims[self._user]
        if not isinstance(name, str) or not name:
            raise UnauthorizedLogin("the token has no user")
        return Login(Principal(name, self._roles_of(claims), "jwt"), key.thumbprint, expires)

    def _is_type(self, given: Any) -> bool:
        """Whether a token is of the type: a media type, of which ``application/`` may be left out,
        in any case (RFC 7515, section 4.1.9)."""
        assert self._type is not None
        wanted = self._type.lower().removeprefix("application/")
        return isinstance(given, str) and given.lower().removeprefix("application/") == wanted

    def _verify(self, token: bytes, kid: Any, algorithm: Any) -> tuple[_Key, dict[str, Any]]:
        """The key that has signed a token, and the token's claims.

        :raises UnauthorizedLogin: no known key has signed it.
        """
        problem: Exception = UnauthorizedLogin("no key for this token")
        for key in self._keys_of(kid):
            if algorithm not in key.algorithms:
                continue
            try:
                claims: dict[str, Any] = self._jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    issuer=self.issuer,
                    audience=self.audience,
                    leeway=self._leeway,
                    options={"require": ["exp", "iss", "aud", self._user]},
                )
            except self._jwt.InvalidSignatureError as wrong:
                problem = wrong  # several keys may have no name, or the same
            else:
                return key, claims
        raise problem

    def _keys_of(self, kid: Any) -> list[_Key]:
        """The keys that a token may be signed with, by the key name in the token."""
        if kid is not None and not isinstance(kid, str):
            return []
        found = self._find(kid)
        last = max(self._unknown_at, self._read_at)
        if not found and self._is_url and time.monotonic() - last >= UNKNOWN_EVERY:
            # The issuer may have a new key. A reader thread fetches it, as that may take long.
            self._wanted = True
            raise CheckLater("the token has a new key, which is being looked for")
        return found

    def _find(self, kid: str | None) -> list[_Key]:
        known = self._known
        if kid is None and len(known) == 1:
            return list(known)
        return [one for one in known if one.id == kid]

    def _roles_of(self, claims: Any) -> frozenset[str]:
        for name in self._roles:
            claims = claims.get(name) if isinstance(claims, dict) else None
        if isinstance(claims, str):
            claims = claims.split()
        if not isinstance(claims, list):
            return frozenset()
        return frozenset(one for one in claims if isinstance(one, str))


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    local = parts.scheme == "http" and endpoints.is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not local:
        raise AccessConfigError(
            f"{url}: keys come from a file, or from an https:// URL: whoever can change them can "
            "make tokens"
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection could lead to a URL that is not https, or to another's server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _thumbprint(key: Any) -> bytes:
    """Identifies a key: a digest of its usual encoding."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def _fetch(url: str) -> bytes:
    """Fetch the keys. Each read has a timeout, and so have all of them together."""
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    ends = time.monotonic() + FETCH_TIMEOUT
    found = bytearray()
    with opener.open(url, timeout=FETCH_TIMEOUT) as response:
        while len(found) <= MAX_KEYS:
            piece = response.read1(1 << 16)  # what has come: not as many bytes as that
            found += piece
            if not piece:
                return bytes(found)
            if time.monotonic() > ends:
                raise TimeoutError(f"they did not come in {FETCH_TIMEOUT:g} seconds")
    return bytes(found)
