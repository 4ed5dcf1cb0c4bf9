"""A client's credentials from the environment, and from the user's file of credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pycomnet.auth.tokens import (
    CERTIFICATE_VARIABLE,
    PASSWORD_VARIABLE,
    PRIVATE_KEY_VARIABLE,
    SERVERS_VARIABLE,
    SERVICE_TOKEN_FILE_VARIABLE,
    SERVICE_TOKEN_VARIABLE,
    USER_VARIABLE,
)
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.credentials import (
    AtAddress,
    ClientCertificate,
    Credentials,
    Password,
    PeerUser,
    Token,
)
from pycomnet.net import private
from pycomnet.text.settingsfile import UnreadableSettings, read_settings
from pycomnet.text.similar import suggestion_or_all

#: The most bytes of the file.
MAX_FILE = 1 << 20
#: The keys of a table of the file, each with the other keys that it needs or may have.
KEYS = ("user", "password", "token", "token_file", "certificate", "private_key", "peer")


def credentials_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's file of credentials."""
    config = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(config) / "pycomnet" / "credentials.toml"


def from_environment(environ: Mapping[str, str] = os.environ) -> list[Credentials]:
    """The credentials from the environment, for the servers of ``PYCOMNET_CREDENTIALS_FOR``:
    patterns of addresses, separated by spaces.

    :raises AccessConfigError: one of two variables that belong together is missing.
    """
    found: list[Credentials] = []
    user, password = environ.get(USER_VARIABLE), environ.get(PASSWORD_VARIABLE)
    if user and password:
        found.append(Password(user, password))
    elif password:
        raise AccessConfigError(f"{PASSWORD_VARIABLE} is set, and {USER_VARIABLE} is not")
    if environ.get(SERVICE_TOKEN_VARIABLE):
        found.append(Token(environ[SERVICE_TOKEN_VARIABLE]))
    elif environ.get(SERVICE_TOKEN_FILE_VARIABLE):
        found.append(Token.from_file(os.path.expanduser(environ[SERVICE_TOKEN_FILE_VARIABLE])))
    if environ.get(CERTIFICATE_VARIABLE):
        certificate = environ[CERTIFICATE_VARIABLE]
        found.append(
            ClientCertificate(certificate, environ.get(PRIVATE_KEY_VARIABLE) or certificate)
        )
    return for_servers(found, environ)


def for_servers(
    credentials: list[Credentials], environ: Mapping[str, str] = os.environ
) -> list[Credentials]:
    """Restrict credentials to the servers of ``PYCOMNET_CREDENTIALS_FOR``, if that is set.

    :raises AccessConfigError: it has no patterns of addresses.
    """
    patterns = environ.get(SERVERS_VARIABLE, "").split()
    if not patterns:
        return credentials
    return [AtAddress(pattern, one) for one in credentials for pattern in patterns]


def from_file(path: str | os.PathLike[str]) -> list[Credentials]:
    """The credentials of a file, which only its owner can read.

    .. code-block:: toml

        [[credentials]]
        address = "tls:*.example.org:*"
        user = "alice"
        password = "..."

        [[credentials]]
        address = "tls:build.example.org:2013"
        token_file = "~/.local/state/build.token"

    :raises AccessConfigError: others can read it, or its contents are not valid.
    """
    try:
        settings = read_settings(path, MAX_FILE, private.open_file).settings
        tables = settings.get("credentials", [])
    except private.NotPrivate as problem:
        raise AccessConfigError(str(problem)) from None
    except UnreadableSettings as problem:
        raise AccessConfigError(problem.brief) from None
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise AccessConfigError(f"{path}: expected tables [[credentials]]")
    return [_of_table(one, f"{path}, table {number}") for number, one in enumerate(tables, 1)]


def _of_table(table: dict[str, Any], where: str) -> Credentials:
    given = dict(table)
    address = given.pop("address", None)
    if not isinstance(address, str) or not address:
        raise AccessConfigError(
            f"{where}: it needs address, a pattern such as 'tls:*.example.org:*': credentials go "
            "to the servers that they are for"
        )
    if given.get("peer", True) is not True:
        raise AccessConfigError(f"{where}: peer is true, or is left out")
    unknown = given.keys() - set(KEYS)
    if unknown:
        hint = suggestion_or_all(min(unknown), KEYS)
        raise AccessConfigError(f"{where}: no key {min(unknown)!r}{hint}")
    makers: dict[frozenset[str], Callable[[], Credentials]] = {
        frozenset({"user", "password"}): lambda: Password(given["user"], given["password"]),
        frozenset({"token"}): lambda: Token(given["token"]),
        frozenset({"token_file"}): lambda: Token.from_file(os.path.expanduser(given["token_file"])),
        frozenset({"certificate"}): lambda: ClientCertificate(
            _path(given["certificate"]), _path(given["certificate"])
        ),
        frozenset({"certificate", "private_key"}): lambda: ClientCertificate(
            _path(given["certificate"]), _path(given["private_key"])
        ),
        frozenset({"peer"}): PeerUser,
    }
    make = makers.get(frozenset(given))
    if make is None:
        raise AccessConfigError(
            f"{where}: expected user and password, token, token_file, certificate (and "
            "private_key), or peer; one of these"
        )
    if not all(isinstance(given[key], str) and given[key] for key in given if key != "peer"):
        raise AccessConfigError(f"{where}: expected strings")
    try:
        return AtAddress(address, make())
    except AccessConfigError as problem:
        raise AccessConfigError(f"{where}: {problem}") from None


def _path(text: str) -> str:
    return os.path.expanduser(text)


def stored_credentials(environ: Mapping[str, str] = os.environ) -> list[Credentials]:
    """The credentials that this user's programs may use by default: of the environment, of the
    file, and the process's user over unix sockets.

    :raises AccessConfigError: they can't be used.
    """
    found = from_environment(environ)
    path = credentials_path(environ)
    if os.path.lexists(path):
        found += from_file(path)
    return [*found, *unasked()]


def unasked() -> list[Credentials]:
    """The credentials that a connection has by itself: the certificate that its address names, and
    over unix sockets the process's user. The user has not requested a login with them.
    """
    return [ClientCertificate(if_known=True), AtAddress("unix:*", PeerUser(if_known=True))]
