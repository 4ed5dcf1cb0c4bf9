"""The launcher's command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.auth.tokens import CREDENTIAL_VARIABLES
from pycomnet.services.launch.config import DEFAULT_LISTEN, Entry
from pycomnet.tap import service
from pycomnet.tap.service import Options, makeService

MODULE = "pycomnet.test.services.launch.test_launcher"


def parsed(*args: str) -> Any:
    """What a command line says."""
    options = Options()
    options.parseOptions(args)
    return options["launch"]


class OptionsTests(SynchronousTestCase):
    """Options and the file together."""

    def file(self, text: str) -> str:
        path = Path(self.mktemp() + ".toml")
        path.write_text(text)
        return str(path)

    def test_each_module_is_run(self) -> None:
        """One or more; each is what is run."""
        self.assertEqual(parsed("a", "b:C").services, (Entry("a"), Entry("b:C")))
        self.assertEqual(parsed("a").listen, (DEFAULT_LISTEN,))

    def test_every_option_arrives(self) -> None:
        """Each arrives."""
        found = parsed(
            *("--listen", "tcp:1", "-l", "tcp:2", "--nameserver", "tcp:h:3", "--name", "n"),
            *("--advertise", "h", "--ttl", "2.5", "--patience", "7", "--wait", "a"),
        )
        self.assertEqual(found.listen, ("tcp:1", "tcp:2"))
        self.assertEqual((found.nameserver, found.name), ("tcp:h:3", "n"))
        self.assertEqual((found.advertise, found.ttl, found.patience), ("h", 2.5, 7.0))
        self.assertTrue(found.wait)

    def test_options_override_the_file(self) -> None:
        """What an option says counts more, and modules come after those of the file."""
        path = self.file('name = "x"\nlisten = "tcp:1"\n[[service]]\nmodule = "a"\n')
        found = parsed("--config", path, "--name", "y", "b")
        self.assertEqual((found.name, found.listen), ("y", ("tcp:1",)))
        self.assertEqual(found.services, (Entry("a"), Entry("b")))

    def test_mistake_is_a_usage_error(self) -> None:
        """A usage error that says what is wrong."""
        for args, said in (
            ([], "what to run?"),
            (
                ["--ttl", "long", "a"],
                "--ttl: expected a number of seconds from 0",
            ),
            (["--ttl", "-1", "a"], "--ttl: expected a number of seconds from 0"),
            (["--config", "no/such.toml"], "can't read no/such.toml: No such file"),
            (["--config", self.file("nam = 'x'")], "did you mean 'name'?"),
            (["--colour", "a"], "colour"),
            (
                ["--metrics", "tcp:9100", "a"],
                "--metrics: other machines could read the metrics at 'tcp:9100'",
            ),
            (["--metrics", "nothing", "a"], "--metrics: "),
        ):
            problem = self.assertRaises(UsageError, parsed, *args)
            self.assertIn(said, str(problem))

    def test_metrics_are_for_this_machine(self) -> None:
        """Unless the user says that everybody may read them."""
        self.assertEqual(parsed("--metrics", "unix:/m", "a").metrics, "unix:/m")
        self.assertEqual(parsed("--metrics", "tcp:1", "--insecure", "a").metrics, "tcp:1")

    def test_help_has_each_option_and_examples(self) -> None:
        """It has each option, and examples that can be given as they stand."""
        text = str(Options())
        for option in ("listen", "nameserver", "name", "advertise", "wait", "config", "patience"):
            self.assertIn(f"--{option}", text)
        self.assertIn(DEFAULT_LISTEN, text)
        self.assertIn(f"\nExamples:\n  twistd --pidfile= -n {service.NAME} calc\n", text)
        for line in Options.epilog.splitlines():
            if " twistd " in line and "--config" not in line:
                parsed(*line.partition(service.NAME)[2].split())


class MakeTests(SynchronousTestCase):
    """What twistd gets."""

    def setUp(self) -> None:
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "excepthook", sys.excepthook)

    def make(self, *args: str) -> IService:
        options = Options()
        options.parseOptions(["--nameserver", "none", *args])
        return makeService(options)

    def test_nothing_is_opened_before_it_starts(self) -> None:
        """A service of Twisted's; nothing is opened before it is started."""
        self.assertTrue(IService.providedBy(self.make(f"{MODULE}:Calc")))

    def test_metrics_are_served_beside_the_services(self) -> None:
        """They start and end together."""
        made: Any = self.make("--metrics", "tcp:0:interface=127.0.0.1", f"{MODULE}:Calc")
        self.assertEqual([type(one).__name__ for one in made], ["Launcher", "MetricsService"])

    def test_modules_are_looked_for_in_the_working_directory(self) -> None:
        """Modules are looked for there first."""
        self.make(f"{MODULE}:Calc")
        self.assertIn(str(Path.cwd()), sys.path)

    def test_what_services_start_inherits_no_credentials(self) -> None:
        """They are read, and removed from the environment; a gateway's token is for gateways."""
        for name in CREDENTIAL_VARIABLES:
            before = os.environ.pop(name, None)
            self.addCleanup(os.environ.pop, name, None)
            if before is not None:
                self.addCleanup(os.environ.__setitem__, name, before)
        os.environ["PYCOMNET_USER"], os.environ["PYCOMNET_PASSWORD"] = "alice", "a secret"
        os.environ["PYCOMNET_TOKEN"] = "a-token-of-a-gateway"
        made: Any = self.make(f"{MODULE}:Calc")
        kinds = ["password", "certificate", "peer"]
        self.assertEqual([one.kind for one in made.context.credentials], kinds)
        self.assertEqual(
            [name for name in CREDENTIAL_VARIABLES if os.environ.get(name)], ["PYCOMNET_TOKEN"]
        )

    def test_module_that_cannot_be_imported(self) -> None:
        """The process ends, before it becomes a daemon, with status 1 and a message."""
        ended = self.assertRaises(SystemExit, self.make, "no_such_module")
        self.assertIn("pycomnet-service: there is no module 'no_such_module'", str(ended.code))
