"""The near end of making an environment: what a far side may say, and real far sides."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any, cast

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet import xdeploy
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.far.xdeploy import interpreter
from pycomnet.gateways.spec import Spec
from pycomnet.test.garbage import collects
from pycomnet.xdeploy.deploy import Deployment
from pycomnet.xdeploy.plan import PackageIndex, SourceFile
from pycomnet.xdeploy.request import VenvProgress, VenvRequest
from pycomnet.xdeploy.requirements import Requirements
from pycomnet.xdeploy.venvgateway import beside, remember, request_for
from pycomnet.xdeploy.wheelcache import WheelCache

READY: dict[str, Any] = {
    "identity": "0" * 32,
    "path": "/root/environments/" + "0" * 32,
    "root": "/root",
    "PATH": "/bin",
    "about": json.dumps({"packages": {"a": "1.0"}}).encode(),
    "made": True,
}
FACTS = interpreter.facts()
#: What an honest far side does not say of an environment: it would be another file's place.
ELSEWHERE: list[dict[str, Any]] = [
    {"path": "/tmp/evil"},
    {"path": "/root/environments/../../tmp/evil"},
    {"path": "environments/" + "0" * 32, "root": "."},
    {"path": "/root\0/environments/" + "0" * 32, "root": "/root\0"},
    {"identity": "../x", "path": "/root/environments/../x"},
    {"identity": "0" * 31 + "\n", "path": "/root/environments/" + "0" * 31 + "\n"},
]
#: Facts that no interpreter has. With some there would be a billion tags.
NO_FACTS: list[dict[str, Any]] = [
    {"libc": ["glibc", "2.999999999"]},
    {"libc": ["musl", "1.999999999"]},
    {"libc": ["glibc", "2." + "9" * 10000]},
    {"libc": ["glibc"]},
    {"mac": ["10.99999999", "x86_64"], "platform": "macosx-10-x86_64"},
    {"version": [3, 10**9, 0]},
    {"version": [3, 11]},
    {"version": [3, 11.0, 2]},
    {"version": [3, True, 2]},
    {"version": [-3, 11, 2]},
    {"implementation": b"cpython"},
    {"platform": "x" * 100000},
    {"markers": 5},
    {"markers": {**FACTS["markers"], "platform_version": b""}},
    {"markers": {**FACTS["markers"], "another": "x"}},
    {"markers": {5: "x"}},
    {"narrow": "no"},
]


class ScriptedFarSide:
    """A gateway and its channel: it says what a test wants, and keeps what it is sent."""

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.sent: list[Any] = []
        self.closed = False
        self.link = self
        self.reactor: Any = None
        self.spec = Spec.parse("popen")
        self.id = "master"
        self.request: dict[str, Any] = {}

    def offer_modules(self, offer: object) -> defer.Deferred[None]:
        return defer.succeed(None)

    def remote_exec(self, code: object, request: Any = None, given: Any = None) -> Any:
        self.request = request or given
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
        self,
        *messages: Any,
        look: bool = False,
        requirements: str = "",
        progress: Any = None,
        directory: str | None = None,
    ) -> Deployment:
        self.far = ScriptedFarSide(*messages)
        request = VenvRequest(
            name="work",
            requirements=Requirements.of(requirements),
            python=None,
            upgrade=False,
            index=PackageIndex(),
            projects=(),
            directory=directory,
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
            xdeploy.Venv(
                "work",
                "0" * 32,
                READY["path"],
                f"{READY['path']}/bin/python",
                {"a": "1.0"},
                True,
            ),
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
            {"ready": {**READY, "about": b"[" * 100000}},
            {"ready": {**READY, "about": b'{"packages": {"a": 5}}'}},
            {"ready": {**READY, "path": 5}},
            *({"ready": {**READY, **changes}} for changes in ELSEWHERE),
            {"waiting": "\x1b[2J"},
            {"progress": ["a", "b", "c"]},
            {"resolve": {}},
            {"resolve": {"implementation": 5, "version": 5}},
            {"resolve": {**FACTS, "suffix": 5, "implementation": "pypy"}},
            {"resolve": {**FACTS, "version": "three"}},
            *({"resolve": {**FACTS, **changes}} for changes in NO_FACTS),
            {"send": ["../../etc/passwd"]},
            {"send": [["unhashable"]]},
            {"failed": [1]},
        ]
        for message in messages:
            said = self.fails(xdeploy.DeploymentFailed, message)
            self.assertIn("no message", said, message)
            self.assertTrue(self.far.closed)

    def test_it_is_in_the_directory_that_was_asked_for(self) -> None:
        """Where a directory was asked for by its path, the environment is there."""
        self.run_it({"ready": READY}, directory="/root/")
        self.run_it({"ready": READY}, directory="~/here")
        self.assertIn(
            "no message",
            self.fails(xdeploy.DeploymentFailed, {"ready": READY}, directory="/other"),
        )

    def test_failed_build_is_shown_in_part(self) -> None:
        """An error's message has the end of what a build wrote, and controls no terminal."""
        output = "begin" + "x" * 100000 + "\x1b[2Jend"
        said = self.fails(xdeploy.BuildFailed, {"failed": ["a\x1b[2J" * 1000, 1, output]})
        self.assertLess(len(said), 10000)
        self.assertNotIn("\x1b", said)
        self.assertTrue(said.endswith("end"))

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


class HostileUpkeepTests(SynchronousTestCase):
    """What a hostile far side may answer when environments are listed and removed."""

    def test_hostile_answer_is_an_error(self) -> None:
        """It is an error of this package, and not a failure of this program."""
        listed = {
            "name": "work",
            "identity": "0" * 32,
            "path": "/p",
            "packages": {"a": "1"},
            "requirements": ["a"],
            "interpreter": "3.11",
        }
        wrong = [{**listed, key: 5} for key in listed]
        wrong += [{}, {**listed, "packages": {"a": 1}}, {**listed, "requirements": [[]]}]
        rows: list[tuple[Any, list[Any]]] = [
            (xdeploy.list, [5, None, [5], *([each] for each in wrong)]),
            (xdeploy.prune, [5, {}, {"environments": "1", "wheels": 1, "bytes": 1}]),
        ]
        for function, answers in rows:
            for answer in answers:
                gateway: Any = ScriptedFarSide()
                gateway.call = lambda *args, answer=answer: defer.succeed(answer)
                failure = self.failureResultOf(function(gateway), xdeploy.DeploymentFailed)
                self.assertIn("no message", str(failure.value))
        for answer in (5, {"removed": [1, 2]}, {"removed": True}, {"waiting": "\x1b[2J"}):
            gateway = ScriptedFarSide(answer)
            failure = self.failureResultOf(
                xdeploy.remove(gateway, "work"), xdeploy.DeploymentFailed
            )
            self.assertIn("no message", str(failure.value))
        gateway.call = lambda *args: defer.succeed([listed])
        [found] = self.successResultOf(xdeploy.list(gateway))
        self.assertEqual((found.name, found.requirements), ("work", ("a",)))

    def test_removal_waits_and_is_over(self) -> None:
        """Whoever removes what is being made replies when that may be over, and then is done."""
        far: Any = ScriptedFarSide({"waiting": 5}, {"free": True}, {"removed": [True, False]})
        self.assertTrue(self.successResultOf(xdeploy.remove(far, "work")))
        self.assertEqual((far.sent, far.closed), ([None], True))


class OpenFarSide(ScriptedFarSide):
    """One that waits when it has said all, until its channel is closed."""

    def __init__(self, reactor: Any, *messages: Any) -> None:
        super().__init__(*messages)
        self.reactor = reactor
        self.waiting: list[defer.Deferred[Any]] = []

    def receive(self) -> defer.Deferred[Any]:
        if self.messages:
            return super().receive()
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]

    def close(self, error: object = None) -> None:
        super().close(error)
        while self.waiting:
            self.waiting.pop().errback(ChannelClosed("closed"))


class SendTests(TestCase):
    """Plans and files that are sent to a scripted far side."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.cache = WheelCache(self.mktemp())

    async def fails(self, *messages: Any, project: SourceFile | None = None) -> str:
        """What the conversation ends with."""
        self.far = OpenFarSide(self.reactor, *messages)
        request = VenvRequest(
            name="work",
            requirements=Requirements.of(""),
            python=None,
            upgrade=False,
            index=PackageIndex(),
            projects=() if project is None else (project,),
            directory=None,
            far=project is not None,
            progress=lambda step: None,
            cache=self.cache,
        )
        with self.assertRaises(xdeploy.DeploymentFailed) as caught:
            await Deployment(cast(Any, self.far), request).run()
        self.assertTrue(self.far.closed)
        return str(caught.exception)

    async def test_plan_is_asked_for_once(self) -> None:
        """For each plan packages may be downloaded and built here; so there is one."""
        said = await self.fails({"resolve": FACTS}, {"resolve": FACTS})
        self.assertIn("no message", said)
        self.assertEqual(len(self.far.sent), 1)

    async def test_changed_file_is_named_and_removed(self) -> None:
        """A file that is not what it was is not sent as if it were, and goes out of the cache."""
        data = bytes(1000000)
        for changed in (data[:-1], data[:300000], b"", data[:-1] + b"x", b"x" + data):
            path = Path(self.mktemp() + ".tar.gz")
            path.write_bytes(data)
            file = self.cache.add(path)
            file.path.write_bytes(changed)
            facts = {"resolve": {**FACTS, "pip": True}}
            said = await self.fails(facts, {"send": [file.sha256]}, project=file)
            self.assertIn(str(file.path), said)
            self.assertLess(sum(map(len, self.far.sent[1:])), len(data))
            self.assertFalse(file.path.exists())


@collects
class MemoryTests(SynchronousTestCase):
    """What is remembered of gateways."""

    def test_gateway_goes_though_its_progress_refers_to_it(self) -> None:
        """What is told of steps may refer to the gateway; it is not kept."""
        gateway: Any = ScriptedFarSide()

        def told(step: VenvProgress, gateway: Any = gateway) -> None:
            pass

        request = VenvRequest(
            name="work",
            requirements=Requirements.of(""),
            python=None,
            upgrade=False,
            index=PackageIndex(),
            projects=(),
            directory=None,
            far=False,
            progress=told,
            cache=WheelCache(self.mktemp()),
        )
        remember(gateway, cast(Any, None), request)
        self.assertEqual(request_for(gateway).name, "work")
        reference = weakref.ref(gateway)
        del gateway, request, told
        gc.collect()
        self.assertIsNone(reference())


class BesideTests(SynchronousTestCase):
    """The spec of a gateway beside another one."""

    def spec(self, text: str, **changes: Any) -> Spec:
        gateway = ScriptedFarSide()
        gateway.spec = Spec.parse(text)
        return beside(cast(Any, gateway), ("/py",), **changes)

    def test_popen_keeps_its_spec(self) -> None:
        """On this machine: the same, with another interpreter."""
        spec = self.spec("popen//id=x//nice=5//env:A=1", chdir="/d", env={"B": "2"})
        self.assertEqual(spec, Spec.parse("popen//nice=5//env:A=1//env:B=2//python=/py//chdir=/d"))
        self.assertEqual(spec.env, {"A": "1", "B": "2"})

    def test_own_interpreter_may_be_named(self) -> None:
        """This program's own interpreter is no other for being named."""
        gateway = ScriptedFarSide()
        gateway.spec = Spec.parse("popen", python=[sys.executable])
        self.assertEqual(beside(cast(Any, gateway), ("/py",)), Spec.parse("popen//python=/py"))

    def test_what_a_far_side_names_is_started_there(self) -> None:
        """A command may run its arguments as another user, in a container, or on another host."""
        for python in (
            "sudo -u nobody python3",
            "docker exec -i box python3",
            "unshare -n python3",
            "ssh host python3",
            "python3",
            "/opt/wrapper",
        ):
            spec = self.spec(f"popen//nice=5//python={python}", chdir="/d")
            self.assertEqual((spec.transport, spec.via, spec.python), ("popen", "master", ("/py",)))
        named = self.spec("popen//via=other//python=python3")
        self.assertEqual((named.via, self.spec("popen//via=other").via), ("master", "other"))

    def test_others_go_through_the_gateway(self) -> None:
        """Elsewhere: through the gateway's connection."""
        for text in ("ssh=host//env:A=1//nice=5", "socket=tcp:h:1//env:A=1//nice=5"):
            spec = self.spec(text, id="new")
            self.assertEqual((spec.transport, spec.via, spec.id), ("popen", "master", "new"))
            self.assertEqual((spec.env, spec.nice), ({"A": "1"}, 5))
        self.assertEqual(self.spec("http=h:1//nice=5").nice, 0)
