"""``ns list``, ``locate``, ``watch`` and ``stat``, on a nameserver of this process."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import Any

from click.testing import CliRunner
from twisted.internet import defer

from pycomnet.cli import ns_store
from pycomnet.cli.app import root
from pycomnet.cli.ns import cluster, event_line, list_services, locate, stat, table, watch
from pycomnet.cli.ns_operate import operate, state_of
from pycomnet.cli.ns_store import export_store, import_store
from pycomnet.cli.program import CommandProgram
from pycomnet.errors import InvalidArguments, NotLeaseOwner
from pycomnet.nameserver import stores
from pycomnet.nameserver.daemon import NameserverService
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.stores import make_store
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.cli.case import CommandCase
from pycomnet.test.nameserver.kit import Follower, record


class ClusterAnswer:
    """A store that others share: what it says of its cluster."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def cluster(self) -> defer.Deferred[dict[str, Any]]:
        return defer.succeed(self._found)


ANY: dict[str, Any] = {"service": None, "interface": None, "tags": []}


class NsTests(CommandCase):
    """The commands' coroutines."""

    async def start(self) -> None:
        """A nameserver with two services."""
        self.failures: list[Any] = []
        self.nameserver = NameserverService(
            MemoryStore(), ["tcp:0:interface=127.0.0.1"], self.reactor, self.failures.append
        )
        self.nameserver.startService()
        self.addCleanup(self.nameserver.stopService)
        assert self.nameserver._starting is not None
        await self.nameserver._starting
        (self.address,) = self.nameserver.addresses
        self.context = Context(self.reactor, nameserver=self.address)
        self.addCleanup(self.context.close)
        self.client = self.context.at(self.address, NAMESERVER)
        await self.register("org.a", tags=["blue"], metadata={"v": 1})
        await self.register("com.b", address="unix:/run/b")

    async def register(self, service: str, **args: Any) -> Any:
        base = {"service": service, "interfaces": ["i.calc", "i.log"], "address": "tcp:h:1"}
        return await self.client.invoke("register", {**base, "ttl": 60, **args})

    async def run_it(self, command: Any, *args: Any) -> int:
        async def main(program: CommandProgram) -> int:
            async with Context(program.reactor, nameserver=self.address) as context:
                status: int = await command(program, context, *args)
                return status

        return await self.status_of(main)

    async def test_misspelt_interface_is_answered_with_the_near_one(self) -> None:
        """A misspelt interface is answered with the near one that is registered."""
        await self.start()
        wanted: dict[str, Any] = {"interface": "i.calk", "service": None, "tags": []}
        self.assertEqual(await self.run_it(locate, wanted, False), 1)
        self.assertIn("; did you mean 'i.calc'?\n", self.stderr)

    def test_misspelt_command_is_answered_with_the_near_one(self) -> None:
        """So is a misspelt command, and an option."""
        for args, near in (
            (["cal", "x"], "did you mean 'call'?"),
            (["ns", "lst"], "did you mean 'list'?"),
            (["run", "--timeot", "3"], "--timeout"),
        ):
            result = CliRunner().invoke(root, args)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(near, result.output)
        self.assertNotIn("did you mean", CliRunner().invoke(root, ["xyz"]).output)

    async def test_operator_alone_removes_a_living_name(self) -> None:
        """An operator removes a name whose lease goes on; nobody else does."""
        # Not below the test's own directory: the name of a socket may have some hundred characters.
        directory = tempfile.mkdtemp(prefix="pycomnet-")
        self.addCleanup(shutil.rmtree, directory)
        await self.start()
        removal = self.client.invoke("remove", {"service": "org.a"})
        error = await self.assertFailure(removal, NotLeaseOwner)
        self.assertIn("only an operator", str(error))
        self.assertEqual(await self.run_it(operate, "remove", {"service": "org.a"}), 1)
        self.assertIn("only an operator", self.stderr)
        path = os.path.join(directory, "s")
        self.address = await self.nameserver.server.listen(f"unix:{path}")
        drain = {"service": "org.a", "draining": True}
        self.assertEqual(await self.run_it(operate, "override", drain), 0)
        await self.run_it(list_services, ANY, False)
        self.assertIn("  draining", self.stdout)
        self.assertEqual(await self.run_it(operate, "remove", {"service": "org.a"}), 0)
        found = await self.client.invoke("list_services", {"after": ""})
        self.assertEqual([record["service"] for record in found], ["com.b"])
        self.assertEqual(await self.run_it(operate, "remove", {"service": "org.a"}), 1)
        self.assertIn("no service 'org.a' is registered", self.stderr)

    def test_state_has_all_that_is_not_as_usual(self) -> None:
        """A service's state is said in words."""
        self.assertEqual(state_of({}), "-")
        self.assertEqual(
            state_of({"draining": True, "failing": True, "weight": 5, "said": "no database"}),
            "draining, failing, weight 5: no database",
        )

    async def test_locate_no_name(self) -> None:
        """An interface is named, and no other thing."""
        await self.start()
        for nothing in (None, "", 7):
            error = await self.assertFailure(
                self.context.locate(nothing),  # type: ignore[arg-type]
                InvalidArguments,
            )
            self.assertIn("an interface's name, such as", str(error))
            self.assertIn(f"not {nothing!r}", str(error))

    async def test_list_is_a_table_in_order_of_names(self) -> None:
        """A table, in the order of the names."""
        await self.start()
        self.assertEqual(await self.run_it(list_services, ANY, False), 0)
        head, *rows = self.stdout.splitlines()
        self.assertEqual(
            head.split(),
            ["SERVICE", "ADDRESS", "INTERFACES", "TAGS", "SECONDS", "LEFT", "STATE"],
        )
        self.assertEqual(rows[0].split()[:5], ["com.b", "unix:/run/b", "i.calc", "i.log", "-"])
        self.assertEqual(rows[1].split()[:5], ["org.a", "tcp:h:1", "i.calc", "i.log", "blue"])

    async def test_list_json_has_a_record_on_each_line(self) -> None:
        """A record on each line, of those that match."""
        await self.start()
        await self.run_it(list_services, {**ANY, "tags": ["blue"]}, True)
        one = json.loads(self.stdout)
        self.assertEqual((one["service"], one["metadata"]), ("org.a", {"v": 1}))

    async def test_empty_list_is_said_so_on_a_terminal(self) -> None:
        """Nothing is said so, where no program reads it."""
        await self.start()
        self.assertEqual(await self.run_it(list_services, {**ANY, "service": "x*"}, False), 0)
        self.assertEqual(self.stdout, "")
        self.assertIn("no service is registered that matches", self.stderr)

    async def test_list_has_all_pages_under_one_head(self) -> None:
        """More than a page of them are all listed, under one head."""
        await self.start()
        for number in range(1100):
            await self.register(f"s{number:04}")
        await self.run_it(list_services, {**ANY, "service": "s*"}, False)
        lines = self.stdout.splitlines()
        self.assertEqual(len(lines), 1101)
        self.assertEqual(lines[-1].split()[0], "s1099")

    async def test_locate_prints_address_or_all(self) -> None:
        """The address alone, for scripts; or all of it."""
        await self.start()
        wanted: dict[str, Any] = {"interface": "i.calc", "service": "com.b", "tags": []}
        self.assertEqual(await self.run_it(locate, wanted, False), 0)
        self.assertEqual(self.stdout, "unix:/run/b\n")

    async def test_locating_nothing_is_status_1(self) -> None:
        """No such service is status 1, with what was looked for."""
        await self.start()
        wanted: dict[str, Any] = {"interface": "i.none", "service": None, "tags": []}
        self.assertEqual(await self.run_it(locate, wanted, False), 1)
        self.assertIn("no service with the interface 'i.none'", self.stderr)

    async def test_stat_prints_figures_or_json(self) -> None:
        """Each figure on a line, or as JSON."""
        await self.start()
        self.assertEqual(await self.run_it(stat, False), 0)
        shown = dict(line.split(":", 1) for line in self.stdout.splitlines())
        self.assertEqual((shown["services"].strip(), shown["registered"].strip()), ("2", "2"))
        self.assertEqual(shown["version"].strip(), "")
        self.assertRegex(shown["memory"], r"^ +held 0, most \d+, largest 0, refused 0$")

    async def test_cluster_of_one_is_said_so(self) -> None:
        """A nameserver with a store of its own has no cluster."""
        await self.start()
        self.assertEqual(await self.run_it(cluster, False), 0)
        self.assertIn("there is no cluster", self.stderr)

    async def test_cluster_prints_nameservers_and_members(self) -> None:
        """Nameservers, then members, each with its state; or JSON."""
        await self.start()
        nameservers = [{"id": "aa", "addresses": ["tcp:a:1"], "version": "1", "stale": 0.25}]
        reached = {"leader": True, "version": "3.4", "bytes": 7, "errors": ["no space"]}
        members = [
            {"name": "m0", "urls": ["http://a"], "reached": True, **reached},
            {"name": "m1", "urls": [], "reached": False},
        ]
        found = {"nameservers": nameservers, "members": members}
        self.patch(self.nameserver.names, "_view", ClusterAnswer(found))
        self.assertEqual(await self.run_it(cluster, False), 0)
        lines = [line.split() for line in self.stdout.splitlines()]
        self.assertEqual(lines[1], ["aa", "tcp:a:1", "1", "0.2"])
        self.assertEqual(lines[4], ["m0", "http://a", "3.4", "leader,", "no", "space", "7"])
        self.assertEqual(lines[5], ["m1", "-", "-", "not", "reached", "-"])

    async def test_export_and_import_move_registrations(self) -> None:
        """What one prints the other registers; names that are taken are told, with status 1."""
        old, new = (f"sqlite:{self.mktemp()}" for _ in range(2))
        store = make_store(old, self.reactor)
        await store.open(Follower())
        await store.commit(Put(record("org.moved")))
        await store.close()

        async def export(program: CommandProgram) -> int:
            return await export_store(program, old)

        self.assertEqual(await self.status_of(export), 0)
        lines = self.stdout.splitlines()
        self.assertEqual([json.loads(line)["service"] for line in lines[1:]], ["org.moved"])

        async def bring(program: CommandProgram) -> int:
            return await import_store(program, new, lines)

        for _ in range(2):  # as after one that was interrupted
            self.assertEqual(await self.status_of(bring), 0)
        self.assertEqual(self.stderr.count("1 registrations are there now"), 2)
        lines[1] = json.dumps({**json.loads(lines[1]), "secret": "A" * 22 + "=="})
        self.assertEqual(await self.status_of(bring), 1)
        self.assertIn("'org.moved' is registered by another owner, and stays", self.stderr)

    async def test_there_is_nothing_to_move_where_no_store_is(self) -> None:
        """A file that is not there is not made by an export; a nameserver's memory is its own."""
        missing = self.mktemp()
        for move in (
            lambda program: export_store(program, f"sqlite:{missing}"),
            lambda program: export_store(program, "memory:"),
            lambda program: import_store(program, "memory:", []),
        ):
            self.assertEqual(await self.status_of(move), 1)
        self.assertFalse(os.path.exists(missing))
        self.assertIn("there is no such file", self.stderr)
        self.assertEqual(self.stderr.count("memory: is within a nameserver"), 2)
        self.assertEqual(self.stdout, "")

    async def test_export_that_waits_says_so(self) -> None:
        """While a store is not there, a command says what it waits for, and can be interrupted."""
        self.patch(ns_store, "PATIENCE", 0.01)
        store = MemoryStore()
        self.patch(store, "open", lambda follower: defer.Deferred())
        self.patch(stores, "make_store", lambda description, reactor: store)
        say = self.program.say

        def said(message: str) -> None:
            say(message)
            self.program.end(130)

        self.patch(self.program, "say", said)

        async def export(program: CommandProgram) -> int:
            return await export_store(program, "etcd:http://127.0.0.1:1")

        self.assertEqual(await self.status_of(export), 130)
        self.assertIn("waiting for etcd:http://127.0.0.1:1", self.stderr)

    async def test_watch_prints_snapshot_and_changes(self) -> None:
        """What is there, the end of that, and what changes, until it is interrupted."""
        await self.start()
        shown: list[str] = []
        changed: Any = self.program.stdout

        def put(data: bytes) -> None:
            shown.extend(data.decode().splitlines())
            if shown[-1].startswith("# end"):
                defer.ensureDeferred(self.register("new"))
            elif "new" in shown[-1]:
                self.reactor.callLater(0, self.program.end, 130)

        self.patch(changed, "put", put)
        self.assertEqual(await self.run_it(watch, ANY, False), 130)
        self.assertEqual(shown[0], "+ com.b  unix:/run/b  i.calc i.log")
        self.assertEqual(shown[1], "+ org.a  tcp:h:1  i.calc i.log")
        self.assertTrue(shown[2].startswith("# end-of-snapshot, revision "), shown)
        self.assertEqual(shown[3], "+ new  tcp:h:1  i.calc i.log")

    async def test_missing_nameserver_is_status_1_with_its_address(self) -> None:
        """A nameserver that is not there is status 1, with its address."""
        await self.start()
        await self.nameserver.stopService()
        self.assertEqual(await self.run_it(stat, False), 1)
        self.assertIn(self.address, self.stderr)


class ShownTests(CommandCase):
    """What is shown, and the command line."""

    def test_event_is_a_line(self) -> None:
        """An event is a line."""
        self.assertEqual(
            event_line({"event": "delete", "revision": 5, "service": "a", "why": "expired"}),
            "- a  (expired)",
        )
        self.assertEqual(event_line({"event": "progress", "revision": 5}), "# progress, revision 5")

    def test_columns_are_as_wide_as_they_must_be(self) -> None:
        """Columns are as wide as they must be, and no wider."""
        self.assertEqual(table([["a", "bbb", "c"], ["aa", "b", "c"]]), ["a   bbb  c", "aa  b    c"])

    def test_help_says_what_each_command_takes(self) -> None:
        """Each command's help says what it is and takes."""
        for args, expected in (
            (["ns"], "list"),
            (["ns", "list", "--help"], "PATTERN"),
            (["ns", "locate", "--help"], "INTERFACE"),
            (["ns", "watch", "--help"], "Ctrl-C"),
            (["ns", "stat", "--help"], "--json"),
            (["ns", "drain", "--help"], "undrain"),
            (["ns", "weigh", "--help"], "WEIGHT"),
        ):
            shown = CliRunner().invoke(root, args)
            self.assertIn(expected, shown.output, args)

    def test_mistake_is_status_2(self) -> None:
        """A mistake on the command line is status 2."""
        for args in (["ns", "lst"], ["ns", "locate"], ["ns", "--timeout", "0", "stat"]):
            self.assertEqual(CliRunner().invoke(root, args).exit_code, 2, args)
