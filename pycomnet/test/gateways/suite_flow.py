"""Back pressure in both directions, and many threads on one connection."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.test.gateways.case import GatewayCase
from pycomnet.test.processes import resident
from pycomnet.wire.frames import FRAME_COST, WINDOW

PIECE = 65536
#: Pieces that are sent where nobody receives: 40 MB, more than the widest window.
MANY = 640


def send_pieces(channel, count, size):
    import sys

    sys.sent = 0
    data = b"p" * size
    for _ in range(count):
        channel.send(data)
        sys.sent += 1


def sent():
    import sys

    return getattr(sys, "sent", 0)


def memory():
    import gc

    gc.collect()
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024


def send_many(channel, count, how):
    """Send so many numbers, one right after the other, and end in this way."""
    import os
    import time

    for number in range(count):
        channel.send(number)
    if how == "sleep":
        time.sleep(1000)
    elif how == "compute":
        while True:
            pass
    elif how == "exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), 9)
    elif how == "receive":
        channel.send(channel.receive())
    elif how == "print":
        print("printed")
        channel.receive()


def send_by_turns(channel, other, count):
    for number in range(count):
        channel.send(number)
        if not number % 100:
            other.send(number)
        if not number % 1000:
            channel.send(b"x" * 100000)


class Streams(GatewayCase):
    """Many small values in a row."""

    async def arrive(self, how: str) -> pycomnet.Channel:
        """All that was sent is there, whatever the far code does then."""
        gw = await self.gateway()
        channel = gw.remote_exec(send_many, count=500, how=how)
        self.assertEqual([await channel.receive() for _ in range(500)], [*range(500)])
        return channel

    async def test_all_arrives_when_the_code_ends(self) -> None:
        await (await self.arrive("end")).waitclose()

    async def test_all_arrives_while_the_code_sleeps(self) -> None:
        await self.arrive("sleep")

    async def test_all_arrives_while_the_code_computes(self) -> None:
        await self.arrive("compute")

    async def test_all_arrives_when_the_code_exits_the_process(self) -> None:
        """The code ends the process without a goodbye."""
        channel = await self.arrive("exit")
        await self.failure(channel.receive(), pycomnet.ConnectionLost)

    async def test_all_arrives_when_the_process_is_killed(self) -> None:
        """The process is killed in that moment."""
        channel = await self.arrive("kill")
        await self.failure(channel.receive(), pycomnet.ConnectionLost)

    async def test_all_arrives_while_the_code_receives(self) -> None:
        """The code waits for an answer."""
        channel = await self.arrive("receive")
        await channel.send("answer")
        self.assertEqual(await channel.receive(), "answer")

    async def test_all_arrives_when_the_code_prints(self) -> None:
        await self.arrive("print")
        await self.until_printed("printed")

    async def test_values_on_several_channels_stay_in_order(self) -> None:
        """On several channels, short and long, each in its order."""
        gw = await self.gateway()
        other = gw.newchannel()
        channel = gw.remote_exec(send_by_turns, other=other, count=5000)
        got = [value async for value in channel]
        self.assertEqual([value for value in got if type(value) is int], [*range(5000)])
        self.assertEqual([got[1], got[-1000]], [b"x" * 100000, b"x" * 100000])
        self.assertEqual([await other.receive() for _ in range(50)], [*range(0, 5000, 100)])

    async def test_raising_callback_gets_no_more_values(self) -> None:
        """A callback that raises in the midst gets no more, and the gateway goes on."""
        gw = await self.gateway()
        got = []
        failed: defer.Deferred[Any] = defer.Deferred()

        def callback(value: int) -> None:
            got.append(value)
            if value == 300:
                raise ValueError("no more")

        channel = gw.remote_exec(send_many, count=500, how="end")
        channel.setcallback(callback, lambda failure: failed.callback(failure.type))
        self.assertEqual(await failed, ValueError)
        self.assertEqual(got, [*range(301)])
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)


class FlowControl(GatewayCase):
    """A sender waits for its receiver, and nothing piles up in between."""

    def room(self, gw: pycomnet.Gateway, size: int = PIECE) -> int:
        """How many values of this size the window of a channel has room for."""
        return self.wideness(gw) * WINDOW // (size + FRAME_COST)

    def held(self, gw: pycomnet.Gateway) -> int:
        """The bytes of memory by which a process may grow that holds a full window."""
        return 7_000_000 + self.wideness(gw) * WINDOW

    async def test_far_send_waits_while_nobody_receives(self) -> None:
        """Far code waits in ``send`` while the near side receives nothing."""
        gw = await self.gateway()
        before = resident(os.getpid())
        channel = gw.remote_exec(send_pieces, count=MANY, size=PIECE)
        while await gw.call(sent) < self.room(gw):
            pass
        for _ in range(20):
            self.assertEqual(await gw.call(sent), self.room(gw))
        self.assertLess(resident(os.getpid()) - before, self.held(gw))
        got = 0
        async for piece in channel:
            got += len(piece)
        self.assertEqual(got, MANY * PIECE)

    async def test_near_send_waits_while_far_code_does_not_receive(self) -> None:
        """The near side's ``send`` waits while far code receives nothing."""
        gw = await self.gateway()
        before = await gw.call(memory)
        channel = gw.remote_exec(
            "channel.send(go.receive() and sum(map(len, channel)))", go=(go := gw.newchannel())
        )
        data = b"p" * PIECE
        sends = [channel.send(data) for _ in range(MANY)]
        while sum(send.called for send in sends) < self.room(gw):
            await gw.ping()  # what is on its way may hold less than a window does
        for _ in range(20):
            await gw.ping()
            self.assertEqual(sum(send.called for send in sends), self.room(gw))
        self.assertLess(await gw.call(memory) - before, self.held(gw))
        await go.send(True)
        await defer.gatherResults(sends)
        channel.send_end()
        self.assertEqual(await channel.receive(), MANY * PIECE)

    async def test_full_channel_stalls_no_other(self) -> None:
        """While one channel is full in both directions, others go on."""
        gw = await self.gateway()
        many = 25 * self.wideness(gw)  # more than the window takes
        full = gw.remote_exec(send_pieces, count=many, size=100_000)
        sends = [full.send(b"y" * 100_000) for _ in range(many)]
        channel = gw.remote_exec("for value in channel: channel.send(value)")
        for n in range(50):
            await channel.send(n)
            self.assertEqual(await channel.receive(), n)
        self.assertEqual(len([value async for value in full]), many)
        await defer.DeferredList(sends, consumeErrors=True)

    async def test_callbacks_deferred_holds_up_its_sender(self) -> None:
        """A callback's Deferred holds up the sender of its channel, and of no other."""
        gw = await self.gateway()
        gate: defer.Deferred[None] = defer.Deferred()
        ended: defer.Deferred[None] = defer.Deferred()
        got: list[Any] = []

        def callback(value: Any) -> Any:
            if value is None:
                ended.callback(None)
                return None
            got.append(len(value))
            return gate if len(got) == 1 else None

        many = max(100, 2 * self.room(gw))
        gw.remote_exec(send_pieces, count=many, size=PIECE).setcallback(callback, endmarker=None)
        # The one piece that the callback has is taken; the window is full behind it.
        while await gw.call(sent) < self.room(gw):
            pass
        for _ in range(20):
            self.assertLessEqual(await gw.call(sent), self.room(gw) + 1)
        self.assertEqual(got, [PIECE])
        gate.callback(None)
        await ended
        self.assertEqual(got, [PIECE] * many)

    async def test_small_values_are_counted_with_their_overhead(self) -> None:
        """Small values that nobody receives are counted with what holding them costs."""
        gw = await self.gateway()
        before = resident(os.getpid())
        channel = gw.remote_exec(send_pieces, count=25_000 * self.wideness(gw), size=1)
        while (count := await gw.call(sent)) < 10_000 * self.wideness(gw):
            pass
        for _ in range(20):
            count = await gw.call(sent)
        self.assertLess(count, 20_000 * self.wideness(gw))
        self.assertLess(resident(os.getpid()) - before, 8_000_000 * self.wideness(gw))
        channel.close()

    async def test_close_ends_a_far_send_that_waits(self) -> None:
        """Closing a full channel ends the far ``send`` that waits."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        try:
            while True:
                channel.send(b"x" * 100000)
        except EOFError:
            report.send("eof")
        """
        channel = gw.remote_exec(source, report=report)
        await channel.receive()
        channel.close()
        self.assertEqual(await report.receive(), "eof")

    async def test_cancelled_send_is_taken_back_and_others_arrive(self) -> None:
        """A send that waits can be taken back, and those around it arrive."""
        gw = await self.gateway()
        go = gw.newchannel()
        channel = gw.remote_exec("go.receive(); channel.send([v[:1] for v in channel])", go=go)
        room = self.room(gw, 60_000)
        fills = [channel.send(b"a" * 60_000) for _ in range(room)]
        taken_back = channel.send(b"b" * 60_000)
        last = channel.send(b"c" * 60_000)
        self.assertFalse(taken_back.called)
        taken_back.addErrback(lambda failure: failure.trap(defer.CancelledError))
        taken_back.cancel()
        await go.send(1)
        await defer.gatherResults([*fills, last])
        channel.send_end()
        self.assertEqual(await channel.receive(), [b"a"] * room + [b"c"])


class Threads(GatewayCase):
    """Many threads of the far side on one connection: each takes its turn at reading it."""

    ROUNDS = 50

    async def ping_pong(self, channels: list[Any], rounds: int = ROUNDS) -> None:
        async def play(channel: Any, number: int) -> None:
            for n in range(rounds):
                await channel.send((number, n))
                self.assertEqual(await channel.receive(), (number, n))
            channel.send_end()
            await channel.waitclose()

        plays = [
            defer.Deferred.fromCoroutine(play(channel, number))
            for number, channel in enumerate(channels)
        ]
        await defer.gatherResults(plays)

    async def test_threads_ping_pong_while_the_main_thread_computes(self) -> None:
        """Twenty threads play ping-pong while the main thread computes: nothing is lost.

        Fewer rounds than in the others: the main thread keeps the interpreter's lock for 5 ms
        before each of the threads gets it.
        """
        gw = await self.gateway()
        source = """
        stop = []
        channel.setcallback(stop.append)
        while not stop:
            sum(range(100))
        """
        main = gw.remote_exec(source)
        echo = "for value in channel: channel.send(value)"
        await self.ping_pong([gw.remote_exec(echo) for _ in range(20)], self.ROUNDS // 4)
        await main.send(1)
        await main.waitclose()

    async def test_threads_ping_pong_with_the_main_thread(self) -> None:
        """The same, with the main thread among them."""
        gw = await self.gateway()
        echo = "for value in channel: channel.send(value)"
        await self.ping_pong([gw.remote_exec(echo) for _ in range(21)])

    async def test_threads_ping_pong_with_receives_that_time_out(self) -> None:
        """The same, with receives that time out all the time."""
        gw = await self.gateway()
        echo = """
        while True:
            try:
                channel.send(channel.receive(0.001))
            except channel.TimeoutError:
                pass
            except EOFError:
                break
        """
        await self.ping_pong([gw.remote_exec(echo) for _ in range(10)])

    async def test_far_callbacks_ping_pong(self) -> None:
        """The same, with far callbacks."""
        gw = await self.gateway()
        echo = "channel.setcallback(channel.send); channel.waitclose()"
        await self.ping_pong([gw.remote_exec(echo) for _ in range(20)])

    async def test_far_threads_on_one_channel_get_each_value_once(self) -> None:
        """Far threads that receive from one channel get each value once."""
        gw = await self.gateway()
        source = """
        import threading
        got = []
        def take():
            for value in channel:
                got.append(value)
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        channel.send(sorted(got))
        """
        channel = gw.remote_exec(source)
        for n in range(2000):
            channel.send(n)
        channel.send_end()
        self.assertEqual(await channel.receive(), list(range(2000)))

    async def test_far_threads_values_arrive_whole_and_in_order(self) -> None:
        """What far threads send on one channel arrives whole, and each thread's in order."""
        gw = await self.gateway()
        source = """
        import threading
        def give(number):
            for n in range(100):
                channel.send((number, n, b"x" * (n * 1402 % 100000)))
        threads = [threading.Thread(target=give, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """
        last = dict.fromkeys(range(8), -1)
        async for number, n, blob in gw.remote_exec(source):
            self.assertEqual((last[number] + 1, len(blob)), (n, n * 1402 % 100_000))
            last[number] = n
        self.assertEqual(set(last.values()), {99})

    async def test_far_threads_reach_each_other_through_the_near_side(self) -> None:
        """Far threads that wait for each other's channels through the near side."""
        gw = await self.gateway()
        source = """
        for value in channel:
            channel.send(value + 1)
        """
        channels = [gw.remote_exec(source) for _ in range(10)]
        value = 0
        for _ in range(30):
            for channel in channels:
                await channel.send(value)
                value = await channel.receive()
        self.assertEqual(value, 300)
