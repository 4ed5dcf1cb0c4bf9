"""Channels between the near side and a real far side."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet import defer, protocol
from twisted.python.failure import Failure

import pycomnet
from pycomnet.test.gateways.case import GatewayCase


class Channels(GatewayCase):
    """What channels can do, with the far end in other hands."""

    async def test_sent_channel_works_at_the_far_side(self) -> None:
        """A channel that is sent to the far side works there, both ways."""
        gw = await self.gateway()
        side = gw.newchannel()
        channel = gw.remote_exec("c = channel.receive(); c.send(c.receive() + 1); c.close()")
        await channel.send(side)
        await side.send(1)
        self.assertEqual(await side.receive(), 2)
        await self.failure(side.receive(), pycomnet.ChannelClosed)

    async def test_channels_made_by_far_code_arrive_within_values(self) -> None:
        """Far code makes channels and sends them here, within values."""
        gw = await self.gateway()
        source = """
        new = [channel.gateway.newchannel() for _ in range(3)]
        channel.send({"channels": tuple(new)})
        for number, c in enumerate(new):
            c.send(number)
            channel.send(c.receive())
        """
        channel = gw.remote_exec(source)
        new = (await channel.receive())["channels"]
        for number, c in enumerate(new):
            self.assertEqual(await c.receive(), number)
            await c.send(f"to {c.id}")
            self.assertEqual(await channel.receive(), f"to {c.id}")

    async def test_far_channel_closed_before_taken_keeps_its_values(self) -> None:
        """A far channel that is full and closed before the value that it is in is received."""
        gw = await self.gateway()
        source = """
        for n in range(10):
            new = channel.gateway.newchannel()
            new.send("inside")
            new.send(n)
            channel.send(new)
            new.close()
        channel.send("all")
        """
        channel = gw.remote_exec(source)
        await channel.waitclose()
        for n in range(10):
            new = await channel.receive()
            self.assertEqual([await new.receive(), await new.receive()], ["inside", n])
            await self.failure(new.receive(), pycomnet.ChannelClosed)
        self.assertEqual(await channel.receive(), "all")

    async def test_echoed_channel_is_the_same_channel(self) -> None:
        gw = await self.gateway()
        channel = gw.remote_exec("for value in channel: channel.send(value)")
        side = gw.newchannel()
        await channel.send([side, channel])
        back = await channel.receive()
        self.assertEqual([c.id for c in back], [side.id, channel.id])
        await back[1].send("through the copy")
        self.assertEqual(await channel.receive(), "through the copy")

    async def test_channels_travel_over_channels(self) -> None:
        """Channels that are sent over channels that were sent over channels."""
        gw = await self.gateway()
        source = """
        c = channel
        for _ in range(5):
            c = c.receive()
        c.send("deep")
        """
        channel = outer = gw.remote_exec(source)
        for _ in range(5):
            inner = gw.newchannel()
            await outer.send(inner)
            outer = inner
        self.assertEqual(await outer.receive(), "deep")
        await channel.waitclose()

    async def test_another_gateways_or_closed_channel_is_refused(self) -> None:
        """A channel of another gateway can't be sent, and neither can a closed one."""
        one, two = await self.gateway(), await self.gateway()
        channel = two.remote_exec("channel.receive()")
        await self.failure(channel.send([one.newchannel()]), pycomnet.ValueNotSendable)
        closed = two.newchannel()
        closed.close()
        await self.failure(channel.send([closed]), pycomnet.ValueNotSendable)
        await channel.send(1)
        await channel.waitclose()

    async def test_raw_channel_carries_bytes_alone(self) -> None:
        """A raw channel carries bytes, both ways, and refuses anything else."""
        gw = await self.gateway()
        raw = gw.newchannel(raw=True)
        source = """
        got = b""
        while len(got) < 300000:
            got += raw.receive()
        raw.send(got[::-1])
        """
        channel = gw.remote_exec(source, raw=raw)
        data = bytes(range(250)) * 1200
        await raw.send(data[:10])
        await raw.send(memoryview(data)[10:])
        await self.failure(raw.send("text"), TypeError)
        got = b""
        while len(got) < len(data):
            got += await raw.receive()
        self.assertTrue(got == data[::-1])
        await channel.waitclose()

    async def test_protocol_runs_on_a_raw_channel(self) -> None:
        """A Twisted protocol runs on a raw channel to far code."""
        gw = await self.gateway()
        raw = gw.newchannel(raw=True)
        gw.remote_exec("raw.send(raw.receive().upper()); raw.close()", raw=raw)
        done: defer.Deferred[Any] = defer.Deferred()

        class Shouted(protocol.Protocol):
            got = b""

            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"shout")

            def dataReceived(self, data: bytes) -> None:
                self.got += data

            def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
                done.callback((self.got, type(reason.value).__name__))

        raw.attach(Shouted())
        self.assertEqual(await done, (b"SHOUT", "ConnectionDone"))

    async def test_what_far_code_prints_to_a_channel_is_read_in_lines(self) -> None:
        """Far code prints to a channel as to a file; the near side reads lines."""
        gw = await self.gateway()
        source = """
        with channel.makefile("w", proxyclose=True) as file:
            print("one", 1, file=file)
            file.writelines(["two\\n", "three"])
        """
        file = gw.remote_exec(source).makefile("r")
        lines = [await file.readline() for _ in range(4)]
        self.assertEqual(lines, ["one 1\n", "two\n", "three", ""])

    async def test_far_code_reads_lines_and_pieces_from_a_channel(self) -> None:
        """The near side writes to a channel as to a file; far code reads lines and pieces."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        file = channel.makefile("r")
        report.send([file.read(3), file.readline(), list(file), file.read(5)])
        """
        channel = gw.remote_exec(source, report=report)
        file = channel.makefile("w", proxyclose=True)
        await file.write("one two\nthr")
        await file.writelines(["ee\n", "fo", "ur"])
        file.close()
        got = await report.receive()
        self.assertEqual(got, ["one", " two\n", ["three\n", "four"], ""])

    async def test_channel_files_carry_bytes(self) -> None:
        """Files over channels carry bytes as well."""
        gw = await self.gateway()
        source = """
        lines = list(channel.makefile("r"))
        channel.makefile("w").write(b"".join(reversed(lines)))
        """
        channel = gw.remote_exec(source)
        await channel.makefile("w").writelines([b"a\nb", b"c\nd\n"])
        channel.send_end()
        self.assertEqual(await channel.makefile("r").read(), b"d\nbc\na\n")

    async def test_far_iteration_lasts_until_the_near_side_ends_its_half(self) -> None:
        """Far code iterates over a channel until the near side ends its half."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.send(sum(channel)); channel.send(channel.isclosed())")
        for n in range(100):
            await channel.send(n)
        channel.send_end()
        self.assertEqual(await channel.receive(), 4950)
        self.assertIs(await channel.receive(), False)

    async def test_near_iteration_lasts_until_far_code_has_run(self) -> None:
        """The near side iterates until far code has run."""
        gw = await self.gateway()
        channel = gw.remote_exec("for n in range(10): channel.send(n)")
        self.assertEqual([n async for n in channel], list(range(10)))

    async def test_near_iteration_ends_with_far_codes_error(self) -> None:
        """Iterating ends with the error that far code raised."""
        gw = await self.gateway()
        got = []
        with self.assertRaises(pycomnet.RemoteError):
            async for value in gw.remote_exec("channel.send(1); 1/0"):
                got.append(value)
        self.assertEqual(got, [1])

    async def test_far_code_still_receives_after_send_end(self) -> None:
        """Far code ends its half, and still receives."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        channel.send(1)
        channel.send_end()
        try:
            channel.send(2)
        except EOFError as error:
            report.send(str(error))
        report.send(channel.receive())
        """
        channel = gw.remote_exec(source, report=report)
        self.assertEqual(await channel.receive(), 1)
        await self.failure(channel.receive(), pycomnet.ChannelClosed)
        self.assertIn("closed for sending", await report.receive())
        await channel.send("still open")
        self.assertEqual(await report.receive(), "still open")

    async def test_far_code_still_sends_after_near_send_end(self) -> None:
        """The near side ends its half, and far code still sends."""
        gw = await self.gateway()
        source = """
        try:
            channel.receive()
        except EOFError:
            channel.send("saw the end")
        """
        channel = gw.remote_exec(source)
        channel.send_end()
        await self.failure(channel.send(1), pycomnet.ChannelClosed)
        self.assertEqual(await channel.receive(), "saw the end")

    async def test_far_code_gets_what_was_sent_before_close_then_eof(self) -> None:
        """The near side closes: far code's receive ends, after what was sent, and send fails."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        got = list(channel)
        try:
            channel.send(1)
        except EOFError:
            got.append("eof")
        got.append(channel.isclosed())
        report.send(got)
        """
        channel = gw.remote_exec(source, report=report)
        await channel.send(1)
        await channel.send(b"x" * 300_000)
        channel.close()
        self.assertEqual(await report.receive(), [1, b"x" * 300_000, "eof", True])
        self.assertTrue(channel.isclosed())
        await self.failure(channel.send(2), pycomnet.ChannelClosed)
        await self.failure(channel.receive(), pycomnet.ChannelClosed)

    async def test_code_whose_channel_is_dropped_here_sees_its_end(self) -> None:
        """Code whose channel nobody holds any more sees its end, and does not wait for ever."""
        gw = await self.gateway()
        source = """
        try:
            channel.receive()
        except EOFError:
            channel.send("is dropped")
            report.send("eof")
        """
        reports = [gw.newchannel() for _ in range(5)]
        channels = [gw.remote_exec(source, report=report) for report in reports]
        channels.clear()
        gc.collect()
        for report in reports:
            self.assertEqual(await report.receive(), "eof")
        while (await gw.remote_status())["running"]:
            pass
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_channel_dropped_by_far_code_is_closed_here(self) -> None:
        """A channel that far code holds no more is closed here, when what it sent has come."""
        gw = await self.gateway()
        source = """
        import gc
        def use(channel, which):
            for value in which:
                which.send(value)
                break
        new = channel.gateway.newchannel()
        channel.send(new)
        use(channel, new)
        use(channel, channel.receive())
        del new
        gc.collect()
        channel.receive()
        """
        channel = gw.remote_exec(source)
        opened = await channel.receive()
        given = gw.newchannel()
        await channel.send(given)
        await opened.send("to and fro")
        await given.send("to and fro")
        for dropped in (opened, given):
            self.assertEqual(await dropped.receive(), "to and fro")
            await self.failure(dropped.receive(), pycomnet.ChannelClosed)
            await dropped.waitclose()
            self.assertTrue(dropped.isclosed())
        await channel.send("done")
        await channel.waitclose()

    async def test_channel_dropped_while_on_its_way_again_comes_closed(self) -> None:
        """A channel that is dropped there while it is on its way again comes closed."""
        gw = await self.gateway()
        source = """
        import gc
        def take():
            return channel.receive()[0].isclosed()
        closed = [take() for _ in range(100)]
        gc.collect()  # where objects are not freed with their last reference
        gc.collect()
        channel.send(closed)
        """
        channel = gw.remote_exec(source)
        given = gw.newchannel()
        for _ in range(100):
            await channel.send([given])
        closed = await channel.receive()
        self.assertEqual(closed, sorted(closed))
        await given.waitclose()
        self.assertTrue(gw.isalive())

    async def test_channel_held_by_callback_thread_or_value_stays_open(self) -> None:
        """One that a callback, a thread or a value that waits there has stays open."""
        gw = await self.gateway()
        source = """
        import gc, threading
        def hold():
            thread = threading.Thread(target=answer, args=(channel.receive(),))
            thread.daemon = True
            thread.start()
            called = channel.receive()
            called.setcallback(channel.send)
        def answer(held):
            for value in held:
                channel.send(value)
        hold()
        gc.collect()
        channel.send("holds")
        waits = channel.receive()[0]
        waits.send(waits.receive())
        channel.receive()
        """
        channel = gw.remote_exec(source)
        held, called, waits = gw.newchannel(), gw.newchannel(), gw.newchannel()
        await channel.send(held)
        await channel.send(called)
        await channel.send([waits])
        self.assertEqual(await channel.receive(), "holds")
        for each, where in ((held, channel), (called, channel), (waits, waits)):
            await each.send("here")
            self.assertEqual(await where.receive(), "here")

    async def test_what_far_code_sent_before_closing_arrives_then_the_end(self) -> None:
        """Far code closes before it is done: the near side has what was sent, then the end."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        channel.send(1)
        channel.close()
        channel.close()
        for what in (channel.receive, channel.__next__):
            try:
                report.send(what())
            except (EOFError, StopIteration) as error:
                report.send(type(error).__name__)
        """
        channel = gw.remote_exec(source, report=report)
        await channel.waitclose()
        self.assertEqual(await channel.receive(), 1)
        await self.failure(channel.receive(), pycomnet.ChannelClosed)
        await self.failure(channel.send(1), pycomnet.ChannelClosed)
        self.assertEqual([await report.receive() for _ in "ab"], ["EOFError", "StopIteration"])

    async def test_far_waitclose_tells_how_the_channel_ended(self) -> None:
        """Far code waits for a channel's end, however it ends."""
        gw = await self.gateway()
        source = """
        for _ in range(2):
            try:
                channel.send(side.receive().waitclose())
            except channel.RemoteError as error:
                channel.send(error.message)
        """
        side = gw.newchannel()
        channel = gw.remote_exec(source, side=side)
        for error, seen in ((None, None), ("an error", "an error")):
            closing = gw.newchannel()
            await side.send(closing)
            await closing.send("not received")
            closing.close(error)
            self.assertEqual(await channel.receive(), seen)

    async def test_far_receive_and_waitclose_time_out_and_lose_nothing(self) -> None:
        """Far code's receive and waitclose end with their timeout; what comes later is there."""
        gw = await self.gateway()
        source = """
        for wait in (channel.receive, channel.waitclose):
            for timeout in (0, 0.02):
                try:
                    wait(timeout)
                except channel.TimeoutError as error:
                    channel.send(str(error))
        channel.send(channel.receive(30))
        """
        channel = gw.remote_exec(source)
        for _ in range(4):
            self.assertIn("seconds", await channel.receive())
        await channel.send("late")
        self.assertEqual(await channel.receive(), "late")

    async def test_far_threads_time_out_while_another_reads_for_them(self) -> None:
        """So do those of threads that another thread reads for."""
        gw = await self.gateway()
        main = gw.remote_exec("channel.receive()")
        source = """
        try:
            channel.receive(0.02)
        except channel.TimeoutError:
            channel.send("timeout")
        channel.send(channel.receive(30))
        """
        channels = [gw.remote_exec(source) for _ in range(5)]
        for channel in channels:
            self.assertEqual(await channel.receive(), "timeout")
        for number, channel in enumerate(channels):
            await channel.send(number)
        self.assertEqual([await channel.receive() for channel in channels], list(range(5)))
        main.close()

    async def test_far_callback_gets_values_in_order_then_endmarker(self) -> None:
        """Far code's callback gets each value in order and then the endmarker."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        channel.send("before")
        channel.setcallback(report.send, endmarker="end")
        try:
            channel.receive()
        except IOError:
            channel.send("receive refused")
        channel.waitclose()
        """
        channel = gw.remote_exec(source, report=report)
        for n in range(50):
            await channel.send(n)
        self.assertEqual(await channel.receive(), "before")
        self.assertEqual(await channel.receive(), "receive refused")
        channel.close()
        got = [await report.receive() for _ in range(51)]
        self.assertEqual(got, [*range(50), "end"])

    async def test_raising_far_callback_closes_its_channel_alone(self) -> None:
        """A far callback that raises closes its channel with the error, and no other."""
        gw = await self.gateway()
        side = gw.newchannel()
        source = """
        side.setcallback(lambda value: 1 // value)
        channel.send("set")
        channel.send(channel.receive())
        """
        channel = gw.remote_exec(source, side=side)
        self.assertEqual(await channel.receive(), "set")
        await side.send(0)
        error = await self.failure(side.receive(), pycomnet.RemoteError)
        self.assertEqual(error.type, "ZeroDivisionError")
        self.assertIn("1 // value", error.formatted)
        await channel.send("unharmed")
        self.assertEqual(await channel.receive(), "unharmed")

    async def test_near_callback_gets_earlier_and_later_values_then_endmarker(self) -> None:
        """The near callback gets what came before and after, then the endmarker."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.send(1); channel.send(channel.receive())")
        ready = gw.remote_exec("channel.send(1)")
        await ready.receive()
        got: list[Any] = []
        done: defer.Deferred[None] = defer.Deferred()

        def callback(value: Any) -> None:
            got.append(value)
            if value == "end":
                done.callback(None)

        channel.setcallback(callback, endmarker="end")
        await channel.send(2)
        await done
        self.assertEqual(got, [1, 2, "end"])

    async def test_near_errback_gets_far_codes_error_once(self) -> None:
        """The near errback gets a Failure that wraps what far code raised, once."""
        gw = await self.gateway()
        failures: defer.Deferred[list[Failure]] = defer.Deferred()
        got: list[Any] = []
        channel = gw.remote_exec("channel.send(1); 1/0")
        channel.setcallback(got.append, lambda failure: failures.callback([failure]))
        [failure] = await failures
        assert isinstance(failure.value, pycomnet.RemoteError)
        self.assertEqual(failure.value.type, "ZeroDivisionError")
        self.assertEqual(got, [1])

    async def test_raising_near_callback_ends_its_channel_at_the_far_side(self) -> None:
        """A near callback that raises ends its channel at the far side with that error."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        try:
            while True:
                channel.send(1)
        except (EOFError, channel.RemoteError) as error:
            report.send(getattr(error, "message", ""))
        """
        failures: defer.Deferred[list[Failure]] = defer.Deferred()

        def callback(value: Any) -> None:
            raise LookupError("not found here")

        channel = gw.remote_exec(source, report=report)
        channel.setcallback(callback, lambda failure: failures.callback([failure]))
        [failure] = await failures
        failure.trap(LookupError)
        self.assertEqual(await report.receive(), "not found here")

    async def test_plain_channel_dropped_here_is_closed_at_the_far_side(self) -> None:
        """A plain channel that nobody holds at the near side is closed at the far side."""
        gw = await self.gateway()
        channel = gw.remote_exec("side = channel.receive(); channel.send(list(side))")
        side = gw.newchannel()
        await channel.send(side)
        await side.send(1)
        del side
        gc.collect()
        self.assertEqual(await channel.receive(), [1])

    async def test_group_runs_code_at_all_its_gateways(self) -> None:
        """A group runs code at all its gateways and reads from all of them."""
        for _ in range(3):
            await self.gateway()
        channels = self.group.remote_exec("channel.send(channel.receive() * n)", n=7)
        await channels.send_each(6)
        self.assertEqual(await channels.receive_each(), [42] * len(self.group))
        await channels.waitclose()
        channels = self.group.remote_exec("channel.send(channel.gateway.id)")
        queue = channels.make_receive_queue(endmarker=None)
        got = [await queue.get() for _ in range(2 * len(self.group))]
        ids = {value for _, value in got if value is not None}
        self.assertEqual(ids, {gw.id for gw in self.group})
        self.assertEqual(len([value for _, value in got if value is None]), len(self.group))


class Asking(GatewayCase):
    """Status and ping."""

    async def test_status_counts_running_code_channels_and_threads(self) -> None:
        """The status tells of what runs and of the open channels."""
        gw = await self.gateway()
        status = await gw.remote_status()
        self.assertEqual(
            {key: status[key] for key in ("running", "queued", "channels", "threads")},
            {"running": 0, "queued": 0, "channels": 0, "threads": 0},
        )
        channels = [gw.remote_exec("channel.send(1); channel.receive()") for _ in range(3)]
        for channel in channels:
            await channel.receive()
        status = await gw.remote_status()
        self.assertEqual(
            {key: status[key] for key in ("running", "channels", "threads")},
            {"running": 3, "channels": 3, "threads": 2},
        )
        for channel in channels:
            await channel.send(None)
            await channel.waitclose()
        # A request is counted until just after its channel is closed.
        while (await gw.remote_status())["running"]:
            pass
        self.assertEqual((await gw.remote_status())["channels"], 0)

    async def test_ping_is_answered_whatever_far_code_does(self) -> None:
        """A ping is answered while far code waits, computes, or holds a channel full."""
        gw = await self.gateway()
        self.assertGreater(await gw.ping(), 0)
        waits = gw.remote_exec("channel.receive()")
        self.assertGreater(await gw.ping(), 0)
        source = """
        stop = []
        channel.setcallback(stop.append)
        channel.send("begin")
        while not stop:
            sum(range(1000))
        """
        computes = gw.remote_exec(source)
        self.assertEqual(await computes.receive(), "begin")
        for _ in range(3):
            self.assertGreater(await gw.ping(), 0)
        await computes.send("stop")
        await computes.waitclose()
        full = gw.remote_exec("channel.send(b'x' * 10000000)")
        self.assertGreater(await gw.ping(), 0)
        self.assertEqual(len(await full.receive()), 10_000_000)
        await waits.send(1)

    async def test_request_starts_while_the_main_thread_computes(self) -> None:
        """A new request starts while the main thread computes and reads nothing."""
        gw = await self.gateway()
        source = """
        import sys
        sys.go_on = True
        channel.send("begin")
        while sys.go_on:
            sum(range(1000))
        """
        computes = gw.remote_exec(source)
        self.assertEqual(await computes.receive(), "begin")
        await gw.remote_exec("import sys; sys.go_on = False").waitclose()
        await computes.waitclose()
