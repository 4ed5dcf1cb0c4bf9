"""Queries: patterns of name and interface, and tags; and the pages of their results."""

from __future__ import annotations

import re
from fnmatch import translate

import attrs

from pycomnet.nameserver.records import Record

_WILD = re.compile(r"[*?\[]")


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@attrs.frozen(eq=False)
class Query:
    """Selects records.

    :param service: a pattern as in a shell (``*``, ``?``, ``[...]``) that the name matches;
        ``org.example.*`` matches a prefix. None for any.
    :param interface: the same for one of the interfaces.
    :param tags: all of these are among the record's.
    """

    service: str | None = None
    interface: str | None = None
    tags: frozenset[str] = frozenset()
    #: the beginning that all matching names share
    prefix: str = attrs.field(init=False)
    #: the name, if only one can match
    name: str | None = attrs.field(init=False)
    #: the interface, if only one can match
    only_interface: str | None = attrs.field(init=False)
    _service: re.Pattern[str] | None = attrs.field(init=False)
    _interface: re.Pattern[str] | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("name", None)
        put("only_interface", None)
        put("_service", None)
        put("_interface", None)
        put("prefix", "")
        if self.service is not None:
            wild = _WILD.search(self.service)
            if wild is None:
                put("name", self.service)
                put("prefix", self.service)
            else:
                put("prefix", self.service[: wild.start()])
                if self.service[wild.start() :] != "*":
                    put("_service", _matcher(self.service))
        if self.interface is not None and self.interface != "*":
            if _WILD.search(self.interface) is None:
                put("only_interface", self.interface)
            else:
                put("_interface", _matcher(self.interface))

    def matches(self, record: Record) -> bool:
        """Whether a record matches. Its lease is not checked."""
        name = record.service
        if self.name is not None and name != self.name:
            return False
        if not name.startswith(self.prefix):
            return False
        if self._service is not None and self._service.match(name) is None:
            return False
        if self.only_interface is not None:
            if self.only_interface not in record.interfaces:
                return False
        elif self._interface is not None and not any(map(self._interface.match, record.interfaces)):
            return False
        return not self.tags or self.tags.issubset(record.tags)


@attrs.frozen
class DirectoryPage:
    """Some of the records that match a query.

    :ivar records: in the order of their names.
    :ivar after: the name after which the next page begins, or None if this is the last page.
    """

    records: list[Record]
    after: str | None
