"""``demo``: all of its steps at real gateways, and what it does when one goes wrong."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

from pycomnet.cli import survey, tour, tourrunner, tourservice
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.tourrunner import TourRunner
from pycomnet.errors import RemoteError
from pycomnet.test.cli.case import CommandCase


class Tour(CommandCase):
    """The tour as a whole."""

    def setUp(self) -> None:
        super().setUp()
        paths = survey.library_modules()
        self.assertGreater(len(paths), 100)
        self.paths = [path for path in paths if "/json/" in path]
        self.patch(survey, "library_modules", lambda: self.paths)

        async def services(runner: TourRunner) -> None:
            """Daemons are for the system's tests."""
            runner._begin("Services", "", tourservice.Tour, tour.survive)

        async def http(runner: TourRunner, group: object) -> None:
            runner._begin("Through HTTP", "", tour.add_one, tour.through_http)

        self.patch(TourRunner, "_services", services)
        self.patch(shutil, "which", lambda name: None)
        self.patch(TourRunner, "_http", http)

    async def tour(self) -> int:
        """Its exit status."""

        async def main(program: CommandProgram) -> int:
            return await TourRunner(program, 2).run()

        return await self.status_of(main)

    async def test_tour_shows_each_step_in_ascii(self) -> None:
        """Each is shown with its code and what came of it; it is plain ASCII in a file."""
        self.assertEqual((await self.tour(), self.stderr), (0, ""))
        text = self.stdout
        self.assertTrue(text.isascii() and "\x1b" not in text)
        for number in range(1, 13):
            self.assertIn(f"\n{number}. ", text)
        for shown in (
            "=> 2 started in ",
            "=> 500 files sent in ",
            "=> then one was changed: SyncEvent(kind='sent', target='gw0:",
            "    def echo(channel: Any) -> None:\n        for value in channel:",
            "=> a round trip takes ",
            " MB a second\n",
            "=> Output(gateway='gw0', stream=2, text='and this is an error message\\n')",
            "       return sum(numbers) / len(numbers)\n",
            "   ZeroDivisionError: division by zero\n",
            "   gateway victim: its process is gone: it was killed by SIGKILL",
            "    class Tour(pycomnet.Service):\n        @pycomnet.method(idempotent=True)\n",
            "    channel.send(channel.receive() + 1)\n",
            "=> not here: install etcd (on Debian: apt install etcd-server)\n",
            "| modules   |",
            "=> 2 gateways: ",
            "=> one process: ",
        ):
            self.assertIn(shown, text)

    async def test_failing_step_ends_the_tour_with_status_1(self) -> None:
        """A step that shows something else than it should ends the tour with status 1."""

        async def fail(gateway: object) -> RemoteError:
            return RemoteError("TypeError", "another one")

        self.patch(tour, "fail", fail)
        self.assertEqual(await self.tour(), 1)
        self.assertEqual(self.stderr, "pycomnet: the tour went wrong: the error was TypeError\n")
        self.assertNotIn("Real work", self.stdout)

    async def test_etcd_without_the_library_for_it(self) -> None:
        """Where etcd is installed and pycomnet's client of it isn't, the tour says so, and goes on:
        a plain ``pip install .`` is all that the README asks for."""

        def without_hpack(name: str) -> Any:
            return None if name == "hpack" else find_spec(name)

        self.patch(shutil, "which", lambda name: f"/usr/bin/{name}")
        self.patch(tourrunner, "find_spec", without_hpack)
        self.assertEqual(await self.tour(), 0, self.stderr)
        self.assertIn("=> not here: pip install 'pycomnet[etcd]'\n", self.stdout)

    async def test_gateway_is_lost(self) -> None:
        """So does a gateway that dies under the work."""

        def survey_module(path: str) -> None:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)

        self.patch(survey, "survey_module", survey_module)
        self.assertEqual(await self.tour(), 1)
        self.assertIn("its process is gone: it was killed by SIGKILL", self.stderr)

    async def test_slow_machine_gets_a_part_and_says_so(self) -> None:
        """Where one process would take too long, it gets a part, and that is said."""
        self.patch(tourrunner, "PATIENCE", 1e-6)
        self.assertEqual(await self.tour(), 0, self.stderr)
        self.assertRegex(self.stdout, r"=> one process:  .* s \(by one in \d+ modules\): ")
