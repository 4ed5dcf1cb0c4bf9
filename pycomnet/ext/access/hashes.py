"""Hashes of passwords: the known kinds, the verification of each, and making new ones."""

from __future__ import annotations

import functools
import re
from typing import Any

import attrs

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access import libcrypt
from pycomnet.ext.access.libraries import load_library

#: The most bytes of a password: longer ones are refused.
MAX_PASSWORD = 1024
#: The longest password in bytes that bcrypt handles; its library refuses longer ones.
BCRYPT_BYTES = 72
#: The costs of new hashes: 2**12 rounds of bcrypt; the library's defaults for argon2id (RFC 9106).
BCRYPT_ROUNDS = 12


@attrs.frozen
class Scheme:
    """A kind of hashes.

    :ivar pattern: a pattern of the whole hash.
    :ivar library: the module's attribute of libpass that verifies it, or None.
    :ivar prefix: libcrypt's prefix of it, or None.
    :ivar weak: whether it can be computed too fast to protect a password that can be guessed.
    """

    name: str
    pattern: re.Pattern[str]
    library: str | None = None
    prefix: str | None = None
    weak: bool = False


SCHEMES = (
    Scheme("bcrypt", re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}"), "bcrypt"),
    Scheme(
        "argon2",
        re.compile(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"),
        "argon2",
    ),
    Scheme(
        "sha512-crypt",
        re.compile(r"\$6\$(rounds=\d+\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{86}"),
        "sha512_crypt",
        "$6$",
    ),
    Scheme(
        "sha256-crypt",
        re.compile(r"\$5\$(rounds=\d+\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{43}"),
        "sha256_crypt",
        "$5$",
    ),
    Scheme("yescrypt", re.compile(r"\$y\$[^$:]+\$[^$:]*\$[./A-Za-z0-9]{43}"), None, "$y$"),
    Scheme("gost-yescrypt", re.compile(r"\$gy\$[^$:]+\$[^$:]*\$[./A-Za-z0-9]{43}"), None, "$gy$"),
    Scheme(
        "apr1",
        re.compile(r"\$apr1\$[./A-Za-z0-9]{0,8}\$[./A-Za-z0-9]{22}"),
        "apr_md5_crypt",
        weak=True,
    ),
    Scheme(
        "md5-crypt",
        re.compile(r"\$1\$[./A-Za-z0-9]{0,8}\$[./A-Za-z0-9]{22}"),
        "md5_crypt",
        "$1$",
        weak=True,
    ),
)


def scheme_of(hashed: str) -> Scheme | None:
    """The kind of a hash; None if the kind is not known."""
    return next((one for one in SCHEMES if one.pattern.fullmatch(hashed)), None)


def check_usable(scheme: Scheme) -> None:
    """Check that hashes of a kind can be verified here.

    :raises AccessConfigError: they can't.
    """
    if scheme.prefix is not None and libcrypt.knows(scheme.prefix):
        return
    if scheme.library is None:
        raise AccessConfigError(f"this system's libcrypt has no {scheme.name}")
    _hasher(scheme)


@functools.cache
def _hasher(scheme: Scheme) -> Any:
    what = f"a {scheme.name} hash"
    if scheme.name == "bcrypt":
        load_library("bcrypt", what)
    elif scheme.name == "argon2":
        load_library("argon2", what)
    return getattr(load_library("passlib.hash", what), scheme.library or "")


def verify(password: bytes, hashed: str) -> bool:
    """Whether a hash is that of a password. A wrong password takes equally long, whatever is wrong
    with it.

    :param hashed: of a kind that is usable.
    """
    scheme = scheme_of(hashed)
    if scheme is None:
        return False
    most = BCRYPT_BYTES if scheme.name == "bcrypt" else MAX_PASSWORD
    valid = len(password) <= most and b"\0" not in password
    if not valid:
        password = b"not a password"  # hashed all the same, for the time that this takes
    if scheme.prefix is not None and libcrypt.knows(scheme.prefix):
        return libcrypt.verify(password, hashed) and valid
    try:
        return bool(_hasher(scheme).verify(password, hashed)) and valid
    except (ValueError, TypeError):
        return False


def make_hash(password: str, scheme: str = "bcrypt") -> str:
    """The hash of a new password.

    :param scheme: ``bcrypt`` or ``argon2``.
    :raises AccessConfigError: it is too long for that, empty, no text in UTF-8, or a library is not
        installed.
    """
    try:
        data = password.encode()
    except UnicodeEncodeError:
        raise AccessConfigError("a password is text in UTF-8") from None
    if not data or "\0" in password:
        raise AccessConfigError("a password is not empty, and has no NUL character")
    most = BCRYPT_BYTES if scheme == "bcrypt" else MAX_PASSWORD
    if len(data) > most:
        raise AccessConfigError(
            f"a password of {len(data)} bytes: {scheme} takes {most} at most"
            + (", argon2 takes more" if scheme == "bcrypt" else "")
        )
    found = next((one for one in SCHEMES if one.name == scheme), None)
    if found is None or scheme not in ("bcrypt", "argon2"):
        raise AccessConfigError(f"new hashes are of bcrypt or argon2, not {scheme!r}")
    hasher = _hasher(found)
    if scheme == "bcrypt":
        hasher = hasher.using(rounds=BCRYPT_ROUNDS)
    return str(hasher.hash(data))
