"""The files of runs: blocks of binary data from step to step, and what crashes leave of them."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet.deferred import deferred
from pycomnet.ext.workflow import runfiles
from pycomnet.ext.workflow.definition import check_config, read_config
from pycomnet.ext.workflow.errors import (
    RunFailed,
    RunFileLost,
    RunFilesFull,
    RunStoreBusy,
    RunStoreFailed,
    UnknownRun,
    WorkflowConfigError,
)
from pycomnet.ext.workflow.records import MOST_BYTES
from pycomnet.ext.workflow.runfiles import OF, PART, RunFiles
from pycomnet.ext.workflow.service import WorkflowService
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.services.binary import Binary
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.docnames import ROOT
from pycomnet.test.ext.workflow.kit import call
from pycomnet.test.ext.workflow.test_service import WorkflowCase, the_reactor

#: A block that does not stay in memory.
LONG = os.urandom(1 << 20)


@interface("demo.press")
class Press(Service):
    """Renders and prints."""

    def __init__(self) -> None:
        self.rendered = 0
        self.printed: list[list[tuple[str, bytes]]] = []
        self.held: list[defer.Deferred[Any]] = []

    @method(idempotent=True)
    def render(self, request: Any) -> Any:
        self.rendered += 1
        return f"{request.args} pages", Binary(b"short", "cover"), Binary(LONG, "text")

    @method(once=True)
    def render_once(self, request: Any) -> Any:
        return self.render(request)

    @method()
    def name(self, request: Any) -> Any:
        return request.args, Binary(b"", "n" * (MOST_BYTES + 1))

    @method()
    def stamp(self, request: Any) -> Any:
        return request.args

    @method(idempotent=True)
    def nothing(self, request: Any) -> Any:
        return request.args

    @method(idempotent=True)
    def print(self, request: Any) -> Any:
        self.printed.append([(one.filename, one.read()) for one in request.files])
        return request.args

    @method(idempotent=True)
    def hold(self, request: Any) -> Any:
        self.held.append(defer.Deferred())
        return self.held[-1]


def press(called: str, **more: Any) -> dict[str, Any]:
    """A call of the press."""
    return call("demo.press", method=called, **more)


#: What a run of a printer does.
RENDER = press("render", name="render", files=True)
BOOK = [RENDER, press("print", attach="render")]
BLOCKS = [("cover", b"short"), ("text", LONG)]


class FilesOfRunsTests(WorkflowCase):
    """Runs whose steps return blocks."""

    async def start_shop(self) -> None:
        await super().start_shop()
        self.press = Press()
        await self.shop_server.add(self.press)

    def kept(self) -> list[str]:
        """The paths of the files of all runs."""
        return [
            os.path.join(at, name)
            for at, _, names in os.walk(f"{self.path}.files")
            for name in names
            if name != OF and not name.endswith(PART)
        ]

    @deferred
    async def test_blocks_go_to_a_later_step(self) -> None:
        """A step gets the blocks of an earlier one, also from within other steps; the history names
        them, and who may see the run may have them."""
        tasks = {"t": [*BOOK, {"parallel": [[press("print", attach=["render", "render"])]]}]}
        w = await self.serve(tasks)
        await w.invoke("t", 5, id="r")
        self.assertEqual(self.press.printed, [BLOCKS, BLOCKS * 2])
        step = (await w.show("r"))["steps"][0]
        self.assertEqual([one["name"] for one in step["files"]], ["cover", "text"])
        self.assertEqual([one["size"] for one in step["files"]], [5, len(LONG)])
        self.assertEqual(step["result"], "'5 pages'")
        got = await w.files("r", "render")
        self.assertEqual([(one.filename, one.read()) for one in got], BLOCKS)
        for one in got:
            one.close()
        self.assertEqual(await w.files("r", "2"), [])
        await self.fails(w.files("r", "other"), UnknownRun)

    @deferred
    async def test_result_without_blocks(self) -> None:
        """A step may return none: its result is as always."""
        w = await self.serve({"t": [press("nothing", name="n", files=True), press("print")]})
        self.assertEqual(await w.invoke("t", 5), 5)
        self.assertEqual((self.press.printed, self.kept()), ([[]], []))

    @deferred
    async def test_blocks_are_there_after_a_crash(self) -> None:
        """A step that goes on after a crash gets the blocks that were kept before it; the step that
        returned them is not called again."""
        tasks = {"t": [RENDER, {"signal": "go"}, press("print", attach="render")]}
        w = await self.serve(tasks)
        await w.start("t", 5, "r")
        await self.until(lambda: not self.runner.live)
        await self.crash()
        w = await self.serve(tasks)
        await w.signal("r", "go")
        await w.result("r")
        self.assertEqual((self.press.rendered, self.press.printed), (1, [BLOCKS]))

    async def crash_before_the_commit(self, step: Any) -> Any:
        """A client of a service that goes on with a run that has kept files, and no record."""
        w = await self.serve({"t": [step, BOOK[1]]})
        commit = self.service.store.commit

        def commits(change: Any) -> Any:
            return defer.Deferred() if self.kept() else commit(change)

        self.patch(self.service.store, "commit", commits)
        await w.start("t", 5, "r")
        await self.until(lambda: len(self.kept()) == 2)
        await self.crash()
        return await self.serve({"t": BOOK})

    @deferred
    async def test_crash_between_the_files_and_the_commit(self) -> None:
        """The step is called again; its files are kept once."""
        w = await self.crash_before_the_commit(RENDER)
        await w.result("r")
        self.assertEqual((self.press.rendered, self.press.printed), (2, [BLOCKS]))
        self.assertEqual(len(self.kept()), 2)
        assert self.service.files is not None
        # The sweep at the start counts too much if they are written meanwhile: see RunFiles.size.
        await self.until(lambda: self.service._swept)
        self.service.files.count()
        self.assertEqual(self.service.files.size, len(LONG) + 5 + self.said("r"))

    @deferred
    async def test_crash_after_a_method_with_once(self) -> None:
        """Its answer is not remembered, as it has blocks: it is not called again."""
        w = await self.crash_before_the_commit({**RENDER, "method": "render_once"})
        problem = await self.fails(w.result("r"), RunFailed)
        self.assertEqual((problem.error["code"], self.press.rendered), ("unknown", 1))

    def said(self, run: str) -> int:
        """The bytes of the file that says which run a directory is of."""
        assert self.runner is not None
        return len(f'["{run}", "{"0" * 16}", "files:{"0" * 32}"]')

    @deferred
    async def test_files_go_with_their_run(self) -> None:
        """When a run is pruned its files are removed, and those of others are not; also if a crash
        has come between."""
        w = await self.serve({"t": BOOK, "w": [RENDER, {"signal": "go"}]})
        await w.invoke("t", 5, id="old")
        await w.start("w", 5, "waiting")
        await self.until(lambda: not self.runner.live)
        assert self.service.files is not None
        self.assertTrue(await self.service.store.prune(1e12, 10))
        await self.crash()
        w = await self.serve({"t": BOOK, "w": [RENDER, {"signal": "go"}]})
        await self.until(lambda: len(self.kept()) == 2)
        self.assertEqual(len(await w.files("waiting", "render")), 2)
        await w.signal("waiting", "go")
        await w.result("waiting")
        self.offset = 1e9
        await self.service._prune()
        self.assertEqual(os.listdir(f"{self.path}.files"), [])
        self.assertEqual(self.service.files.size, 0)

    @deferred
    async def test_file_that_is_lost_or_torn(self) -> None:
        """The step that needs it fails before it is called, and says which it is; a catch takes
        that."""
        go = {"signal": "go"}
        steps = [RENDER, go, press("print", attach="render", name="print")]
        other = [{"errors": ["workflow-file-lost"], "then": [{"value": "lost"}]}]
        w = await self.serve({"t": steps, "c": [*steps[:2], {**steps[2], "catch": other}]})
        await w.start("t", 5, "torn")
        await self.until(lambda: not self.runner.live)
        for path in self.kept():
            with open(path, "ab") as file:
                file.write(b"more")
        await w.signal("torn", "go")
        problem = await self.fails(w.result("torn"), RunFailed)
        self.assertEqual(problem.error["code"], "workflow-file-lost")
        self.assertIn("its content is not what was kept", str(problem))
        await self.fails(w.files("torn", "render"), RunFileLost)
        before = set(self.kept())
        await w.start("c", 5, "lost")
        await self.until(lambda: not self.runner.live)
        for path in set(self.kept()) - before:
            os.unlink(path)
        await w.signal("lost", "go")
        self.assertEqual(await w.result("lost"), "lost")
        self.assertEqual(self.press.printed, [])

    @deferred
    async def test_no_room(self) -> None:
        """Blocks that are too many fail their step, which has run; nothing of them stays."""
        self.most_files = len(LONG)
        w = await self.serve({"t": BOOK})
        problem = await self.fails(w.invoke("t", 5), RunFailed)
        self.assertEqual(problem.error["code"], "result")
        self.assertIn(f"0 bytes of at most {len(LONG)}", str(problem))
        self.assertEqual(self.kept(), [])

    @deferred
    async def test_timeout_while_files_are_read(self) -> None:
        """The call was not sent: the history says so, whatever the method declares."""
        late = [
            press(name, attach="render", name="late", timeout=0.1)
            for name in ("print", "render_once", "stamp")
        ]
        w = await self.serve({str(at): [RENDER, one] for at, one in enumerate(late)})
        blocks = RunFiles.blocks

        def slow(*args: Any) -> Any:
            time.sleep(0.3)  # a thread: there are no events
            return blocks(*args)

        self.patch(RunFiles, "blocks", slow)
        for task in "012":
            problem = await self.fails(w.invoke(task, 5), RunFailed)
            error = problem.error
            self.assertEqual((error["code"], error.get("ran")), ("deadline", False), task)

    @deferred
    async def test_names_that_are_too_long(self) -> None:
        """They are in the record, and count as its result does."""
        w = await self.serve({"t": [press("name", files=True)]})
        problem = await self.fails(w.invoke("t", 5, id="r"), RunFailed)
        self.assertEqual(problem.error["code"], "result")
        self.assertIn("the limit is", str(problem))

    @deferred
    async def test_service_that_has_no_place_any_more(self) -> None:
        """A step that keeps files is not called: nobody could say later that it has run."""
        w = await self.serve({"t": [{"signal": "go"}, {**RENDER, "retry": {"delay": 0.01}}]})
        await w.start("t", 5, "r")
        await self.until(lambda: not self.runner.live)
        await self.crash()
        self.has_files = False
        w = await self.serve({"t": [{"signal": "go"}]})
        await w.signal("r", "go")
        problem = await self.fails(w.result("r"), RunFailed)
        self.assertEqual(problem.error["code"], "workflow-file-lost")
        self.assertEqual(self.press.rendered, 0)

    @deferred
    async def test_sweep_that_fails_is_made_again(self) -> None:
        """The files of a run that is pruned go later, if the store can't answer just then."""
        w = await self.serve({"t": BOOK})
        await w.invoke("t", 5)
        await self.until(lambda: self.service._swept)
        row = self.service.store.row
        self.patch(self.service.store, "row", lambda run: defer.fail(RunStoreBusy("busy")))
        self.offset = 1e9
        await self.service._prune()
        self.assertEqual(len(self.kept()), 2)
        self.patch(self.service.store, "row", row)
        await self.service._prune()
        self.assertEqual(self.kept(), [])

    @deferred
    async def test_sweep_that_takes_long_is_made_seldom(self) -> None:
        """What takes long rests longer; then the files are removed all the same."""
        w = await self.serve({"t": BOOK})
        await self.until(lambda: self.service._swept)
        self.patch(runfiles, "REST", 1e9)
        await w.invoke("t", 5)
        for at in (1e9, 2e9):
            await w.invoke("t", 5)
            self.offset = at
            await self.service._prune()
            self.assertEqual(len(self.kept()), 0 if at == 1e9 else 2)
        assert self.service.files is not None
        self.service.files.rests_until = 0.0
        await self.service._prune()
        self.assertEqual(self.kept(), [])

    @deferred
    async def test_directory_of_two_stores(self) -> None:
        """The files of the other store's runs stay, also if a service begins anew or prunes."""
        tasks = {"t": [RENDER, {"signal": "go"}, press("print", attach="render")]}
        w = await self.serve(tasks)
        await w.start("t", 5, "r")
        await self.until(lambda: not self.runner.live)
        first, self.path = self.path, f"{self.path}.second"
        os.symlink(f"{os.path.basename(first)}.files", f"{self.path}.files")
        other = await self.serve(tasks)
        await self.until(lambda: self.service._swept)
        await other.start("t", 6, "r")
        await self.until(lambda: not self.runner.live)
        await self.crash()
        await self.serve(tasks)
        await self.until(lambda: self.service._swept)
        await w.signal("r", "go")
        await w.result("r")
        self.assertEqual(self.press.printed, [BLOCKS])

    @deferred
    async def test_directory_that_can_not_be_used(self) -> None:
        """The service does not start, and says why."""
        with open(f"{self.path}.files", "w"):
            pass
        with self.assertRaisesRegex(RunStoreFailed, r"\.files"):
            await self.serve({"t": BOOK})
        os.unlink(f"{self.path}.files")
        await self.serve({"t": BOOK})  # the store was not left open


class FilesTests(SynchronousTestCase):
    """The directory, without a service."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.files = RunFiles(self.path)
        self.files.open()

    def keep(self, *blocks: bytes) -> Any:
        """Keep blocks of a run."""
        return self.files.keep("r", "n", [Block(one) for one in blocks])

    def test_same_content_is_one_file(self) -> None:
        """What a step returns again takes no more room."""
        first = self.keep(b"one", b"two")
        size = self.files.size
        self.assertEqual((self.keep(b"two", b"one"), self.files.size), (first[::-1], size))

    def test_disk_that_takes_no_more(self) -> None:
        """A write that fails is an error that says so, and leaves nothing."""
        self.keep(b"one")
        before, size = sorted(os.listdir(self.path)), self.files.size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        try:
            with self.assertRaisesRegex(RunFilesFull, "File too large"):
                self.keep(b"x" * 2_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual((sorted(os.listdir(self.path)), self.files.size), (before, size))
        (place,) = os.listdir(self.path)
        self.assertEqual(len(os.listdir(os.path.join(self.path, place))), 2)
        self.keep(b"x" * 2_000)

    def test_what_others_have_there_stays(self) -> None:
        """A directory that also has something else: nothing of that is removed, however old."""
        kept = self.keep(b"one")
        other = os.path.join(self.path, "photos")
        inside = os.path.join(self.files._place("r", "n"), "notes.txt")
        os.mkdir(other)
        for path in (os.path.join(other, "film.part"), os.path.join(other, "x"), inside):
            with open(path, "w") as file:
                file.write("mine")
            os.utime(path, (0, 0))
        os.symlink(other, os.path.join(self.path, "f" * 64))
        os.utime(other, (0, 0))
        self.files.count()
        self.assertEqual(self.files.runs(), [("r", "n")])
        self.assertEqual(len(self.files.blocks("r", "n", kept)), 1)
        self.files.remove("r", "n")
        self.assertEqual(sorted(os.listdir(other)), ["film.part", "x"])
        self.assertEqual(os.listdir(os.path.dirname(inside)), ["notes.txt"])

    def test_run_that_can_not_be_read_now(self) -> None:
        """Its files stay, however old they are: it may go on."""
        kept = self.keep(b"one")
        place = self.files._place("r", "n")
        said, aside = os.path.join(place, OF), os.path.join(self.path, "aside")
        os.rename(said, aside)

        def torn() -> None:
            with open(said, "w") as file:
                file.write("[")

        for damage in (lambda: os.symlink(OF, said), torn):
            damage()
            os.utime(place, (0, 0))
            self.assertEqual(self.files.runs(), [])
            os.unlink(said)
        os.rename(aside, said)
        self.assertEqual(self.files.runs(), [("r", "n")])
        self.assertEqual(len(self.files.blocks("r", "n", kept)), 1)

    def test_directory_where_others_may_create_files(self) -> None:
        """It is refused, also with the sticky bit."""
        os.chmod(self.path, 0o1777)
        with self.assertRaisesRegex(RunStoreFailed, "other users may create files there"):
            self.files.open()

    def test_room_that_another_service_has_made(self) -> None:
        """It is found when it is needed: only who removes runs counts otherwise."""
        files = RunFiles(self.path, 2_000)
        files.keep("r", "n", [Block(b"x" * 1_900)])
        self.files.remove("r", "n")
        self.patch(runfiles, "RECOUNT", 0)
        files.keep("s", "n", [Block(b"x" * 1_900)])
        with self.assertRaisesRegex(RunFilesFull, "no room for 1900 more"):
            files.keep("t", "n", [Block(b"y" * 1_900)])

    def test_blocks_that_are_refused_are_closed(self) -> None:
        """No descriptor stays open for them."""
        blocks = [Block(b"one"), Block(b"two")]
        with self.assertRaises(RunFilesFull):
            RunFiles(self.path, 5).keep("r", "n", blocks)
        self.assertEqual([one.closed for one in blocks], [True, True])

    def test_kill_at_each_step(self) -> None:
        """Whenever a process is killed that keeps files: the next one keeps them, no file is torn,
        and what is left is removed with the run."""
        forking: Any = subprocess.Popen(
            [sys.executable, "-c", KILLED, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(forking.communicate)
        number = 0
        while True:
            number += 1
            forking.stdin.write(f"{number}\n")
            forking.stdin.flush()
            status = int(forking.stdout.readline())
            files = RunFiles(self.path)
            files.open()
            # What was half-written is removed once nobody can be writing it.
            place = files._place("r", str(number))
            old = [(one.path, one.stat().st_mtime) for one in _scan(place)]
            for path, _ in old:
                os.utime(path, (0, 0))
            if os.path.exists(place):
                os.utime(place, (0, 0))
            files.count()
            self.assertEqual([one for one in _scan(place) if one.name.endswith(".part")], [])
            files.runs()
            kept = files.keep("r", str(number), [Block(b"one"), Block(LONG)])
            self.assertEqual(len(files.blocks("r", str(number), kept)), 2)
            self.assertIn(("r", str(number)), files.runs())
            for run, nonce in files.runs():
                files.remove(run, nonce)
            self.assertEqual(os.listdir(self.path), [])
            if status == 0:
                break
            self.assertEqual(status, signal.SIGKILL)
        self.assertGreater(number, 10)


class Block(io.BytesIO):
    """A block that has arrived."""

    filename = "f"

    @property
    def size(self) -> int:
        return len(self.getvalue())


def _scan(path: str) -> list[Any]:
    return list(os.scandir(path)) if os.path.isdir(path) else []


#: Forks for each number that it reads. The fork keeps files, and is killed before or after that
#: call, of those that change the directory. Writes the status of the fork.
KILLED = """
import os, signal, sys
from pycomnet.ext.workflow.runfiles import RunFiles
from pycomnet.test.ext.workflow.test_runfiles import Block, LONG

left = 0

def killing(function):
    def call(*args, **kwargs):
        global left
        for after in (False, True):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            if not after:
                found = function(*args, **kwargs)
        return found
    return call

for name in ("mkdir", "open", "fsync", "replace"):
    setattr(os, name, killing(getattr(os, name)))
for line in sys.stdin:
    child = os.fork()
    if not child:
        left = int(line)
        files = RunFiles(sys.argv[1])
        files.keep("r", str(int(line)), [Block(b"one"), Block(LONG)])
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class ConfigTests(SynchronousTestCase):
    """What a configuration may say of files."""

    def test_example(self) -> None:
        """The example of the documentation is what these tests run."""
        file = ROOT / "docs" / "examples" / "workflow_files.json"
        if not file.exists():
            raise SkipTest("there are no docs beside an installed package")
        (steps,) = (task["steps"] for task in read_config(file)["tasks"].values())
        wanted = check_config({"tasks": {"t": BOOK}})["tasks"]["t"]["steps"]
        self.assertEqual(steps, wanted)

    def test_what_is_wrong(self) -> None:
        """Blocks of a step that is not there, comes later or keeps none, and of a run that is not
        durable."""
        late = [press("print", attach=["render"]), RENDER]
        none = [press("render", name="render"), press("print", attach=["render"])]
        hidden = [RENDER, {"parallel": [none]}]
        for task, said in (
            (late, "no earlier step 'render' here whose files are kept"),
            (hidden, "no earlier step 'render' here whose files are kept"),
            (none, "no earlier step 'render' here whose files are kept"),
            ({"steps": BOOK, "durable": False}, "runs of 't' keep no files"),
            ({"steps": [{"task": "used"}], "durable": False}, "runs of 't' keep no files"),
        ):
            with self.assertRaisesRegex(WorkflowConfigError, said):
                check_config({"tasks": {"t": task, "used": BOOK}})

    def test_store_that_has_no_place(self) -> None:
        """A service without a directory refuses a task whose steps keep files."""
        tasks = check_config({"tasks": {"t": BOOK}})["tasks"]
        with self.assertRaisesRegex(WorkflowConfigError, "set 'files'"):
            WorkflowService(tasks, make_run_store("memory:", the_reactor()))
