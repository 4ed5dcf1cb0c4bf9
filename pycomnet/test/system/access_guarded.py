"""A module with a service for users, for ``twistd pycomnet-service``: its users are in PASSWD, and
in TOKENS if that is set; then certificates count, too."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pycomnet
from pycomnet.ext import access

#: Also where the tests run as root, who has to be listed.
ME = {os.getuid(): pwd.getpwuid(os.getuid()).pw_name}
CHECKERS = [access.PasswordFile(os.environ["PASSWD"]), access.PeerUsers(ME)]
if "TOKENS" in os.environ:
    CHECKERS += [access.TokenFile(os.environ["TOKENS"]), access.Certificates()]
USERS = access.AnyOf(*CHECKERS)


@access.auth(USERS)
@pycomnet.interface("org.example.guarded")
class Guarded(pycomnet.Service):
    """For users."""

    @pycomnet.method(idempotent=True)
    def whoami(self, request: Any) -> list[str]:
        """Who calls."""
        return [request.user.name, request.user.how]

    @access.auth(USERS, roles="nobody has it")
    @pycomnet.method()
    def secret(self, request: Any) -> None:
        """For nobody."""
