"""``call`` and ``describe``, on a server of this process."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from twisted.internet import defer

from pycomnet.cli import program
from pycomnet.cli.call import call_method, read_arguments, show_result, show_stream
from pycomnet.cli.describe import as_stub, as_text, show_interfaces
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.serviceoptions import Target, plain
from pycomnet.errors import Unauthenticated, from_map
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.binary import Binary
from pycomnet.services.client.context import Context
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.interface import Service, describe, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.cli.case import CommandCase


@interface("org.example.calc")
class Calc(Service):
    """Calculates."""

    @method(args={"a": int, "b": "int?"}, results=int, idempotent=True)
    def add(self, request: Any) -> int:
        """The sum of a and b.

        It is an int.
        """
        return int(request.args["a"] + request.args.get("b", 0))

    @method()
    def echo(self, request: Any) -> Any:
        """What came."""
        return request.args

    @method()
    def fail(self, request: Any) -> None:
        if request.args is not None:  # as if another service, which it has called, had said that
            raise from_map({"code": "method", "message": "org.example.stock has no method 'fial'"})
        raise ValueError("it can't be")

    @method()
    def guarded(self, request: Any) -> None:
        problem = Unauthenticated("shop.buy needs credentials", "missing")
        problem.of_call = request.args  # whether a call that the method makes has failed so
        raise problem

    @method(attachments=3)
    def reverse(self, request: Any) -> Any:
        """Each block, backwards."""
        found = [block.read() for block in request.files]
        return (len(found), *(Binary(data[::-1]) for data in found))

    @method()
    def hang(self, request: Any) -> defer.Deferred[None]:
        return defer.Deferred()

    @method(stream=True)
    async def count(self, request: Any) -> AsyncIterator[int]:
        """One after the other."""
        for number in range(request.args["to"]):
            yield number


class CallTests(CommandCase):
    """The commands' coroutines."""

    async def call(
        self,
        method: str,
        args: Any = None,
        stream: bool = False,
        files: tuple[str, ...] = (),
        outs: tuple[str, ...] = (),
        **target: Any,
    ) -> int:
        """The exit status of a call."""
        server = ServiceServer(self.reactor)
        await server.add(Calc())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        found = Target(**{"nameserver": address, "address": address, "service": None} | target)

        async def main(program: CommandProgram) -> int:
            async with found.context(program.reactor) as context:
                service = await found.find(context, "org.example.calc")
                if stream:
                    return await show_stream(program, service, method, args)
                return await show_result(program, service, method, args, files, outs)

        try:
            return await self.status_of(main)
        finally:
            await server.close()

    async def test_stub_is_python_source_of_protocols(self) -> None:
        """``describe --stub``: what is printed can be imported, and has the methods."""
        server = ServiceServer(self.reactor)
        await server.add(Calc())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        target = Target(address, address, None, 20)
        try:
            status = await self.status_of(
                lambda program: show_interfaces(program, target, "org.example.calc", as_stub)
            )
        finally:
            await server.close()
        self.assertEqual(status, 0)
        space: dict[str, Any] = {"__name__": "calc_types"}
        exec(compile(self.stdout, "calc_types.py", "exec"), space)
        self.assertTrue(space["Calc"].add.__doc__.startswith("The sum of a and b."))
        self.assertIn("def add(self, a: int, b: int | None = ...) -> Deferred[int]", self.stdout)

    async def misspelt(self, interface: str, method: str, by_address: bool) -> list[str]:
        """What ``call`` and ``describe`` say of names that are not there.

        :param by_address: whether the service's address is given, else a nameserver's.
        """
        server = ServiceServer(self.reactor)
        await server.add(NameService(MemoryStore(), self.reactor))
        await server.add(Calc())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        record = {"service": "c", "interfaces": ["org.example.calc"], "address": address, "ttl": 60}
        target = Target(address, address if by_address else None, None, 20)

        async def show(program: CommandProgram, service: RemoteService) -> int:
            return await show_result(program, service, method, {"a": 1})

        said = []
        try:
            async with Context(self.reactor, nameserver=address) as context:
                await (await context.nameserver()).invoke("register", record)
            for main in (
                lambda program: call_method(program, target, interface, method, show),
                lambda program: show_interfaces(program, target, interface),
            ):
                before = len(self.stderr)
                status = await self.status_of(main)
                said.append(self.stderr[before:])
                self.assertEqual(status, 1 if said[-1] else 0)
        finally:
            await server.close()
        return said

    async def test_misspelt_name_is_answered_with_the_near_one(self) -> None:
        """A misspelt interface or method is answered with the near one that is there, whoever is
        asked; what is like nothing is answered with no guess."""
        for address in (False, True):
            for said in await self.misspelt("org.example.clac", "add", address):
                self.assertIn("; did you mean 'org.example.calc'?\n", said)
                self.assertNotIn("Traceback", said)
            called, described = await self.misspelt("org.example.calc", "ad", address)
            self.assertIn("; did you mean 'add'?\n", called)
            self.assertEqual(described, "")
            for said in await self.misspelt("xyz", "add", address):
                self.assertIn("there is no", said)
                self.assertIn("xyz", said)
                self.assertNotIn("did you mean", said)
            called, _ = await self.misspelt("org.example.calc", "multiply", address)
            self.assertIn("no method 'multiply'", called)
            self.assertNotIn("did you mean", called)
            called, _ = await self.misspelt("org.example.calc", "fail", address)
            self.assertIn("org.example.stock has no method 'fial'\n", called)

    async def test_result_is_json(self) -> None:
        """It is printed as JSON."""
        self.assertEqual(await self.call("add", {"a": 1, "b": 2}, timeout=60), 0)
        self.assertEqual((self.stdout, self.stderr), ("3\n", ""))

    async def test_other_scripts_letters_are_printed(self) -> None:
        """Other scripts' letters are themselves."""
        await self.call("echo", {"k": ["ä", None, 1.5]}, timeout=60)
        self.assertEqual(json.loads(self.stdout), {"k": ["ä", None, 1.5]})
        self.assertIn("ä", self.stdout)

    async def test_stream_is_a_line_for_each_value(self) -> None:
        """A line for each value."""
        self.assertEqual(await self.call("count", {"to": 3}, stream=True, timeout=60), 0)
        self.assertEqual(self.stdout, "0\n1\n2\n")

    async def test_error_is_a_line_and_status_1(self) -> None:
        """What it raised, what isn't there, what it doesn't take: a line, and status 1."""
        for name, args, said in (
            ("fail", None, "ValueError: it can't be"),
            ("sub", None, "no method 'sub'; it has: "),
            ("add", {"a": "1"}, "'a' is int, not str"),
        ):
            self.assertEqual(await self.call(name, args, timeout=60), 1)
            self.assertIn(said, self.stderr)
        self.assertEqual(self.stdout, "")

    async def test_who_needs_a_login_is_told_how(self) -> None:
        """But not if the service itself has none at another one: an option doesn't give it any."""
        self.assertEqual(await self.call("guarded", False, timeout=60), 1)
        self.assertIn("needs credentials (--user, --token-file or --cert gives them)", self.stderr)
        self.assertEqual(await self.call("guarded", True, timeout=60), 1)
        self.assertTrue(self.stderr.endswith("needs credentials\n"), self.stderr)

    async def test_blocks_are_files_both_ways(self) -> None:
        """Files are sent, and what comes back is written to files."""
        big = "0123456789" * 200_000
        files = self.file("a", "abc"), self.file("b", big)
        outs = tuple(str(self.directory / name) for name in ("x", "y"))
        self.assertEqual(await self.call("reverse", files=files, outs=outs, timeout=60), 0)
        self.assertEqual((self.stdout, self.stderr), ("2\n", ""))
        found = [Path(path).read_text() for path in outs]
        self.assertEqual(found, ["cba", big[::-1]])

    async def test_too_few_and_too_many_blocks(self) -> None:
        """What is not kept is said; what was asked for and did not come is an error."""
        files = (self.file("a", "abc"),)
        self.assertEqual(await self.call("reverse", files=files, timeout=60), 0)
        self.assertIn("1 blocks of binary data came back: --out PATH keeps", self.stderr)
        out = str(self.directory / "x")
        self.assertEqual(await self.call("reverse", outs=(out,), timeout=60), 1)
        self.assertIn(f"there is nothing for {out}", self.stderr)
        self.assertFalse(Path(out).exists())

    async def test_files_that_cannot_be_used(self) -> None:
        """One that isn't there, and a place that can't be written: nothing half is left."""
        missing = str(self.directory / "missing")
        self.assertEqual(await self.call("reverse", files=(missing,), timeout=60), 1)
        self.assertIn(missing, self.stderr)
        files = (self.file("a", "abc"),)
        nowhere = str(self.directory / "none" / "x")
        self.assertEqual(await self.call("reverse", files=files, outs=(nowhere,), timeout=60), 1)
        self.assertIn(nowhere, self.stderr)

    async def test_where_blocks_go(self) -> None:
        """A pipe, or a device, stays one; so does a link, a file's mode, and what is beside."""
        files = (self.file("a", "abc"),)
        pipe = str(self.directory / "pipe")
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        self.assertEqual(await self.call("reverse", files=files, outs=(pipe,), timeout=60), 0)
        self.assertEqual(os.read(reading, 10), b"cba")
        target, link, beside = (self.directory / name for name in ("target", "link", "link.part"))
        target.write_text("before")
        target.chmod(0o640)
        link.symlink_to(target.resolve())
        beside.write_text("mine")
        self.assertEqual(await self.call("reverse", files=files, outs=(str(link),), timeout=60), 0)
        self.assertTrue(link.is_symlink())
        self.assertEqual((target.read_text(), beside.read_text()), ("cba", "mine"))
        self.assertEqual(target.stat().st_mode & 0o777, 0o640)
        self.assertEqual([path.name for path in self.directory.glob(".*")], [])

    async def test_timeout_is_status_124(self) -> None:
        """Status 124, as coreutils' ``timeout`` has it."""
        self.assertEqual(await self.call("hang", timeout=3), 124)
        self.assertIn("deadline", self.stderr)

    async def test_failed_connection_says_what_was_tried(self) -> None:
        """It says what was tried, and why it did not work."""
        for target in ({"address": "tcp:127.0.0.1:1"}, {"address": None, "nameserver": "h:1"}):
            self.assertEqual(await self.call("add", timeout=5, **target), 1)
        self.assertIn("tcp:127.0.0.1:1: nothing listens there", self.stderr)
        self.assertIn("tcp:h:1", self.stderr)
        self.assertNotIn("twistd", self.stderr)

    async def test_missing_default_nameserver_says_how_to_start_one(self) -> None:
        """Whoever has started none is told that it is the nameserver that is missing."""
        nowhere = "tcp:127.0.0.1:1"
        self.patch(program, "DEFAULT_NAMESERVER", nowhere)
        self.assertEqual(await self.call("add", timeout=5, address=None, nameserver=nowhere), 1)
        self.assertIn('start it with "twistd pycomnet-nameserver"', self.stderr)

    def test_arguments_are_json(self) -> None:
        """None at all, or JSON."""
        self.assertIsNone(read_arguments(None))
        self.assertEqual(read_arguments('{"a": [1]}'), {"a": [1]})
        for text, said in (('{"a":', "JSON can't be read"), ("[" * 100_000, "nested too deeply")):
            problem = self.assertRaises(click.UsageError, read_arguments, text)
            self.assertIn(said, str(problem))

    def test_what_json_lacks_is_what_comes_nearest(self) -> None:
        """What JSON lacks is what comes nearest."""
        self.assertEqual(
            plain({1: (b"text", b"\xff\x00"), "s": {3, 1}, "c": 1j, "n": [None, True, 2.5]}),
            {"1": ["text", "/wA="], "s": [1, 3], "c": "1j", "n": [None, True, 2.5]},
        )


DESCRIBED = """\
org.example.calc
  Calculates.

  add(a: int, b: int?) -> int  [idempotent]
    The sum of a and b.

    It is an int.

  count(...)  [stream]
    One after the other.

  echo(...)
    What came.

  fail(...)

  guarded(...)

  hang(...)

  introspect(...)  [idempotent]
    What this service offers: its interfaces, their methods, and their documentation.

  reverse(...)  [3 blocks]
    Each block, backwards."""


class DescribeTests(CommandCase):
    """What is shown of a service."""

    def test_description_has_each_method(self) -> None:
        """Each method with what it takes and gives, and what is written on it."""
        self.assertEqual(as_text(describe(Calc())), DESCRIBED)
        self.assertEqual(as_text({}), "there are no interfaces at this address")
