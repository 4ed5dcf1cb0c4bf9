"""Bearer tokens: their files, the check of a given token, and its limits.

A token is what RFC 6750 calls a ``b64token``. A checker keeps only SHA-256 digests, and compares
them in constant time: all digests have one length, :func:`hmac.compare_digest` looks at all of it,
and no comparison is left out after a match.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer
from zope.interface import Attribute, implementer

from pycomnet.errors import TokenError
from pycomnet.net import private
from pycomnet.text.similar import suggestion_or_all

#: Environment variables that a client's token may come from: itself, and a file that has it.
TOKEN_VARIABLE = "PYCOMNET_TOKEN"
TOKEN_FILE_VARIABLE = "PYCOMNET_TOKEN_FILE"
#: ... those of a token for services: another, as a gateway's token lets its server run code here.
SERVICE_TOKEN_VARIABLE = "PYCOMNET_SERVICE_TOKEN"
SERVICE_TOKEN_FILE_VARIABLE = "PYCOMNET_SERVICE_TOKEN_FILE"
#: ... those of other credentials of a client, and the servers that all of these are for.
USER_VARIABLE = "PYCOMNET_USER"
PASSWORD_VARIABLE = "PYCOMNET_PASSWORD"
CERTIFICATE_VARIABLE = "PYCOMNET_CERTIFICATE"
PRIVATE_KEY_VARIABLE = "PYCOMNET_PRIVATE_KEY"
SERVERS_VARIABLE = "PYCOMNET_CREDENTIALS_FOR"
#: Environment variables with credentials for services.
SERVICE_CREDENTIAL_VARIABLES = (
    SERVICE_TOKEN_VARIABLE,
    SERVICE_TOKEN_FILE_VARIABLE,
    USER_VARIABLE,
    PASSWORD_VARIABLE,
    CERTIFICATE_VARIABLE,
    PRIVATE_KEY_VARIABLE,
)
#: ... and all of them: not for children, whose code is somebody else's.
CREDENTIAL_VARIABLES = (TOKEN_VARIABLE, TOKEN_FILE_VARIABLE, *SERVICE_CREDENTIAL_VARIABLES)
#: Characters of a token below which it is refused: what can be guessed protects nothing.
MIN_LENGTH = 16
#: Bytes of a token file that are looked at: more than this isn't one.
MAX_FILE = 1 << 16
#: Keys of a section of a tokens file that have the token or its digest.
TOKEN_KEYS = ("token", "token_file", "sha256")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def new_token() -> str:
    """A token that nobody can guess: 256 random bits."""
    return secrets.token_urlsafe(32)


def digest(token: str | bytes) -> bytes:
    """A token's SHA-256, which is kept and compared."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def default_token_path(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The file where a service keeps the token that it made: in the user's state directory.

    :param name: the service's, as in ``http-exec``.
    """
    state = environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "pycomnet" / f"{name}.token"


def check_token_syntax(token: str, where: str) -> str:
    """Check a token's form, and return it.

    :param where: where it was found, for the error, which never has the token.
    :raises TokenError: it is too short, or has characters that an HTTP header would not carry.
    """
    if not _TOKEN.fullmatch(token):
        raise TokenError(
            f"{where}: a token is letters, digits and . _ ~ + / - (RFC 6750), on one line"
        )
    if len(token) < MIN_LENGTH:
        raise TokenError(f"{where}: a token has at least {MIN_LENGTH} characters")
    return token


def load_token(path: str | os.PathLike[str]) -> str:
    """Read a token from a file that only its owner can read.

    :raises TokenError: there is no such file, others may read it, or what it has is no token.
    """
    return check_token_syntax(_read_private(path).strip(), f"token file {os.fspath(path)}")


def make_token_file(path: str | os.PathLike[str]) -> str:
    """Make a token and write it to a new file of mode 0600, creating directories of mode 0700.

    :returns: the token.
    :raises TokenError: there is such a file, or it can't be written.
    """
    path = Path(os.path.expanduser(path))
    token = new_token()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        private.make_directory(path.parent)
        private.check_directory(path.parent)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                os.fchmod(fd, 0o600)  # whatever the umask took away
                file.write(token + "\n")
                file.flush()
                os.fsync(fd)
            # Unlike a rename it does not replace what somebody else has made in the meantime.
            os.link(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    except private.NotPrivate as problem:
        raise TokenError(f"token file {path}: {problem}") from problem
    except OSError as problem:
        raise TokenError(f"token file {path}: can't write it: {problem.strerror}") from problem
    return token


def load_or_make_token(path: str | os.PathLike[str]) -> tuple[str, bool]:
    """Read the token of a file, which is created if it does not exist.

    :returns: the token, and whether it was made.
    :raises TokenError: as :func:`load_token` and :func:`make_token_file` do.
    """
    path = os.path.expanduser(path)  # a shell does not for --token-file=~/a.token
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):
            try:
                return make_token_file(path), True
            except TokenError as problem:
                if not isinstance(problem.__cause__, FileExistsError):
                    raise
    return load_token(path), False


def find_token(
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str | None:
    """A client's token: an argument, the contents of a file, or from the environment.

    :returns: None if there is none.
    :raises TokenError: it is malformed, or can't be read.
    """
    if token is not None:
        return check_token_syntax(token, "token")
    if token_file is not None:
        return load_token(os.path.expanduser(token_file))
    if environ.get(TOKEN_VARIABLE):
        return check_token_syntax(environ[TOKEN_VARIABLE], f"environment variable {TOKEN_VARIABLE}")
    if environ.get(TOKEN_FILE_VARIABLE):
        return load_token(os.path.expanduser(environ[TOKEN_FILE_VARIABLE]))
    return None


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment without our credentials: that of a daemon's children."""
    return {name: value for name, value in environ.items() if name not in CREDENTIAL_VARIABLES}


def forget_credentials(
    environ: MutableMapping[str, str] = os.environ,
    names: Collection[str] = CREDENTIAL_VARIABLES,
) -> None:
    """Remove our credentials from a daemon's own environment, which its children begin with."""
    for name in names:
        environ.pop(name, None)


def _read_private(path: str | os.PathLike[str]) -> str:
    """The text of a file whose owner is this user or root, and that no other can read or change."""
    where = f"token file {os.fspath(path)}"
    try:
        with open(path, encoding="utf-8") as file:
            info = os.fstat(file.fileno())
            if stat.S_ISREG(info.st_mode):
                if info.st_mode & 0o077:
                    raise TokenError(
                        f"{where}: others can read or change it (mode "
                        f"{stat.S_IMODE(info.st_mode):04o}); use chmod 600"
                    )
                if info.st_uid not in (os.geteuid(), 0):
                    raise TokenError(f"{where}: it belongs to another user (uid {info.st_uid})")
            text = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise TokenError(f"{where}: can't read it: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise TokenError(f"{where}: it isn't text") from problem
    if len(text) > MAX_FILE:
        raise TokenError(f"{where}: it is longer than {MAX_FILE} bytes")
    return text


@attrs.frozen
class KnownToken:
    """A token that a server accepts.

    :ivar name: its user: the avatar's id, and the name in logs.
    :ivar digest: the token's SHA-256.
    :ivar options: the other settings of its section of the tokens file, its limits, as text.
    :ivar file: the file that has it, if that is one of its own.
    """

    name: str
    digest: bytes = attrs.field(repr=False)
    options: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    file: str | None = None


def load_tokens(
    path: str | os.PathLike[str], known: Collection[str] = ()
) -> tuple[KnownToken, ...]:
    """Read a tokens file: an INI file with a section for each token, of mode 0600.

    .. code-block:: ini

        [alice]
        token_file = alice.token
        processes = 4

        [build-server]
        sha256 = 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

    :param known: the keys that a section may have beside ``token``, ``token_file`` (relative to
        the file itself) and ``sha256`` (of the token, in hexadecimal), of which it has one.
    :returns: the tokens; none if the file has no section.
    :raises TokenError: it says which section and key is wrong.
    """
    where = f"tokens file {os.fspath(path)}"
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(_read_private(path))
    except configparser.Error as problem:
        # Its message would show the line, which may be a token.
        lines = getattr(problem, "errors", None)
        line = lines[0][0] if lines else getattr(problem, "lineno", None)
        what = "isn't an INI file" if line is None else f"line {line} can't be read"
        raise TokenError(f"{where}: {what}") from None
    tokens: list[KnownToken] = []
    for name in parser.sections():
        section = dict(parser[name])
        here = f"{where}, [{name}]"
        given = [key for key in TOKEN_KEYS if key in section]
        if len(given) != 1:
            raise TokenError(f"{here}: one of {', '.join(TOKEN_KEYS)} is needed, and one only")
        unknown = section.keys() - set(known) - set(TOKEN_KEYS)
        if unknown:
            hint = suggestion_or_all(min(unknown), (*TOKEN_KEYS, *known))
            raise TokenError(f"{here}: no key {min(unknown)!r}{hint}")
        value = section.pop(given[0])
        file: str | None = None
        if given[0] == "sha256":
            if not re.fullmatch("[0-9a-fA-F]{64}", value):
                raise TokenError(f"{here}: sha256 is 64 hexadecimal digits")
            hashed = bytes.fromhex(value)
        elif given[0] == "token":
            hashed = digest(check_token_syntax(value, here))
        else:
            file = str(Path(path).parent / os.path.expanduser(value))
            hashed = digest(load_token(file))
        if any(other.digest == hashed for other in tokens):
            raise TokenError(f"{here}: it is the token of another section, too")
        tokens.append(KnownToken(name, hashed, section, file))
    return tuple(tokens)


class IBearerToken(ICredentials):
    """Credentials: a token, as its bearer gave it."""

    token = Attribute("The token, as bytes.")


@implementer(IBearerToken)
@attrs.frozen
class BearerToken:
    """A token that somebody gave."""

    token: bytes = attrs.field(repr=False)


@implementer(ICredentialsChecker)
class TokenChecker:
    """Knows tokens; the avatar's id is the name of the one that was given.

    :param tokens: those that are known.
    """

    credentialInterfaces = (IBearerToken,)

    def __init__(self, tokens: Iterable[KnownToken]) -> None:
        self.tokens = {token.name: token for token in tokens}

    @classmethod
    def of_one(cls, token: str, name: str = "default") -> TokenChecker:
        """A checker that knows a single token."""
        return cls([KnownToken(name, digest(token))])

    def find(self, given: bytes) -> KnownToken | None:
        """The known token that this is, or None."""
        hashed = digest(given)
        found = None
        for known in self.tokens.values():
            if hmac.compare_digest(hashed, known.digest):
                found = known
        return found

    def holds(self, token: KnownToken) -> bool:
        """Whether this token is known, as that of the same user."""
        mine = self.tokens.get(token.name)
        return mine is not None and hmac.compare_digest(mine.digest, token.digest)

    def requestAvatarId(self, credentials: Any) -> defer.Deferred[bytes | tuple[()]]:
        """As :class:`~twisted.cred.checkers.ICredentialsChecker` has it."""
        return avatar_id(self.find(credentials.token))


def avatar_id(found: KnownToken | None) -> defer.Deferred[bytes | tuple[()]]:
    """A checker's result for the token that was found.

    :returns: fires with the name of its user; fails with
        :class:`~twisted.cred.error.UnauthorizedLogin` if there is none.
    """
    if found is None:
        return defer.fail(UnauthorizedLogin("no such token"))
    return defer.succeed(found.name.encode())
