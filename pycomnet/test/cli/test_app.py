"""The command line itself: help, mistakes, and what is imported when."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.cli.app import COMMANDS, root
from pycomnet.cli.map import read_target
from pycomnet.cli.options import expand, read_specs
from pycomnet.cli.run import read_script
from pycomnet.errors import SpecError

IMPORTED = """
import json, sys
import {module}
print(json.dumps([name for name in ("twisted.internet.reactor", "rich", "click", "twisted")
                  if name in sys.modules]))
"""


def imported_by(module: str) -> list[str]:
    """Which of the heavy modules come with one."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(module=module)],
        capture_output=True,
        check=True,
        timeout=300,
    )
    names: list[str] = json.loads(done.stdout)
    return names


class Imports(SynchronousTestCase):
    """A command line that is fast to start."""

    def test_console_script_imports_next_to_nothing(self) -> None:
        """What the console script imports is next to nothing."""
        self.assertEqual(imported_by("pycomnet.cli"), [])

    def test_commands_are_defined_without_twisted(self) -> None:
        """What defines the commands needs neither a reactor nor Twisted."""
        modules = ", ".join(where.partition(":")[0] for where, _ in COMMANDS.values())
        self.assertEqual(imported_by(f"pycomnet.cli.app, {modules}"), ["click"])

    def test_no_module_loads_a_reactor(self) -> None:
        """No module of the command line loads a reactor."""
        modules = "pycomnet.cli.maprun, pycomnet.cli.tourrunner, pycomnet.cli.progress"
        self.assertNotIn("twisted.internet.reactor", imported_by(modules))


class LogIn(SynchronousTestCase):
    """The options with a user's credentials."""

    def test_every_command_that_calls_a_service_has_them(self) -> None:
        """Those that ask a nameserver, or are given an address."""
        wanted = {"--user", "--token-file", "--cert", "--key", "--trust-roots"}
        having = set()
        waiting: list[tuple[str, click.Command, set[str]]] = [("", root, set())]
        while waiting:
            name, command, outer = waiting.pop()
            options = outer | {option for one in command.params for option in one.opts}
            if isinstance(command, click.Group):
                context = click.Context(command)
                for inner in command.list_commands(context):
                    found = command.get_command(context, inner)
                    assert found is not None
                    waiting.append((f"{name} {inner}".strip(), found, options))
            elif {"--nameserver", "--address"} & options:
                having.add(name.partition(" ")[0])
                self.assertLessEqual(wanted, options, name)
        self.assertEqual(having, {"call", "describe", "ns", "pub", "sub", "workflow"})


class Help(SynchronousTestCase):
    """What it says of itself."""

    def invoke(self, *args: str) -> tuple[int, str]:
        """The exit status and what is printed."""
        result = CliRunner().invoke(root, args)
        return result.exit_code, result.output

    def test_version_names_its_python(self) -> None:
        """The version, and the Python it runs with."""
        status, output = self.invoke("--version")
        self.assertEqual(status, 0)
        self.assertIn(f"pycomnet {pycomnet.__version__} ", output)

    def test_help_lists_commands_with_examples(self) -> None:
        """Each command is listed, and its own help has examples that begin with its name."""
        status, output = self.invoke("--help")
        self.assertEqual(status, 0)
        for name in COMMANDS:
            self.assertIn(f"\n  {name} ", output)
            status, text = self.invoke(name, "-h")
            self.assertEqual(status, 0)
            if name != "demo":
                self.assertRegex(text, rf"  (.* \| )?pycomnet {name} ")

    def test_help_examples_can_be_given(self) -> None:
        """Each example of the help can be given as it stands."""
        context = click.Context(root, **root.context_settings)
        for name in COMMANDS:
            command = root.get_command(context, name)
            assert command is not None
            lines = f"{root.epilog}\n{command.epilog}".splitlines()
            examples = [line for line in lines if f" pycomnet {name}" in line]
            self.assertTrue(examples, name)
            for example in examples:
                words = shlex.split(example.partition(f"pycomnet {name}")[2])
                cut = next((n for n, word in enumerate(words) if word in "<>|"), len(words))
                command.make_context(name, words[:cut], context)

    def test_mistake_is_status_2_with_advice(self) -> None:
        """Status 2, and what to do instead."""
        for args, hint in (
            (["rum"], "No such command 'rum'"),
            (["run"], "what to run?"),
            (["run", "/no/such/file.py"], "can't read '/no/such/file.py': No such file"),
            (["run", "."], "it is a directory; try -m"),
            (["run", "-c", "1", "-m", "x"], "not both"),
            (["run", "--on", "popem", "x"], "did you mean 'popen'?"),
            (["run", "--on", "0xpopen", "x"], "not 0"),
            (["run", "--env", "X", "x"], "expected NAME=VALUE"),
            (["map", "len"], "expected MODULE:FUNCTION"),
            (["call", "x", "y", "{"], "JSON can't be read: Expecting property name"),
            (["call", "x", "y", "--address", "h:1", "--service", "s"], "not both"),
            (["call", "x", "y", "--stream", "--file", "f"], "--stream can't be used with"),
            (["call", "x", "y", "--timeout", "0"], "not in the range x>0"),
            (["describe"], "give an INTERFACE"),
            (["map", "/no/such/file.py:f"], "can't read '/no/such/file.py': No such file"),
            (["map", "--jobs", "0", "a:b"], "--jobs"),
        ):
            status, output = self.invoke(*args)
            self.assertEqual((status, hint in output), (2, True), (args, output))


class Specs(SynchronousTestCase):
    """``--on`` and the options that go with it."""

    def test_default_is_one_popen_gateway(self) -> None:
        """Without ``--on`` it is one popen gateway."""
        self.assertEqual([str(spec) for spec in read_specs([])], ["popen"])

    def test_several_of_a_kind(self) -> None:
        """``NxSPEC``, with numbered ids."""
        self.assertEqual([str(s) for s in expand("3xpopen//nice=1")], ["popen//nice=1"] * 3)
        self.assertEqual([s.id for s in expand("2xpopen//id=w")], ["w0", "w1"])

    def test_options_fill_in(self) -> None:
        """What a spec says itself comes first; variables are merged."""
        own, other = read_specs(
            ["popen//python=py//env:A=1", "popen"],
            python="other",
            chdir="/tmp",
            env=[("A", "2"), ("B", "3")],
        )
        self.assertEqual((own.python, own.chdir, own.env), (("py",), "/tmp", {"A": "1", "B": "3"}))
        self.assertEqual((other.python, other.env), (("other",), {"A": "2", "B": "3"}))

    def test_repeated_id_is_found_before_anything_starts(self) -> None:
        """Found before anything is started."""
        with self.assertRaisesRegex(SpecError, "id 'w0'"):
            read_specs(["2xpopen//id=w", "popen//id=w0"])


class Arguments(SynchronousTestCase):
    """What is to be run."""

    def test_script_has_arguments_and_path_as_in_the_interpreter(self) -> None:
        """As the interpreter would: the arguments, and where modules are looked for."""
        self.assertEqual(read_script(("-x", "y"), code="pass").argv, ["-c", "-x", "y"])
        self.assertEqual(read_script(("y",), module="timeit").argv, ["timeit", "y"])
        script = read_script((__file__, "a", "--b"))
        self.assertEqual(script.argv, [__file__, "a", "--b"])
        self.assertTrue(__file__.startswith(script.directory))

    def test_target_is_a_module_or_a_file(self) -> None:
        """A module by its name, a file by its suffix or a slash."""
        self.assertEqual(read_target("os.path:basename")["where"], "os.path:basename")
        self.assertIsNone(read_target("os.path:basename")["source"])
        found = read_target(f"{__file__}:Arguments.test_target_is_a_module_or_a_file")
        self.assertEqual(found["where"], "test_app:Arguments.test_target_is_a_module_or_a_file")
        with open(__file__, "rb") as file:
            self.assertEqual(found["source"], file.read())
