"""What is kept here: files and plans; where packages come from; what an sdist says of its build."""

from __future__ import annotations

import errno
import gc
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet.far.xdeploy import building
from pycomnet.test.garbage import collects
from pycomnet.test.processes import still_there
from pycomnet.test.xdeploy.packages import project, sdist, wheel
from pycomnet.xdeploy import tool, wheelcache
from pycomnet.xdeploy.plan import FarBuild, PackageIndex, Plan
from pycomnet.xdeploy.requirements import InvalidRequirements
from pycomnet.xdeploy.resolve import LEGACY_BACKEND, BuildFailed, build_system
from pycomnet.xdeploy.sdist import project_directory
from pycomnet.xdeploy.tool import run_tool, scratch
from pycomnet.xdeploy.wheelcache import MAX_AGE, MIN_AGE, WheelCache


class PathCase(SynchronousTestCase):
    """A test with a directory."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()

    def file(self, name: str, data: bytes = b"data") -> Path:
        path = self.path / name
        path.write_bytes(data)
        return path


@collects
class CacheTests(PathCase):
    """:class:`WheelCache`."""

    def setUp(self) -> None:
        super().setUp()
        self.cache = WheelCache(self.path / "cache")

    def test_plan_holds_while_its_files_do(self) -> None:
        """A plan comes back as it was, until one of its files is gone or has changed."""
        wheel = self.cache.add(self.file("a-1-py3-none-any.whl"))
        source = self.cache.add(self.file("b-1.tar.gz", b"other"))
        plan = Plan((wheel,), (FarBuild(source, (wheel,), "backend", ("src",)),))
        self.cache.write_plan("k", plan)
        self.assertEqual(self.cache.read_plan("k"), plan)
        self.assertIsNone(self.cache.read_plan("other"))
        self.assertEqual(set(plan.files()), {wheel.sha256, source.sha256})
        source.path.write_bytes(b"changed")
        self.assertIsNone(self.cache.read_plan("k"))
        source.path.unlink()
        self.assertIsNone(self.cache.read_plan("k"))

    def test_it_is_for_this_user_alone(self) -> None:
        """Whatever the umask is, and whatever it was when it was made."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        path = self.path / "cache"
        for _ in range(2):
            self.cache.add(self.file("a-1-py3-none-any.whl"))
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
            path.chmod(0o777)
            shutil.rmtree(path / "files")

    def test_caches_of_another_user_are_not_used(self) -> None:
        """What another one keeps in its home is not installed; there is one of its own, or none."""
        home, own = self.path / "home", self.path / "own"
        for each in (home, own):
            each.mkdir()
        user, status = os.geteuid(), Path.stat

        def another(path: Path, **options: Any) -> Any:
            found = status(path, **options)
            return mock.Mock(st_uid=user + 1) if path.is_relative_to(home) else found

        entry = mock.Mock(pw_dir=str(own))
        with (
            mock.patch.dict(os.environ, {"HOME": str(home), "XDG_CACHE_HOME": "relative"}),
            mock.patch("pwd.getpwuid", return_value=entry),
        ):
            self.assertEqual(WheelCache().path, home / ".cache" / "pycomnet" / "xdeploy")
            with mock.patch.object(Path, "stat", another):
                self.assertEqual(WheelCache().path, own / ".cache" / "pycomnet" / "xdeploy")
                entry.pw_dir = str(home)
                with capturedLogs() as logs:
                    cache = WheelCache()
            self.assertIn("XDG_CACHE_HOME", logs[0]["log_format"])
            temporary = cache.path
            self.assertEqual(stat.S_IMODE(temporary.stat().st_mode), 0o700)
            del cache
            gc.collect()
            self.assertFalse(temporary.exists())

    def test_broken(self) -> None:
        """A file that is no plan is as if it were not there."""
        (self.path / "cache" / "plans").mkdir(parents=True)
        for text in ("", "[]", "{}", '{"wheels": 5, "builds": []}', '{"wheels": [[1]]}'):
            (self.path / "cache" / "plans" / "k.json").write_text(text)
            self.assertIsNone(self.cache.read_plan("k"), text)

    def test_what_nobody_uses_goes_and_what_is_used_stays(self) -> None:
        """A month after its last use a file goes, once somebody adds something; not before."""
        clock = Clock()
        clock.advance(1e9)
        cache = WheelCache(self.path / "cache", clock.seconds)
        old, used = (cache.add(self.file(name, name.encode())) for name in ("old", "used"))
        plan = Plan((used,))
        cache.write_plan("k", plan)
        clock.advance(MAX_AGE - 1)
        self.assertEqual(cache.read_plan("k"), plan)
        clock.advance(2)
        cache.write_plan("other", Plan())
        self.assertFalse(old.path.parent.exists())
        self.assertEqual(cache.read_plan("k"), plan)
        clock.advance(MAX_AGE + 1)
        cache.write_plan("new", Plan())
        self.assertEqual([path.name for path in (cache.path / "plans").iterdir()], ["new.json"])
        self.assertFalse(used.path.exists())

    def test_too_much_goes_the_oldest_first(self) -> None:
        """Above the bound the oldest go, but nothing that may be being sent."""
        self.patch(wheelcache, "MAX_BYTES", 25)
        clock = Clock()
        clock.advance(1e9)
        cache = WheelCache(self.path / "cache", clock.seconds)
        made = []
        for number in range(4):
            made.append(cache.add(self.file(f"{number}.whl", b"%d" % number * 10)))
            clock.advance(10)
        self.assertEqual(cache.prune(), 0)
        clock.advance(MIN_AGE)
        self.assertEqual(cache.prune(), 20)
        self.assertEqual([file.path.exists() for file in made], [False, False, True, True])
        self.assertEqual(cache.prune(), 0)

    def test_full_disk(self) -> None:
        """What is not complete does not stay, and what is there stays as it is."""
        wheel = self.cache.add(self.file("a-1-py3-none-any.whl"))
        self.cache.write_plan("k", Plan((wheel,)))
        problem = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(os, "replace", side_effect=problem):
            with self.assertRaisesRegex(OSError, "No space left"):
                self.cache.add(self.file("b-1-py3-none-any.whl", b"b"))
            with self.assertRaisesRegex(OSError, "No space left"):
                self.cache.write_plan("k", Plan())
        self.assertEqual(list((self.path / "cache" / "new").iterdir()), [])
        self.assertEqual(self.cache.read_plan("k"), Plan((wheel,)))

    def test_several_threads_add_the_same(self) -> None:
        """One that is done while another is in the middle is not in its way, nor is it cut."""
        data = bytes(100000)
        barrier = threading.Barrier(2, timeout=60)
        rename, replace = os.rename, os.replace

        def across(source: str, target: str) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        def both(source: Any, target: Any) -> None:
            barrier.wait()  # both are complete, and none has its place
            replace(source, target)

        self.patch(shutil, "copyfile", self.halting(barrier))
        self.patch(os, "rename", across)  # as from a /tmp in memory: files are copied
        self.patch(os, "replace", both)
        found: list[Any] = []

        def run(number: int) -> None:
            try:
                place = self.path / str(number)
                place.mkdir()
                (place / "a.whl").write_bytes(data)
                found.append(self.cache.add(place / "a.whl"))
                self.cache.write_built(found[-1], found[-1])
            except BaseException as problem:
                found.append(problem)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.patch(os, "rename", rename)
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0].path.read_bytes(), data)
        self.assertEqual(self.cache.read_built(found[0]), found[0])
        self.assertEqual(os.listdir(self.cache.path / "new"), [])

    def halting(self, barrier: threading.Barrier) -> Any:
        """A copy that lets the other thread get as far before it ends."""
        copyfile = shutil.copyfile

        def copy(source: Any, target: Any, **options: Any) -> Any:
            barrier.wait()
            return copyfile(source, target, **options)

        return copy

    def test_damaged_file_is_replaced(self) -> None:
        """One that has other bytes by now is replaced by what is added."""
        one = self.cache.add(self.file("a.whl"))
        for damaged in (b"daat", b"da"):
            one.path.write_bytes(damaged)
            self.assertEqual(self.cache.add(self.file("a.whl")), one)
            self.assertEqual(one.path.read_bytes(), b"data")
        self.cache.forget(one)
        self.cache.forget(one)
        self.assertFalse(one.path.exists())

    def test_same_file_is_kept_once(self) -> None:
        """The same file twice is one; names of the same content are several."""
        one = self.cache.add(self.file("a.whl"))
        self.assertEqual(self.cache.add(self.file("a.whl")), one)
        other = self.cache.add(self.file("b.whl"))
        self.assertEqual((other.sha256, other.name), (one.sha256, "b.whl"))
        self.assertEqual(one.path.read_bytes(), other.path.read_bytes())

    def test_same_sources_are_the_same_sdist(self) -> None:
        """Two sdists of the same files are one, whatever their times; other files are another."""
        found = []
        for text, time in ((b"x", 1), (b"x", 2), (b"y", 1)):
            path = self.path / "a-1.0.tar.gz"
            with tarfile.open(path, "w:gz") as archive:
                info = tarfile.TarInfo("a-1.0/a.py")
                info.size, info.mtime = len(text), time
                archive.addfile(info, io.BytesIO(text))
            found.append(self.cache.same_sdist(path))
        self.assertEqual(found[0], found[1])
        self.assertNotEqual(found[0], found[2])

    def test_built_wheel_is_found_by_its_sdist(self) -> None:
        """The wheel that was built of an sdist is found by the sdist."""
        source = self.cache.add(self.file("b-1.tar.gz"))
        self.assertIsNone(self.cache.read_built(source))
        wheel = self.cache.add(self.file("b-1-py3-none-any.whl", b"wheel"))
        self.cache.write_built(source, wheel)
        self.assertEqual(self.cache.read_built(source), wheel)
        self.assertIsNone(self.cache.read_built(attrs.evolve(source, sha256="0" * 64)))


class IndexTests(PathCase):
    """:class:`PackageIndex`."""

    def test_given_index_is_the_only_one(self) -> None:
        """An index that is given is the only one, whatever pip is configured for."""
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
            self.patch(os, "environ", {**os.environ, name: "elsewhere", "PIP_CERT": "kept"})
        url = PackageIndex("http://127.0.0.1/simple")
        self.assertEqual(url.arguments(), [], "others can see what a program is started with")
        env = url.environment()
        self.assertEqual(env["PIP_INDEX_URL"], "http://127.0.0.1/simple")
        self.assertEqual(env["PIP_CERT"], "kept")
        self.assertNotIn("elsewhere", env.values())
        directory = PackageIndex(str(self.path))
        self.assertEqual(directory.arguments(), ["--no-index", "--find-links", str(self.path)])
        self.assertEqual(directory.environment()["PIP_NO_INDEX"], "1")

    def test_configured_index_is_part_of_the_key(self) -> None:
        """Without one, pip's configuration counts, and is part of what identifies it."""
        self.patch(os, "environ", {**os.environ, "PIP_INDEX_URL": "a"})
        one = PackageIndex()
        self.assertEqual(one.arguments(), [])
        self.assertEqual(one.environment()["PIP_INDEX_URL"], "a")
        key = one.key()
        self.patch(os, "environ", {**os.environ, "PIP_INDEX_URL": "b"})
        self.assertNotEqual(one.key(), key)
        self.assertNotEqual(PackageIndex("c").key(), key)

    def test_directory_is_the_one_that_was_meant(self) -> None:
        """A relative path means another directory in another place, and the same one later."""
        for name in ("one", "two"):
            (self.path / name / "wheels").mkdir(parents=True)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.path / "one")
        one = PackageIndex("wheels")
        os.chdir(self.path / "two")
        two = PackageIndex("wheels")
        self.assertNotEqual(one.key(), two.key())
        where = str(self.path / "one" / "wheels")
        self.assertEqual(one.arguments(), ["--no-index", "--find-links", where])
        self.assertEqual(one.environment()["PIP_FIND_LINKS"], Path(where).as_uri())
        self.assertEqual(one.key(), PackageIndex(where).key())

    def test_directory_with_a_blank(self) -> None:
        """pip finds what is there by the variables alone, as where it installs for a build."""
        index = PackageIndex(str(self.path / "my wheels"))
        wheel(self.path / "my wheels", "a")
        argv = [sys.executable, "-m", "pip", "download", "--dest", str(self.path / "got"), "a"]
        ran = subprocess.run(argv, env=index.environment(), capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(len(list((self.path / "got").iterdir())), 1)

    def test_each_variable_of_pip_is_part_of_the_key(self) -> None:
        """Whatever may change what pip chooses; those that are not used do not count."""
        indexes = PackageIndex(), PackageIndex("http://127.0.0.1/simple")
        keys = [str(each.key()) for each in indexes]
        self.patch(os, "environ", {**os.environ, "PIP_NO_DEPS": "1"})
        now = [str(each.key()) for each in indexes]
        self.assertEqual(len({*keys, *now}), 4)
        self.patch(os, "environ", {**os.environ, "PIP_EXTRA_INDEX_URL": "http://other"})
        self.assertNotEqual(str(indexes[0].key()), now[0])
        self.assertEqual(str(indexes[1].key()), now[1])

    def test_configuration_files_are_part_of_the_key(self) -> None:
        """What pip is configured for in its files counts as what is in variables."""
        self.patch(os, "environ", {**os.environ, "XDG_CONFIG_HOME": str(self.path)})
        given = PackageIndex("http://127.0.0.1/simple").key()
        found = []
        (self.path / "pip").mkdir()
        for text in (
            None,
            "[global]\nindex-url = http://a/\n",
            "[global]\nindex-url = http://b/\n",
        ):
            if text is not None:
                (self.path / "pip" / "pip.conf").write_text(text)
            found.append(str(PackageIndex().key()))
        self.assertEqual(len(set(found)), 3)
        self.assertEqual(PackageIndex("http://127.0.0.1/simple").key(), given)


class BuildSystemTests(PathCase):
    """What an sdist says about its build."""

    def read(self, text: str | None, kind: str = "tar") -> Any:
        data = None if text is None else text.encode()
        path = self.path / ("a-1.zip" if kind == "zip" else "a-1.tar.gz")
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                if data is not None:
                    archive.writestr("a-1/pyproject.toml", data)
                archive.writestr("a-1/b/pyproject.toml", "broken [")
        else:
            with tarfile.open(path, "w:gz") as tar:
                for name, content in (("a-1/b/pyproject.toml", b"["), ("a-1/pyproject.toml", data)):
                    if content is not None:
                        info = tarfile.TarInfo(name)
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        return build_system(path)

    def test_backend_is_read_or_setuptools(self) -> None:
        """What is said counts; what is not said is setuptools' old way."""
        for kind in ("tar", "zip"):
            text = '[build-system]\nrequires = ["x"]\nbuild-backend = "b:c"\nbackend-path = ["."]\n'
            self.assertEqual(self.read(text, kind), ("b:c", ["."], ["x"]))
            backend, paths, requires = self.read(None, kind)
            self.assertEqual((backend, paths), (LEGACY_BACKEND, ["."]))
            self.assertIn("wheel", requires)
            backend, _, requires = self.read('[build-system]\nrequires = ["x"]\n', kind)
            self.assertEqual(backend, LEGACY_BACKEND)
            self.assertIn("x", requires)

    def test_file_that_no_parser_takes_is_an_error(self) -> None:
        """Not only one with wrong syntax."""
        for text in ("x = [", f"x = {'1' * 5000}", f"x = {'[' * 100_000}"):
            with self.assertRaisesRegex(BuildFailed, "can't be read"):
                self.read(text, "tar")

    def test_setuptools_may_need_wheel(self) -> None:
        """setuptools may need wheel, which it asks for only when it runs."""
        text = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"'
        self.assertEqual(self.read(text)[2], ["setuptools", "wheel"])

    def test_broken(self) -> None:
        """What can't be read is an error that names the sdist."""
        for text in (
            "[build-system",
            "build-system = 5",
            "[build-system]\nrequires = 'x'",
            "[build-system]\nrequires = [5]",
            "[build-system]\nrequires = []\nbuild-backend = 5",
            "[build-system]\nrequires = []\nbuild-backend = 'b'\nbackend-path = 'x'",
        ):
            self.assertRaisesRegex(BuildFailed, "a-1.tar.gz", self.read, text)

    def test_broken_archive(self) -> None:
        """So is an archive that is cut, or has a link to nothing for that file."""
        for name, content in (("a-1.zip", b"PK"), ("a-1.tar.gz", b"\x1f\x8b\x08cut")):
            path = self.file(name, content)
            self.assertRaisesRegex(BuildFailed, name, build_system, path)
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo("a-1/pyproject.toml")
            info.type, info.linkname = tarfile.SYMTYPE, "nowhere"
            tar.addfile(info)
        self.assertRaisesRegex(BuildFailed, "a-1.tar.gz", build_system, path)
        whole = self.path / "whole.tar.gz"
        with tarfile.open(whole, "w:gz") as tar:
            info = tarfile.TarInfo("a-1/other")
            info.size = 100000
            tar.addfile(info, io.BytesIO(os.urandom(100000)))
        path.write_bytes(whole.read_bytes()[:50000])
        self.assertRaisesRegex(BuildFailed, "a-1.tar.gz", build_system, path)


class ProjectTests(PathCase):
    """Which paths are projects."""

    def test_directory_or_file_names_a_project(self) -> None:
        """A directory, or one of a project's files."""
        directory = project(self.path / "p", "mine")
        for path in (directory, directory / "pyproject.toml", str(directory / "setup.py")):
            self.assertEqual(project_directory(path), directory)

    def test_other_paths_are_refused(self) -> None:
        """Other paths are refused."""
        directory = project(self.path / "p", "mine")
        for path in (self.path, directory / "mine.py", self.path / "nowhere", ""):
            self.assertRaises(InvalidRequirements, project_directory, path)

    def test_sdists_of_tests_have_a_pyproject(self) -> None:
        """The sdists of these tests have what an sdist has."""
        with tarfile.open(sdist(self.path, "a")) as archive:
            self.assertIn("a-1.0/pyproject.toml", archive.getnames())


class ToolTests(TestCase):
    """:func:`run_tool`."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor

    async def test_status_and_both_streams(self) -> None:
        """Its status, and what it wrote to both streams."""
        code = "import sys; print('a', flush=True); print('b', file=sys.stderr); sys.exit(3)"
        ran = await run_tool(self.reactor, [sys.executable, "-c", code], os.environ)
        self.assertEqual((ran.status, ran.output), (3, "a\nb\n"))

    async def test_much_output_is_cut_in_the_middle(self) -> None:
        """Of much output the begin and the end are kept."""
        code = "print('begin')\nfor _ in range(20): print('x' * (1 << 20))\nprint('end')"
        ran = await run_tool(self.reactor, [sys.executable, "-c", code], os.environ)
        self.assertTrue(ran.output.startswith("begin\nx"))
        self.assertTrue(ran.output.endswith("x\nend\n"))
        self.assertIn(" bytes in all ...\n", ran.output)
        self.assertLess(len(ran.output), building.MAX_OUTPUT + 100)

    async def test_scratch_is_removed_in_a_thread(self) -> None:
        """A large directory does not hold the program up, nor does what can't be removed."""
        threads: list[Any] = []
        rmtree = shutil.rmtree

        def remove(*args: Any) -> None:
            threads.append(threading.current_thread())
            rmtree(*args)

        self.patch(shutil, "rmtree", remove)
        with self.assertRaises(ZeroDivisionError):
            async with scratch(self.reactor) as place:
                self.assertTrue(os.path.isdir(place))
                raise ZeroDivisionError
        self.assertFalse(os.path.exists(place))
        self.assertNotIn(threading.current_thread(), threads)
        async with scratch(self.reactor) as place:
            os.rmdir(place)
        self.assertEqual(len(threads), 2)

    async def test_few_run_at_a_time_and_none_in_the_pool(self) -> None:
        """A long build keeps neither name lookups nor what is sent to others waiting."""

        class WithoutPool:
            callFromThread = self.reactor.callFromThread

        self.patch(tool, "_turns", defer.DeferredSemaphore(1))
        pipe = self.mktemp()
        os.mkfifo(pipe)
        reactor: Any = WithoutPool()
        argv = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())", pipe]
        first = run_tool(reactor, argv, os.environ)
        second = run_tool(reactor, [sys.executable, "-c", "print(2)"], os.environ)
        third = run_tool(reactor, [sys.executable, "-c", "print(3)"], os.environ)
        third.addErrback(lambda failure: failure.trap(defer.CancelledError))
        third.cancel()
        await deferToThread(Path(pipe).write_text, "1")
        self.assertFalse(second.called)
        self.assertEqual([(await first).output, (await second).output], ["1\n", "2\n"])

    async def test_it_leaves_nothing_that_keeps_its_output_open(self) -> None:
        """It is over when the program has ended, whatever that has started."""
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
            "print(child.pid)\n"
        )
        ran = await run_tool(self.reactor, [sys.executable, "-c", code], os.environ)
        self.assertEqual(ran.status, 0)
        self.assertEqual(await deferToThread(still_there, [int(ran.output)]), [])

    async def test_a_daemon_that_it_has_started_keeps_nobody_waiting(self) -> None:
        """It is over when the program has ended, also if a daemon of it has its output open."""
        code = (
            "import subprocess, sys\n"
            "argv = [sys.executable, '-c', 'import time; time.sleep(1000)']\n"
            "daemon = subprocess.Popen(argv, start_new_session=True)\n"
            "open(sys.argv[1], 'w').write(str(daemon.pid))\n"
        )
        pid = Path(self.mktemp()).absolute()
        self.addCleanup(lambda: os.kill(int(pid.read_text()), signal.SIGKILL))
        running = run_tool(self.reactor, [sys.executable, "-c", code, str(pid)], os.environ)
        ran = await running.addTimeout(60, self.reactor)
        self.assertEqual(ran.status, 0)

    async def test_missing_program_is_an_error(self) -> None:
        """A program that is not there is an error."""
        with self.assertRaises(OSError):
            await run_tool(self.reactor, ["/nowhere/program"], os.environ)

    async def test_cancelling_kills_what_it_started(self) -> None:
        """Cancelling kills it, and what it has started."""
        pipe = self.mktemp()
        os.mkfifo(pipe)
        code = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
            "open(sys.argv[1], 'w').write(str(child.pid))\n"
            "time.sleep(1000)\n"
        )
        running = run_tool(self.reactor, [sys.executable, "-c", code, pipe], os.environ)
        pid = int(await deferToThread(Path(pipe).read_text))
        running.cancel()
        with self.assertRaises(defer.CancelledError):
            await running
        self.assertEqual(await deferToThread(still_there, [pid]), [])
