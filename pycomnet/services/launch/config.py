"""A launcher's configuration: from module names, or from a TOML or JSON file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from pycomnet.errors import LaunchConfigError
from pycomnet.ranges import NumberRefused, real
from pycomnet.services.client.weights import MAX_WEIGHT
from pycomnet.services.nameserveraddress import (
    DEFAULT_NAMESERVER,
    NO_NAMESERVER,
    default_nameserver,
)
from pycomnet.text.settingsfile import UnreadableSettings, read_settings
from pycomnet.text.similar import suggestion_or_all
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import ValueNotSendable

#: Where a service listens by default: on this machine only, on any free port.
DEFAULT_LISTEN = "tcp:0:interface=127.0.0.1"
#: Seconds that a lease lasts: a service that was killed is not found for longer than that.
DEFAULT_TTL = 15.0
#: Seconds to wait for the nameserver, unless the launcher waits for ever.
DEFAULT_PATIENCE = 10.0
#: Seconds that services drain at most, before they end.
DEFAULT_DRAIN = 5.0
#: The values of ``access``.
ALLOW, DENY = "allow", "deny"
#: The most bytes of a configuration file.
MAX_FILE = 1 << 20


@attrs.frozen
class Entry:
    """A module with services, or one service of it.

    :ivar module: ``MODULE`` for all services that it defines, or ``MODULE:NAME`` for one.
    :ivar name: the name to register it under; None for the launcher's name.
    :ivar options: keyword arguments that the service is made with.
    :ivar weight: in proportion to this it gets callers; None for the usual weight. Of services with
        one name, the first one's counts.
    """

    module: str
    name: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    weight: int | None = None


@attrs.frozen
class LaunchConfig:
    """A launcher's configuration.

    :ivar services: the services to run.
    :ivar listen: endpoint strings; the addresses of all are registered.
    :ivar advertise: the address to register instead, or only its host; None for the addresses that
        it listens on.
    :ivar nameserver: the nameserver's address, or None for none.
    :ivar name: the name for services without a name of their own; None for a generated one.
    :ivar wait: wait for ever for the nameserver, and for a name that is taken.
    :ivar patience: otherwise, seconds to wait for the nameserver.
    :ivar ttl: seconds that a lease lasts.
    :ivar access: what is done with calls of methods without an access rule: ``"allow"`` or
        ``"deny"``; None: see :attr:`denies`.
    :ivar insecure: services without a rule may be reached from other machines without TLS.
    :ivar audit_calls: whether the audit log has a line for each call.
    :ivar metrics: an endpoint string: the figures of publishers are there for Prometheus.
    :ivar drain: seconds that it drains at most, before it is unregistered and ends.
    """

    services: tuple[Entry, ...]
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    advertise: str | None = None
    nameserver: str | None = DEFAULT_NAMESERVER
    name: str | None = None
    wait: bool = False
    patience: float = DEFAULT_PATIENCE
    ttl: float = DEFAULT_TTL
    access: str | None = None
    insecure: bool = False
    audit_calls: bool = False
    metrics: str | None = None
    drain: float = DEFAULT_DRAIN

    @property
    def denies(self) -> bool:
        """Whether methods without an access rule are refused to everybody.

        If nothing is said, they are as soon as other machines can connect without a certificate.
        """
        from pycomnet.auth.admission import wants_certificates
        from pycomnet.net import endpoints

        if self.access is not None:
            return self.access == DENY
        return not self.insecure and any(
            not endpoints.is_local(each) and not wants_certificates(each) for each in self.listen
        )

    @property
    def readable(self) -> list[str]:
        """The endpoints to listen on that other machines reach without TLS."""
        from pycomnet.net import endpoints

        return [
            each
            for each in self.listen
            if not endpoints.is_local(each) and not endpoints.is_tls(each)
        ]


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a configuration file: TOML, or JSON if its name ends so.

    :returns: what :func:`make_config` takes.
    :raises LaunchConfigError: it can't be read, or isn't such a file.
    """
    try:
        found = read_settings(path, MAX_FILE, may_be_json=True).settings
    except UnreadableSettings as problem:
        raise LaunchConfigError(str(problem)) from problem
    if not isinstance(found, dict):
        raise LaunchConfigError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def make_config(
    settings: Mapping[str, Any],
    modules: Iterable[str] = (),
    where: str = "configuration",
    environ: Mapping[str, str] = os.environ,
) -> LaunchConfig:
    """Check settings and fill in the defaults of missing ones.

    :param settings: the keys of :class:`LaunchConfig`, with ``service``, a list of maps with the
        keys of :class:`Entry`, for ``services``; ``listen`` is a str or a list of them.
    :param modules: further modules to run, after those.
    :param where: what the settings are of, for errors.
    :raises LaunchConfigError: it says which key is wrong, and what was expected.
    """
    values = _checked(settings, _SETTINGS, where)
    entries = [
        Entry(**_checked(entry, _ENTRY, f"{where}, service {number}"))
        for number, entry in enumerate(values.pop("service", ()), 1)
    ]
    entries += [Entry(module) for module in modules]
    if not entries:
        raise LaunchConfigError("what to run? Name a module that has services")
    nameserver = values.pop("nameserver", None) or default_nameserver(environ)
    return LaunchConfig(
        services=tuple(entries),
        nameserver=None if nameserver == NO_NAMESERVER else nameserver,
        **values,
    )


# -- checks --------------------------------------------------------------------------------------

_Check = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a string")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _seconds(value: Any, above: bool = True) -> float:
    try:
        return real("", value, above=above)
    except NumberRefused as problem:
        raise ValueError(problem.expected) from None


def _weight(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_WEIGHT:
        raise ValueError(f"an int from 0 to {MAX_WEIGHT}")
    return value


def _access(value: Any) -> str:
    if value not in (ALLOW, DENY):
        raise ValueError(f"{ALLOW!r} or {DENY!r}")
    return str(value)


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("a table")
    return value


def _sendable(value: Any) -> dict[str, Any]:
    found = _map(value)
    try:
        make_codec().encode(found)
    except ValueNotSendable as problem:  # for example a TOML date
        raise ValueError(f"plain values: {problem}") from None
    return found


def _texts(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError("a list of strings")
    return tuple(_text(each) for each in values)


def _tables(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ValueError("a list of tables, [[service]]")
    return [_map(each) for each in value]


_SETTINGS: dict[str, _Check] = {
    "service": _tables,
    "listen": _texts,
    "advertise": _text,
    "nameserver": _text,
    "name": _text,
    "wait": _flag,
    "patience": _seconds,
    "ttl": _seconds,
    "access": _access,
    "insecure": _flag,
    "audit_calls": _flag,
    "metrics": _text,
    "drain": partial(_seconds, above=False),
}
_ENTRY: dict[str, _Check] = {
    "module": _text,
    "name": _text,
    "options": _map,
    "tags": _texts,
    "metadata": _sendable,
    "weight": _weight,
}


def _checked(values: Mapping[str, Any], checks: dict[str, _Check], where: str) -> dict[str, Any]:
    """The values, each as its check gives it.

    :raises LaunchConfigError: a key is unknown, or has another value than it may.
    """
    found = {}
    for key, value in values.items():
        check = checks.get(key)
        if check is None:
            raise LaunchConfigError(f"{where}: no key {key!r}{suggestion_or_all(key, checks)}")
        try:
            found[key] = check(value)
        except ValueError as expected:
            raise LaunchConfigError(f"{where}: {key}: expected {expected}, got {value!r}") from None
    if checks is _ENTRY and "module" not in found:
        raise LaunchConfigError(f"{where}: it has no module")
    return found
