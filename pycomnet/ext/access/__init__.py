"""Access: decides which users may call which methods.

.. code-block:: python

    from pycomnet.ext import access

    @access.auth(access.PasswordFile("/etc/pycomnet/passwd"))
    @pycomnet.interface("org.example.calc")
    class Calc(pycomnet.Service): ...

    context = pycomnet.Context(reactor, credentials=access.Password("alice", ask))

docs/howto/access.rst shows how to use it; docs/architecture/access.rst explains how it works.
"""

from __future__ import annotations

from pycomnet.auth.principal import Principal
from pycomnet.errors import AccessConfigError, CredentialsNotSent, Forbidden, Unauthenticated
from pycomnet.ext.access.audit import NAMESPACE as AUDIT_NAMESPACE
from pycomnet.ext.access.checkers import AnyOf, Checker, Login
from pycomnet.ext.access.control import AccessControl
from pycomnet.ext.access.credentials import (
    AtAddress,
    ClientCertificate,
    Password,
    PeerUser,
    Token,
)
from pycomnet.ext.access.jwt import Jwt
from pycomnet.ext.access.loginchecks import AccessLimits
from pycomnet.ext.access.passwords import PasswordFile
from pycomnet.ext.access.rules import AskedCall, auth, public, rule
from pycomnet.ext.access.tokenfile import TokenFile
from pycomnet.ext.access.transportidentities import Certificates, PeerUsers

__all__ = [
    "AUDIT_NAMESPACE",
    "AccessConfigError",
    "AccessControl",
    "AccessLimits",
    "AnyOf",
    "AskedCall",
    "AtAddress",
    "Certificates",
    "Checker",
    "ClientCertificate",
    "CredentialsNotSent",
    "Forbidden",
    "Jwt",
    "Login",
    "Password",
    "PasswordFile",
    "PeerUser",
    "PeerUsers",
    "TokenFile",
    "Token",
    "Unauthenticated",
    "Principal",
    "auth",
    "public",
    "rule",
]
