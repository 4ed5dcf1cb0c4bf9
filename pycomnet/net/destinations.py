"""The destination of an endpoint string, and the identity that the server there must have.

The two depend on an endpoint string's options as well. So a pattern is compared with the
destination to which a client connects and with the name that it verifies. In an address that
somebody else has written, a nameserver's record for example, most options are ignored.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import attrs

from pycomnet.errors import EndpointError
from pycomnet.net import endpoints, tls

#: The options that a third party may set. All others are for one machine (its files, its
#: addresses), or decide which servers are trusted, which a third party must not.
_FOREIGN_OPTIONS = frozenset({"timeout"})


@attrs.frozen
class Destination:
    """A server, as an endpoint string describes it.

    :ivar place: the address of the connection: host and port, or a path.
    :ivar name: the name that its certificate has to have; empty where there is none.
    :ivar options: the other options, without those that a third party may set.
    """

    kind: str
    place: tuple[str, ...]
    name: str
    options: dict[str, str]

    def fits(self, pattern: Destination, own: bool) -> bool:
        """Whether it matches a pattern.

        :param own: whether the program has written the address itself, so that the files that it
            names are its own.
        """
        places = zip(self.place, pattern.place, strict=False)
        if not fnmatchcase(self.kind, pattern.kind) or len(self.place) > len(pattern.place):
            return False
        if self.kind == "unix" and not own and not _is_plain(self.place[0]):
            return False
        if not all(fnmatchcase(part, wanted) for part, wanted in places):
            return False
        if self.name and not fnmatchcase(self.name, pattern.name):
            return False
        return own or self.options == pattern.options


def destination(address: str) -> Destination:
    """Where a client's endpoint string leads.

    :raises EndpointError: it is not a valid endpoint string, or has a part twice.
    """
    endpoint = endpoints.parse(address)
    kind = endpoint.kind
    if kind == "unix":
        options = endpoint.named("path")
        return Destination(kind, (options.pop("path", ""),), "", _others(options))
    options = endpoint.named("host", "port")
    if kind in endpoints.TLS:
        kind, options = "tls", tls.client_options(address, options)
    host = options.pop("host", "").lower()
    name = options.pop("hostname", host).lower() if kind == "tls" else ""
    return Destination(kind, (host, options.pop("port", "")), name, _others(options))


def destination_pattern(pattern: str) -> Destination:
    """A pattern of client addresses, with a shell's wildcards in their parts.

    :param pattern: ``tls:*.example.org:*``, ``unix:/run/*``; parts at the end that are left out are
        any. ``*`` is any address.
    :raises EndpointError: it is not a valid pattern.
    """
    if pattern == "*":
        return Destination("*", ("*", "*"), "*", {})
    found = destination(pattern)
    place = tuple(part or "*" for part in found.place)
    return attrs.evolve(found, place=place, name=found.name or "*")


def foreign_address(address: str) -> str:
    """The part of an address that is used if somebody else has written it: where it leads.

    :returns: an endpoint string without the options that third parties must not set: the files of
        the client's machine, and the name that a certificate has to have.
    :raises EndpointError: it is not a valid endpoint string, or has a part twice.
    """
    endpoint = endpoints.parse(address)
    endpoints.seconds(address, endpoint.options)
    if endpoint.kind in endpoints.TLS | {"tcp", "unix"}:
        names = ("path",) if endpoint.kind == "unix" else ("host", "port")
        options = endpoint.named(*names)
        args = tuple(options[name] for name in names if name in options)
        if len(args) < len(names):
            raise EndpointError(f"{address!r}: expected {' and '.join(names)}")
        endpoint = attrs.evolve(endpoint, args=args)
    options = {name: value for name, value in endpoint.options.items() if name in _FOREIGN_OPTIONS}
    return str(attrs.evolve(endpoint, options=options))


def leads_to(address: str, other: str) -> bool:
    """Whether an address leads where another does, whatever else the two say.

    :raises EndpointError: one is no endpoint string.
    """
    one, two = destination(address), destination(other)
    return (one.kind, one.place) == (two.kind, two.place)


def _is_plain(path: str) -> bool:
    """Whether a path leads where it seems to: from the root, and nowhere back."""
    return path.startswith("/") and ".." not in path.split("/")


def _others(options: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in options.items() if name not in _FOREIGN_OPTIONS}
