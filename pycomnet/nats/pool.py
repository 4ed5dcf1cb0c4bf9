"""The servers that a client tries in turn: those it was given, and those that servers announced."""

from __future__ import annotations

from typing import Any

from pycomnet.nats.settings import MOST_LEARNED, NatsServer, NatsSettings


class ServerPool:
    """Servers, in the order in which they are tried."""

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._servers = list(settings.servers)
        self._next = 0

    def __len__(self) -> int:
        return len(self._servers)

    def take(self) -> NatsServer:
        """The next server."""
        self._next %= len(self._servers)
        found = self._servers[self._next]
        self._next += 1
        return found

    def remove(self, server: NatsServer) -> None:
        """Remove a server that was announced and can't be used."""
        place = self._servers.index(server)
        del self._servers[place]
        if place < self._next:
            self._next -= 1

    def learn(self, info: dict[str, Any], teller: NatsServer, is_proven: bool) -> None:
        """Add the servers that a server announces.

        :param info: its ``INFO`` message.
        :param is_proven: whether it has come with TLS.
        """
        addresses = info.get("connect_urls")
        if not self._settings.learn or not isinstance(addresses, list):
            return
        known = {(one.host, one.port): place for place, one in enumerate(self._servers)}
        count = sum(one.learned for one in self._servers)
        for address in addresses[:MOST_LEARNED]:
            found = self._settings.learned(address, teller, is_proven)
            if found is None:
                continue
            place = known.get((found.host, found.port))
            if place is not None:
                if is_proven and self._servers[place].learned:
                    self._servers[place] = found  # the earlier announcement may not be proven
                continue
            if count >= MOST_LEARNED:
                break
            count += 1
            known[found.host, found.port] = len(self._servers)
            self._servers.append(found)
