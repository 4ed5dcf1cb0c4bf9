"""Environments of this interpreter at real far sides, and ``pycomnet venv``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import TestCase

from pycomnet import xdeploy
from pycomnet.gateways.group import Group
from pycomnet.gateways.spec import Spec
from pycomnet.test.cli.case import CommandCase
from pycomnet.test.xdeploy.packages import project, wheel


class RealTests(TestCase):
    """Environments of this interpreter, at real far sides."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.options: dict[str, Any] = {"directory": str(self.path / "root")}

    async def test_empty_environment_from_begin_to_end(self) -> None:
        """One without requirements, its list, and its end."""
        async with Group(self.reactor) as group:
            gateway = await group.makegateway("popen")
            inside = await xdeploy.create_venv_gateway(gateway, "work", **self.options)
            prefix = await inside.call("os:getcwd")
            self.assertTrue(prefix.startswith(str(self.path)))
            [found] = await xdeploy.list(gateway, **self.options)
            self.assertEqual((found.path, found.packages), (prefix, {}))
            self.assertTrue(await xdeploy.remove(gateway, "work", **self.options))
            self.assertEqual((await xdeploy.prune(gateway, **self.options)).environments, 0)
            await inside.exit()
            self.assertEqual((await xdeploy.prune(gateway, **self.options)).environments, 1)

    async def test_project_is_added(self) -> None:
        """A wheel from a directory, and a project that is added to it."""
        wheel(self.path / "index", "alpha")
        source = project(self.path / "project", "mine", requires=("alpha",))
        self.patch_cache()
        options = {**self.options, "index": self.path / "index"}
        async with Group(self.reactor) as group:
            gateway = await group.makegateway("popen")
            inside = await xdeploy.create_venv_gateway(gateway, "work", "alpha", **options)
            found = await xdeploy.SetupFile(source).sdist_remote_install(inside)
            self.assertEqual(found.packages, {"alpha": "1.0", "mine": "1.0"})
            channel = inside.remote_exec("import mine; channel.send(mine.VERSION)")
            self.assertEqual(await channel.receive(), "1.0")

    async def test_projects_that_are_added_at_once_are_all_there(self) -> None:
        """Of two projects that are installed at once, none is lost."""
        sources = [project(self.path / name, name) for name in ("one", "two")]
        self.patch_cache()
        async with Group(self.reactor) as group:
            gateway = await group.makegateway("popen")
            inside = await xdeploy.create_venv_gateway(gateway, "work", **self.options)
            made = await defer.gatherResults(
                [xdeploy.SetupFile(source).sdist_remote_install(inside) for source in sources]
            )
            self.assertEqual([sorted(each.packages) for each in made], [["one"], ["one", "two"]])

    def patch_cache(self) -> None:
        """Use a cache of this test."""
        import os

        self.patch(os, "environ", {**os.environ, "XDG_CACHE_HOME": str(self.path / "cache")})


class CommandTests(CommandCase):
    """``pycomnet venv``."""

    timeout = 120

    async def make(self, *command: str) -> int:
        """Make an empty environment, and run a command in it."""
        from pycomnet.cli.venv import make

        where = str(self.directory / "root")
        return await self.status_of(
            lambda program: make(program, Spec.parse("popen"), "work", [], command, directory=where)
        )

    async def test_prints_the_path_of_its_python(self) -> None:
        """Without a command it prints the interpreter's path."""
        self.assertEqual(await self.make(), 0)
        self.assertRegex(self.stdout, r"/root/environments/\w+/bin/python\n$")

    async def test_status_and_output_are_the_commands(self) -> None:
        """A command's output and status are those of ``pycomnet venv``."""
        code = "import sys; print(sys.prefix); print('e', file=sys.stderr); sys.exit(4)"
        self.assertEqual(await self.make("python", "-c", code), 4)
        self.assertRegex(self.stdout, r"/root/environments/\w+\n$")
        self.assertTrue(self.stderr.endswith("e\n"))

    async def test_missing_command_is_127(self) -> None:
        """One that is not there has the status of a shell."""
        self.assertEqual(await self.make("no-such-command"), 127)
        self.assertIn("no-such-command", self.stderr)
