"""Batches: many calls that arrive in one request.

The server begins the calls of a long batch in parts. Between the parts, it serves other calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.errors import DeadlineExceeded, InvalidArguments, PycomnetError
from pycomnet.services.server.batchparts import Outcomes, PartOfBatch, RefusedCall
from pycomnet.services.server.callruns import CallRuns
from pycomnet.services.server.request import PLAIN, Request, ServerCall
from pycomnet.wire.values import InvalidValue, TooManyItems, ValueNotReceivable, read_texts

if TYPE_CHECKING:
    from pycomnet.services.server.boundmethod import BoundMethod
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.wire.mux import Stream

#: How many calls begin between two checks of the clock.
LOOK_EVERY = 8
#: The most bytes of a result that is not text.
SCALAR_SIZE = 9
#: The most methods of a batch. Which of them may be called is asked before it is decoded.
MOST_METHODS = 100
#: How many calls are admitted and decoded before they run, and about how many bytes.
CHUNK = 64
CHUNK_SIZE = 65_536
#: Arguments up to this length are decoded together. So few bytes can't become large.
SHORT = 512
#: How many bytes a request has beside the texts with which it begins and its arguments.
OVERHEAD = 14
#: Integers beyond these are encoded as their calls end.
LEAST_INT, MOST_INT = -(1 << 63), (1 << 63) - 1
#: Outcomes are sent before the batch is done once they have this many bytes. With their numbers
#: they fit into a frame.
MOST_HELD = 48_000


class ServerBatch(ServerCall):
    """A batch as the server's connection keeps it: a call that consists of calls."""

    __slots__ = (
        "_args",
        "_bounds",
        "_chunk",
        "_chunk_at",
        "_count",
        "_direct",
        "_interface",
        "_is_blocked",
        "_judged",
        "_names",
        "_next",
        "_one_by_one",
        "_outcomes",
        "_parts",
        "_running",
        "_runs",
        "_sent",
        "_which",
    )

    def __init__(self, connection: ServerConnection, stream: Stream) -> None:
        super().__init__(connection, stream, False)
        self._interface = ""
        #: its methods, by their numbers in it
        self._names: list[str] = []
        self._bounds: list[BoundMethod | None] = []
        #: for each call the number of its method, and its encoded arguments
        self._which: list[int] = []
        self._args: list[Any] = []
        #: the calls in runs, whose arguments are encoded together; None if there are no runs
        self._runs: CallRuns | None = None
        self._one_by_one = False
        #: how many calls may begin, and the number of the next one
        self._count = self._next = 0
        #: the decoded arguments of some calls (or why one may not begin), and the first's number
        self._chunk: list[Any] = []
        self._chunk_at = 0
        #: the function that takes all those, if it is called at once and they are valid
        self._direct: Callable[[Request], Any] | None = None
        #: the calls that have begun and have not ended
        self._parts: set[PartOfBatch] = set()
        self._outcomes = Outcomes()
        #: how many of its calls it was asked of whether they may begin; some are asked of again
        self._judged = 0
        #: whether calls are being begun; whether outcomes wait to be sent, and when all are
        self._running = self._is_blocked = False
        self._sent: defer.Deferred[None] | None = None

    # -- its request -----------------------------------------------------------------------------

    def refusal(
        self, interface: str, name: str, size: int, again: bool = False
    ) -> Exception | None:
        """Why all calls of the batch are refused; None if any may be allowed.

        :param name: the names of its methods, joined.
        """
        names = name.split("\n", MOST_METHODS)
        if len(names) > MOST_METHODS:
            return InvalidArguments(f"a batch calls {MOST_METHODS} methods at most: make several")
        first: Exception | None = None
        for one in names:
            # The size is asked for when it is known which call has which.
            refused = self.connection.server.refusal(self, interface, one, 0, again)
            if refused is None:
                return None
            first = first or refused
        return first

    def begin(self, payload: bytes) -> None:
        """The whole request has arrived."""
        connection = self.connection
        server = connection.server
        size = len(payload)
        if server.held.size + size > server.held.most:
            connection.refuse(self, server.held.no_room(size))
            return
        try:
            self._interface, joined = read_texts(payload, 2)
        except InvalidValue as problem:
            connection.violated("value", f"not a valid batch: {problem}")
            return
        refused = self.refusal(self._interface, joined, size, True)
        if refused is not None:
            connection.refuse(self, refused)  # nothing of it is decoded
            return
        self._names = names = joined.split("\n")
        try:
            asked = connection.decode(payload)
            _, _, seconds, self._one_by_one, self._which, self._args = asked[:6]
            self._check(seconds)
            if len(asked) > 6 and asked[6] is not None:
                self._take_runs(asked[6])
        except (InvalidArguments, DeadlineExceeded) as problem:
            connection.refuse(self, problem)
            return
        except TooManyItems as many:
            connection.refuse(self, InvalidArguments(f"the batch: {many}"))
            return
        except InvalidValue as invalid:
            connection.violated("value", str(invalid))
            return
        except (ValueError, TypeError, ArithmeticError) as wrong:
            connection.refuse(self, PycomnetError(f"not a valid batch: {wrong}"))
            return
        methods = server.methods[self._interface]
        self._bounds = [methods.get(name) for name in names]
        self._count = len(self._which)
        server.keep(self, size)
        server.batches.add(self)

    def _check(self, seconds: Any) -> None:
        which, args, most = self._which, self._args, self.connection.server.limits.most_batched
        if not (type(which) is type(args) is list and len(which) == len(args)):
            raise TypeError("the methods and the arguments are two arrays, of the same length")
        if len(which) > most:
            raise InvalidArguments(f"a batch of {len(which)} calls; the limit is {most}")
        methods = len(self._names)
        if not all(type(number) is int and 0 <= number < methods for number in set(which)):
            raise TypeError(f"a method is the number of one of {methods}")
        if not set(map(type, args)) <= {bytes}:
            raise TypeError("a call's arguments are a bin")
        if seconds is not None:
            if not isinstance(seconds, (int, float)):
                raise TypeError("a deadline is a number of seconds")
            if not seconds > 0:  # written so that NaN fails, too
                raise DeadlineExceeded("its deadline had passed when it came")
            self.seconds = seconds
            self.expires = self.connection.reactor.seconds() + seconds

    def _take_runs(self, counts: Any) -> None:
        """What it has are runs."""
        limits = self.connection.server.limits
        self._runs = runs = CallRuns(self._args, counts, limits.longest_run)
        if runs.count > limits.most_batched:
            text = f"a batch of {runs.count} calls; the limit is {limits.most_batched}"
            raise InvalidArguments(text)
        self._which = runs.each(self._which)

    # -- its calls -------------------------------------------------------------------------------

    def run(self, until: float) -> bool:
        """Begin calls until a time.

        :returns: whether it needs no further turn, or none before one of its calls has ended.
        """
        clock = self.connection.reactor.seconds
        if self.expires is not None and clock() >= self.expires:
            self._count = self._next  # the client knows that as well
        self._running = True
        try:
            while self._may_begin():
                self._run_some(until)
                if clock() >= until:
                    break
        finally:
            self._running = False
            # The next turn asks again who may call what; meanwhile no decoded arguments are kept.
            self._chunk, self._chunk_at = [], self._next
        if self.over:
            return True
        if self._is_done():
            self._finish()
            return True
        self._send()
        return not self._may_begin()

    def _may_begin(self) -> bool:
        """Whether another call may begin now."""
        if self._next >= self._count or self.over or self._is_blocked:
            return False
        return not (self._one_by_one and self._parts)

    def _run_some(self, until: float) -> None:
        """Begin the next calls, until a time: each that was admitted at once if that is possible,
        as :meth:`ServerConnection.call_received` does.
        """
        server, clock = self.connection.server, self.connection.reactor.seconds
        if self._next >= self._chunk_at + len(self._chunk):
            self._admit()
        at = self._next - self._chunk_at
        end = at + 1 if self._one_by_one else len(self._chunk)
        logins = self.connection.logins
        while at < end:
            direct = self._direct
            if direct is not None and server.running < server.limits.running and not server.ending:
                name = self._names[self._which[self._next]]
                self._run_alike(self._chunk[at:end], direct, name, until)
            else:
                self._run_each(self._chunk[at : min(at + LOOK_EVERY, end)])
            at = self._next - self._chunk_at
            if self.connection.logins is not logins:
                self._chunk, self._chunk_at = [], self._next  # who may call what has changed
                break
            if self._next >= self._count or self._outcomes.size > MOST_HELD or clock() >= until:
                break
        if self._outcomes.size > MOST_HELD:
            self._send()

    def _run_alike(
        self, group: list[Any], function: Callable[[Request], Any], name: str, until: float
    ) -> None:
        """Begin calls of a run, whose method is called at once and whose arguments are valid. It
        halves the processor time of the row "1,000 such calls in a batch"."""
        connection, interface, expires = self.connection, self._interface, self.expires
        server, clock = connection.server, connection.reactor.seconds
        place = self._next
        look = place + LOOK_EVERY
        results = self._outcomes.results_from(place)
        size = 0
        logins = connection.logins
        for args in group:
            if place >= self._count:  # a call has ended the batch
                break
            if connection.logins is not logins:
                break
            if place == look:
                if self._outcomes.size + size > MOST_HELD or clock() >= until:
                    break
                look += LOOK_EVERY
            self._next = place = place + 1
            try:
                result = function(Request(connection, interface, name, args, expires))
            except BaseException as problem:  # also SystemExit: a method must not end the server
                connection.refuse(PartOfBatch(self, place - 1), problem)
                results = self._outcomes.results_from(place)
                continue
            kind = type(result)
            # What no later call can change is encoded with others, when it is sent.
            if kind is int and LEAST_INT <= result <= MOST_INT:
                size += SCALAR_SIZE
            elif (kind is str or kind is bytes) and len(result) <= SHORT:
                size += 4 * len(result)
            elif result is None or kind is bool or kind is float:
                size += SCALAR_SIZE
            else:
                self._settle(place - 1, result)
                if server.running >= server.limits.running or server.ending:
                    break
                results = self._outcomes.results_from(place)
                continue
            results.append(result)
        self._outcomes.size += size

    def _run_each(self, group: list[Any]) -> None:
        """Begin calls of any kind."""
        connection, interface, expires = self.connection, self._interface, self.expires
        server, logins = connection.server, connection.logins
        for place, args in enumerate(group, self._next):
            if place >= self._count or connection.logins is not logins:  # a call has done that
                break
            self._next = place + 1
            number = self._which[place]
            name, bound = self._names[number], self._bounds[number]
            if type(args) is RefusedCall or bound is None:
                connection.refuse(PartOfBatch(self, place), args.problem)
                continue
            if not bound.direct or server.running >= server.limits.running or server.ending:
                left = None if expires is None else expires - connection.reactor.seconds()
                server.start(self._part(place), b"", [interface, name, args, left])
                continue
            try:
                if bound.checked:
                    bound.method.check(args)
                result = bound.function(Request(connection, interface, name, args, expires))
            except BaseException as problem:  # also SystemExit
                connection.refuse(PartOfBatch(self, place), problem)
                continue
            self._settle(place, result)

    def _settle(self, place: int, result: Any) -> None:
        """Keep what a method has returned."""
        if type(result) in PLAIN:
            try:
                payload = self.connection.encode([result])
            except Exception:
                self.connection.answer(PartOfBatch(self, place), [result])  # which sends the reason
                return
            self._outcomes.add(place, payload)
            return
        part = self._part(place)
        part.begun = True
        if self.expires is not None:
            part.seconds, part.expires = self.seconds, self.expires
        self.connection.server.settle(part, result)

    def _admit(self) -> None:
        """Decode the arguments of the next calls, if they may begin: they do in this turn."""
        server = self.connection.server
        names, which = self._names, self._which
        interface, refusal = self._interface, server.refusal
        short = min(SHORT, server.limits.items)  # each item takes a byte at least
        found: list[Any] = []
        size = 0
        is_short = True
        self._chunk_at = self._next
        self._direct = None
        if self._runs is None:
            payloads = self._args[self._next : self._next + CHUNK]
        else:
            if self._admit_run(self._runs):
                return
            try:
                payloads = self._runs.split(self._next)
            except InvalidValue as invalid:
                self._violated(invalid)
                self._chunk = [RefusedCall(invalid)]
                return
        for place, payload in enumerate(payloads, self._next):
            name = names[which[place]]
            size_alone = len(payload) + len(interface) + len(name) + OVERHEAD
            problem = refusal(self, interface, name, size_alone, place < self._judged)
            self._judged = max(self._judged, place + 1)
            if problem is not None:
                found.append(RefusedCall(problem))
                is_short = False
                continue
            if len(payload) > short:
                is_short = False
                size += len(payload)
                if size > CHUNK_SIZE and found:
                    break
            found.append(payload)
        values = self.connection.decode_run(found) if is_short else None
        if values is None:
            values = [one if type(one) is RefusedCall else self._decode(one) for one in found]
        self._chunk = values

    def _admit_run(self, runs: CallRuns) -> bool:
        """Admit and decode the rest of a run as a whole, if all its calls are allowed alike.

        :returns: False if each has to be looked at.
        """
        connection, interface = self.connection, self._interface
        number = self._which[self._next]
        name, bound = self._names[number], self._bounds[number]
        payload, skipped = runs.at(self._next)
        if (
            bound is None
            or not connection.may_all(interface, name)
            or connection.server.refusal(self, interface, name, len(payload), True) is not None
        ):
            return False
        try:
            values = connection.decode(payload)
        except Exception:  # its values are looked at one by one
            return False
        if type(values) is not list or len(values) != runs.length(self._next):
            return False
        self._chunk = values[skipped:] if skipped else values
        self._judged = max(self._judged, self._next + len(self._chunk))
        if bound.direct and (not bound.checked or bound.method.are_valid(self._chunk)):
            self._direct = bound.function
        return True

    def _violated(self, invalid: InvalidValue) -> None:
        self.connection.violated("value", str(invalid))
        self.cancel(None)

    def _decode(self, payload: bytes) -> Any:
        try:
            return self.connection.decode(payload)
        except TooManyItems as many:
            return RefusedCall(InvalidArguments(f"the arguments: {many}"))
        except InvalidValue as invalid:
            self._violated(invalid)
            return RefusedCall(invalid)
        except ValueNotReceivable as unknown:
            return RefusedCall(InvalidArguments(str(unknown)))

    def _part(self, place: int) -> PartOfBatch:
        part = PartOfBatch(self, place)
        self._parts.add(part)
        return part

    # -- its outcomes ----------------------------------------------------------------------------

    def part_ended(self, part: PartOfBatch, place: int, payload: bytes, failed: bool) -> None:
        """One of its calls has ended."""
        self._parts.discard(part)
        if self.over:
            return
        self._outcomes.add(place, payload)
        if failed and self._one_by_one:
            self._count = self._next
        if self._running:
            return
        if self._is_done():
            self._finish()
            return
        self._send()
        if self._one_by_one and self._may_begin():
            self.connection.server.batches.add(self)

    def _is_done(self) -> bool:
        return self._next >= self._count and not self._parts

    def _send(self) -> None:
        if self.over or not self._outcomes:
            return
        payload = self._outcomes.take(self.connection.encode)
        connection = self.connection
        sent: defer.Deferred[None] = defer.Deferred()
        if not connection.mux.send(self.stream, payload, sent):
            # The client does not read as fast as its calls run: no more begin until it does.
            self._is_blocked = True
            self._sent = sent
            sent.addCallback(self._unblocked, sent)
            connection.keeps(len(payload))
        if not connection.corked:
            connection.flush_soon()

    def _unblocked(self, _: object, sent: object) -> None:
        """What had to wait has been sent."""
        if sent is self._sent:
            self._is_blocked = False
            self._sent = None
            if not self._running and self._may_begin():
                self.connection.server.batches.add(self)

    def _finish(self) -> None:
        connection = self.connection
        payload = self._outcomes.take(self.connection.encode)
        self.reply(payload)
        if not connection.corked:
            connection.flush_soon()
        if connection.mux.scheduler.congested:
            connection.keeps(len(payload))
        connection.server.forget(self)

    # -- its end ---------------------------------------------------------------------------------

    def cancel(self, why: Exception | None) -> None:
        """Cancel it: no more of its calls begin.

        :param why: None: those that have begun are cancelled as well, and nothing is sent.
        """
        if not self.asked:
            self.connection.request_ended(self)
        self._count = self._next
        if why is None:
            self.over = True
            for part in list(self._parts):
                part.cancel(None)
            self._parts.clear()
            self.connection.server.forget(self)
        elif not self.over and not self._running and self._is_done():
            self._finish()
