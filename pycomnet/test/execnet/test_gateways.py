"""Groups and gateways of the drop-in, without processes."""

from __future__ import annotations

import gc
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.execnet import Group, MultiChannel, XSpec
from pycomnet.execnet.gateway import Gateway
from pycomnet.execnet.multi import _pass_errors_on
from pycomnet.far.forkserver.forking import import_given
from pycomnet.gateways.output import STDERR, STDOUT, Output, OutputSink, UnchangedOutput


class FakeGateway:
    """Something that a user has registered with a group."""

    def __init__(self, group: Group, spec: str) -> None:
        self.spec = XSpec(spec)
        self.id = self.spec.id
        self.group = group
        self.exited: list[str] = []

    def exit(self) -> None:
        """Leave the group."""
        self.exited.append(self.id)
        self.group._unregister(self)  # type: ignore[arg-type]

    def join(self) -> None:
        """It is gone already."""


class GroupTests(SynchronousTestCase):
    """:class:`Group`."""

    def setUp(self) -> None:
        self.group = Group()
        self.exited: list[str] = []

    def register(self, spec: str) -> None:
        """Register a gateway."""
        gateway: Any = FakeGateway(self.group, spec)
        gateway.exited = self.exited
        self.group._register(gateway)

    def test_gateways_end_before_those_that_they_go_through(self) -> None:
        """However they were made."""
        self.register("popen//id=a")
        self.register("popen//id=b//via=a")
        self.register("socket//id=c//installvia=b")
        self.group.terminate()
        self.assertEqual(self.exited, ["c", "b", "a"])

    def test_gateways_in_a_ring_end(self) -> None:
        """An id was used again, so each goes through another by its name."""
        self.register("popen//id=a//via=b")
        self.register("popen//id=b//via=a")
        self.group.terminate()
        self.assertEqual((sorted(self.exited), len(self.group)), (["a", "b"], 0))

    def test_a_gateway_may_exit_twice(self) -> None:
        """Also in two threads at once: it is joined once."""
        self.register("popen//id=a")
        gateway = self.group["a"]
        gateway.exit()
        gateway.exit()
        self.assertEqual(len(self.group._to_join), 1)

    def test_a_forked_child_has_an_empty_group(self) -> None:
        """The gateways are the parent's; the child makes its own."""
        self.register("popen//id=a")
        self.group._lock.acquire()  # another thread of the parent held it
        self.group.forked()
        self.assertEqual(len(self.group), 0)
        self.register("popen//id=a")
        self.group.terminate()
        self.assertEqual(self.exited, ["a"])


class ImportsTests(SynchronousTestCase):
    """What pytest's workers are forked with."""

    def test_pytests_own_modules_are_imported_before_forks(self) -> None:
        """And not its plugins, whose asserts it changes when they are imported."""
        from _pytest.assertion.rewrite import AssertionRewritingHook

        from pycomnet.xdist import modules_of_pytest

        found = dict.fromkeys(("pytest", "_pytest.main", "xdist.plugin"), types.ModuleType("x"))
        changed = found["_pytest.changed"] = types.ModuleType("x")
        changed.__loader__ = object.__new__(AssertionRewritingHook)
        self.patch(sys, "modules", {**sys.modules, **found})
        names = modules_of_pytest()
        self.assertEqual(names[0], "pytest")
        self.assertIn("_pytest.main", names)
        self.assertNotIn("_pytest.changed", names)
        self.assertNotIn("xdist.plugin", names)

    def test_a_fork_server_imports_what_it_is_told(self) -> None:
        """From the near side's path; what is not there is left to the workers."""
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        with open(os.path.join(directory, "needed_by_workers.py"), "w") as file:
            file.write("value = 1\n")
        before = list(sys.path)
        self.addCleanup(sys.modules.pop, "needed_by_workers", None)
        self.addCleanup(gc.unfreeze)
        import_given({"names": ["no_such_module", "needed_by_workers"], "path": [directory]})
        self.assertIn("needed_by_workers", sys.modules)
        self.assertEqual(sys.path, before)
        self.assertTrue(gc.isenabled())

    def test_a_fork_servers_path_is_from_before_the_tests(self) -> None:
        """What pytest has put in front since then is not on it, nor what is no text."""
        from pycomnet import xdist

        group = Group()
        worker: Any = types.SimpleNamespace(fork_servers=types.SimpleNamespace(imports=None))
        group._made = worker  # it has made a proxy already
        self.patch(xdist, "PATH", ["", "/there", None])
        self.patch(sys, "path", ["/tests", *sys.path])
        session = types.SimpleNamespace(nodemanager=types.SimpleNamespace(group=group))
        early = object()
        config = types.SimpleNamespace(
            pluginmanager=types.SimpleNamespace(get_plugin={"dsession": session}.get),
            stash={xdist.EARLY: early},
        )
        self.patch(os, "environ", {**os.environ, xdist.PRELOAD_VARIABLE: "no"})
        xdist.Workers(config).pytest_xdist_setupnodes()
        self.assertIs(worker.fork_servers.imports, None)
        del os.environ[xdist.PRELOAD_VARIABLE]
        xdist.Workers(config).pytest_xdist_setupnodes()
        self.assertEqual(worker.fork_servers.imports.path, (os.getcwd(), "/there"))
        self.assertIs(worker.fork_servers.early, early)
        group._made = None

    def test_a_process_starts_early_only_for_workers(self) -> None:
        """Where ``-n`` says that pytest-xdist starts some, wherever pytest finds it."""
        from pycomnet.xdist import arguments_of, starts_workers

        for text in (
            "-n 2",
            "-n2 tests",
            "-q -n auto",
            "--numprocesses=2",
            "--numprocesses logical",
        ):
            self.assertTrue(starts_workers(text.split()), text)
        for text in ("", "-n 0", "-n", "tests --tx popen", "-n 2 --co", "-n2 --pdb", "-n 2 -f"):
            self.assertFalse(starts_workers(text.split()), text)
        config = types.SimpleNamespace(
            invocation_params=types.SimpleNamespace(args=["-n", "0", Path("tests")]),
            getini={"addopts": ["-n", "2"]}.__getitem__,
        )
        self.patch(os, "environ", {"PYTEST_ADDOPTS": "-n 3"})
        self.assertEqual(arguments_of(config), ["-n", "2", "-n", "3", "-n", "0", "tests"])
        os.environ["PYTEST_ADDOPTS"] = "'"
        self.assertEqual(arguments_of(config), ["-n", "2", "-n", "0", "tests"])
        config.getini = lambda name: 1 / 0 if name != "addopts" else int("not known yet")
        self.assertEqual(arguments_of(config), ["-n", "0", "tests"])


class InterruptTests(SynchronousTestCase):
    """An interrupt leaves running code no more time."""

    def gateway(self) -> Gateway:
        """One without a far side."""
        gateway = Gateway.__new__(Gateway)
        gateway._grace = 5.0
        gateway._exits = threading.Event()
        gateway._exits.set()
        gateway._group = Group()
        return gateway

    def test_an_exit_while_an_interrupt_is_handled_is_at_once(self) -> None:
        """In ``except`` and ``finally``, as programs end their gateways."""
        gateway = self.gateway()
        gateway.exit()
        self.assertEqual(gateway._grace, 5.0)
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            gateway.exit()
        self.assertEqual(gateway._grace, 0.0)

    def test_pytests_own_kinds_of_interrupt_leave_the_time(self) -> None:
        """A session that ends early, as with ``-x``, raises a class of its own."""

        class Interrupted(KeyboardInterrupt):
            pass

        gateway = self.gateway()
        try:
            raise Interrupted
        except KeyboardInterrupt:
            gateway.exit()
        self.assertEqual(gateway._grace, 5.0)

    def test_pytests_interrupt_reaches_the_workers_alone(self) -> None:
        """Those of pytest-xdist's group, and only if it is the user's: not one with ``-x``."""
        from pycomnet.xdist import Workers

        class Interrupted(KeyboardInterrupt):
            pass

        worker, other = self.gateway(), self.gateway()
        worker._group._register(worker)
        session = types.SimpleNamespace(nodemanager=types.SimpleNamespace(group=worker._group))
        config = types.SimpleNamespace(
            pluginmanager=types.SimpleNamespace(get_plugin={"dsession": session}.get)
        )
        plugin = Workers(config)
        plugin.pytest_keyboard_interrupt(types.SimpleNamespace(type=Interrupted))
        self.assertEqual(worker._grace, 5.0)
        plugin.pytest_keyboard_interrupt(types.SimpleNamespace(type=KeyboardInterrupt))
        self.assertEqual((worker._grace, other._grace), (0.0, 5.0))
        worker._group._begin()
        session.nodemanager = None  # not yet
        plugin.pytest_keyboard_interrupt(types.SimpleNamespace(type=KeyboardInterrupt))


class OutputTests(SynchronousTestCase):
    """Standard error is passed on byte by byte."""

    def test_errors_are_written_as_they_came(self) -> None:
        """Also what is no UTF-8, and a character that is cut in two."""
        reading, writing = os.pipe()
        saved = os.dup(2)
        os.dup2(writing, 2)
        try:
            sink = OutputSink("a", UnchangedOutput(_pass_errors_on))
            for piece in (b"a\xff\xfeb", b"\xc3", b"\xbc\xc3"):
                sink._event(STDERR, piece)
            sink._event(STDOUT, b"dropped")
            sink.flush()
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(writing)
        with os.fdopen(reading, "rb") as file:
            self.assertEqual(file.read(), b"a\xff\xfeb\xc3\xbc\xc3")

    def test_a_standard_error_that_is_closed_is_no_error(self) -> None:
        """Of a daemon, say."""
        saved = os.dup(2)
        os.close(2)
        try:
            _pass_errors_on(Output("a", STDERR, "x"))
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        self.assertIsNotNone(sys.stderr)


class QueueChannel:
    """A channel that keeps its callback."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def setcallback(self, callback: Any, endmarker: object) -> None:
        """Keep it."""
        self.callbacks.append((callback, endmarker))


class MultiChannelTests(SynchronousTestCase):
    """:class:`MultiChannel`."""

    def test_the_receive_queue_is_the_same_each_time(self) -> None:
        """A channel has one callback."""
        channel: Any = QueueChannel()
        channels = MultiChannel([channel])
        queue = channels.make_receive_queue("end")
        self.assertIs(channels.make_receive_queue("end"), queue)
        ((callback, endmarker),) = channel.callbacks
        callback(4)
        self.assertEqual((queue.get_nowait(), endmarker), ((channel, 4), "end"))
