"""Queries: patterns of name and interface, and tags; and the pages of their results."""

from __future__ import annotations

import re
from fnmatch import translate

import attrs

from pycomnet.nameserver.records import Record

_WILD = re.compile(r"[*?\[]")


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


class Query:
    """Selects records.

    :param service: a pattern as in a shell (``*``, ``?``, ``[...]``) that the name matches;
        ``org.example.*`` matches a prefix. None for any.
    :param interface: the same for one of the interfaces.
    :param tags: all of these are among the record's.
    :ivar prefix: the beginning that all matching names share.
    :ivar name: the name, if only one can match.
    :ivar only_interface: the interface, if only one can match.
    """

    def __init__(
        self,
        service: str | None = None,
        interface: str | None = None,
        tags: frozenset[str] = frozenset(),
    ) -> None:
        self.tags = tags
        self.prefix = ""
        self.name: str | None = None
        self.only_interface: str | None = None
        self._service: re.Pattern[str] | None = None
        self._interface: re.Pattern[str] | None = None
        if service is not None:
            wild = _WILD.search(service)
            if wild is None:
                self.name = self.prefix = service
            else:
                self.prefix = service[: wild.start()]
                if service[wild.start() :] != "*":
                    self._service = _matcher(service)
        if interface is not None and interface != "*":
            if _WILD.search(interface) is None:
                self.only_interface = interface
            else:
                self._interface = _matcher(interface)

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
