"""Reads and checks the arguments of requests, and has the nameserver's limits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pycomnet.errors import EndpointError, InvalidRegistration
from pycomnet.nameserver.queries import Query
from pycomnet.nameserver.records import Record, digest, encode
from pycomnet.nameserver.standing import Standing, or_none
from pycomnet.net.endpoints import parse
from pycomnet.ranges import NumberRefused, check_fields, real, whole
from pycomnet.services.client.weights import MAX_WEIGHT
from pycomnet.services.health import MAX_SAID
from pycomnet.wire.values import ValueNotSendable


@attrs.frozen
class NameserverLimits:
    """The limits of a nameserver.

    :ivar name: characters of a service's or interface's name, or a tag.
    :ivar interfaces: of one service.
    :ivar tags: of one service.
    :ivar address: characters of an address.
    :ivar metadata: bytes of a service's metadata, encoded.
    :ivar min_ttl: seconds of the shortest lease; shorter ones would be renewed too often.
    :ivar max_ttl: seconds of the longest lease, and so for which a dead service can block its name.
    :ivar ttl: seconds of a lease if the request does not set them.
    :ivar services: registrations.
    :ivar client_services: registrations of one client. A client is the name in its certificate,
        else the machine it comes from; on this machine, its connection.
    :ivar bytes: about how many bytes of texts and metadata all registrations may have. A million
        usual ones have a fifth of the default; without the limit, a few hundred thousand of the
        longest would fill a machine's memory.
    :ivar watches: watches at a time, of all clients.
    :ivar connection_watches: watches at a time on one connection.
    :ivar page: records in one answer of ``list_services``.
    """

    name: int = 255
    interfaces: int = 64
    tags: int = 32
    address: int = 1024
    metadata: int = 4096
    min_ttl: float = 1.0
    max_ttl: float = 86_400.0
    ttl: float = 30.0
    services: int = 2_000_000
    client_services: int = 10_000
    bytes: int = 1 << 30
    watches: int = 10_000
    connection_watches: int = 64
    page: int = 1_000

    def __attrs_post_init__(self) -> None:
        check_fields(self)


#: Addresses that need not be parsed, as those of most services: parsing takes a tenth of the row
#: "registrations on disk and acknowledged".
_TCP = re.compile(r"tcp:[A-Za-z0-9_.-]+:[0-9]{1,5}")
#: The least and most characters of a secret that an owner chooses; a shorter one could be guessed.
MIN_SECRET, MAX_SECRET = 16, 128
#: Characters that names must not have: wildcards of patterns, and the space, which is easy to
#: overlook at the end of a name.
WILD = frozenset("*?[] ")


class Arguments:
    """The arguments of one request, taken one by one.

    :param what: the request's name, for errors.
    :param args: the arguments as they were received: any value.
    """

    def __init__(self, what: str, args: object, limits: NameserverLimits) -> None:
        if args is None:
            args = {}
        if not isinstance(args, dict):
            raise InvalidRegistration(f"{what}: expected a map, got {type(args).__name__}")
        self._what = what
        self._args: dict[object, Any] = dict(args)
        self._limits = limits

    def refused(self, name: str, expected: str) -> InvalidRegistration:
        return InvalidRegistration(f"{self._what}: {name}: expected {expected}")

    @property
    def has_more(self) -> bool:
        """Whether an argument is left that was not taken."""
        return bool(self._args)

    def done(self) -> None:
        """Check that no unknown argument is left."""
        if self._args:
            names = ", ".join(sorted(ascii(name)[:40] for name in self._args)[:5])
            raise InvalidRegistration(f"{self._what}: unknown arguments: {names}")

    def _text(self, name: str, value: object, limit: int, forbidden: frozenset[str]) -> str:
        if (
            not isinstance(value, str)
            or not 0 < len(value) <= limit
            or not value.isprintable()
            or not forbidden.isdisjoint(value)
        ):
            but = " without spaces and any of *?[]" if forbidden else ""
            raise self.refused(name, f"1 to {limit} printable characters{but}, as a str")
        return value

    def begin(self, name: str) -> str:
        """A name after which a list continues; an empty or missing name means the beginning."""
        value = self._args.get(name)
        if value == "" and isinstance(value, str):
            del self._args[name]
        text: str = self.text(name, "")
        return text

    def text(self, name: str, default: str | None = None, limit: int = 0, wild: bool = True) -> Any:
        """A str; required when there is no default."""
        value = self._args.pop(name, None)
        if value is None:
            if default is None:
                raise self.refused(name, "a str, but there is none")
            return default
        return self._text(name, value, limit or self._limits.name, frozenset() if wild else WILD)

    def optional(self, name: str) -> str | None:
        """A name or a pattern, or None."""
        return self.text(name, "") or None

    def texts(self, name: str, limit: int, wild: bool, least: int = 0) -> tuple[str, ...]:
        """A list of names, without duplicates."""
        values = self._args.pop(name, None)
        if not least and (values is None or values == []):
            return ()
        if values is None:
            values = ()
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            raise self.refused(name, "a list")
        if not least <= len(values) <= limit:
            raise self.refused(name, f"{least} to {limit} of them, not {len(values)}")
        forbidden = frozenset() if wild else WILD
        most = self._limits.name
        texts = tuple([self._text(name, value, most, forbidden) for value in values])
        return texts if len(texts) < 2 else tuple(dict.fromkeys(texts))

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number within bounds."""
        value = self._args.pop(name, None)
        if value is None:
            return default
        try:
            return real(name, value, least, most, what="a number")
        except NumberRefused as problem:
            raise self.refused(name, problem.expected) from None

    def whole(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """An int within bounds; None only as the default."""
        value = self._args.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, int):
            value = None  # not 1.0 either
        try:
            return whole(name, value, least, most, what="an int")
        except NumberRefused as problem:
            raise self.refused(name, problem.expected) from None

    def address(self) -> str:
        address: str = self.text("address", limit=self._limits.address)
        if _TCP.fullmatch(address):
            return address
        try:
            parse(address)
        except EndpointError as problem:
            raise self.refused("address", f"an endpoint string: {problem}") from None
        return address

    def metadata(self) -> bytes:
        value = self._args.pop("metadata", None)
        if not value and (value is None or isinstance(value, Mapping)):
            return b""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.refused("metadata", "a map with strings as keys")
        try:
            encoded = encode(value)
        except ValueNotSendable as problem:
            raise self.refused("metadata", f"plain values: {problem}") from None
        if len(encoded) > self._limits.metadata:
            raise self.refused(
                "metadata", f"at most {self._limits.metadata} bytes, not {len(encoded)}"
            )
        return encoded

    def flag(self, name: str) -> bool | None:
        value = self._args.pop(name, None)
        if value is not None and not isinstance(value, bool):
            raise self.refused(name, "true or false")
        return value

    def standing(self, *names: str) -> dict[str, Any]:
        """The fields of a standing that are given, by name.

        :param names: the arguments that there may be; all by default.
        """
        names = names or ("weight", "draining", "failing", "said")
        found: dict[str, Any] = {}
        if "weight" in names:
            found["weight"] = self.whole("weight", None, 0, MAX_WEIGHT)
        if "draining" in names:
            found["drains"] = self.flag("draining")
        if "failing" in names:
            found["failing"] = self.flag("failing")
        if "said" in names:
            said = self._args.pop("said", None)
            if said is not None and not (
                isinstance(said, str) and len(said) <= MAX_SAID and said.isprintable()
            ):
                raise self.refused("said", f"up to {MAX_SAID} printable characters, as a str")
            found["said"] = said
        return {name: value for name, value in found.items() if value is not None}

    def secret(self) -> str | None:
        value = self._args.pop("secret", None)
        if value is not None and (
            not isinstance(value, str) or not MIN_SECRET <= len(value) <= MAX_SECRET
        ):
            raise self.refused("secret", f"{MIN_SECRET} to {MAX_SECRET} characters, as a str")
        return value

    def lease(self) -> tuple[int, str]:
        """A lease and its secret, in any form that ``register`` may have returned."""
        lease = self._args.pop("lease", None)
        secret = self._args.pop("secret", None)
        if not isinstance(lease, int) or isinstance(lease, bool):
            raise self.refused("lease", "the int that register gave")
        if not isinstance(secret, str) or len(secret) > MAX_SECRET:
            raise self.refused("secret", "the str that register gave")
        return lease, secret


def registration(
    args: object, limits: NameserverLimits, new_lease: int, new_secret: str
) -> tuple[Record, str]:
    """Read the arguments of ``register``.

    :returns: the record, without a fence, and the owner's secret.

    :param new_lease: the number of a new lease.
    :param new_secret: the secret, if the owner chose none.
    :raises InvalidRegistration: a part is not valid or over a limit.
    """
    taken = Arguments("register", args, limits)
    secret = taken.secret() or new_secret
    record = Record(
        service=taken.text("service", wild=False),
        interfaces=taken.texts("interfaces", limits.interfaces, wild=False, least=1),
        address=taken.address(),
        metadata=taken.metadata(),
        tags=taken.texts("tags", limits.tags, wild=True),
        ttl=taken.number("ttl", limits.ttl, limits.min_ttl, limits.max_ttl),
        lease=new_lease,
        secret=digest(secret),
    )
    if taken.has_more:
        record.standing = or_none(Standing(**taken.standing()))
    taken.done()
    return record, secret


def query(taken: Arguments, limits: NameserverLimits) -> Query:
    """Read the patterns of ``list_services`` and ``watch``."""
    service, interface = taken.optional("service"), taken.optional("interface")
    tags = frozenset(taken.texts("tags", limits.tags, wild=True))
    try:
        return Query(service, interface, tags)
    except re.error as problem:
        raise taken.refused("service, interface", f"patterns: {problem}") from None
