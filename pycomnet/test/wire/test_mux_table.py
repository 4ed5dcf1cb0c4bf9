"""What each frame does in each state of a channel, as a table, and of a connection.

The mux is the acceptor and the test its peer, in a table's row's state; each entry says what one
frame from the peer then does:

- ``data``, ``end``, ``closed``, ``opened`` and so on: the event; ``+PONG``: and that answer;
  ``answered``: the event of a CLOSE, and a CLOSE as the answer;
- ``taken``: no event, but the channel's state is another (credit, a fragment, an awaited answer);
- ``-``: it is dropped;
- anything else: the code of the protocol error.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.wire.muxkit import (
    CLOSE,
    DATA,
    END,
    ERROR,
    GOAWAY,
    HELLO,
    MORE,
    NORMAL,
    OPEN_END,
    PIECE,
    PING,
    PONG,
    RAW,
    RESULT,
    close,
    credit,
    frame,
    greeted,
    hello,
    left_over,
    open_frame,
    opened,
    plain,
    sent_types,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, Mux

#: How each event is written in the tables.
EVENTS = {
    wire.EV_DATA: "data",
    wire.EV_OPENED: "opened",
    wire.EV_END: "end",
    wire.EV_CLOSED: "closed",
    wire.EV_HELLO: "hello",
    wire.EV_PONG: "pong",
    wire.EV_GOAWAY: "goaway",
}

CHANNELS = """
state                  OPEN     DATA     MORE     CREDIT   END      NORMAL   ERROR    RESULT
never-opened           opened   channel  channel  channel  channel  channel  channel  channel
never-opened-own       channel  channel  channel  channel  channel  channel  channel  channel
skipped                channel  channel  channel  -        -        -        -        -
open                   channel  data     taken    taken    end      answered answered answered
open-own               channel  data     taken    taken    end      answered answered answered
open-raw               channel  data     frame    taken    end      answered answered answered
within-a-value         channel  data     taken    taken    frame    answered answered frame
peer-ended             channel  channel  channel  taken    channel  answered answered channel
opened-with-end        channel  channel  channel  taken    channel  answered answered channel
value-queued           channel  data     taken    taken    end      answered answered answered
end-waits              channel  data     taken    taken    end      answered answered answered
end-sent               channel  data     taken    taken    end      closed   closed   closed
open-own-with-end      channel  data     taken    taken    end      closed   closed   closed
close-waits            channel  -        -        taken    taken    answered answered answered
peer-ended-close-waits channel  channel  channel  taken    channel  answered answered channel
close-sent             channel  -        -        taken    taken    taken    taken    taken
close-sent-own         channel  -        -        taken    taken    taken    taken    taken
end-and-close-sent     channel  -        -        taken    taken    taken    taken    taken
both-ended             channel  channel  channel  -        -        -        -        -
both-closed            channel  channel  channel  -        -        -        -        -
both-closed-own        channel  channel  channel  -        -        -        -        -
peer-closed            channel  channel  channel  -        -        -        -        -
peer-ended-closed      channel  channel  channel  -        -        -        -        -
"""

CONNECTION = """
state         HELLO   DATA    OPEN    PING        PONG   GOAWAY  CREDIT  type-10  garbage
before-hello  hello   hello!  hello!  hello!      hello! hello!  hello!  hello!   hello!
greeted       hello!  channel opened  -+PONG      pong   goaway  channel frame    frame
after-goaway  -       -       -       -           -      -       -       -        -
said-goaway   -       -       -       -           -      -       -       -        -
failed        -       -       -       -           -      -       -       -        -
"""


def rows(table: str) -> list[tuple[str, list[str], list[str]]]:
    """A table's rows as the state, the names of the columns, and the entries."""
    head, *lines = [line.split() for line in table.strip().splitlines()]
    return [(line[0], head[1:], line[1:]) for line in lines]


def in_state(state: str) -> tuple[Mux, int]:
    """A mux with a channel in this state, nothing left to send, and the channel's id."""
    limits = Limits(window=2048)
    mux = greeted(limits=limits, window=1024)
    own = state.endswith("-own") or "-own-" in state
    full = b"q" * 2000  # what is queued behind the credit
    if state == "never-opened":
        return mux, 7
    if state == "never-opened-own":
        return mux, 2
    if state == "skipped":  # ids only grow, so an id that was left out can't be used any more
        mux.receive_data(open_frame(9))
        return mux, 7
    if own:
        stream = mux.open("channel", end=state.endswith("with-end"))
        stream_id = stream.id
    else:
        stream_id = 7
        flags = {"open-raw": RAW, "opened-with-end": OPEN_END}.get(state, 0)
        stream = opened(mux, open_frame(7, flags))
    steps: dict[str, list[Callable[[], object]]] = {
        "within-a-value": [lambda: mux.receive_data(frame(MORE, 7, PIECE))],
        "peer-ended": [lambda: mux.receive_data(frame(END, 7))],
        "value-queued": [lambda: mux.send(stream, full)],
        "end-waits": [lambda: mux.send(stream, full), lambda: mux.end(stream)],
        "end-sent": [lambda: mux.end(stream)],
        "close-waits": [lambda: mux.send(stream, full), lambda: mux.close(stream)],
        "peer-ended-close-waits": [
            lambda: mux.receive_data(frame(END, 7)),
            lambda: mux.send(stream, full),
            lambda: mux.close(stream),
        ],
        "close-sent": [lambda: mux.close(stream)],
        "close-sent-own": [lambda: mux.close(stream)],
        "end-and-close-sent": [lambda: mux.end(stream), lambda: mux.close(stream)],
        "both-ended": [lambda: mux.end(stream), lambda: mux.receive_data(frame(END, 7))],
        "both-closed": [lambda: mux.close(stream), lambda: mux.receive_data(close(7))],
        "both-closed-own": [lambda: mux.close(stream), lambda: mux.receive_data(close(2))],
        "peer-closed": [lambda: mux.receive_data(close(7))],
        "peer-ended-closed": [
            lambda: mux.receive_data(frame(END, 7)),
            lambda: mux.close(stream),
        ],
    }
    for step in steps.get(state, ()):
        step()
    mux.data_to_send()
    return mux, stream_id


def channel_frame(name: str, channel: int) -> bytes:
    """The frame of a column, well formed."""
    return {
        "OPEN": open_frame(channel),
        "DATA": frame(DATA, channel, b"d"),
        "MORE": frame(MORE, channel, PIECE),
        "CREDIT": credit(channel, 5),
        "END": frame(END, channel),
        "NORMAL": close(channel, NORMAL),
        "ERROR": close(channel, ERROR, b"\x80"),
        "RESULT": close(channel, RESULT, b"\xc0"),
    }[name]


def snapshot(mux: Mux) -> object:
    """The state of all channels, to see whether a frame changed it."""
    ignored = {"app", "window", "queue", "partial"}
    streams = [
        [len(stream.queue), stream.partial.size if stream.partial else 0]
        + [getattr(stream, slot) for slot in type(stream).__slots__ if slot not in ignored]
        for stream in mux.streams.values()
    ]
    return streams, mux.table.peer_open, mux.table.local_open


def effect(mux: Mux, data: bytes) -> str:
    """What these bytes do, in the words of the tables."""
    before = snapshot(mux)
    events = mux.receive_data(data)
    if events and events[-1][0] == wire.EV_FAILED:
        code = events[-1][1].code
        return f"{code}!" if code == "hello" else code
    said = "+".join(EVENTS[event[0]] for event in events)
    if not said:
        said = "-" if snapshot(mux) == before else "taken"
    said = "+".join([said, *sent_types(mux)])
    return "answered" if said == "closed+CLOSE" else said


class ChannelTableTests(SynchronousTestCase):
    """Each state of a channel and each frame for it."""

    def test_channel_states_follow_the_table(self) -> None:
        """The mux does what the table says."""
        for state, names, entries in rows(CHANNELS):
            self.assertEqual(len(names), len(entries), state)
            for name, entry in zip(names, entries, strict=True):
                mux, channel = in_state(state)
                self.assertEqual(
                    effect(mux, channel_frame(name, channel)), entry, f"{name} when {state}"
                )

    def test_each_row_reaches_a_state_of_its_own(self) -> None:
        """No two rows are the same state by a slip in how they are reached."""
        seen: dict[str, str] = {}
        same: list[tuple[str, str]] = []
        for state, _, _ in rows(CHANNELS):
            mux, channel = in_state(state)
            stream = mux.streams.get(channel)
            if stream is None:
                continue
            where = seen.setdefault(repr(snapshot(mux)), state)
            if where != state:
                same.append((where, state))
        # These two are one by the specification.
        self.assertEqual(same, [("peer-ended", "opened-with-end")])

    def test_channel_that_is_over_leaves_nothing(self) -> None:
        """A channel that is over leaves nothing behind."""
        for state in (
            "both-ended",
            "both-closed",
            "both-closed-own",
            "peer-closed",
            "peer-ended-closed",
        ):
            self.assertEqual(left_over(in_state(state)[0]), [], state)

    def test_last_frame_of_either_end_ends_the_channel(self) -> None:
        """What the peer answers to a CLOSE, and END, CLOSE when this end has sent END, ends it."""
        for state, names in (
            ("close-sent", ("END", "NORMAL", "ERROR", "RESULT")),
            ("end-and-close-sent", ("END", "NORMAL", "ERROR", "RESULT")),
            ("end-sent", ("END", "NORMAL", "ERROR", "RESULT")),
            ("close-waits", ("NORMAL", "ERROR", "RESULT")),
            ("value-queued", ("NORMAL", "ERROR", "RESULT")),
            ("open", ("NORMAL", "ERROR", "RESULT")),
        ):
            for name in names:
                mux, channel = in_state(state)
                mux.receive_data(channel_frame(name, channel))
                mux.data_to_send()
                self.assertEqual(left_over(mux), [], f"{name} when {state}")


class ConnectionTableTests(SynchronousTestCase):
    """Each state of a connection and frames of each kind."""

    FRAMES = {
        "HELLO": hello(),
        "DATA": frame(DATA, 1, b"x"),
        "OPEN": open_frame(1),
        "PING": frame(PING, 0, b"12345678"),
        "PONG": frame(PONG, 0, b"12345678"),
        "GOAWAY": frame(GOAWAY, 0, b"\x82\xa4code\xa4exit\xa7message\xa0"),
        "CREDIT": credit(1, 1),
        "type-10": frame(10, 0, b""),
        "garbage": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
    }

    def mux(self, state: str) -> Mux:
        mux = Mux(False) if state == "before-hello" else greeted()
        mux.data_to_send()
        if state == "after-goaway":
            mux.receive_data(self.FRAMES["GOAWAY"])
        elif state == "said-goaway":
            mux.goaway("exit", "")
        elif state == "failed":
            mux.receive_data(frame(DATA, 5))
        mux.data_to_send()
        return mux

    def test_connection_states_follow_the_table(self) -> None:
        """The mux does what the table says."""
        for state, names, entries in rows(CONNECTION):
            for name, entry in zip(names, entries, strict=True):
                said = effect(self.mux(state), self.FRAMES[name])
                self.assertEqual(said, entry, f"{name} when {state}")

    def test_frame_for_one_channel_changes_no_other(self) -> None:
        for name in ("DATA", "MORE", "CREDIT", "END", "NORMAL", "ERROR", "RESULT"):
            mux, _ = in_state("open")
            other = opened(mux, open_frame(9))
            before = [getattr(other, slot) for slot in type(other).__slots__]
            mux.receive_data(channel_frame(name, 7))
            self.assertEqual([getattr(other, slot) for slot in type(other).__slots__], before)


class CrossingTests(SynchronousTestCase):
    """Frames that cross on their way."""

    def test_bytes_after_goaway_are_ignored(self) -> None:
        """What is in the same bytes as a GOAWAY but after it is not looked at."""
        goaway = ConnectionTableTests.FRAMES["GOAWAY"]
        data = open_frame(1) + goaway + frame(DATA, 1, b"x") + b"\xff" * 20
        events = plain(greeted().receive_data(data))
        self.assertEqual(events, [(wire.EV_OPENED, 1), (wire.EV_GOAWAY, "exit", "")])
        mux = greeted()
        split: list[object] = []
        for byte in data:
            split += plain(mux.receive_data(bytes([byte])))
        self.assertEqual(split, events)

    def test_crossing_closes_need_no_answer(self) -> None:
        """Both ends close at once: neither answers, both forget."""
        mux, channel = in_state("close-sent")
        self.assertEqual(mux.receive_data(close(channel, ERROR, b"\x80")), [])
        self.assertEqual(sent_types(mux), [])
        self.assertEqual(left_over(mux), [])

    def test_end_crossing_close_ends_the_channel(self) -> None:
        """The peer's END is under way when this end closes: there is no answer to wait for."""
        mux, channel = in_state("close-sent")
        self.assertEqual(mux.receive_data(frame(END, channel)), [])
        self.assertEqual(left_over(mux), [])
        # It may have closed as well before it saw ours.
        self.assertEqual(mux.receive_data(close(channel)), [])
        self.assertIsNone(mux.failed)

    def test_frames_right_behind_the_hello_are_taken(self) -> None:
        """Frames right behind the hello, in the same bytes, are taken."""
        mux = Mux(False)
        events = mux.receive_data(hello() + open_frame(1) + frame(HELLO + DATA, 1, b"x"))
        kinds = [event[0] for event in events]
        self.assertEqual(kinds, [wire.EV_HELLO, wire.EV_OPENED, wire.EV_DATA])

    def test_channel_counts_as_open_until_its_close_is_sent(self) -> None:
        """A channel counts as open until its CLOSE has gone, whoever closes it."""
        mux = greeted(limits=Limits(channels=1))
        stream = opened(mux, open_frame(1))
        mux.close(stream)
        events = mux.receive_data(frame(CLOSE, 1, b"\x00") + open_frame(3))
        self.assertEqual(plain(events), [(wire.EV_OPENED, 3)])
