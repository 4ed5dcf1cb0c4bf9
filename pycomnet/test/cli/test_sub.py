"""``pycomnet sub`` on a terminal, and what ``describe`` asks publishers alone."""

from __future__ import annotations

import functools
import io
import sys
from types import SimpleNamespace
from typing import Any

from click.testing import CliRunner
from rich.console import Console
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli.app import root
from pycomnet.cli.describe import show_interfaces
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.pub import publish_values
from pycomnet.cli.serviceoptions import Target
from pycomnet.cli.sub import ROWS, EventTable, SubjectRow, SubOptions, show_events
from pycomnet.cli.workflow import at_service
from pycomnet.deferred import deferred
from pycomnet.ext.pubsub import Event, Gap, Restarted
from pycomnet.ext.workflow.client import WORKFLOW
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.cli.case import CommandCase
from pycomnet.test.ext.pubsub.kit import NAME, make


@interface("org.example.magazine")
class Magazine(Service):
    """Its methods have the names of a publisher's, and do something else."""

    asked = 0

    @method("subscribe", args={"name": "str"})
    def subscribe(self, request: Any) -> None:
        """Order it."""

    @method("topic")
    def topic(self, request: Any) -> None:
        """Begin the next one."""
        self.asked += 1


class DescribeTests(CommandCase):
    """``pycomnet describe``."""

    @deferred
    async def test_only_publishers_are_asked_for_their_topic(self) -> None:
        """By what the interface declares: a method ``topic`` of others may do anything."""
        server = ServiceServer(self.reactor)
        magazine = Magazine()
        await server.add(magazine)
        await server.add(make(history=10)())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        target = Target(address, address, None, 20)
        try:
            await self.status_of(lambda program: show_interfaces(program, target, None))
        finally:
            await server.close()
        self.assertEqual(magazine.asked, 0)
        self.assertIn("publishes: 0 events so far", self.stdout)


class MisspeltTests(CommandCase):
    """Names that are not there."""

    @deferred
    async def test_near_names_are_suggested(self) -> None:
        """Of interfaces, with a subject behind or without, whoever is asked; of services."""
        server = ServiceServer(self.reactor)
        await server.add(NameService(MemoryStore(), self.reactor))
        await server.add(make(history=10)())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        records = (
            {"service": "/demo/feed", "interfaces": [NAME], "address": address, "ttl": 60},
            {"service": "/demo/flow", "interfaces": [WORKFLOW], "address": address, "ttl": 60},
        )
        near = NAME[:-2] + NAME[-1] + NAME[-2]
        options = SubOptions(1, False, True, None, None, None)

        async def nothing(program: CommandProgram, found: Any) -> int:
            raise AssertionError("it was found")

        try:
            async with Context(self.reactor, nameserver=address) as context:
                for record in records:
                    await (await context.nameserver()).invoke("register", record)
            for at in (None, address):
                target = Target(address, at, None, 20)
                for name in (near, f"{near}.eu.created", f"{near}.*"):
                    for main in (
                        functools.partial(
                            show_events, target=target, name=name, subjects=(), options=options
                        ),
                        functools.partial(
                            publish_values, target=target, name=name, key=None, values=("1",)
                        ),
                    ):
                        (self.directory / "stderr").write_text("")
                        self.assertEqual(await self.status_of(main), 1)
                        self.assertIn(f"; did you mean {NAME!r}?\n", self.stderr)
            target = Target(address, None, "/demo/flw", 20)
            main = functools.partial(at_service, target=target, command=nothing)
            self.assertEqual(await self.status_of(main), 1)
            self.assertIn("; did you mean '/demo/flow'?\n", self.stderr)
        finally:
            await server.close()


class ViaTests(SynchronousTestCase):
    """What goes with ``--via``."""

    def test_what_does_not_go_together_is_a_mistake_on_the_command_line(self) -> None:
        """Nothing is connected to."""
        for args in (
            ["org.example", "eu.*"],
            ["--via", "nats://a", "--service", "one", "org.example"],
            ["--via", "nats://a", "--address", "tcp:a:1", "org.example"],
        ):
            with self.subTest(args=args):
                found = CliRunner().invoke(root, ["sub", *args])
                self.assertEqual(found.exit_code, 2)
                self.assertIn("--via", found.output)


class TableTests(SynchronousTestCase):
    """The table of subjects."""

    def setUp(self) -> None:
        self.patch(sys, "stdout", io.StringIO())
        self.clock = Clock()
        program: Any = SimpleNamespace(reactor=self.clock)
        self.table = EventTable(program, "org.example.[/x]")
        self.addCleanup(self.table.close)

    def drawn(self) -> str:
        """What the terminal gets."""
        out = io.StringIO()
        Console(file=out, width=200).print(self.table.table())
        return out.getvalue()

    def came(self, value: Any, subject: str = "eu") -> None:
        """An event has come."""
        source: Any = SimpleNamespace(name=None)
        self.table.show(Event([1, subject, None, 0.0, value], source))

    def test_what_a_publisher_says_is_shown_as_it_is(self) -> None:
        """It is no markup, and no escape sequence."""
        self.came("[red]value[/x]", "sub[/x]ject")
        self.table.show(Restarted("ValueError: [/x] \x1b]0;evil\x07"))
        self.table.show(Gap(3, 1, 3, None, "[/x]\x1b"))
        drawn = self.drawn()
        for text in ("[red]value[/x]", "sub[/x]ject", "([/x]", "3 events missing", "[/x]"):
            self.assertIn(text, drawn)
        self.assertNotIn("\x1b", drawn)
        self.table.show(Restarted("ValueError: [/x] \x1b]0;evil\x07"))
        drawn = self.drawn()
        self.assertIn("ValueError: [/x]", drawn)
        self.assertNotIn("\x1b", drawn)

    def test_the_rate_is_that_of_now(self) -> None:
        """Of some seconds, and not since the beginning."""
        row = SubjectRow(0.0)
        for second in range(1, 101):
            row.add(second)
            row.add(second)
            rate = row.rate(float(second))
        self.assertAlmostEqual(rate, 2.0, 3)
        for second in range(101, 111):
            rate = row.rate(float(second))
        self.assertEqual(rate, 0.0)

    def test_a_value_is_made_text_once(self) -> None:
        """However often the table is drawn."""
        row = SubjectRow(0.0)
        row.add(bytes(1_000_000))
        first = row.text
        self.assertIs(row.text, first)
        self.assertLess(len(first), 100)
        row.add("new")
        self.assertEqual(row.text, '"new"')

    def test_there_are_so_many_rows(self) -> None:
        """Those of which an event came last."""
        for number in range(ROWS + 5):
            self.came(number, f"s{number:03}")
        drawn = self.drawn()
        self.assertNotIn("s004", drawn)
        self.assertIn("s005", drawn)
