"""Mutated streams against a mux, mutated values against the codecs: what benchmarks/fuzz.py runs.

A case is made of a seed and its number alone, so that it can be run again by itself. Valid streams
are recorded from two honest muxes whose users do random things; a case mutates one, cuts it, and
feeds it to a mux whose user goes on doing random things. Whatever comes, all that may happen is an
event; what is held stays in bounds; what is answered is well formed; and no input takes long.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pycomnet.test.wire import muxkit
from pycomnet.test.wire.fuzzsides import fuzz_far, fuzz_near
from pycomnet.test.wire.mutations import NUMBERS, mutated, starts
from pycomnet.test.wire.muxkit import flat
from pycomnet.test.wire.muxmodel import REST, TRAFFIC, Link
from pycomnet.test.wire.vectors import CHANNELS, Channel
from pycomnet.wire import mux as wire
from pycomnet.wire.codec import make_codec
from pycomnet.wire.mux import Limits, LocalError, Mux, Stream
from pycomnet.wire.values import InvalidValue, PureCodec, ValueNotSendable

#: Cases that share their recorded streams; recording takes longer than running one.
GROUP = 40
#: Seconds of this process's time in which a case has to come to its end: it takes milliseconds.
TOO_LONG = 10
#: A case in so many is run with tracemalloc, which makes it several times as slow.
TRACED = 16
#: Bytes that a case may take at a time, for each byte of input and beside that. The costliest value
#: is a list of small sets or dicts, a hundred bytes for each.
MEMORY_FACTOR = 200
MEMORY_FIXED = 8 << 20

LIMITS = {"window": 8192, "channels": 20, "value": 1 << 18, "control": 4096}


@dataclass(slots=True)
class Finding:
    """A case that did what no input may make it do."""

    seed: int
    case: int
    problem: BaseException

    def __str__(self) -> str:
        return f"seed {self.seed}, case {self.case}: {type(self.problem).__name__}: {self.problem}"


@dataclass(slots=True)
class Report:
    """What a run came to."""

    cases: int = 0
    size: int = 0
    #: how the cases ended: "taken", or the code of the protocol error
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count in what another run came to."""
        self.cases += other.cases
        self.size += other.size
        self.outcomes += other.outcomes
        self.findings += other.findings


class TooLong(BaseException):
    """A case does not come to its end. Nothing on the way catches it."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise :class:`TooLong` in the body when it takes longer, where the system can do that."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def late(signum: int, stack: object) -> None:
        raise TooLong(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run(
    seed: int,
    count: int | None,
    first: int = 0,
    seconds: float | None = None,
    make_mux: Callable[..., Mux] = Mux,
) -> Report:
    """Run cases from ``first`` on: so many, or until so many seconds have passed."""
    report = Report()
    end = None if seconds is None else time.monotonic() + seconds
    case = first
    while (count is None or case < first + count) and (end is None or time.monotonic() < end):
        try:
            with bounded(TOO_LONG):
                run_case(seed, case, report, make_mux)
        except (Exception, TooLong) as problem:
            report.findings.append(Finding(seed, case, problem))
        report.cases += 1
        case += 1
    return report


def run_case(seed: int, case: int, report: Report, make_mux: Callable[..., Mux] = Mux) -> None:
    """One case: of each four, one is values, and three are streams: against the mux alone, the near
    side or the far side.
    """
    rng = random.Random(f"{seed} {case}")
    if case % 4 in (1, 3):
        run_side(rng, case, recorded(seed, case // GROUP), report)
        return
    if case % 4 == 2:
        data = mutated_value(rng)
    else:
        by_initiator = rng.random() < 0.5
        data = mutated_stream(rng, recorded(seed, case // GROUP), by_initiator)
        if rng.random() < 0.02:
            by_initiator = not by_initiator
        user = User(rng, make_mux(not by_initiator, Limits(**LIMITS)))
    report.size += len(data)
    traced = case % TRACED == 0 and not tracemalloc.is_tracing()
    if traced:
        tracemalloc.start()
    try:
        report.outcomes[fuzz_value(data) if case % 4 == 2 else fuzz_stream(user, data)] += 1
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            bound = MEMORY_FIXED + MEMORY_FACTOR * len(data)
            assert peak <= bound, f"{peak} bytes of memory for {len(data)} of input"
    finally:
        if traced:
            tracemalloc.stop()


def run_side(
    rng: random.Random, case: int, streams: list[tuple[bytes, bytes]], report: Report
) -> None:
    """A stream against the near side, as either end of a connection, or against the far side."""
    by_initiator = case % 4 == 3 or rng.random() < 0.5
    data = mutated_stream(rng, streams, by_initiator)
    report.size += len(data)
    limits = Limits(**LIMITS)
    if case % 4 == 3:
        outcome = "far side: " + fuzz_far(rng, limits, pieces(rng, data))
    else:
        outcome = "near side: " + fuzz_near(rng, not by_initiator, limits, pieces(rng, data))
    report.outcomes[outcome] += 1


# -- streams -------------------------------------------------------------------------------------


class ValueLink(Link):
    """A link whose values are real ones, so that the codecs see what the mux lets through."""

    def __init__(self, rng: random.Random, *limits: Limits) -> None:
        super().__init__(*limits)
        self.rng = rng
        self.codec = PureCodec(*CHANNELS)

    def value(self, size: int) -> bytes:
        return self.codec.encode([super().value(size), random_value(self.rng, 2)])


@lru_cache(maxsize=2)
def recorded(seed: int, group: int) -> list[tuple[bytes, bytes]]:
    """Streams of both ends of some links: what the initiator wrote, and what the acceptor did."""
    rng = random.Random(f"{seed} group {group}")
    streams = []
    for _ in range(4):
        link = ValueLink(rng, Limits(**LIMITS), Limits(**LIMITS))
        link.settle()
        for name in ("open", "open-raw", "open-first", "open"):
            link.operate(name, rng.randrange(2), 0, 3000)
        for _ in range(rng.choice((5, 50, 300))):
            name = rng.choice(TRAFFIC if rng.random() < 0.9 else REST)
            size = rng.choice((rng.randrange(30), rng.randrange(20000)))
            link.operate(name, rng.randrange(2), rng.randrange(5), size)
            if name == "congested":  # not for long
                link.operate("free", rng.randrange(2), 0, 0)
            if rng.random() < 0.03:
                ask(link, rng)
        if rng.random() < 0.5:
            link.settle()
        for end in link.ends:
            end.mux.scheduler.congested = False
            link.write(end, 1 << 20)
            end.mux.goaway("exit", "bye")
            link.write(end, 1)
        streams.append((b"".join(link.ends[0].said), b"".join(link.ends[1].said)))
    return streams


def ask(link: Link, rng: random.Random) -> None:
    """Unary calls, many of one size in a row, of which some get their reply in some order."""
    who, count, size = rng.randrange(2), rng.choice((1, 3, 12)), rng.randrange(300)
    for _ in range(count):
        link.operate("open-end", who, 0, size + rng.choice((0, 0, 0, 1)))
    link.operate("write", who, 0, 1 << 20)
    link.operate("deliver", 1 - who, 0, 1 << 20)
    for which in rng.choice((range(count), range(count)[::-1], (0, 0, count // 2))):
        link.operate("result", 1 - who, which, size)


def mutated_stream(
    rng: random.Random, streams: list[tuple[bytes, bytes]], by_initiator: bool
) -> bytes:
    """One of the streams, mutated; the hello in front stays as it is in most."""
    data = rng.choice(streams)[0 if by_initiator else 1]
    head = starts(data)[1] if rng.random() < 0.9 else 0
    return data[:head] + mutated(rng, data[head:], rng.choice((0, 1, 1, 1, 2, 3, 6)))


def pieces(rng: random.Random, data: bytes) -> Iterator[bytes]:
    """The data in one piece, in few, or byte by byte."""
    longest = rng.choice((len(data), 65536, 3000, 100, 1 if len(data) < 20000 else 1000))
    at = 0
    while at < len(data):
        size = rng.randint(1, max(longest, 1)) if longest > 1 else 1
        yield data[at : at + size]
        at += size


class User:
    """A mux, and who uses it without much sense, but by the rules."""

    def __init__(self, rng: random.Random, mux: Mux) -> None:
        self.rng = rng
        self.mux = mux
        self.streams: list[Stream] = []
        #: costs of what came and was not consumed, by channel
        self.costs: dict[int, list[int]] = {}
        #: bytes that the user itself has caused to be queued
        self.mine = 0
        self.codecs = (PureCodec(*CHANNELS).decode, make_codec(*CHANNELS).decode)
        #: what it has asked, by what comes with the answer, and what the peer has
        self.calls: dict[object, int] = {}
        self.asked: list[int] = []
        #: whether it asks more than it opens
        self.asks = rng.random() < 0.3
        if self.asks:
            mux.expect_calls(("channel", "ask"))

    def see(self, events: list[Any]) -> None:
        """Take note of events, and check what can be of each."""
        events = list(flat(events))
        for number, event in enumerate(events):
            if event[0] == wire.EV_HELLO:
                # An acceptor's stream is about channels that its peer has opened.
                for _ in range(20 if self.mux.table.next_id & 1 else self.rng.randrange(4)):
                    self.open()
            elif event[0] == wire.EV_CALL:
                self.asked.append(event[1])
                self.decode(event[2])
            elif event[0] == wire.EV_REPLY:
                self.calls.pop(event[1])  # it was made, and has no reply yet
                self.decode(event[2])
            elif event[0] == wire.EV_OPENED:
                self.streams.append(event[1])
            elif event[0] == wire.EV_DATA:
                self.costs.setdefault(event[1].id, []).append(event[3])
                if not event[1].raw:
                    self.decode(muxkit.whole(event[2]))
            elif event[0] == wire.EV_CLOSED:
                self.decode(event[3])
            elif event[0] in (wire.EV_FAILED, wire.EV_GOAWAY):
                assert number == len(events) - 1, "it is not the last event"
                assert self.mux.failed is not None

    def decode(self, payload: bytes) -> None:
        for decode in self.codecs:
            with contextlib.suppress(InvalidValue):
                decode(payload)

    def open(self) -> None:
        rng = self.rng
        if self.asks and rng.random() < 0.8:
            self.ask()
            return
        first = rng.choice((None, b"", bytes(rng.randrange(20000))))
        self.mine += 300 + len(first or b"")
        with contextlib.suppress(LocalError):
            stream = self.mux.open("channel", first, rng.random() < 0.3, rng.random() < 0.3)
            self.streams.append(stream)

    def ask(self) -> None:
        rng = self.rng
        first = bytes(rng.choice((0, 10, 10, 20000)))
        self.mine += 300 + len(first)
        call = object()
        with contextlib.suppress(LocalError):
            self.calls[call] = self.mux.call("channel", first, call)

    def deal_with_questions(self) -> None:
        """Answer, ask, or have no more of it."""
        rng, mux = self.rng, self.mux
        if self.asked:
            id = self.asked.pop(rng.randrange(len(self.asked)))
            if rng.random() < 0.8:
                size = rng.choice((0, 10, 10, 20000))
                self.mine += size + 10
                mux.reply(id, bytes(size))
            else:
                self.take(id)
        if self.calls and rng.random() < 0.2:
            id = self.calls.pop(rng.choice(list(self.calls)))
            if rng.random() < 0.5:
                mux.cancel_call(id)
            else:
                self.take(id)

    def take(self, id: int) -> None:
        """Go on with a call as with any channel."""
        stream = self.mux.stream_of(id)
        if stream is not None:
            self.streams.append(stream)

    def act(self) -> None:
        """Do something."""
        rng, mux = self.rng, self.mux
        with contextlib.suppress(LocalError):
            self.deal_with_questions()
        mux.scheduler.congested = rng.random() < 0.2
        if self.streams:
            stream = rng.choice(self.streams[-8:])
            choice = rng.randrange(16)
            with contextlib.suppress(LocalError):
                if choice == 0:
                    mux.demand_read(stream, False)
                elif choice < 3:
                    size = rng.choice((0, 10, 20000))
                    self.mine += size + 9
                    mux.send(stream, bytes(size), stream)
                elif choice == 3:
                    mux.unsend(stream, stream)
                elif choice == 4:
                    mux.end(stream)
                elif choice == 5:
                    mux.close(stream, rng.randrange(3), b"\xc0")
                elif choice == 6:
                    self.open()
        if rng.random() < 0.8:
            self.receive()
        if rng.random() < 0.5:
            self.read()

    def receive(self) -> None:
        """Take all that has come, and wait for more."""
        for stream in self.streams[-20:]:
            costs = self.costs.pop(stream.id, ())
            for cost in costs:
                self.mux.consumed(stream, cost)
            self.mux.demand_read(stream)

    def read(self) -> None:
        """Take what there is to send; it is well formed."""
        muxkit.frames(self.mux.data_to_send(self.rng.choice((1, 1 << 20))))
        self.mux.scheduler.sent.clear()
        self.mine = sum(
            len(item[0]) + 9 for stream in self.mux.streams.values() for item in stream.queue
        )

    def check(self) -> None:
        """What the mux holds is in bounds, and its accounts are right."""
        mux = self.mux
        limits = mux.limits
        kept = mux.reader.kept()
        assert sum(map(len, kept)) <= max(limits.frame, 65536) + 9 and len(kept) <= 65
        assert mux.table.peer_open <= limits.channels
        alone = len(mux.calls.pending) + len(mux.calls.received)
        assert mux.table.peer_open + mux.table.local_open == len(mux.streams) + alone
        assert len(mux.scheduler.ready) <= 2 * len(mux.streams) + 65
        waiting = sum(map(len, mux.scheduler.out))
        endings = 10 * (len(self.streams) + len(self.calls) + 1)
        assert waiting <= limits.control + self.mine + endings + 20000, f"{waiting} bytes queued"
        for stream in mux.streams.values():
            assert stream.partial is None or 0 < stream.partial.size <= limits.value
            if stream.receiving:
                used = sum(self.costs.get(stream.id, ())) + stream.unacked + stream.partial_cost
                assert limits.window - stream.window == used <= limits.window, stream.id


def fuzz_stream(user: User, data: bytes) -> str:
    """Feed it to the user's mux; return how that ended."""
    mux = user.mux
    for piece in pieces(user.rng, data):
        user.see(mux.receive_data(piece))
        user.check()
        if mux.failed is not None:
            break
        user.act()
    if mux.failed is None:
        return "taken"
    user.act()
    user.see(mux.receive_data(b""))
    assert mux.receive_data(data) == [], "events after the end"
    user.read()
    assert not mux.has_data() and not mux.lacking()
    return mux.failed.code if mux.failed.code in CODES else "another code"


#: Those of docs/protocol.rst.
CODES = frozenset(
    {"exit", "hello", "version", "credential", "frame", "channel", "channels", "window"}
    | {"value", "control"}
)


# -- values --------------------------------------------------------------------------------------


def random_value(rng: random.Random, depth: int) -> Any:
    """Any value, with containers so deep."""
    kind = rng.randrange(15 if depth else 9)
    if kind < 9:
        return rng.choice(
            (
                None,
                True,
                rng.randrange(-300, 300),
                rng.choice((-1, 1)) * rng.choice(NUMBERS) << rng.choice((0, 0, 40, 90, 3000)),
                rng.random() * 1e9,
                complex(rng.random(), -1.5),
                "t\u20ac" * rng.randrange(20),
                "\udc80surrogate",
                rng.randbytes(rng.choice((0, 5, 300))),
                Channel(rng.choice(NUMBERS)),
            )
        )
    items = [random_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 3, 17)))]
    if kind < 11:
        return items
    if kind == 11:
        return tuple(items)
    if kind == 12:
        return {f"key{number}": item for number, item in enumerate(items)}
    hashable = [item for item in items if not isinstance(item, list | dict | set | tuple)]
    if kind == 13:
        return dict.fromkeys(hashable)
    return rng.choice((set, frozenset))(hashable)


def mutated_value(rng: random.Random) -> bytes:
    """The encoding of a value, mutated."""
    codec = rng.choice((PureCodec(*CHANNELS), make_codec(*CHANNELS)))
    data = codec.encode([random_value(rng, 4) for _ in range(rng.choice((1, 4)))])
    for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        # Every first byte of a value; half of the time one that says a length.
        new = bytes([rng.choice((rng.randrange(256), rng.randrange(0xC4, 0xE0)))])
        new += rng.choice((b"", b"", rng.randbytes(rng.choice((1, 2, 4))), b"\xff" * 4))
        end = at + rng.choice((0, 1, 1, 1, len(new), rng.randrange(40)))
        data = data[:at] + new * rng.choice((1, 1, 1, 1, 300, 5000)) + data[end:]
    return data


def shown(value: Any) -> str:
    """A value as text. The order of a set, which depends on where a NaN lies, is none of it."""
    try:
        if isinstance(value, set | frozenset):
            parts = sorted(map(shown, value))
        elif isinstance(value, list | tuple):
            parts = [shown(item) for item in value]
        elif isinstance(value, dict):
            parts = [f"{shown(key)}: {shown(item)}" for key, item in value.items()]
        else:
            return repr(value)
    except RecursionError:
        return "something deep"
    return f"{type(value).__name__}({', '.join(parts)})"


def fuzz_value(data: bytes) -> str:
    """Decode it with both codecs, which see the same in it or both refuse it."""
    results = []
    for codec in (PureCodec(*CHANNELS), make_codec(*CHANNELS)):
        try:
            value = codec.decode(data)
        except InvalidValue:
            results.append("refused")
        else:
            results.append(shown(value))
            with contextlib.suppress(ValueNotSendable):  # more can be received than sent
                codec.encode(value)
    assert results[0] == results[1], f"{results[0][:200]} or {results[1][:200]}, of {data[:200]!r}"
    return "refused value" if results[0] == "refused" else "value"
