"""Short values that are collected without a lock: none is lost, doubled or out of its order."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import batcher
from pycomnet.far import channel as channel_module
from pycomnet.far import connection as connection_module
from pycomnet.far.channel import FarChannel
from pycomnet.far.connection import FarConnection, FileIO
from pycomnet.far.writebuffer import (
    HEAD,
    SIZE,
    STREAM_DELAY,
    UNBATCHED,
    WriteBuffer,
    new_memory,
)
from pycomnet.wire import rust, values
from pycomnet.wire.frames import FRAME_COST, HEADER_SIZE, run_cost
from pycomnet.wire.mux import (
    EV_DATA,
    EV_OPENED,
    EV_RUN,
    Mux,
    Stream,
)
from pycomnet.wire.values import PureCodec


class Near:
    """The other end of a link, in a thread: it takes all that comes, and gives credit for it."""

    def __init__(self) -> None:
        far_in, self._out = os.pipe()
        self._in, self.far_out = os.pipe()
        self.io = FileIO(far_in, self.far_out)
        self.mux = Mux(True)
        self.values: dict[int, list[Any]] = defaultdict(list)
        self.changed = threading.Condition()
        self._write()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _write(self) -> None:
        while data := self.mux.data_to_send():
            os.write(self._out, data)

    def _take(self) -> None:
        codec = PureCodec()

        def decode(stream: Stream, payload: Any) -> Any:
            # Long bytes come as what they are.
            if type(payload) is memoryview:
                return payload.obj
            return payload if stream.raw else codec.decode(payload)

        while data := os.read(self._in, 65536):
            with self.changed:
                for event in self.mux.receive_data(data):
                    if event[0] == EV_OPENED:
                        event[1].read_demand = True
                    elif event[0] in (EV_DATA, EV_RUN):
                        payloads = [event[2]] if event[0] == EV_DATA else event[2]
                        self.values[event[1].id] += [decode(event[1], each) for each in payloads]
                        self.mux.consumed(event[1], event[3])
                self._write()
                self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Until so many values have come."""
        with self.changed:
            came = lambda: sum(map(len, self.values.values())) >= count  # noqa: E731
            assert self.changed.wait_for(came, 60), f"{self.values}"

    def end(self) -> None:
        """Write no more; the far side sees the end."""
        os.close(self._out)

    def stop(self) -> None:
        """Wait for the thread, when the far side has closed its descriptors."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        os.close(self._in)


class CollectingCase(SynchronousTestCase):
    """A link with a write buffer, whose other end is a thread."""

    def setUp(self) -> None:
        # Children of other tests are none of its business.
        self.patch(os, "register_at_fork", lambda **calls: None)
        self.near = Near()
        self.over = threading.Event()
        memory = new_memory()
        assert memory is not None
        self.write_buffer: Any = WriteBuffer(self.near.far_out, memory)
        self.link: Any = FarConnection(
            self.near.io,
            FarChannel,
            lambda channel: None,
            self.over.set,
            {},
            None,
            self.write_buffer,
        )
        self.link._read()
        self.link.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        """End the far side's reader before its descriptor is closed: another pipe of the next test
        may get that number, and lose what is in it to this one's reader."""
        self.near.end()
        self.assertTrue(self.over.wait(60))
        # Whoever reads has this; nobody begins to after the end.
        self.assertTrue(self.link._reading.acquire(timeout=60))
        self.near.io.close()
        self.near.stop()

    def channel(self) -> Any:
        return self.link.open("channel")


class Interrupting:
    """Whatever is done with it, a signal's exception comes meanwhile."""

    def interrupt(self, *arguments: object) -> Any:
        raise KeyboardInterrupt

    __call__ = __add__ = pack = interrupt


class Threads(CollectingCase):
    """Many threads send on some channels."""

    COUNT = 3000

    def test_values_of_many_threads_arrive_once_and_in_order(self) -> None:
        """Each value once, and those of a thread in their order; the credit adds up."""
        shared, mine, other = (self.channel() for _ in range(3))
        begin = threading.Barrier(4)

        def send(name: str, *channels: Any) -> None:
            begin.wait(60)
            for number in range(self.COUNT):
                channels[number // 10 % len(channels)].send((name, number))

        threads = [
            threading.Thread(target=send, args=arguments)
            for arguments in (
                ("first", shared),
                ("second", shared),
                ("third", mine),
                ("fourth", other, shared),
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.near.wait_for(4 * self.COUNT)
        sent: dict[Any, list[tuple[str, Any]]] = {
            shared: [("first", range(self.COUNT)), ("second", range(self.COUNT))],
            mine: [("third", range(self.COUNT))],
            other: [("fourth", [n for n in range(self.COUNT) if not n // 10 % 2])],
        }
        sent[shared].append(("fourth", [n for n in range(self.COUNT) if n // 10 % 2]))
        for channel, expected in sent.items():
            values = self.near.values[channel.id]
            for name, numbers in expected:
                self.assertEqual([n for who, n in values if who == name], list(numbers))
            self.assertEqual(len(values), sum(len(numbers) for _, numbers in expected))
        with self.link.write_lock, self.link.lock:
            self.link.settle()
        for channel in sent:
            self.assertEqual(*self.credit(channel.stream))

    def credit(self, stream: Stream) -> tuple[int, int]:
        """What this end may still send, and what the other allows: without what is on its way."""
        given = self.near.mux.streams[stream.id]
        for _ in range(6000):
            with self.link.lock, self.near.changed:
                if stream.credit == given.window:
                    break
            self.over.wait(0.01)  # the reader thread reads it
        return stream.credit, given.window


class FreeThreaded(Threads):
    """Where no GIL orders what threads write there is no batcher, and all arrives all the same."""

    def setUp(self) -> None:
        self.asked = 0
        self.patch(batcher, "_is_gil_enabled", self._is_gil_enabled)
        super().setUp()
        self.made: list[Any] = []
        self.patch(connection_module, "Batcher", self.made.append)

    def _is_gil_enabled(self) -> bool:
        self.asked += 1
        return False

    def test_values_of_many_threads_arrive_once_and_in_order(self) -> None:
        """Each value once, in its thread's order, with the locks held."""
        super().test_values_of_many_threads_arrive_once_and_in_order()
        self.assertEqual(self.made, [])
        self.assertEqual(self.asked, 1)

    def test_batcher_is_there_where_a_gil_is(self) -> None:
        """With a GIL, or on a Python that has nothing else, there is one."""
        self.patch(batcher, "_is_gil_enabled", lambda: True)
        self.assertTrue(batcher.may_batch())
        self.patch(batcher, "_is_gil_enabled", None)
        self.assertTrue(batcher.may_batch())


class Owners(CollectingCase):
    """Only one thread collects, and who wants something else waits until it is between values."""

    def collecting(self) -> Any:
        """A channel whose values are collected."""
        channel = self.channel()
        for number in range(UNBATCHED):
            channel.send(number)
        # Without the thread that writes what nobody has written.
        self.write_buffer.wake = lambda: None
        channel.send("collected")
        self.assertIs(self.link.batcher.channel, channel)
        return channel

    def test_collecting_thread_takes_no_lock(self) -> None:
        """The thread that collects takes none."""
        channel = self.collecting()
        with self.link.write_lock, self.link.lock:
            channel.send("more")
        with self.link.write_lock:
            self.link._flush_buffer()
        self.near.wait_for(UNBATCHED + 2)
        self.assertEqual(self.near.values[channel.id][-2:], ["collected", "more"])

    def test_value_without_room_is_collected_after_a_write(self) -> None:
        """What has no room any more is collected once the rest is written."""
        channel = self.collecting()
        long = bytes(SIZE // 2)
        for _ in range(3):
            channel.send(long)
        self.near.wait_for(UNBATCHED + 2)
        self.assertEqual(self.write_buffer.end, HEAD + 9 + len(PureCodec().encode(long)))
        self.assertIs(self.link.batcher.channel, channel)

    def test_values_that_follow_quickly_are_collected_until_one_comes_alone(self) -> None:
        """Several collected in a period let the next be collected, too; one or none ends that."""
        channel = self.collecting()
        channel.send("another")
        self.assertEqual(self.link._flush_late(), STREAM_DELAY)
        channel.send("the next")
        self.assertGreater(self.write_buffer.end, HEAD)
        self.assertEqual(self.link._flush_late(), 0)
        self.near.wait_for(UNBATCHED + 3)
        channel.send("alone")
        self.assertEqual(self.write_buffer.end, HEAD)
        self.assertEqual(self.link._flush_late(), 0)
        self.near.wait_for(UNBATCHED + 4)
        sent = ["collected", "another", "the next", "alone"]
        self.assertEqual(self.near.values[channel.id][UNBATCHED:], sent)

    def test_late_writer_ends_with_the_connection(self) -> None:
        """When the connection is over there is nothing more to write."""
        self.collecting()
        self.link._over("a test")
        self.assertIsNone(self.link._flush_late())

    def between(self, call: Callable[[], object]) -> None:
        """Have something called in the midst of the next value's being collected."""
        link_batcher = self.link.batcher
        link_batcher.size = -1

        def putting(size: int) -> Callable[..., None]:
            patch.restore()
            put = batcher._putting(size)

            def interrupted(*arguments: Any) -> None:
                link_batcher.put = put
                call()
                put(*arguments)

            return interrupted

        patch = self.patch(batcher, "_putting", putting)

    def test_another_thread_waits_for_the_value_being_collected(self) -> None:
        """Another thread waits until the value that is being collected is whole."""
        channel = self.collecting()
        batcher = self.link.batcher
        settled = threading.Event()

        def settle() -> None:
            with self.link.write_lock, self.link.lock:
                self.link.settle()
            settled.set()

        def meanwhile() -> None:
            threading.Thread(target=settle).start()
            while batcher.on:
                self.over.wait(0.001)
            self.assertFalse(settled.wait(0.05))

        self.between(meanwhile)
        end = self.write_buffer.end
        credit = channel.stream.credit + batcher.credit
        channel.send("whole")
        self.assertTrue(settled.wait(60))
        size = len(PureCodec().encode("whole"))
        self.assertEqual(self.write_buffer.end, end + HEADER_SIZE + size)
        self.assertEqual(channel.stream.credit, credit - size - FRAME_COST)

    def test_send_in_a_signal_handler_is_refused(self) -> None:
        """What interrupts a send and sends itself gets an error, and changes nothing."""
        channel = self.collecting()

        def handler() -> None:
            for call in (lambda: channel.send("nested"), self.channel):
                with self.assertRaisesRegex(RuntimeError, "a signal handler can't send"):
                    call()

        self.between(handler)
        channel.send("interrupted")
        self.assertEqual(list(self.link.mux.streams), [channel.id])
        channel.send("after")
        with self.link.write_lock:
            self.link._flush_buffer()
        self.near.wait_for(UNBATCHED + 3)
        self.assertEqual(self.near.values[channel.id][-3:], ["collected", "interrupted", "after"])
        self.assertFalse(self.link.closed)

    def test_values_of_all_kinds_and_sizes_arrive(self) -> None:
        """Values of every kind and size arrive as they are, by the pure codec and by the other."""
        kinds: list[Any] = [
            *({"id": number} for number in (1, 1000, 2, 70000)),
            *("x" * size for size in (0, 1, 31, 32, 300, 20000, 70000)),
            *(b"x" * size for size in (0, 1, 300, 20000, 70000)),
            *((1, (2.5, None)), {3, 4}, frozenset({5}), 1 << 70, 2j, bytearray(b"y"), "\ud800"),
            *({1: "one", None: "none"}, [True, [], {}]),
        ]
        expected = [bytes(value) if type(value) is bytearray else value for value in kinds]
        channel = self.channel()
        came = 0
        for codec in ("pure", "rust"):
            self.assertEqual(self.link._codec.name, codec)
            for value in ["first"] * (UNBATCHED + 1) + kinds:
                channel.send(value)
            with self.link.write_lock:
                self.link._flush_buffer()
            came += UNBATCHED + 1 + len(kinds)
            self.near.wait_for(came)
            self.assertEqual(self.near.values[channel.id][-len(kinds) :], expected)
            if codec == "pure":
                while self.link._codec.name == "pure":
                    channel.send(0)
                    came += 1
        with self.link.write_lock, self.link.lock:
            self.link.settle()
        self.near.wait_for(came)

    def test_unsendable_value_is_refused_and_later_ones_arrive(self) -> None:
        """What can't be sent is said as ever, and those after it arrive."""
        channel = self.collecting()
        while self.link.batcher is None or self.link.batcher.hook is None:
            channel.send(0)
        with self.assertRaisesRegex(TypeError, "object"):
            channel.send({"in it": [object()]})
        limit = SIZE  # what is collected is shorter
        for module in (rust, values, channel_module):
            self.patch(module, "MAX_VALUE", limit)
        with self.assertRaisesRegex(TypeError, "limit"):
            channel.send(["x" * limit])
        channel.send("after")
        with self.link.write_lock:
            self.link._flush_buffer()
        with self.near.changed:
            last = lambda: self.near.values[channel.id][-1:]  # noqa: E731
            self.assertTrue(self.near.changed.wait_for(lambda: last() == ["after"], 60))

    def test_nothing_is_collected_for_a_closed_channel(self) -> None:
        """Nothing is collected for a channel that is closed, at either end, or ended."""
        for end in ("close", "send_end"):
            channel = self.collecting()
            getattr(channel, end)()
            with self.assertRaises(EOFError):
                channel.send("late")
        channel = self.collecting()
        streams = self.near.mux.streams
        with self.near.changed:
            self.assertTrue(self.near.changed.wait_for(lambda: channel.id in streams, 60))
            self.near.mux.close(streams[channel.id])
            self.near._write()
        channel.waitclose(60)
        with self.assertRaises(EOFError):
            channel.send("late")

    def test_nothing_is_collected_after_the_connection_is_lost(self) -> None:
        """Nor once the connection is lost."""
        channel = self.collecting()
        self.link._over("lost")
        with self.assertRaisesRegex(EOFError, "lost"):
            channel.send("late")

    def test_no_more_is_collected_than_credit_allows(self) -> None:
        """No more is collected than there is credit for, however short the values are."""
        channel = self.link.open("channel", raw=True)
        channel.stream.credit = 3 * UNBATCHED * FRAME_COST
        self.patch(self.near.mux, "consumed", lambda stream, cost: None)  # it gives none back
        for _ in range(3 * UNBATCHED):
            channel.send(b"")
        self.assertEqual(channel.stream.credit + self.unused(), 0)
        with self.link.write_lock:
            self.link._flush_buffer()
        self.assertEqual(channel.stream.credit, 0)

    def unused(self) -> int:
        """What the batcher would give back."""
        batcher = self.link.batcher
        if batcher is None:
            return 0
        used: int = run_cost(batcher.end - batcher.begin, batcher.count())
        return int(batcher.credit) - used

    def test_interrupted_collecting_leaves_the_channel_as_it_was(self) -> None:
        """An exception in the midst of collecting leaves the channel as it was."""
        channel = self.collecting()

        def interrupt() -> None:
            raise KeyboardInterrupt

        self.between(interrupt)
        with self.assertRaises(KeyboardInterrupt):
            channel.send("interrupted")
        channel.send("after")
        with self.link.write_lock:
            self.link._flush_buffer()
        self.near.wait_for(UNBATCHED + 2)
        self.assertEqual(self.near.values[channel.id][-2:], ["collected", "after"])

    def test_interrupted_preparing_leaves_the_channel_as_it_was(self) -> None:
        """So does one while it is got ready for values of another size, wherever it comes."""
        channel = self.collecting()
        sent = ["collected"]
        for place in ("_putting", "HEADER", "HEADER_SIZE"):
            size = 20 + len(sent)
            batcher._putting(len(PureCodec().encode("i" * size)))
            with self.subTest(place):
                interrupting = self.patch(batcher, place, Interrupting())
                with self.assertRaises(KeyboardInterrupt):
                    channel.send("i" * size)
                interrupting.restore()
                sent += ["a" * size, "b" * len("collected"), "c" * size]
                for value in sent[-3:]:
                    channel.send(value)
        with self.link.write_lock:
            self.link._flush_buffer()
        self.near.wait_for(UNBATCHED + len(sent))
        self.assertEqual(self.near.values[channel.id][UNBATCHED:], sent)
