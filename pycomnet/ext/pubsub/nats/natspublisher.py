"""Sends a publisher's events, and its notices, to NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.deferred import deferred, done
from pycomnet.errors import InvalidArguments, Overloaded
from pycomnet.ext.pubsub.events import EncodedEvent, encode_event
from pycomnet.ext.pubsub.limits import TopicSettings
from pycomnet.ext.pubsub.nats.encoding import END, GONE, HERE, RESTARTED, EventHead, notice
from pycomnet.ext.pubsub.nats.jetstreamreader import find_stream
from pycomnet.ext.pubsub.nats.natsnames import KEEPS, RETAINS, NatsNames
from pycomnet.ext.pubsub.nats.sharedclient import SharedClient
from pycomnet.ext.pubsub.topic import Topic
from pycomnet.nats import JetStream, NatsClient, NatsError, NatsMessage, NatsSettings
from pycomnet.nats.jetstream import SECOND
from pycomnet.nats.messages import encode_headers
from pycomnet.nats.streampublisher import StreamPublisher
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context

log = Logger()

#: The most subjects for which the number of the last event is kept.
MOST_SUBJECTS = 10_000
#: Seconds to wait for JetStream's last acknowledgements when a publisher ends.
LEAVING = 5.0


def check_settings(settings: TopicSettings, lazy: bool) -> None:
    """Check that a publisher through NATS supports all of its settings.

    :raises InvalidArguments: it does not.
    """
    for is_there, name, instead in (
        (lazy, "lazy", "NATS does not tell who subscribes"),
        (settings.store is not None, "store", "history= keeps events in JetStream"),
        (
            settings.may_subscribe != TopicSettings().may_subscribe,
            "may_subscribe",
            "the NATS server's permissions say who may subscribe",
        ),
    ):
        if is_there:
            raise InvalidArguments(f"{name}= can't be used with via=: {instead}")


def stream_config(
    names: NatsNames, settings: TopicSettings, nats: NatsSettings
) -> dict[str, Any] | None:
    """The configuration of the JetStream stream for a publisher's events; None if it keeps none."""
    keep = settings.history
    if not (keep or settings.retain):
        return None
    config: dict[str, Any] = {
        "name": names.stream,
        "description": RETAINS if settings.retain else KEEPS,
        "subjects": [names.everything],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": nats.replicas,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
    }
    if not keep:
        config["max_msgs_per_subject"] = 1
        return config
    if keep.count is not None:
        config["max_msgs"] = keep.count
    if keep.seconds is not None:
        config["max_age"] = int(keep.seconds * SECOND)
        config["duplicate_window"] = min(120 * SECOND, config["max_age"])
    return config


class NatsPublisher:
    """Publishes a topic's events and notices to NATS, and answers its subscribers.

    :ivar client: the client.
    :ivar stream: the publisher to JetStream; None if no events are kept.
    """

    def __init__(self, topic: Topic, shared: SharedClient) -> None:
        self.names = NatsNames(topic.interface)
        self.stream: StreamPublisher | None = None
        self.client: NatsClient = shared.client
        self._topic = topic
        self._shared = shared
        self._epoch = topic.epoch
        self._head = EventHead(topic.epoch)
        #: subject -> the number of its last event
        self._last: dict[str, int] = {}
        #: the value for subjects whose last number is not known
        self._unknown: int | None = 0
        #: whether subscribers were notified that the publisher has ended
        self._has_ended = False
        self._subscription: Any = None

    async def open(self, joins: bool = False) -> None:
        """Connect, and create the stream in JetStream if events are to be kept.

        :param joins: whether events are also kept if the interface already has a stream.
        """
        topic, client = self._topic, self.client
        await self._shared.start()
        config = stream_config(self.names, topic.settings, client.settings)
        if config is not None:
            await JetStream(client).ensure_stream(config)
        if config is not None or (joins and await find_stream(client, self.names) is not None):
            self.stream = StreamPublisher(client)
        self._subscription = client.subscribe(self.names.who, self._asked)
        self.tell(HERE)

    def publish(self, event: EncodedEvent) -> defer.Deferred[Any]:
        """Publish an event; fires when it is sent or, with JetStream, stored."""
        subject, number, client = event.subject, event.sequence, self.client
        last = self._last
        payload = self._head.message(last.get(subject, self._unknown), event.payload)
        to = self.names.subject(subject, event.key)
        stream = self.stream
        result: defer.Deferred[Any]
        if stream is None:
            client.publish_raw(to, payload)
            result = client.when_writable() if client.is_congested else done()
        else:
            if stream.is_full:
                raise Overloaded(f"{stream.size} bytes of events wait to be stored by JetStream")
            if len(payload) + 200 > client.max_payload:
                raise InvalidArguments(
                    f"an event of {len(payload)} bytes, the NATS server allows "
                    f"{client.max_payload - 200}"
                )
            identity = encode_headers({"Nats-Msg-Id": f"{self._epoch}:{number}"})
            result = stream.publish(to, payload, identity)
        if len(last) >= MOST_SUBJECTS and subject not in last:
            last.clear()
            self._unknown = None
        last[subject] = number
        return result

    def tell(self, what: str, text: str = "", problem: BaseException | None = None) -> None:
        """Send a notice to all subscribers."""
        self._send(self.names.notices, what, text, problem)

    def _send(
        self, to: str, what: str, text: str = "", problem: BaseException | None = None
    ) -> None:
        said = notice(what, self._epoch, self._topic.history.last, text, problem)
        try:
            self.client.publish(to, said)
        except NatsError as why:
            log.warn("{interface}: {why}", interface=self.names.interface, why=str(why))

    def _asked(self, batch: list[NatsMessage]) -> None:
        """Answer subscribers that ask which publishers there are."""
        topic = self._topic
        for message in batch:
            if message.raw_reply:
                what = END if self._has_ended else HERE
                self._send(message.reply, what, "", topic.problem)

    async def end(self, what: str, problem: BaseException | None) -> None:
        """Notify subscribers that there are no more events, once JetStream has all of them."""
        if self.stream is not None:
            await self.stream.when_empty()
        self._has_ended = True
        self.tell(what, "", problem)

    async def close(self) -> None:
        """Send the waiting messages, and release the connection."""
        if self.stream is not None:
            self.stream.close()
        if self._subscription is not None:
            self._subscription.close()
        await self._shared.release(flush=True)


class NatsTopic(Topic):
    """A topic whose events go through NATS as well as to its own subscribers.

    :param shared: the client, for this topic alone to release.
    """

    def __init__(
        self,
        interface: str,
        settings: TopicSettings,
        reactor: IReactorTime,
        shared: SharedClient,
    ) -> None:
        super().__init__(interface, settings, reactor)
        self._keeps = True  # so that each event goes through `_publish`
        self.publisher = NatsPublisher(self, shared)
        self._is_leaving = False
        self._ending: defer.Deferred[None] | None = None

    @deferred
    async def open(self, joins: bool = False) -> None:
        """Connect to NATS.

        :param joins: as of :meth:`NatsPublisher.open`.
        """
        try:
            await self.publisher.open(joins)
        except BaseException:
            await self.publisher.close()
            raise

    def _publish(self, value: Any, key: str | None, subject: str) -> defer.Deferred[None]:
        number = self._next
        time = self.now() if self._turn is None else self._time
        event = encode_event(number, subject, key, time, value, self._longest)
        sending = self.publisher.publish(event)
        self._next = number + 1
        self._commit(event)
        if sending.called:
            return sending
        return sending.addCallback(lambda _: None)

    @property
    def has_room(self) -> bool:
        publisher = self.publisher
        stores = publisher.stream is None or 2 * publisher.stream.size < publisher.stream.bound
        return super().has_room and stores and not publisher.client.is_congested

    def tell_restarted(self, problem: str) -> None:
        super().tell_restarted(problem)
        self.publisher.tell(RESTARTED, problem[:1000])

    def end(self, problem: BaseException | None = None) -> None:
        if not self.over:
            super().end(problem)
            # A publisher that leaves may come back, here or elsewhere.
            what = GONE if self._is_leaving else END
            ending = self.publisher.end(what, None if self._is_leaving else problem)
            self._ending = defer.Deferred.fromCoroutine(ending)

    def close(self) -> None:
        self._is_leaving = True
        super().close()

    @deferred
    async def closed(self) -> None:
        """Fires when all published events are sent, and the connection is released."""
        ending = self._ending
        if ending is not None:
            ending.addTimeout(LEAVING, self._reactor)
            ending.addErrback(lambda _: None)
            await ending
        await self.publisher.close()


@deferred
async def topic_of(interface: str, context: Context, settings: NatsSettings) -> NatsTopic:
    """Make a topic that is not served: all of its subscribers are behind NATS.

    Its events are stored if another publisher of the interface has made a stream.

    :param context: the topic shares its connections to NATS.
    :returns: fires once events can be published. ``close`` and ``closed`` end the topic; its
        subscribers then wait for other publishers.
    """
    made = NatsTopic(
        interface, TopicSettings(), context.reactor, SharedClient.of(context, settings)
    )
    await made.open(joins=True)
    return made


def via_topic(service: Any, server: Any) -> tuple[NatsTopic, defer.Deferred[None]]:
    """Make the topic of a publisher with ``via=``.

    :param service: the publisher.
    :param server: the server that serves it.
    :returns: the topic, and a Deferred that fires when events can be published to it.
    """
    shared = SharedClient.of(server, service.via)
    topic = NatsTopic(service.published, service.settings, server.reactor, shared)
    return topic, topic.open()
