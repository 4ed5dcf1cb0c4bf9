"""The groups of a topic, by owner; limits their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import InvalidArguments, Overloaded
from pycomnet.ext.pubsub.groups import LINGER, SubscriberGroup

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.topic import Topic

#: Owner, name, and whether it is durable: groups of different users are independent.
GroupIdentity = tuple[str, str, bool]


class TopicGroups:
    """The groups that have members, or had some a short time ago."""

    def __init__(self, topic: Topic, reactor: IReactorTime) -> None:
        self._topic = topic
        self.reactor = reactor
        self._groups: dict[GroupIdentity, SubscriberGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, identity: GroupIdentity) -> SubscriberGroup | None:
        """Return a group, or None."""
        return self._groups.get(identity)

    def add(self, group: SubscriberGroup) -> None:
        """Add a group whose first member has subscribed.

        :raises Overloaded: there are too many groups, or its owner has too many.
        """
        limits = self._topic.settings.limits
        if len(self._groups) >= limits.groups:
            raise Overloaded(f"there are {len(self._groups)} groups, and may be no more")
        mine = sum(one.owner == group.owner for one in self._groups.values())
        if mine >= limits.groups_per_user:
            raise Overloaded(f"this user has {mine} groups, and may have no more")
        self._groups[group.identity] = group
        self._topic.add(group)

    def left(self, group: SubscriberGroup) -> None:
        """A member has left. A group without members ends after a while."""
        is_known = self._groups.get(group.identity) is group
        if is_known and not group.members and group.timer is None:
            linger = 0 if group.failed else LINGER
            group.timer = self.reactor.callLater(linger, self._end, group)

    def _end(self, group: SubscriberGroup) -> None:
        group.timer = None
        if not group.members and self._groups.pop(group.identity, None) is not None:
            self._topic.remove(group)

    def forget(self, owner: str, name: str) -> defer.Deferred[bool]:
        """Forget a durable group that has no members, and its position.

        :returns: fires with whether the group existed.
        :raises InvalidArguments: it has members; or no group is durable here.
        """
        store = self._topic.store
        if store is None:
            interface = self._topic.interface
            raise InvalidArguments(f"{interface} has no store, and keeps no group's position")
        group = self._groups.get((owner, name, True))
        if group is not None:
            if group.members:
                raise InvalidArguments(f"group {name!r} has subscribers: end these first")
            if group.timer is not None:
                group.timer.cancel()
            self._end(group)
        return store.forget_group(owner, name)

    def close(self) -> None:
        """Cancel all timers: the topic ends."""
        for group in self._groups.values():
            if group.timer is not None and group.timer.active():
                group.timer.cancel()
        self._groups.clear()
