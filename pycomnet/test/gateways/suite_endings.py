"""How far sides end, and what those who wait for something of them learn."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.gateways import gateway, transportend
from pycomnet.test.gateways.case import GatewayCase, pids
from pycomnet.test.processes import GONE, stop


def only_the_timeout_counts(case: GatewayCase) -> None:
    """Make the other times, after which far sides are ended too, too long for a test."""
    case.patch(gateway, "END_TIMEOUT", 1000.0)
    case.patch(transportend, "EXIT_TIMEOUT", 1000.0)


class Deaths(GatewayCase):
    """A far side that dies, in whatever way, says so to everybody who waits."""

    async def dies(self, gw: pycomnet.Gateway, killer: Any) -> pycomnet.GatewayDied:
        """The error that all kinds of waiting end with.

        :param killer: source text, or called with the process ids of the worker and its parent.
        """
        waits = gw.remote_exec(pids)
        ids = await waits.receive()
        full = gw.remote_exec("import time; time.sleep(1000)")
        callbacks: defer.Deferred[Any] = defer.Deferred()
        called = gw.newchannel()
        called.setcallback(lambda value: None, lambda failure: callbacks.callback([failure]))
        for _ in range(17 * self.wideness(gw)):  # more than the window takes
            full.send(b"x" * 100_000).addErrback(lambda _: None)
        waiting: list[defer.Deferred[Any]] = [
            waits.receive(),
            waits.waitclose(),
            gw.call("time:sleep", 1000),
            *[full.send(b"x" * 100_000) for _ in range(3)],
            full.receive(),
        ]
        if isinstance(killer, str):
            gw.remote_exec(killer)
        else:
            killer(*ids)
        results = await defer.DeferredList(waiting, consumeErrors=True)
        errors = [result.value for success, result in results if not success]
        self.assertEqual(len(errors), len(waiting))
        errors.append((await callbacks)[0].value)
        for wait in (gw.ping(), gw.remote_status(), gw.call("os:getpid"), waits.send(1)):
            errors.append(await self.failure(wait, pycomnet.PycomnetError))
        with self.assertRaises(pycomnet.GatewayDied):
            gw.remote_exec("pass")
        with self.assertRaises(pycomnet.GatewayDied):
            gw.newchannel()
        for error in errors:
            self.assertIsInstance(error, pycomnet.GatewayDied)
            self.assertEqual(str(error), str(errors[0]))
        self.assertFalse(gw.isalive())
        self.assertIn("ended", repr(gw))
        await self.assert_gone(*ids)
        error = errors[0]
        assert isinstance(error, pycomnet.GatewayDied)
        self.assertIn(gw.id, str(error))
        return error

    async def test_death_error_has_the_exit_status(self) -> None:
        """os._exit(3): the error has the status."""
        gw = await self.gateway()
        error = await self.dies(gw, "import os; os._exit(3)")
        self.assertEqual((error.exit_status, error.signal), (3, None))
        self.assertIn("exited with status 3", str(error))
        self.assertEqual(await gw.join(), 3)

    async def test_exit_with_status_zero_is_a_death_for_who_waits(self) -> None:
        """os._exit(0) is a death, too, when somebody waits."""
        error = await self.dies(await self.gateway(), "import os; os._exit(0)")
        self.assertEqual((error.exit_status, error.signal), (0, None))

    async def test_death_error_has_the_last_lines_of_stderr(self) -> None:
        """The error has the last lines of what went to standard error."""
        source = "import os; os.write(2, b'line\\n' * 1000 + b'the very last words'); os._exit(3)"
        error = await self.dies(await self.gateway(), source)
        self.assertTrue(error.stderr.endswith("line\nthe very last words"))
        self.assertLess(len(error.stderr), 1000)
        self.assertIn("the very last words", str(error))

    async def test_what_was_sent_and_printed_last_arrives(self) -> None:
        """What was sent and printed just before the end arrives."""
        gw = await self.gateway()
        source = """
        import os
        channel.send(b"x" * 500000)
        print("last words")
        channel.send("last value")
        os._exit(1)
        """
        channel = gw.remote_exec(source)
        self.assertEqual(len(await channel.receive()), 500_000)
        self.assertEqual(await channel.receive(), "last value")
        await self.failure(channel.receive(), pycomnet.GatewayDied)
        self.assertEqual(self.printed(), "last words\n")

    async def test_last_value_arrives_while_the_near_side_writes(self) -> None:
        """What was sent just before the end arrives, also when the near side is writing."""
        gw = await self.gateway()
        channel = gw.remote_exec("import os; channel.send('last'); os._exit(1)")
        other = gw.newchannel()
        sends = [other.send(b"x" * 50_000) for _ in range(100)]
        self.assertEqual(await channel.receive(), "last")
        await self.failure(channel.receive(), pycomnet.GatewayDied)
        await defer.DeferredList(sends, consumeErrors=True)

    async def test_segfault_error_names_the_signal(self) -> None:
        """A crash in C: the error names the signal."""
        error = await self.dies(await self.gateway(), "import ctypes; ctypes.memset(16, 0, 1000)")
        self.assertEqual((error.exit_status, error.signal), (None, signal.SIGSEGV), str(error))
        self.assertIn("SIGSEGV", str(error))

    async def test_abort_error_has_pythons_fatal_message(self) -> None:
        """Python's own fatal errors come with what it says of them."""
        source = "import faulthandler, os; faulthandler.enable(2, False); os.abort()"
        error = await self.dies(await self.gateway(), source)
        self.assertEqual((error.exit_status, error.signal), (None, signal.SIGABRT), str(error))
        self.assertIn("Fatal Python error: Aborted", str(error))

    async def test_kill_error_names_signal_and_out_of_memory(self) -> None:
        """kill -9 of the worker: the error names the signal and who may have sent it."""

        def kill(worker: int, parent: int) -> None:
            os.kill(worker, signal.SIGKILL)

        error = await self.dies(await self.gateway(), kill)
        self.assertEqual((error.exit_status, error.signal), (None, signal.SIGKILL))
        self.assertIn("SIGKILL", str(error))
        self.assertIn("memory", str(error))

    async def test_killed_supervisor_takes_its_worker_along(self) -> None:
        """kill -9 of the worker's parent: the worker goes, too, and everybody learns so."""

        def kill(worker: int, parent: int) -> None:
            os.kill(parent, signal.SIGKILL)

        error = await self.dies(await self.gateway(), kill)
        self.assertIn("SIGKILL", str(error))

    async def test_terminated_supervisor_ends_everything(self) -> None:
        """SIGTERM to the process that was started ends all of it at once."""

        def terminate(worker: int, parent: int) -> None:
            os.kill(parent, signal.SIGTERM)

        await self.dies(await self.gateway(), terminate)

    async def test_exit_does_not_wait_for_a_stopped_process(self) -> None:
        """A process that is stopped is not waited for at the end."""
        gw = await self.gateway()
        channel = gw.remote_exec(pids)
        ids = await channel.receive()
        stop(ids[0])
        await gw.exit(timeout=1)
        await self.assert_gone(*ids)

    async def test_death_of_one_gateway_spares_the_others(self) -> None:
        """The death of one gateway is nothing to the others."""
        one, two = await self.gateway(), await self.gateway()
        await self.failure(one.remote_exec("import os; os._exit(1)").waitclose(), EOFError)
        self.assertEqual(await two.call("operator:add", 1, 2), 3)

    async def test_death_unseen_is_told_to_who_asks_next(self) -> None:
        """A far side that dies while nobody waits is reported to who asks next."""
        gw = await self.gateway()
        channel = gw.remote_exec(pids)
        ids = await channel.receive()
        os.kill(ids[0], signal.SIGKILL)
        self.assertEqual(await gw.join(), -signal.SIGKILL)
        await self.failure(channel.receive(), pycomnet.GatewayDied)
        await gw.exit()


class Endings(GatewayCase):
    """Ending far sides on purpose."""

    async def test_exit_ends_processes_and_waits_fail_as_asked_for(self) -> None:
        """``exit`` ends the processes; who waits learns that it was asked for."""
        gw = await self.gateway()
        channel = gw.remote_exec(pids)
        ids = await channel.receive()
        waiting = channel.receive()
        joined = gw.join()
        ended = gw.exit()
        error = await self.failure(waiting, pycomnet.ConnectionLost)
        self.assertNotIsInstance(error, pycomnet.GatewayDied)
        await ended
        await joined
        self.assertNotIn(gw.id, self.group)
        await self.assert_gone(*ids)
        await gw.exit()

    async def test_idle_far_side_exits_with_0_after_atexit_functions(self) -> None:
        """An idle far side ends by itself, with status 0, and runs its exit functions."""
        gw = await self.gateway()
        await gw.remote_exec("import atexit; atexit.register(print, 'bye')").waitclose()
        marker = os.path.abspath(self.mktemp())
        source = """
        import atexit
        def leave():
            with open(path, "w") as file:
                file.write("ran")
        atexit.register(leave)
        """
        await gw.remote_exec(source, path=marker).waitclose()
        await gw.exit(60)  # it may take its time on a busy machine
        self.assertEqual(await gw.join(), 0)
        with open(marker) as file:
            self.assertEqual(file.read(), "ran")

    async def test_exit_interrupts_code_which_cleans_up(self) -> None:
        """Code in the main thread gets a KeyboardInterrupt and time to clean up."""
        gw = await self.gateway()
        marker = os.path.abspath(self.mktemp())
        source = """
        import time
        try:
            channel.send("begin")
            time.sleep(1000)
        finally:
            with open(path, "w") as file:
                file.write("cleaned up")
        """
        channel = gw.remote_exec(source, path=marker)
        await channel.receive()
        await gw.exit(60, grace=0)
        with open(marker) as file:
            self.assertEqual(file.read(), "cleaned up")

    async def test_exit_kills_after_its_timeout(self) -> None:
        """After its timeout ``exit`` no longer lets the far side end by itself."""
        gw = await self.gateway()
        source = """
        import os, time
        channel.send((os.getpid(), os.getppid()))
        while True:
            try:
                time.sleep(1000)
            except KeyboardInterrupt:
                pass
        """
        channel = gw.remote_exec(source)
        ids = await channel.receive()
        only_the_timeout_counts(self)
        before = self.reactor.seconds()
        await gw.exit(timeout=0.1)
        self.assertLess(self.reactor.seconds() - before, GONE)
        await self.assert_gone(*ids)

    async def test_grace_lets_code_complete_and_its_values_arrive(self) -> None:
        """Running code has the time to complete; its last values come before the end."""
        for options in ({"grace": 600}, {"timeout": 600}):
            gw = await self.gateway()
            source = """
            import os, threading
            channel.send((os.getpid(), os.getppid()))
            try:
                channel.receive()
            except EOFError:
                pass  # it is told to come to an end
            wait = threading.Event()
            wait.wait(0.3)
            channel.send("complete")
            """
            channel = gw.remote_exec(source)
            looping = gw.remote_exec("for value in channel: pass\nchannel.send('all')")
            ids = await channel.receive()
            await gw.exit(**options)  # not after all of that: the test has less
            self.assertEqual(await channel.receive(), "complete")
            self.assertEqual(await looping.receive(), "all")
            self.assertIsNone(await channel.waitclose())
            await self.assert_gone(*ids)

    async def test_code_is_interrupted_after_its_grace(self) -> None:
        """Code that does not complete is interrupted after that."""
        gw = await self.gateway()
        marker = self.mktemp()
        source = """
        import os, time
        begun = time.time()  # before the other end can have asked for the end
        channel.send((os.getpid(), os.getppid()))
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            with open(path, "w") as file:
                file.write("%f" % (time.time() - begun))
        """
        channel = gw.remote_exec(source, path=os.path.abspath(marker))
        ids = await channel.receive()
        await gw.exit(grace=0.5)
        with open(marker) as file:
            self.assertGreaterEqual(float(file.read()), 0.49)
        await self.failure(channel.waitclose(), pycomnet.ConnectionLost)
        await self.assert_gone(*ids)

    async def test_cancelled_exit_still_ends_the_far_side(self) -> None:
        """Cancelling ``exit`` does not keep the far side from going."""
        gw = await self.gateway()
        channel = gw.remote_exec(pids)
        ids = await channel.receive()
        ending = gw.exit()
        ending.addErrback(lambda failure: failure.trap(defer.CancelledError))
        ending.cancel()
        await ending
        await self.assert_gone(*ids)
        await gw.join()

    async def test_exit_cancelled_in_its_grace_still_ends_the_far_side(self) -> None:
        """Cancelling ``exit`` while code has time to complete only stops the waiting."""
        gw = await self.gateway()
        channel = gw.remote_exec("""
        import threading
        try:
            channel.receive()
        except EOFError:
            channel.send("told")
        threading.Event().wait(0.3)
        """)
        ending = gw.exit(grace=600)
        ending.addErrback(lambda failure: failure.trap(defer.CancelledError))
        self.assertEqual(await channel.receive(), "told")
        ending.cancel()
        await ending
        await gw.join()
        self.assertFalse(gw.isalive())

    async def test_join_waits_without_ending_anything(self) -> None:
        """``join`` waits without ending anything, and can be cancelled."""
        gw = await self.gateway()
        joined, cancelled = gw.join(), gw.join()
        await gw.ping()
        self.assertNoResult(joined)
        cancelled.addErrback(lambda failure: failure.trap(defer.CancelledError))
        cancelled.cancel()
        gw.remote_exec("import os; os._exit(7)")
        self.assertEqual(await joined, 7)

    async def test_exit_ends_children_sessions_and_daemons_of_far_code(self) -> None:
        """What far code started ends with it, also in a session of its own, however often over."""
        gw = await self.gateway()
        source = """
        import os, subprocess, sys
        children = [subprocess.Popen(["sleep", "1000"], start_new_session=s) for s in (False, True)]
        # A daemon: its parent is gone.
        own = "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])"
        script = '"$@" sleep 1000 >/dev/null 2>&1 & echo $!'
        out = subprocess.check_output(["sh", "-c", script, "sh", sys.executable, "-c", own])
        channel.send([os.getpid(), os.getppid(), int(out)] + [child.pid for child in children])
        channel.receive()
        """
        channel = gw.remote_exec(source)
        ids = await channel.receive()
        await gw.exit()
        await self.assert_gone(*ids)

    async def test_death_ends_children_of_far_code(self) -> None:
        """So it does when the far side dies by itself."""
        gw = await self.gateway()
        source = """
        import os, subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        channel.send([os.getpid(), os.getppid(), child.pid])
        channel.receive()
        os._exit(5)
        """
        channel = gw.remote_exec(source)
        ids = await channel.receive()
        await channel.send(None)
        error = await self.failure(channel.receive(), pycomnet.GatewayDied)
        self.assertEqual(error.exit_status, 5)
        await self.assert_gone(*ids)


class Groups(GatewayCase):
    """A group names its gateways and ends them together."""

    async def test_gateways_are_found_by_given_or_made_ids(self) -> None:
        """Gateways get ids in turn, or the one that they are given; both find them."""
        one = await self.gateway()
        named = await self.gateway(id="named")
        two = await self.gateway()
        self.assertEqual([gw.id for gw in (one, named, two)], ["gw0", "named", "gw1"])
        self.assertIs(self.group["named"], named)
        self.assertIs(self.group[0], one)
        self.assertEqual(list(self.group), [one, named, two])
        self.assertEqual(len(self.group), 3)
        self.assertIn(one, self.group)
        self.assertIn("gw1", self.group)
        self.assertNotIn("gw2", self.group)
        self.assertRaises(KeyError, lambda: self.group["gw2"])
        self.assertIs(one.group, self.group)

    async def test_id_is_taken_while_its_gateway_starts_or_lives(self) -> None:
        """An id can be taken once at a time, also while its gateway is still starting."""
        starting = self.group.makegateway(self.spec, id="same")
        await self.failure(self.group.makegateway(self.spec, id="same"), pycomnet.SpecError)
        gw = await starting
        await self.failure(self.group.makegateway(self.spec, id="same"), pycomnet.SpecError)
        await gw.exit()
        again = await self.gateway(id="same")
        self.assertIsNot(again, gw)

    async def test_made_id_steps_over_given_ones(self) -> None:
        """A made id steps over those that were given."""
        await self.gateway(id="gw0")
        self.assertEqual((await self.gateway()).id, "gw1")

    async def test_gateways_start_side_by_side(self) -> None:
        starting = [self.group.makegateway(self.spec) for _ in range(8)]
        gateways = await defer.gatherResults(starting)
        self.assertEqual(len({gw.id for gw in gateways}), 8)
        found = await defer.gatherResults([gw.call("os:getpid") for gw in gateways])
        self.assertEqual(len(set(found)), 8)

    async def test_cancelled_makegateway_frees_its_id(self) -> None:
        """Cancelling ``makegateway`` ends what it started, and frees the id."""
        making = self.group.makegateway(self.spec, id="cancelled")
        making.cancel()
        await self.failure(making, defer.CancelledError)
        self.assertEqual(len(self.group), 0)
        await self.gateway(id="cancelled")

    async def test_terminate_ends_all_and_more_can_be_made(self) -> None:
        """``terminate`` ends all, in whatever they are; more can be made afterwards."""
        sources = [
            "channel.receive()",
            "import time; time.sleep(1000)",
            "channel.send(b'x' * 10000000)",
        ]
        ids = []
        for source in sources:
            gw = await self.gateway()
            channel = gw.remote_exec(pids)
            ids += await channel.receive()
            channel.send(None)
            await channel.waitclose()
            gw.remote_exec(source)
        await self.group.terminate(timeout=2)
        self.assertEqual(list(self.group), [])
        await self.assert_gone(*ids)
        gw = await self.gateway()
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_terminate_kills_all_at_once_after_its_timeout(self) -> None:
        """Far sides that swallow everything are gone when the timeout is over, all at once."""
        source = """
        import os, time
        channel.send((os.getpid(), os.getppid()))
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass
        """
        ids = []
        for _ in range(4):
            gw = await self.gateway()
            ids += await gw.remote_exec(source).receive()
        only_the_timeout_counts(self)
        before = self.reactor.seconds()
        await self.group.terminate(timeout=0.2)
        self.assertLess(self.reactor.seconds() - before, GONE)
        await self.assert_gone(*ids)

    async def test_terminate_gives_running_code_the_rest_of_the_timeout(self) -> None:
        """What remains of the timeout is the running code's own first, at all far sides at once."""
        channels = []
        for _ in range(3):
            gw = await self.gateway()
            source = """
            import time
            channel.send("begun")
            time.sleep(0.3)
            channel.send("complete")
            """
            channels.append(gw.remote_exec(source))
        for channel in channels:
            await channel.receive()
        await self.group.terminate(60)
        for channel in channels:
            self.assertEqual(await channel.receive(), "complete")

    async def test_terminate_ends_gateways_that_are_starting(self) -> None:
        """Gateways that are still starting are ended, and their makers told."""
        making = [self.group.makegateway(self.spec) for _ in range(3)]
        ended = self.group.terminate()
        for maker in making:
            await self.failure(maker, pycomnet.PycomnetError)
        await ended
        self.assertEqual(list(self.group), [])

    async def test_second_terminate_does_nothing(self) -> None:
        """Terminating twice, or an empty group, does nothing more."""
        await self.group.terminate()
        await self.gateway()
        await defer.gatherResults([self.group.terminate(), self.group.terminate()])

    async def test_closed_group_makes_no_more_gateways(self) -> None:
        """A closed group makes no more gateways; it can be used with ``async with``."""
        async with pycomnet.Group(self.reactor) as group:
            gw = await group.makegateway(self.spec)
        self.assertFalse(gw.isalive())
        await self.failure(group.makegateway(self.spec), pycomnet.PycomnetError)

    async def test_dead_gateway_stays_in_its_group_until_ended(self) -> None:
        """A gateway that died stays in its group until it is ended, so that it can be asked."""
        gw = await self.gateway()
        gw.remote_exec("import os; os._exit(3)")
        await gw.join()
        self.assertIn(gw, self.group)
        await self.group.terminate()
        self.assertNotIn(gw, self.group)

    async def test_unused_errors_are_quiet(self) -> None:
        """Channels that nobody holds are no unhandled errors when their gateway goes."""
        gw = await self.gateway()
        for _ in range(3):
            gw.remote_exec("channel.receive()")
        await gw.exit()
        self.assertEqual(self.flushLoggedErrors(), [])
