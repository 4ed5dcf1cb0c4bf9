"""The text after ``etcd:`` in ``--store``: the cluster's members, and how to reach them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import StoreFailed
from pycomnet.interfaces import INameStore
from pycomnet.net.endpoints import Endpoint, is_exposed

#: Where an option begins.
_OPTION = re.compile(r"//(?=[a-z_-]+=)")
#: etcd's port for clients.
PORT = 2379
#: The prefix of keys.
PREFIX = "/pycomnet/names/"
EXPECTED = (
    "etcd:https://a:2379,https://b:2379, with any of //prefix=/KEYS/ //ca=FILE //cert=FILE "
    "//key=FILE //hostname=NAME //user=NAME //password-file=FILE //plain-login=yes"
)
OPTIONS = frozenset(
    {"prefix", "ca", "cert", "key", "hostname", "user", "password-file", "plain-login"}
)


@attrs.frozen
class EtcdDescription:
    """A cluster, and where in it the registrations are.

    :ivar endpoints: of the members: endpoint strings.
    :ivar prefix: of all keys.
    :ivar user: the user's name, or None.
    :ivar password_file: the file whose first line is the password.
    :ivar plain_login: whether the password may go to other machines without TLS.
    """

    endpoints: tuple[str, ...]
    prefix: str = PREFIX
    user: str | None = None
    password_file: str | None = None
    plain_login: bool = False

    @property
    def password(self) -> str | None:
        """The password, read now.

        :raises StoreFailed: the file can't be read.
        """
        if self.password_file is None:
            return None
        try:
            return Path(self.password_file).read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as problem:
            raise StoreFailed(
                f"can't read the password in {self.password_file}: {problem}"
            ) from None


def describe(rest: str) -> EtcdDescription:
    """Read a description.

    :param rest: what follows ``etcd:``.
    :raises StoreFailed: it is not valid.
    """
    urls, *options = _OPTION.split(rest)
    found: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in OPTIONS or not value or key in found:
            raise StoreFailed(f"etcd: {option!r} is no option, or is given twice: {EXPECTED}")
        found[key] = value
    user, password_file = found.get("user"), found.get("password-file")
    if (user is None) != (password_file is None):
        raise StoreFailed("etcd: user= and password-file= go together")
    if ("cert" in found) != ("key" in found):
        raise StoreFailed("etcd: cert= and key= go together")
    start = found.get("prefix", PREFIX)
    if not start.endswith("/"):
        start += "/"
    endpoints = tuple(_endpoint(url, found) for url in urls.split(","))
    plain = found.get("plain-login")
    if plain not in (None, "yes"):
        raise StoreFailed(f"etcd: plain-login={plain} is neither left out nor plain-login=yes")
    exposed = [url for url, one in zip(urls.split(","), endpoints, strict=True) if is_exposed(one)]
    if user is not None and plain is None and exposed:
        raise StoreFailed(
            f"etcd: {exposed[0]!r} has no TLS: everybody on the way would read the password of "
            "user=; say https:, or plain-login=yes if the network is trusted"
        )
    return EtcdDescription(endpoints, start, user, password_file, plain is not None)


def _endpoint(url: str, found: dict[str, str]) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, PORT
    if host is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        raise StoreFailed(f"etcd: {url!r} is no member's URL: {EXPECTED}")
    if parts.scheme == "http":
        if not found.keys().isdisjoint({"ca", "cert", "hostname"}):
            raise StoreFailed(f"etcd: {url!r} has no TLS: with ca=, cert= or hostname= say https:")
        return str(Endpoint("tcp", (host, str(port)), {}))
    names = {"ca": "trustRoots", "cert": "certificate", "key": "privateKey", "hostname": "hostname"}
    options = {names[key]: value for key, value in found.items() if key in names}
    return str(Endpoint("tls", (host, str(port)), options))


def make(rest: str, reactor: IReactorTime) -> INameStore:
    """The store that ``etcd:...`` names."""
    described = describe(rest)
    try:
        from pycomnet.etcd import EtcdClient
        from pycomnet.nameserver.stores.etcd.store import EtcdStore
    except ImportError as problem:
        raise StoreFailed(
            f"etcd: its client can't be imported ({problem}): pip install 'pycomnet[etcd]'"
        ) from problem
    # When the command line is only checked, the reactor is a clock.
    network: Any = reactor

    def make_client() -> EtcdClient:
        return EtcdClient(
            described.endpoints,
            network,
            user=described.user,
            password=described.password,
            plain_login=described.plain_login,
        )

    # The name has neither paths of key files nor the user's name.
    members = _OPTION.split(rest)[0]
    return EtcdStore(
        make_client,
        reactor,
        name=f"etcd:{members}//prefix={described.prefix}",
        start=described.prefix.encode(),
        endpoints=described.endpoints,
    )
