"""The checker of JSON Web Tokens (RFC 7519), with an issuer's public keys (RFC 7517).

Which algorithm a token is signed with is not the token's to say. The algorithms are pinned, all of
them have public keys, and a key counts for the algorithms of its own type alone. So a token that
says ``none`` is refused, and so is one that has taken a public key for an HMAC secret (RFC 8725,
sections 2.1 and 3.1).
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import attrs
from twisted.cred.error import UnauthorizedLogin

from pycomnet.auth.principal import Principal
from pycomnet.auth.tokens import IBearerToken
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.checkers import Checker, Login
from pycomnet.ext.access.libraries import load_library
from pycomnet.ext.access.passwordfile import Stamp, stamp_of
from pycomnet.net import endpoints
from pycomnet.text.logs import Logger

log = Logger()

#: The algorithms that may be pinned, and the types of their keys.
ALGORITHMS = {
    **{name: "RSA" for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    **{name: "EC" for name in ("ES256", "ES384", "ES512")},
    "EdDSA": "OKP",
}
#: Seconds for which keys of a URL are used without looking again; seconds between looks that tokens
#: with unknown keys make; seconds that a look may take; the most bytes of a set of keys.
MAX_AGE = 300.0
UNKNOWN_EVERY = 30.0
FETCH_TIMEOUT = 5.0
MAX_KEYS = 1 << 20


@attrs.frozen
class _Key:
    """A public key.

    :ivar algorithms: those that count for it.
    """

    key: Any
    algorithms: frozenset[str]


class Jwt(Checker):
    """Users with JSON Web Tokens of an issuer.

    A token needs the claims ``iss``, ``aud`` and ``exp``, and the one that has the user's name. It
    ends the login when it expires; so does the end of the issuer's key.

    :param keys: the issuer's keys (JWKS): a file, or an ``https://`` URL, which is read again every
        five minutes, and when a token has a key that is not in it.
    :param issuer: what ``iss`` has to be.
    :param audience: what ``aud`` has to have: the name of this service at the issuer.
    :param algorithms: the algorithms that may sign.
    :param user: the claim with the user's name.
    :param roles: the claim with the user's roles: a list, or a text with spaces. ``a.b`` is the
        claim ``b`` in the claim ``a``.
    :param leeway: seconds by which clocks may differ.
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
        self._jwt: Any = None
        self._known: dict[str | None, _Key] = {}
        self._read_at = self._unknown_at = float("-inf")
        self._stamp: Stamp | None = None
        self._logged = ""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Jwt({self.keys!r}, issuer={self.issuer!r}, audience={self.audience!r})"

    # -- keys ------------------------------------------------------------------------------------

    def open(self) -> None:
        self._jwt = load_library("jwt", "Jwt")
        with self._lock:
            if not self._known:
                self._read()

    def _read(self) -> None:
        """Read the keys.

        :raises AccessConfigError: they can't be.
        """
        self._read_at = time.monotonic()
        try:
            if self._is_url:
                data = _fetch(self.keys)
            else:
                self._stamp = stamp_of((self.keys,))
                with open(self.keys, "rb") as file:
                    data = file.read(MAX_KEYS + 1)
        except (OSError, ValueError) as problem:
            reason = problem.reason if isinstance(problem, URLError) else problem
            raise AccessConfigError(f"{self.keys}: can't read the keys: {reason}") from None
        if len(data) > MAX_KEYS:
            raise AccessConfigError(f"{self.keys}: it is longer than {MAX_KEYS} bytes")
        try:
            listed = json.loads(data)["keys"]
            known = self._usable(listed)
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
            raise AccessConfigError(f"{self.keys}: it is no JSON Web Key Set") from None
        if not known:
            raise AccessConfigError(
                f"{self.keys}: it has no key for {', '.join(sorted(self.algorithms))}"
            )
        self._known = known

    def _usable(self, listed: Any) -> dict[str | None, _Key]:
        found: dict[str | None, _Key] = {}
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
            found[one.get("kid")] = _Key(key, frozenset(algorithms))
        return found

    def refresh(self) -> None:
        with self._lock:
            if self._is_url:
                if time.monotonic() - self._read_at < MAX_AGE:
                    return
            else:
                try:
                    if stamp_of((self.keys,)) == self._stamp:
                        return
                except OSError:
                    pass  # reading it says why
            self._reread()

    def _reread(self) -> None:
        before = self._known
        try:
            self._read()
        except AccessConfigError as problem:
            if str(problem) != self._logged:
                self._logged = str(problem)
                log.critical("the keys that were read before stay in force: {why}", why=problem)
            return
        self._logged = ""
        if before.keys() != self._known.keys():
            self.version += 1

    def holds(self, login: Login) -> bool:
        return login.stamp in self._known

    # -- tokens ----------------------------------------------------------------------------------

    def check(self, credentials: Any) -> Login:
        jwt = self._jwt
        token = credentials.token
        try:
            header = jwt.get_unverified_header(token)
            kid, algorithm = header.get("kid"), header.get("alg")
            key = self._key(kid)
            if key is None or algorithm not in key.algorithms:
                raise UnauthorizedLogin("no key for this token")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=self._leeway,
                options={"require": ["exp", "iss", "aud", self._user]},
            )
            expires = float(claims["exp"]) + self._leeway
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as problem:
            raise UnauthorizedLogin(f"no valid token: {type(problem).__name__}") from None
        name = claims[self._user]
        if not isinstance(name, str) or not name:
            raise UnauthorizedLogin("the token has no user")
        return Login(Principal(name, self._roles_of(claims), "jwt"), kid, expires)

    def _key(self, kid: Any) -> _Key | None:
        if kid is not None and not isinstance(kid, str):
            return None
        found = self._find(kid)
        if found is None:
            with self._lock:  # the issuer may have a new one
                now = time.monotonic()
                if self._is_url and now - max(self._unknown_at, self._read_at) >= UNKNOWN_EVERY:
                    self._unknown_at = now
                    self._reread()
            found = self._find(kid)
        return found

    def _find(self, kid: str | None) -> _Key | None:
        known = self._known
        if kid is None and len(known) == 1:
            return next(iter(known.values()))
        return known.get(kid)

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


def _fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    with opener.open(url, timeout=FETCH_TIMEOUT) as response:
        found: bytes = response.read(MAX_KEYS + 1)
    return found


__all__ = ["ALGORITHMS", "Jwt"]
