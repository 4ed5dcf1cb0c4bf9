"""The near end of making an environment: what a far side may say, and real far sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet import xdeploy
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.far.xdeploy import interpreter
from pycomnet.gateways.group import Group
from pycomnet.gateways.spec import Spec
from pycomnet.test.cli.case import CommandCase
from pycomnet.test.xdeploy.packages import project, wheel
from pycomnet.xdeploy.deploy import Deployment
from pycomnet.xdeploy.plan import PackageIndex
from pycomnet.xdeploy.request import VenvProgress, VenvRequest
from pycomnet.xdeploy.requirements import Requirements
from pycomnet.xdeploy.venvgateway import beside
from pycomnet.xdeploy.wheelcache import WheelCache

READY = {
    "identity": "0" * 32,
    "path": "/there",
    "root": "/root",
    "PATH": "/bin",
    "about": json.dumps({"packages": {"a": "1.0"}}).encode(),
    "made": True,
}
FACTS = interpreter.facts()


class ScriptedFarSide:
    """A gateway and its channel: it says what a test wants, and keeps what it is sent."""

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []
        self.closed = False
        self.link = self
        self.reactor = None
        self.request: dict[str, Any] = {}

    def offer_modules(self, offer: object) -> defer.Deferred[None]:
        return defer.succeed(None)

    def remote_exec(self, code: object, request: dict[str, Any]) -> Any:
        self.request = request
        return self

    def receive(self) -> defer.Deferred[Any]:
        if not self.messages:
            return defer.fail(ChannelClosed("closed"))
        message = self.messages.pop(0)
        return defer.fail(message) if isinstance(message, Exception) else defer.succeed(message)

    def send(self, value: object) -> defer.Deferred[None]:
        self.sent.append(value)
        return defer.succeed(None)

    def close(self, error: object = None) -> None:
        self.closed = True


class ConversationTests(SynchronousTestCase):
    """:class:`Deployment` with a scripted far side."""

    def setUp(self) -> None:
        self.steps: list[VenvProgress] = []

    def deployment(
        self, *messages: Any, look: bool = False, requirements: str = "", progress: Any = None
    ) -> Deployment:
        self.far = ScriptedFarSide(*messages)
        request = VenvRequest(
            name="work",
            requirements=Requirements.of(requirements),
            python=None,
            upgrade=False,
            index=PackageIndex(),
            projects=(),
            directory=None,
            far=False,
            progress=progress or self.steps.append,
            cache=WheelCache(self.mktemp()),
        )
        return Deployment(cast(Any, self.far), request, look)

    def run_it(self, *messages: Any, **options: Any) -> Deployment:
        deployment = self.deployment(*messages, **options)
        self.successResultOf(defer.Deferred.fromCoroutine(deployment.run()))
        return deployment

    def fails(self, kind: type[Exception], *messages: Any, **options: Any) -> str:
        deployment = self.deployment(*messages, **options)
        failure = self.failureResultOf(defer.Deferred.fromCoroutine(deployment.run()), kind)
        return str(failure.value)

    def test_ready_is_held_until_closed(self) -> None:
        """What is there is held until the deployment is closed."""
        deployment = self.run_it({"waiting": 5}, {"ready": READY})
        self.assertEqual(
            deployment.venv,
            xdeploy.Venv("work", "0" * 32, "/there", "/there/bin/python", {"a": "1.0"}, True),
        )
        self.assertEqual(deployment.lock_path, "/root/locks/use-" + "0" * 32)
        self.assertEqual([step.stage for step in self.steps], ["waiting", "ready"])
        self.assertEqual(self.steps[0].detail, "5")
        self.assertFalse(self.far.closed)
        deployment.close()
        self.assertTrue(self.far.closed)

    def test_far_side_that_waits_gets_a_reply(self) -> None:
        """When the lock is free that the far side waits for, it gets a reply, and tries again."""
        self.run_it({"waiting": None}, {"free": True}, {"free": True}, {"ready": READY})
        self.assertEqual(self.far.sent, [None, None])

    def test_report_that_fails_leaves_nothing_held(self) -> None:
        """If what is told of a step fails, be it the last, the far side's channel is closed."""
        for number in (0, 1):
            steps: list[VenvProgress] = []

            def fail(step: VenvProgress, steps: Any = steps, number: int = number) -> None:
                steps.append(step)
                if len(steps) > number:
                    raise ZeroDivisionError

            deployment = self.deployment({"waiting": 5}, {"ready": READY}, progress=fail)
            running = defer.Deferred.fromCoroutine(deployment.run())
            self.failureResultOf(running, ZeroDivisionError)
            self.assertTrue(self.far.closed)

    def test_only_a_look_may_find_nothing(self) -> None:
        """Who only looks may find nothing."""
        self.assertEqual(self.run_it({"absent": True}, look=True).ready, {})
        self.assertTrue(self.far.request["look"])
        self.fails(xdeploy.DeploymentFailed, {"absent": True})

    def test_hostile_message_is_an_error(self) -> None:
        """What a hostile far side may say is an error, and not a failure of this program."""
        messages: list[Any] = [
            5,
            {},
            {"ready": 5},
            {"ready": {}},
            {"ready": {**READY, "about": b"{"}},
            {"ready": {**READY, "about": b'{"packages": 5}'}},
            {"ready": {**READY, "path": 5}},
            {"waiting": "\x1b[2J"},
            {"progress": ["a", "b", "c"]},
            {"resolve": {}},
            {"resolve": {"implementation": 5, "version": 5}},
            {"resolve": {**FACTS, "suffix": 5, "implementation": "pypy"}},
            {"resolve": {**FACTS, "version": "three"}},
            {"send": ["../../etc/passwd"]},
            {"send": [["unhashable"]]},
            {"failed": [1]},
        ]
        for message in messages:
            said = self.fails(xdeploy.DeploymentFailed, message)
            self.assertIn("no message", said, message)
            self.assertTrue(self.far.closed)

    def test_far_errors_keep_their_type(self) -> None:
        """A refusal is one, and other errors of the far side are told with their type."""
        refused = RemoteError("_pycomnet_xdeploy.interpreter.VenvRefused", "not here")
        self.assertEqual(self.fails(xdeploy.EnvironmentRefused, refused), "not here")
        said = self.fails(xdeploy.DeploymentFailed, RemoteError("OSError", "No space left"))
        self.assertIn("OSError: No space left", said)

    def test_build_output_is_whole(self) -> None:
        """A failed build's output is whole."""
        deployment = self.deployment({"failed": ["a-1.tar.gz", 1, "x" * 100000 + "end"]})
        failure = self.failureResultOf(
            defer.Deferred.fromCoroutine(deployment.run()), xdeploy.BuildFailed
        )
        self.assertEqual(failure.value.output, "x" * 100000 + "end")

    def test_key_does_not_depend_on_order(self) -> None:
        """What is asked for does not depend on the order of requirements."""
        self.run_it({"ready": READY}, requirements="a\nb")
        one = self.far.request
        self.run_it({"ready": READY}, requirements="b\na")
        self.assertEqual(self.far.request["key"], one["key"])
        self.run_it({"ready": READY}, requirements="b\na\nc")
        self.assertNotEqual(self.far.request["key"], one["key"])
        self.run_it({"ready": READY}, requirements="a @ file:///tmp/a.whl")
        self.assertTrue(self.far.request["upgrade"])


class BesideTests(SynchronousTestCase):
    """The spec of a gateway beside another one."""

    def spec(self, text: str, **changes: Any) -> Spec:
        gateway = ScriptedFarSide()
        gateway.spec, gateway.id = Spec.parse(text), "master"  # type: ignore[attr-defined]
        return beside(cast(Any, gateway), ("/py",), **changes)

    def test_popen_keeps_its_spec(self) -> None:
        """On this machine: the same, with another interpreter."""
        spec = self.spec("popen//id=x//nice=5//env:A=1//python=p", chdir="/d", env={"B": "2"})
        self.assertEqual(spec, Spec.parse("popen//nice=5//env:A=1//env:B=2//python=/py//chdir=/d"))
        self.assertEqual(spec.env, {"A": "1", "B": "2"})

    def test_others_go_through_the_gateway(self) -> None:
        """Elsewhere: through the gateway's connection."""
        for text in ("ssh=host//env:A=1//nice=5", "socket=tcp:h:1//env:A=1//nice=5"):
            spec = self.spec(text, id="new")
            self.assertEqual((spec.transport, spec.via, spec.id), ("popen", "master", "new"))
            self.assertEqual((spec.env, spec.nice), ({"A": "1"}, 5))
        self.assertEqual(self.spec("http=h:1//nice=5").nice, 0)


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
