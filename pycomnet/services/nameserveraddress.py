"""The nameserver's address where a program does not give one."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: The address if no option, file or environment variable gives one.
DEFAULT_NAMESERVER = "tcp:127.0.0.1:2012"
#: The environment variable that may give it.
NAMESERVER_VARIABLE = "PYCOMNET_NAMESERVER"
#: The environment variable with the authorities that servers' certificates have to be of.
TRUST_VARIABLE = "PYCOMNET_TRUST_ROOTS"
#: The address that stands for no nameserver.
NO_NAMESERVER = "none"


def default_nameserver(environ: Mapping[str, str] = os.environ) -> str:
    """The address that the environment gives, or the default one."""
    return environ.get(NAMESERVER_VARIABLE) or DEFAULT_NAMESERVER
