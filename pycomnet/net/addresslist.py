"""Several addresses in one text: endpoint strings with commas between them."""

from __future__ import annotations

import re

from pycomnet.errors import EndpointError
from pycomnet.net import endpoints

#: A comma before another address. One within a path or an option is no such comma.
_BETWEEN = re.compile(r",\s*(?=[\w.-]+:|\[)")
#: The most addresses in one text.
MOST = 16


def split_addresses(text: str) -> list[str]:
    """The addresses in a text, unchanged.

    :param text: such as ``tcp:a:2012,tcp:b:2012``.
    :raises EndpointError: there are too many.
    """
    found = _BETWEEN.split(text)
    if len(found) > MOST:
        raise EndpointError(f"{text[:80]!r}: it has {len(found)} addresses, and may have {MOST}")
    return found


def clean_addresses(text: str) -> str:
    """The same addresses in their canonical form, each once.

    :raises EndpointError: one of them is not a valid endpoint string, or there are too many.
    """
    if not isinstance(text, str):
        return endpoints.clean(text)  # its message says what was expected
    return ",".join(dict.fromkeys(endpoints.clean(one) for one in split_addresses(text)))


def are_local_clients(text: str) -> bool:
    """Whether all of them lead to this machine."""
    return all(endpoints.is_local_client(one) for one in split_addresses(text))
