"""What a launcher is told: files, options, and what is wrong with them."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import LaunchConfigError
from pycomnet.services.launch.config import (
    DEFAULT_LISTEN,
    Entry,
    LaunchConfig,
    make_config,
    read_file,
)
from pycomnet.services.nameserveraddress import DEFAULT_NAMESERVER

TOML = """
nameserver = "tcp:ns.example.org:2012"
listen = "tcp:2013"
advertise = "calc.example.org"
name = "calc-1"
wait = true
ttl = 30

[[service]]
module = "shop.calc:Calc"

[[service]]
module = "shop.stock"
name = "stock"
tags = ["eu", "blue"]
options = { database = "/srv/stock.db" }
metadata = { version = 3 }
"""
SETTINGS = {
    "nameserver": "tcp:ns.example.org:2012",
    "listen": "tcp:2013",
    "advertise": "calc.example.org",
    "name": "calc-1",
    "wait": True,
    "ttl": 30,
    "service": [
        {"module": "shop.calc:Calc"},
        {
            "module": "shop.stock",
            "name": "stock",
            "tags": ["eu", "blue"],
            "options": {"database": "/srv/stock.db"},
            "metadata": {"version": 3},
        },
    ],
}


def config(settings: dict[str, Any], *modules: str, **environ: str) -> LaunchConfig:
    """Make a configuration in an environment of its own."""
    return make_config(settings, modules, "a.toml", environ)


class Since(enum.Enum):
    """A value that can't be sent."""

    THEN = 1


class MakeTests(SynchronousTestCase):
    """Settings are checked and completed."""

    def test_every_key_arrives(self) -> None:
        """Every key arrives, and a module of the command line comes after those of the file."""
        self.assertEqual(
            config(SETTINGS, "more"),
            LaunchConfig(
                services=(
                    Entry("shop.calc:Calc"),
                    Entry(
                        "shop.stock",
                        "stock",
                        {"database": "/srv/stock.db"},
                        ("eu", "blue"),
                        {"version": 3},
                    ),
                    Entry("more"),
                ),
                listen=("tcp:2013",),
                advertise="calc.example.org",
                nameserver="tcp:ns.example.org:2012",
                name="calc-1",
                wait=True,
                ttl=30.0,
            ),
        )

    def test_module_alone_is_enough(self) -> None:
        """A module is enough: it listens on loopback, and the nameserver is this machine's."""
        found = config({}, "calc")
        self.assertEqual(found.listen, (DEFAULT_LISTEN,))
        self.assertEqual(found.nameserver, DEFAULT_NAMESERVER)
        self.assertIsNone(found.name)
        self.assertFalse(found.wait)

    def test_settings_override_environment(self) -> None:
        """The settings count more than the environment, and ``none`` is for none."""
        environ = {"PYCOMNET_NAMESERVER": "tcp:b:1"}
        self.assertEqual(config({}, "calc", **environ).nameserver, "tcp:b:1")
        self.assertEqual(config({"nameserver": "tcp:a:1"}, "calc", **environ).nameserver, "tcp:a:1")
        self.assertIsNone(config({"nameserver": "none"}, "calc", **environ).nameserver)

    def test_rule_is_needed_where_others_connect_without_a_certificate(self) -> None:
        """Unless the settings say who may call what has none."""
        there = "tls:2013:privateKey=k:certKey=c"
        for settings, denies in (
            ({}, False),
            ({"listen": "unix:/run/calc"}, False),
            ({"listen": there}, True),
            ({"listen": [DEFAULT_LISTEN, there]}, True),
            ({"listen": f"{there}:clientCAs=ca"}, False),
            ({"listen": there, "access": "allow"}, False),
            ({"listen": "tcp:2013"}, True),
            ({"listen": "tcp:2013", "insecure": True}, False),
            ({"access": "deny"}, True),
        ):
            self.assertIs(config(settings, "calc").denies, denies, settings)
        self.assertEqual(config({"listen": there}, "calc").readable, [])
        both = config({"listen": [DEFAULT_LISTEN, "tcp:2013"]}, "calc")
        self.assertEqual(both.readable, ["tcp:2013"])
        problem = self.assertRaises(LaunchConfigError, config, {"access": "all"}, "calc")
        self.assertIn("'allow' or 'deny'", str(problem))

    def test_nothing_to_run(self) -> None:
        """Neither a module nor a service in the file."""
        problem = self.assertRaises(LaunchConfigError, config, {"name": "x"})
        self.assertIn("what to run?", str(problem))

    def test_wrong_value_names_file_key_and_expectation(self) -> None:
        """The error names the file, the key, and what was expected or meant."""
        for settings, said in (
            ({"nameservre": "x"}, "a.toml: no key 'nameservre'; did you mean 'nameserver'?"),
            ({"zzz": 1}, "no key 'zzz'; there are: service, listen"),
            ({"listen": 2013}, "listen: expected a list of strings, got 2013"),
            ({"listen": []}, "listen: expected a list of strings, got []"),
            ({"listen": ["tcp:1", 2]}, "listen: expected a string"),
            ({"name": ""}, "name: expected a string, got ''"),
            ({"wait": 1}, "wait: expected true or false, got 1"),
            ({"ttl": "15"}, "ttl: expected a number of seconds above 0, at most"),
            ({"ttl": True}, "ttl: expected a number of seconds"),
            (
                {"patience": 0},
                "patience: expected a number of seconds above 0, at most",
            ),
            ({"service": {"module": "x"}}, "service: expected a list of tables, [[service]]"),
            ({"service": ["calc"]}, "service: expected a table"),
            ({"service": [{"name": "x"}]}, "a.toml, service 1: it has no module"),
            (
                {"service": [{"module": "a"}, {"module": "b", "tag": ["c"]}]},
                "a.toml, service 2: no key 'tag'; did you mean 'tags'?",
            ),
            ({"service": [{"module": "a", "options": [1]}]}, "options: expected a table, got [1]"),
            (
                {"service": [{"module": "a", "metadata": {"since": Since(1)}}]},
                'metadata: expected plain values: value["since"]: '
                "pycomnet.test.services.launch.test_config.Since can't be sent",
            ),
        ):
            problem = self.assertRaises(LaunchConfigError, config, settings, "calc")
            self.assertIn(said, str(problem))


class FileTests(SynchronousTestCase):
    """Files are read."""

    def file(self, name: str, data: bytes | str) -> Path:
        directory = Path(self.mktemp())
        directory.mkdir()
        path = directory / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def test_toml_and_json(self) -> None:
        """The two kinds say the same."""
        self.assertEqual(read_file(self.file("a.toml", TOML)), SETTINGS)
        self.assertEqual(read_file(self.file("a.json", json.dumps(SETTINGS))), SETTINGS)

    def test_unparsable_file_names_file_and_line(self) -> None:
        """The error names the file and, where it is a line's, that."""
        for name, data, said in (
            ("a.toml", "listen = tcp", "it isn't TOML"),
            ("a.toml", '{"listen": "tcp:1"}', "it isn't TOML"),
            ("a.json", "name = 'x'", "it isn't JSON"),
            ("a.json", '{\n"name":\n}', "line 3"),
            ("a.json", "[1]", "expected an object, got list"),
            ("a.toml", b"name = '\xff'", "it isn't TOML"),
            ("a.toml", f"patience = {'1' * 5000}", "it isn't TOML"),
            ("a.json", f'{{"patience": {"1" * 5000}}}', "it isn't JSON"),
            ("a.toml", f"options = {'[' * 100_000}", "nested too deeply"),
            ("a.json", "[" * 100_000, "nested too deeply"),
            ("a.toml", "#" * (1 << 20) + "\n", "longer than"),
        ):
            path = self.file(name, data)
            problem = self.assertRaises(LaunchConfigError, read_file, path)
            self.assertIn(str(path), str(problem))
            self.assertIn(said, str(problem))

    def test_unreadable_file_is_an_error(self) -> None:
        """A file that isn't there, and a directory."""
        problem = self.assertRaises(LaunchConfigError, read_file, "no/such.toml")
        self.assertEqual(str(problem), "can't read no/such.toml: No such file or directory")
        directory = Path(self.mktemp())
        directory.mkdir()
        problem = self.assertRaises(LaunchConfigError, read_file, directory)
        self.assertIn("Is a directory", str(problem))
