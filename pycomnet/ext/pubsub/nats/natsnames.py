"""Names in NATS: the subjects of events and notices, and the stream of an interface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from pycomnet.errors import InvalidArguments
from pycomnet.ext.pubsub.subjects import ALL, covers
from pycomnet.nats.messages import check_subject

#: Stands in a NATS subject for "no key" and "no subject"; no key or subject is encoded like this.
NONE = "!"
#: A stream's description says whether its publisher retains events.
RETAINS, KEEPS = "pycomnet: retained events", "pycomnet: a history"


class NatsNames:
    """The names that an interface has in NATS.

    :ivar notices: the subject of the publishers' notices to all subscribers.
    :ivar who: the subject on which subscribers ask which publishers there are.
    :ivar everything: matches the subjects of all events.
    :ivar stream: the stream with the events.
    :raises InvalidArguments: the interface's name can't be in a subject of NATS.
    """

    def __init__(self, interface: str) -> None:
        parts = interface.split(".")
        if any(part in ("*", ">", "!", "!!") for part in parts):
            raise InvalidArguments(f"{interface!r} can't be in a subject of NATS")
        check_subject(interface)
        self.interface = interface
        self.notices = f"{interface}.!!.notice"
        self.who = f"{interface}.!!.who"
        self.everything = f"{interface}.!.>"
        digest = hashlib.sha256(interface.encode()).hexdigest()[:8]
        readable = "".join(one if one.isascii() and one.isalnum() else "_" for one in interface)
        self.stream = f"{readable[:100]}_{digest}"
        self._made: dict[tuple[str, str | None], bytes] = {}

    def subject(self, subject: str, key: str | None) -> bytes:
        """The subject of an event, in NATS."""
        found = self._made.get((subject, key))
        if found is None:
            token = NONE if key is None else f"={quote(key, safe='').replace('.', '%2E')}"
            text = f"{self.interface}.!.{token}.{subject or NONE}"
            if len(self._made) >= 10_000:
                self._made.clear()
            found = self._made[subject, key] = check_subject(text)
        return found

    def patterns(self, subjects: Sequence[str]) -> list[str]:
        """The NATS subjects to subscribe to for some patterns.

        If one pattern covers another, only the covering one is subscribed to: NATS delivers an
        event for each subscription that matches.
        """
        left = [
            one
            for place, one in enumerate(subjects)
            if not any(
                covers(other, one) and (other != one or before < place)
                for before, other in enumerate(subjects)
                if before != place
            )
        ]
        return [self.everything if one == ALL else f"{self.interface}.!.*.{one}" for one in left]

    def group(self, name: str) -> str:
        """A group's name in NATS, which has only letters and digits."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        readable = "".join(one if one.isascii() and one.isalnum() else "_" for one in name)
        return f"{readable[:60]}_{digest}"
