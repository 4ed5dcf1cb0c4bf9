"""Publishers as services: ``@publisher``, and the methods that subscribers call."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, ClassVar

from pycomnet.deferred import deferred
from pycomnet.errors import Forbidden, InvalidArguments, Overloaded
from pycomnet.ext.pubsub import permissions
from pycomnet.ext.pubsub.groups import GroupMember
from pycomnet.ext.pubsub.limits import TopicSettings
from pycomnet.ext.pubsub.nats.natspublisher import check_settings, via_topic
from pycomnet.ext.pubsub.publisherrun import (
    NEVER,
    RESTARTS,
    PublisherRunner,
    ReactorRun,
    ThreadRun,
    runs_in_thread,
)
from pycomnet.ext.pubsub.stores.sqlite import SQLiteEventStore
from pycomnet.ext.pubsub.subjects import Patterns, check_subject, patterns_of
from pycomnet.ext.pubsub.subscriberequest import ARGUMENTS, SubscribeRequest, owner_name
from pycomnet.ext.pubsub.subscriptions import EventSink, Subscription
from pycomnet.ext.pubsub.topic import Topic
from pycomnet.nats.settings import NatsSettings, read_via
from pycomnet.services.arguments import refusing_numbers
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.accessgate import RULE

#: The most numbers of one ``acknowledge``.
MAX_ACKNOWLEDGED = 10_000
#: Seconds between checks whether subscribers may still have their subjects, if that depends on the
#: user.
CHECK_EVERY = 2.0
#: How many subscriptions are checked before other work of the reactor runs.
CHECKED = 100


class PublisherService(Service):
    """A service that publishes: :func:`publisher` makes classes of this kind.

    :cvar published: its interface.
    :cvar settings: how it publishes.
    :cvar via: the NATS servers that it publishes through.
    :ivar topic: the topic that it publishes to, once it has started.
    """

    published: ClassVar[str] = ""
    settings: ClassVar[TopicSettings] = TopicSettings()
    via: ClassVar[NatsSettings | None] = None
    topic: Topic

    def started(self, server: Any) -> Any:
        """Open the history. A subclass with a ``started`` of its own has to await this first."""
        settings = self.settings
        store = settings.store
        if isinstance(store, (str, os.PathLike)):
            store = SQLiteEventStore(os.fspath(store))
        self.topic = Topic(self.published, settings, server.reactor, store)
        self._reactor = server.reactor
        self._checking: Any = None
        if self.via is not None:
            self.topic, opening = via_topic(self, server)
            return opening.addCallback(lambda _: self.running())
        if store is None:
            self.running()
            return None
        return self._open(store)

    @deferred
    async def _open(self, store: Any) -> None:
        topic, limits = self.topic, self.settings.limits
        keys = limits.keys if self.settings.retain else 0
        await store.open(self._reactor, self.settings.history, keys)
        try:
            recent = await store.recent(limits.history)
            retained = await store.retained(limits.retained) if keys else []
            topic.restore(recent, retained)
        except BaseException:
            await store.close()
            raise
        self.running()

    def running(self) -> None:
        """Called once events can be published."""

    def stopped(self) -> Any:
        """End all subscriptions, and close the store."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        topic = self.topic
        topic.close()
        return topic.closed()

    # -- what subscribers call -------------------------------------------------------------------

    @method("subscribe", stream=True, args=ARGUMENTS)
    def subscribe(self, request: Any) -> EventSink:
        """Subscribe to events, from now on or from an earlier position: docs/protocol.rst."""
        with refusing_numbers():
            asked = SubscribeRequest(request.args, self.topic, request.user)
        self._check_may_subscribe(request.user, asked.patterns)
        self.topic.check_room(request.connection, 1 if asked.group else asked.patterns.weight)
        self._check_later()
        return asked.open()

    @method("change", args={"id": "int", "subjects": "list"}, results={"sequence": "int"})
    def change(self, request: Any) -> dict[str, Any]:
        """Change the subjects of a subscription of this connection from now on."""
        sink = self._sink(request)
        if not isinstance(sink, Subscription):
            raise InvalidArguments("a group's subjects can't be changed: use another group")
        patterns = patterns_of(request.args["subjects"])
        self._check_may_subscribe(request.user, patterns)
        self.topic.change(sink, patterns)
        return {"sequence": self.topic.history.last}

    @method("acknowledge", args={"id": "int", "sequences": "list"}, results={"count": "int"})
    def acknowledge(self, request: Any) -> Any:
        """Acknowledge these events, for a subscription of this connection in a group."""
        sink = self._sink(request)
        if not isinstance(sink, GroupMember):
            raise InvalidArguments("only subscriptions in a group acknowledge")
        sequences = request.args["sequences"]
        if len(sequences) > MAX_ACKNOWLEDGED or not all(type(one) is int for one in sequences):
            raise InvalidArguments(f"sequences: expected at most {MAX_ACKNOWLEDGED} int")
        noting = sink.group.acknowledge(sink, sequences)
        return noting.addCallback(lambda count: {"count": count})

    @method("forget", args={"group": "str"}, results={"found": "bool"})
    def forget(self, request: Any) -> Any:
        """Forget a durable group of this user, which has no subscribers, and its position."""
        name = request.args["group"]
        forgetting = self.topic.groups.forget(owner_name(request.user), name)
        return forgetting.addCallback(lambda found: {"found": found})

    @method(
        "publish",
        args={"value": "any?", "subject": "str?", "key": "str?"},
        results={"sequence": "int"},
    )
    def publish(self, request: Any) -> Any:
        """Publish a client's event, if that is permitted."""
        args = request.args or {}
        subject = check_subject(args.get("subject") or "")
        if not permissions.may_have(self.settings.may_publish, request.user, subject):
            raise self._forbidden(request.user, "publish", subject)
        if not self.topic.has_room:  # the rest of the room is for the publisher's own events
            raise Overloaded(f"{self.published}: too many events wait to be published")
        value: Any = args.get("value")
        publishing = self.topic.publish(value, args.get("key"), subject)
        # When this fires, the event is the last that was published, so this is its number.
        return publishing.addCallback(lambda _: {"sequence": self.topic.history.last})

    @method("topic", idempotent=True)
    def topic_state(self, request: Any) -> dict[str, Any]:
        """The numbers of events and subscriptions, and how much waits."""
        return self.topic.statistics.as_map()

    # -- permissions -----------------------------------------------------------------------------

    def _sink(self, request: Any) -> EventSink:
        sink = self.topic.sinks.get(request.args["id"])
        if sink is None or sink.connection is not request.connection:
            raise InvalidArguments(f"this connection has no subscription {request.args['id']} here")
        return sink

    def _check_may_subscribe(self, user: Any, patterns: Patterns) -> None:
        lacking = permissions.missing(self.settings.may_subscribe, user, patterns.texts)
        if lacking is not None:
            raise self._forbidden(user, "subscribe", lacking)

    def _forbidden(self, user: Any, what: str, subject: str) -> Forbidden:
        to = f"{what} to {subject!r}" if subject else what
        if what == "publish" and not self.settings.may_publish:
            text = "no client may publish here, only the publisher itself (may_publish=)"
        elif user is None:
            text = f"a client without a login may not {to}"
        else:
            text = f"{user.name} may not {to}"
        return Forbidden(f"{self.published}: {text}", self.published, what)

    def _check_later(self) -> None:
        """Schedule a check of all subscriptions: a user's roles may change while a stream lasts."""
        if self._checking is None and not permissions.is_open(self.settings.may_subscribe):
            self._checking = self._reactor.callLater(CHECK_EVERY, self._check_all)

    def _check_all(self, left: list[EventSink] | None = None) -> None:
        self._checking = None
        if left is None:
            left = list(self.topic.sinks.values())
        now, left = left[:CHECKED], left[CHECKED:]
        for sink in now:
            connection = sink.connection
            if isinstance(sink, Subscription):
                patterns = sink.intake.patterns
            elif isinstance(sink, GroupMember):
                patterns = sink.group.intake.patterns
            if connection is None:
                continue
            try:
                user = connection.user_of(connection.logins, self.published, "subscribe")
                self._check_may_subscribe(user, patterns)
            except Forbidden as problem:
                sink.close(problem)
        if left:
            self._checking = self._reactor.callLater(0, self._check_all, left)
        elif self.topic.sinks:
            self._check_later()


#: Attributes that a decorated class may not have: they would replace the publisher's methods for
#: subscribers, or its permission checks.
OWN_NAMES = (
    *("subscribe", "change", "acknowledge", "forget", "publish"),
    *("topic", "topic_state", "running", "published", "settings"),
)


class FunctionPublisher(PublisherService):
    """A publisher that runs a generator or a function.

    :cvar function: the function or generator that it runs.
    """

    function: ClassVar[Callable[..., Any]]
    in_thread: ClassVar[bool] = True
    lazy: ClassVar[bool] = False
    restart: ClassVar[str] = NEVER
    _run: PublisherRunner | None = None

    def running(self) -> None:
        topic, reactor = self.topic, self._reactor
        kind = ThreadRun if self.in_thread else ReactorRun
        self._run = PublisherRunner(
            topic,
            lambda: kind(type(self).function, topic, reactor),
            reactor,
            self.lazy,
            self.restart,
        )
        # In the next turn: by then the service is served, and slow code can't delay that.
        reactor.callLater(0, self._run.start)

    def stopped(self) -> Any:
        if self._run is not None:
            self._run.close()
        return super().stopped()


def publisher(
    name: str,
    *,
    lazy: bool = False,
    restart: str = NEVER,
    thread: bool | None = None,
    via: Any = None,
    **settings: Any,
) -> Callable[[Any], Any]:
    """Make a publisher of a generator, an async generator, a function or a class.

    The result is a subclass of :class:`~pycomnet.Service`, which a launcher finds like any other.

    A generator's values are published; to set a key or a subject, it yields :class:`Publication`. A
    function with a parameter gets ``publish(value, key=None, subject="")``, which waits for back
    pressure if the function runs in a thread, and otherwise returns a Deferred. A class gets the
    attribute ``topic``, whose ``publish`` its methods call. The code runs once, for all
    subscribers.

    :param name: the interface.
    :param lazy: run it only while there are subscribers; it is closed when the last one goes, and
        begins again with the next.
    :param restart: whether it runs again: ``"never"``, when it has ``"failed"``, or ``"always"``.
        Subscribers are notified of each restart (:class:`Restarted`). Without a restart the end of
        the code, or its error, ends the subscriptions.
    :param thread: whether it runs in a thread of its own. By default a plain generator or function
        does, as it may block.
    :param via: publish through NATS: ``"nats://a:4222,b:4222"``, or
        :class:`~pycomnet.nats.NatsSettings`. With ``history`` or ``retain`` JetStream keeps the
        events.
    :param settings: those of :class:`~pycomnet.ext.pubsub.limits.TopicSettings`: ``retain``,
        ``history``, ``block``, ``may_subscribe``, ``may_publish``, ``ack_timeout``, ``store``,
        ``limits``.
    """
    if not isinstance(name, str):
        raise TypeError('write @publisher("org.example.name")')
    if restart not in RESTARTS:
        raise ValueError(f"restart: {', '.join(RESTARTS)}, not {restart!r}")
    how = TopicSettings(**settings)
    servers = None if via is None else read_via(via)
    if servers is not None:
        check_settings(how, lazy)

    def mark(target: Any) -> Any:
        if isinstance(target, type):
            return _class_publisher(target, name, how, servers)
        if not callable(target):
            raise TypeError(f"expected a function or a class as the publisher, got {target!r}")
        in_thread = runs_in_thread(target) if thread is None else thread
        if in_thread and not runs_in_thread(target):
            raise TypeError(f"{target.__qualname__} is async: it can't run in a thread")
        made = type(
            target.__name__,
            (FunctionPublisher,),
            {
                "__module__": target.__module__,
                "__qualname__": target.__qualname__,
                "__doc__": inspect.getdoc(target) or "",  # and not that of the base class
                "function": staticmethod(target),
                "in_thread": in_thread,
                "lazy": lazy,
                "restart": restart,
                "published": name,
                "settings": how,
                "via": servers,
            },
        )
        rule = getattr(target, RULE, None)
        if rule is not None:
            setattr(made, RULE, rule)
        return interface(name)(made)

    return mark


def _class_publisher(
    cls: type, name: str, settings: TopicSettings, via: NatsSettings | None
) -> Any:
    """Make a subclass of a class that also has the methods of a publisher."""
    own = [name for name in OWN_NAMES if name in vars(cls)]
    if own and not issubclass(cls, PublisherService):
        raise TypeError(
            f"{cls.__qualname__}: publishers have {', '.join(own)} already, for their subscribers: "
            "give yours another name"
        )
    names = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "published": name,
        "settings": settings,
        "via": via,
    }
    bases = (cls,) if issubclass(cls, PublisherService) else (cls, PublisherService)
    return interface(name)(type(cls)(cls.__name__, bases, names))
