"""The options for the caller's credentials: ``--user``, ``--token-file``, ``--cert`` and such."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from pycomnet.services.nameserveraddress import TRUST_VARIABLE

if TYPE_CHECKING:
    from pycomnet.ext.access.credentials import Credentials

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Identity:
    """The caller's credentials from the command line.

    :ivar user: a user's name; the password comes from the environment or a prompt.
    :ivar token_file: a file with a token.
    :ivar certificate: a PEM file with a certificate.
    :ivar key: a PEM file with the certificate's key; None if it is in the certificate's file.
    :ivar trust_roots: a file or directory with the CA certificates that servers are checked by.
    """

    user: str | None = None
    token_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    trust_roots: str | None = None

    def credentials(self) -> list[Credentials]:
        """The credentials of the options; without any, those of the environment and the user's
        credentials file.

        :raises AccessConfigError: the credentials can't be used.
        :raises TokenError: a token can't be used.
        """
        from pycomnet.auth.tokens import PASSWORD_VARIABLE, USER_VARIABLE
        from pycomnet.cli.passwordprompt import ask
        from pycomnet.ext.access.credentials import ClientCertificate, Password, Token
        from pycomnet.ext.access.storedcredentials import for_servers, stored_credentials, unasked

        found: list[Credentials] = []
        if self.user is not None:
            password: Any = functools.partial(ask, self.user)
            if os.environ.get(USER_VARIABLE, self.user) in ("", self.user):  # it is this user's
                password = os.environ.get(PASSWORD_VARIABLE) or password
            found.append(Password(self.user, password))
        if self.token_file is not None:
            found.append(Token.from_file(os.path.expanduser(self.token_file)))
        if self.certificate is not None:
            found.append(ClientCertificate(self.certificate, self.key or self.certificate))
        return [*for_servers(found), *unasked()] if found else stored_credentials()


def identity_options(command: F) -> F:
    """Add ``--user``, ``--token-file``, ``--cert``, ``--key`` and ``--trust-roots``, which the
    command gets as the argument ``identity``."""

    @functools.wraps(command)
    def call(
        *args: Any,
        user: str | None,
        token_file: str | None,
        cert: str | None,
        key: str | None,
        trust_roots: str | None,
        **rest: Any,
    ) -> Any:
        if key is not None and cert is None:
            raise click.UsageError("--key needs --cert: it is the certificate's key")
        return command(*args, identity=Identity(user, token_file, cert, key, trust_roots), **rest)

    wrapped: Any = call
    for option in reversed(
        [
            click.option(
                "--user",
                metavar="NAME",
                help="Log in as this user. The password is taken from PYCOMNET_PASSWORD, or asked "
                "for; typing it does not count against the --timeout.",
            ),
            click.option(
                "--token-file", metavar="FILE", help="Log in with the token of this file."
            ),
            click.option(
                "--cert",
                metavar="FILE",
                help="Log in with this TLS client certificate, a PEM file.",
            ),
            click.option(
                "--key", metavar="FILE", help="The certificate's key, if it has a file of its own."
            ),
            click.option(
                "--trust-roots",
                metavar="PATH",
                envvar=TRUST_VARIABLE,
                help=f"A file or directory with the CA certificates that servers are checked by; "
                f"{TRUST_VARIABLE} sets it as well. [default: the system's]",
            ),
        ]
    ):
        wrapped = option(wrapped)
    result: F = wrapped
    return result
