"""The far side's modules, here: the directory, the store, scripts, and what is installed."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import os
import queue
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.xdeploy import (
    building,
    compiling,
    environments,
    interpreter,
    lookup,
    scripts,
    upkeep,
    wheels,
)
from pycomnet.far.xdeploy.directory import VenvDirectory, read_json, write_json
from pycomnet.far.xdeploy.interpreter import VenvRefused
from pycomnet.test.xdeploy.packages import wheel

#: What is raised for an sdist that leads out of its directory: by us, or by Python.
REFUSALS: Any = (VenvRefused, tarfile.TarError)


class DirectoryCase(SynchronousTestCase):
    """A test with a far side's directory."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()
        self.directory = VenvDirectory(str(self.path / "root"))

    def add(self, name: str, *args: Any, **options: Any) -> str:
        """Make a wheel, and put it into the store; its hash."""
        path = wheel(self.path / "index", name, *args, **options)
        digest: str = wheels.add(self.directory, str(path))
        return digest


class LockTests(DirectoryCase):
    """Locks, and files that are replaced."""

    def test_lock_excludes_unless_shared(self) -> None:
        """Two can't have a lock, unless both share it."""
        lock = self.directory.lock("a")
        self.assertIsNone(self.directory.try_lock("a"))
        self.assertEqual(
            lookup.Lock(self.directory.path("locks", "a"), False).holder(), os.getpid()
        )
        lock.release()
        with self.directory.lock("a", shared=True), self.directory.lock("a", shared=True):
            self.assertIsNone(self.directory.try_lock("a"))
        self.directory.lock("a").release()

    def test_lock_on_a_full_disk(self) -> None:
        """It is taken and given back all the same; only who has it can't be told."""
        problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with mock.patch.object(os, "pwrite", side_effect=problem):
            lock = self.directory.lock("a")
        self.assertIsNone(lock.holder())
        self.assertIsNone(self.directory.try_lock("a"))
        lock.release()
        self.directory.lock("a").release()

    def test_waiter_is_asked_and_can_stop(self) -> None:
        """Who waits is asked each time that another has it, and can stop."""
        lock = self.directory.lock("a")
        asked = []

        def wait(wanted: lookup.Lock) -> None:
            asked.append(wanted.holder())
            if len(asked) == 3:
                lock.release()

        self.directory.lock("a", wait).release()
        self.assertEqual(asked, [os.getpid()] * 3)

        def stop(wanted: lookup.Lock) -> None:
            raise EOFError

        with self.directory.lock("a"):
            self.assertRaises(EOFError, self.directory.lock, "a", stop)
        self.directory.lock("a").release()

    def test_waiter_hears_when_the_lock_is_free(self) -> None:
        """The near side is told who has it, and then that it is free: nobody polls."""
        lock = self.directory.lock("a")
        channel: Any = WaitingChannel(lock.release)
        wait = lookup.waits(channel)
        self.directory.lock("a", wait).release()
        self.assertEqual(channel.sent, [{"waiting": os.getpid()}, {"free": True}])

    def test_waiter_ends_with_the_near_side(self) -> None:
        """If the near side ends the channel meanwhile, nobody waits, and the lock is left alone."""

        def end() -> None:
            raise EOFError

        channel: Any = WaitingChannel(end)
        with self.directory.lock("a"):
            self.assertRaises(EOFError, self.directory.lock, "a", lookup.waits(channel))
            channel.ended = True
        self.assertEqual(channel.said.get(timeout=60), {"free": True})
        self.directory.lock("a").release()

    def test_lock_ends_with_its_holder(self) -> None:
        """A process that is killed has no lock any more."""
        code = (
            "import fcntl, os, sys, time\n"
            "fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)\n"
            "print('has it', flush=True)\ntime.sleep(1000)\n"
        )
        self.directory.lock("a").release()
        argv = [sys.executable, "-c", code, self.directory.path("locks", "a")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            self.assertIsNone(self.directory.try_lock("a"))
            process.kill()
        self.directory.lock("a").release()

    def test_json_is_replaced_whole(self) -> None:
        """A file is replaced whole; what is no map is as if it were not there."""
        path = str(self.path / "file")
        self.assertIsNone(read_json(path))
        write_json(path, {"a": 1})
        self.assertEqual(read_json(path), {"a": 1})
        self.assertRaises(TypeError, write_json, path, {"a": object()})
        self.assertEqual(read_json(path), {"a": 1})
        for text in ("", "[]", '{"a":'):
            Path(path).write_text(text)
            self.assertIsNone(read_json(path))
        self.assertEqual(set(os.listdir(self.path)), {"root", "file"})

    def test_directory_is_private_whatever_the_umask_is(self) -> None:
        """Where the umask lets the group write, as in many systems, none is refused."""
        self.addCleanup(os.umask, os.umask(0o002))
        VenvDirectory(str(self.path / "new" / "root"))
        lookup.make_directory(str(self.path / "other"), "locks")
        for path in ("new/root", "new/root/wheels", "other", "other/locks"):
            self.assertEqual((self.path / path).stat().st_mode & 0o777, 0o700)

    def test_writable_by_others(self) -> None:
        """A directory that others may write to is refused."""
        os.chmod(self.directory.root, 0o775)
        self.assertRaises(VenvRefused, VenvDirectory, self.directory.root)
        self.assertRaises(VenvRefused, VenvDirectory, "/proc/nowhere")


class ScriptedChannel:
    """A channel for the far side's modules: it keeps what is sent."""

    TimeoutError = OSError

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, value: Any) -> None:
        self.sent.append(value)


class WaitingChannel(ScriptedChannel):
    """A channel whose near side replies when it is told that a lock is free.

    :param waits: called when the far side waits for that.
    :ivar ended: whether the near side has ended it.
    """

    def __init__(self, waits: Callable[[], None]) -> None:
        super().__init__()
        self.waits = waits
        self.ended = False
        self.said: queue.Queue[Any] = queue.Queue()

    def send(self, value: Any) -> None:
        super().send(value)
        if value == {"free": True}:
            self.said.put(value)
            if self.ended:
                raise OSError("the channel is closed")

    def receive(self) -> Any:
        self.waits()
        return self.said.get(timeout=60)


class FindTests(DirectoryCase):
    """Whether an environment is there."""

    REQUEST: dict[str, Any] = {
        "name": "work",
        "key": "k",
        "python": None,
        "upgrade": False,
        "about": "{}",
        "look": False,
    }

    def setUp(self) -> None:
        super().setUp()
        self.request = {**self.REQUEST, "root": self.directory.root}
        self.identity = environments.identity_of(())
        environments.make(self.directory, self.identity, (), {}, lambda *step: None)
        self.name(self.request)

    def name(self, request: dict[str, Any]) -> None:
        record = lookup.record_of(request, self.identity, '{"requirements": []}')
        self.directory.write_name("work", record)

    def found(self, **changes: Any) -> bool:
        """Whether it is found by another request; then it is in use."""
        channel: Any = ScriptedChannel()
        use = lookup.find(channel, {**self.request, **changes})
        self.assertEqual(bool(channel.sent), use is not None)
        if use is None:
            return False
        self.assertEqual(channel.sent[0]["ready"]["identity"], self.identity)
        self.assertIsNone(self.directory.try_lock("use-" + self.identity))
        use.release()
        return True

    def test_found_by_what_it_was_made_for_only(self) -> None:
        """It is found by what it was made for, and by nothing else."""
        self.assertTrue(self.found())
        self.assertFalse(self.found(name="other"))
        self.assertFalse(self.found(key="other"))
        self.assertFalse(self.found(upgrade=True))
        self.assertFalse(self.found(python=[sys.executable]))

    def test_near_side_that_is_gone_uses_nothing(self) -> None:
        """If it can't be told of the environment, that is not in use: it can be removed."""

        def gone(value: object) -> None:
            raise EOFError

        channel: Any = ScriptedChannel()
        channel.send = gone
        self.assertRaises(EOFError, lookup.find, channel, self.request)
        lock = self.directory.try_lock("use-" + self.identity)
        assert lock is not None
        lock.release()

    def test_found_by_its_named_interpreter(self) -> None:
        """With a named interpreter it is found by that name, whoever asks."""
        self.name({**self.request, "python": ["pypy3", "-O"]})
        self.assertTrue(self.found(python=["pypy3", "-O"]))
        self.assertFalse(self.found(python=["pypy3"]))
        self.assertFalse(self.found())

    def test_not_found_with_another_interpreter(self) -> None:
        """It is not found if its interpreter is another one by now."""
        self.patch(lookup, "stamp", lambda executable: "another")
        self.assertFalse(self.found())

    def test_not_found_when_removed(self) -> None:
        """It is not found if it, its interpreter or its name is gone."""
        python = Path(self.directory.path("environments", self.identity, "bin", "python"))
        target = os.readlink(python)
        python.unlink()
        self.assertFalse(self.found())
        python.symlink_to(target)
        self.assertTrue(self.found())
        Path(lookup.name_path(self.directory.root, "work")).write_text("k\n")
        self.assertFalse(self.found())

    def test_writable_by_others(self) -> None:
        """Nothing is found in a directory that others may write to."""
        os.chmod(self.directory.root, 0o777)
        self.assertFalse(self.found())

    def test_paths_may_have_line_breaks(self) -> None:
        """A path may have line breaks."""
        self.patch(lookup, "base_executable", lambda: "/a\nb/python")
        self.patch(lookup, "stamp", lambda executable: "x" if executable == "/a\nb/python" else "")
        self.name(self.request)
        self.assertTrue(self.found())

    def test_replaced_interpreter_is_seen(self) -> None:
        """An interpreter that is replaced is seen."""
        path = self.path / "python"
        self.assertEqual(lookup.stamp(str(path)), "")
        path.write_text("one")
        first = lookup.stamp(str(path))
        path.write_text("another")
        self.assertNotEqual(lookup.stamp(str(path)), first)


class StoreTests(DirectoryCase):
    """Unpacking wheels, and compiling them."""

    def read(self, *digests: str, compiled: bool = True) -> Any:
        """What the store knows of wheels; they are compiled."""
        return compiling.read_wheels(self.directory, digests, compiled, lambda number: None)

    def test_compiled_only_when_that_is_wanted(self) -> None:
        """Nothing is compiled unless it is wanted; what was compiled before is used anyway."""
        digest = self.add("a")
        self.assertEqual(self.read(digest, compiled=False)[0]["code"], {})
        site = Path(self.directory.path("wheels", digest, "site"))
        self.assertEqual(list(site.rglob("*.pyc")), [])
        found = self.read(digest)
        self.assertEqual(len(list(site.rglob("*.pyc"))), 1)
        self.assertEqual(self.read(digest, compiled=False), found)

    def test_compiled_beside_each_other(self) -> None:
        """Many modules are compiled by several processes, with the same result."""
        self.patch(compiling, "_processors", lambda: 3)
        self.patch(compiling, "MOST_HERE", 2)
        files = {f"a/m{n}.py": f"x = {n}\n" for n in range(5)}
        digest = self.add("a", files={**files, "a/bad.py": "no code"})
        [about] = self.read(digest)
        names = sorted(os.path.basename(name) for name in about["code"][compiling.code_key()])
        tag = sys.implementation.cache_tag
        self.assertEqual(names, [f"m{n}.{tag}.pyc" for n in range(5)])
        self.assertEqual(self.read(digest), [about])

    def test_compiled_whatever_this_process_is_told(self) -> None:
        """Options that let this process look for code elsewhere, or for other code, don't count."""
        self.patch(sys, "pycache_prefix", str(self.path / "elsewhere"))
        digest = self.add("a")
        site = Path(self.directory.path("wheels", digest, "site"))
        [about] = self.read(digest)
        self.assertEqual(about["code"][compiling.code_key()], [compiling.code_name("a.py")])
        self.assertTrue((site / compiling.code_name("a.py")).exists())
        self.assertFalse((self.path / "elsewhere").exists())

    def test_compiled_in_an_optimizing_process(self) -> None:
        """``python -O`` compiles what others can use, too."""
        digest = self.add("a")
        code = (
            "import sys\nfrom pycomnet.far.xdeploy import compiling, directory\n"
            "root, digest = sys.argv[1:]\n"
            "where = directory.VenvDirectory(root)\n"
            "[about] = compiling.read_wheels(where, [digest], True, print)\n"
        )
        argv = [sys.executable, "-O", "-c", code, self.directory.root, digest]
        subprocess.run(argv, check=True, capture_output=True)
        [about] = self.read(digest, compiled=False)
        self.assertEqual(about["code"][compiling.code_key()], [compiling.code_name("a.py")])

    def test_umask_is_not_touched(self) -> None:
        """What may be executed follows the umask, which is never set: threads share it."""
        umask = os.umask
        for mask, expected in ((0o077, 0o700), (0o022, 0o755), (0o027, 0o750)):
            self.addCleanup(umask, umask(mask))
            self.patch(os, "umask", lambda mask: self.fail("the umask was set"))
            name = f"a{mask}"
            digest = self.add(name, files={"run": "", "text": ""}, executable=("run",))
            site = Path(self.directory.path("wheels", digest, "site"))
            self.assertEqual((site / "run").stat().st_mode & 0o777, expected)
            self.assertEqual((site / "text").stat().st_mode & 0o111, 0)

    def test_compilers_die(self) -> None:
        """If a process that compiles dies, the modules are compiled here."""
        self.patch(compiling, "_processors", lambda: 2)
        self.patch(compiling, "MOST_HERE", 1)
        self.patch(compiling, "PROGRAM", "raise SystemExit(3)")
        [about] = self.read(self.add("a", files={"a.py": "", "b.py": ""}))
        self.assertEqual(len(about["code"][compiling.code_key()]), 2)

    def test_content_is_listed_and_compiled(self) -> None:
        """What it has is listed with hashes, and modules are compiled."""
        files = {"a/__init__.py": "x = 1\n", "a/bad.py": "this is no code", "a/b.txt": b"\0"}
        digest = self.add("a", files=files, executable=("a/b.txt",))
        [about] = self.read(digest)
        names = [name for name, _, _ in about["files"]]
        self.assertEqual([name for name in names if "dist-info" not in name], list(files))
        self.assertEqual(len(about["code"][compiling.code_key()]), 1)
        site = Path(self.directory.path("wheels", digest, "site"))
        self.assertEqual((site / "a/b.txt").stat().st_mode & 0o111, 0o111)
        self.assertEqual((site / "a/__init__.py").stat().st_mode & 0o111, 0)
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_compiled_for_each_python(self) -> None:
        """A wheel that another Python has unpacked is compiled for this one when it is used."""
        digest = self.add("a")
        path = self.directory.path("wheels", digest, "wheel.json")
        about = read_json(path)
        assert about is not None
        about["code"] = {"other-1": ["x"]}
        write_json(path, about)
        self.assertEqual(set(self.read(digest)[0]["code"]), {"other-1", compiling.code_key()})

    def test_received_only_with_its_hash(self) -> None:
        """It is received in pieces; other bytes than those of its hash are refused."""
        path = wheel(self.path, "a")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        got: list[int] = []
        pieces = iter([data[:100], data[100:]])
        wheels.receive(self.directory, digest, len(data), pieces, got.append)
        self.assertEqual(sum(got), len(data))
        self.assertTrue(self.directory.has_wheel(digest))
        other = "0" * 64
        self.assertRaises(
            VenvRefused, wheels.receive, self.directory, other, len(data), iter([data]), got.append
        )
        self.assertFalse(self.directory.has_wheel(other))
        self.assertRaises(
            StopIteration, wheels.receive, self.directory, other, 9, iter([b"a"]), got.append
        )
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_leads_out(self) -> None:
        """Names that lead out of the wheel are refused, in every part of it."""
        for name in (
            "../x",
            "/x",
            "a/../../x",
            "a//b",
            "a/./b",
            "a\\b",
            "a-1.0.data/scripts/../../x",
            "a-1.0.data/nowhere/x",
            "a-1.0.data/scripts",
        ):
            error = self.assertRaises(VenvRefused, self.add, "a", files={name: ""})
            self.assertIn(name.partition("\\")[0], str(error))
            self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_what_is_no_wheel_is_refused(self) -> None:
        """What is no wheel is refused."""
        path = self.path / "a.whl"
        path.write_bytes(b"nothing")
        self.assertRaises(VenvRefused, wheels.add, self.directory, str(path))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.py", "")
        self.assertRaisesRegex(VenvRefused, "dist-info", wheels.add, self.directory, str(path))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a-1.dist-info/WHEEL", "")
        self.assertRaises(VenvRefused, wheels.add, self.directory, str(path))
        self.assertRaisesRegex(VenvRefused, "version 2.0", self.add, "a", wheel_version="2.0")
        self.assertRaisesRegex(VenvRefused, "unpacked", self.add, "a", entry_points="no section")
        self.assertEqual(os.listdir(self.directory.path("wheels")), [])

    def test_broken_wheel_is_refused(self) -> None:
        """One with a file twice, or whose bytes are damaged, is refused; the error says why."""
        path = wheel(self.path / "index", "a", files={"a.py": "x = 1\n" * 1000})
        data = bytearray(path.read_bytes())
        at = data.index(b"a.py") + len(b"a.py")
        data[at : at + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(data)
        self.assertRaisesRegex(VenvRefused, "unpacked", wheels.add, self.directory, str(path))
        path = wheel(self.path / "index", "b")
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("b.py", "other")
        self.assertRaisesRegex(VenvRefused, "twice", wheels.add, self.directory, str(path))


class ScriptTests(SynchronousTestCase):
    """First lines and entry points."""

    def test_shebang_of_difficult_paths_is_the_shells(self) -> None:
        """A plain path is for the kernel; one with blanks, or too long, is for the shell."""
        self.assertEqual(scripts.shebang("/usr/bin/python"), "#!/usr/bin/python\n")
        longest = "/" + "a" * (scripts.MAX_SHEBANG - 4)
        self.assertEqual(scripts.shebang(longest), f"#!{longest}\n")
        for path in (longest + "b", "/a b/python", "/a\tb/python"):
            self.assertTrue(scripts.shebang(path).startswith("#!/bin/sh\n"))

    def test_scripts_of_difficult_paths_run_without_a_warning(self) -> None:
        """The shell starts the interpreter of any path; for Python its line is a plain string."""
        for number, name in enumerate(
            (
                "a b",
                "it's $HOME",
                "`x` \\U \\$",
                "''' \" ",
                "a \\",
                "new\nline",
                "' '''Q",
                "x" * 200,
            )
        ):
            place = Path(self.mktemp()).absolute() / name
            place.mkdir(parents=True)
            python = place / "python"
            python.symlink_to(sys.executable)
            script = Path(f"script{number}").absolute()
            script.write_text(scripts.shebang(str(python)) + "import sys\nprint(sys.argv[1:])\n")
            script.chmod(0o755)
            env = {**os.environ, "PYTHONWARNINGS": "error"}
            ran = subprocess.run([script, "$x", "y z"], capture_output=True, text=True, env=env)
            self.assertEqual((ran.stdout, ran.stderr), ("['$x', 'y z']\n", ""), name)

    def test_entry_points_become_scripts(self) -> None:
        """Those that ask for scripts, and of these no others' files."""
        text = (
            "[console_scripts]\none = a.b:c.d\ntwo=a:b [extra]\n../x = a:b\nbad = nothing\n"
            "[gui_scripts]\nThree = a:b\n[other]\nx = y:z\n"
        )
        found = dict(scripts.entry_scripts(text))
        self.assertEqual(set(found), {"one", "two", "Three"})
        self.assertIn("from a.b import c\n", found["one"])
        self.assertIn("sys.exit(c.d())", found["one"])
        compile(found["two"], "two", "exec")
        self.assertEqual(scripts.entry_scripts(""), [])

    def test_only_python_lines_are_replaced(self) -> None:
        """Only the lines that ask for Python are replaced."""
        for first in (b"#!python", b"#!pythonw", b"#!python\r", b"#!python -E"):
            data = scripts.with_interpreter(first + b"\nrest\n", "/p")
            self.assertEqual(data, b"#!/p\nrest\n")
        for data in (b"#!/bin/sh\n", b"#!python3x\n", b"", b"\0\1"):
            self.assertEqual(scripts.with_interpreter(data, "/p"), data)


class InstallTests(DirectoryCase):
    """Making environments."""

    def make(self, *digests: str) -> Path:
        """Make an environment of wheels; its directory."""
        identity = environments.identity_of(digests)
        environments.make(self.directory, identity, digests, {}, lambda *step: None)
        self.assertEqual(os.listdir(self.directory.path("new")), [])
        return Path(self.directory.path("environments", identity))

    def test_record_has_each_file_and_no_other(self) -> None:
        """RECORD has each file that was installed, with its hash and size, and no others."""
        made = self.make(
            self.add(
                "zeta",
                files={
                    "zeta/__init__.py": "x = 1\n",
                    "zeta-1.0.data/scripts/run": "#!python\n",
                    "zeta-1.0.data/data/share/page": "page",
                    "zeta-1.0.data/platlib/low.py": "",
                    # What is compiled here and what entry points ask for takes the place of these.
                    f"zeta/__pycache__/__init__.{sys.implementation.cache_tag}.pyc": "old",
                    "zeta-1.0.data/scripts/zeta": "#!python\n",
                },
                entry_points="[console_scripts]\nzeta = zeta:x\n",
            )
        )
        [site] = made.glob("lib/*/site-packages")
        with open(site / "zeta-1.0.dist-info" / "RECORD", newline="") as file:
            rows = list(csv.reader(file))
        for name, digest, size in rows:
            data = (site / name).read_bytes()
            if digest:
                found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
                self.assertEqual(digest, f"sha256={found.rstrip('=')}")
                self.assertEqual(int(size), len(data))
            else:
                self.assertTrue(name.endswith((".pyc", "/RECORD")), name)
        self.assertEqual(len({name for name, _, _ in rows}), len(rows))
        recorded = {(site / name).resolve() for name, _, _ in rows}
        plain = self.make(self.add("other", files={}))
        basis = {path.relative_to(plain) for path in plain.rglob("*")}
        own = {path.relative_to(made) for path in made.rglob("*") if path.is_file()} - basis
        self.assertEqual(
            {path.relative_to(made) for path in recorded}, own - {Path("xdeploy.json")}
        )

    def test_identity_does_not_depend_on_order(self) -> None:
        """The identity does not depend on the order, but on each wheel."""
        self.assertEqual(environments.identity_of(["a", "b"]), environments.identity_of(["b", "a"]))
        self.assertNotEqual(environments.identity_of(["a"]), environments.identity_of(["a", "b"]))

    def test_identity_depends_on_the_system(self) -> None:
        """What was made on one host is not for an unlike one that has the same home."""
        one = environments.identity_of(["a"])
        self.patch(interpreter, "libc", lambda: ("glibc", "2.5"))
        self.assertNotEqual(environments.identity_of(["a"]), one)

    def test_two_wheels_of_one_distribution_are_refused(self) -> None:
        """Two wheels of one distribution are refused, and nothing stays."""
        digests = [self.add("a"), self.add("a", "2.0")]
        self.assertRaisesRegex(VenvRefused, "distribution a", self.make, *digests)
        self.assertEqual(os.listdir(self.directory.path("environments")), [])
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_files_of_the_environment_are_not_a_wheels(self) -> None:
        """A wheel can't replace the interpreter, nor what says that this is an environment."""
        rows: list[dict[str, Any]] = [
            {"files": {"a0-1.0.data/scripts/python": "#!python\n"}},
            {"files": {"a1-1.0.data/data/pyvenv.cfg": ""}},
            {"entry_points": "[console_scripts]\npython3 = a:b\n"},
        ]
        for number, options in enumerate(rows):
            digest = self.add(f"a{number}", **options)
            self.assertRaisesRegex(VenvRefused, "the environment's", self.make, digest)

    def test_shared_file_leaves_the_store_unchanged(self) -> None:
        """A file that two wheels have is that of the second; the store's is unchanged."""
        one = self.add("one", files={"common.txt": "one"})
        two = self.add("two", files={"common.txt": "two"})
        made = self.make(one, two)
        [path] = made.glob("lib/*/site-packages/common.txt")
        self.assertEqual(path.read_text(), "two")
        kept = Path(self.directory.path("wheels", one, "site", "common.txt"))
        self.assertEqual(kept.read_text(), "one")

    def test_files_are_copied_where_links_fail(self) -> None:
        """Where the file system can't link, files are copied, with their times."""

        def refuse(source: str, target: str) -> None:
            raise OSError(18, "Invalid cross-device link")

        self.patch(os, "link", refuse)
        digest = self.add("a")
        made = self.make(digest)
        [path] = made.glob("lib/*/site-packages/a.py")
        kept = Path(self.directory.path("wheels", digest, "site", "a.py"))
        self.assertFalse(path.samefile(kept))
        self.assertEqual(path.stat().st_mtime_ns, kept.stat().st_mtime_ns)

    def test_interpreter_runs_compiled_code_of_the_store(self) -> None:
        """Its interpreter knows that it is one, and imports the compiled code of the store."""
        digest = self.add("a")
        made = self.make(digest)
        code = "import sys, a; print(sys.prefix); print(a.__cached__)"
        argv = [str(made / "bin" / "python"), "-c", code]
        prefix, cached = subprocess.check_output(argv, text=True).split()
        self.assertEqual(prefix, str(made))
        kept = self.directory.path("wheels", digest, "site", "__pycache__")
        self.assertTrue(os.path.samefile(cached, os.path.join(kept, os.path.basename(cached))))
        self.assertIn(str(made), (made / "bin" / "activate").read_text())
        self.assertNotIn("/new/", (made / "bin" / "activate").read_text())


class SdistTests(SynchronousTestCase):
    """Unpacking sdists."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()

    def archive(self, *members: tuple[str, bytes, str]) -> str:
        """Make an archive: name, type and target of links."""
        path = self.path / "a-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, kind, target in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                archive.addfile(info)
        return str(path)

    def test_leads_out(self) -> None:
        """What would be written elsewhere is refused, by either way to extract."""
        for number, members in enumerate(
            [
                [("../x", tarfile.REGTYPE, "")],
                [("a/l", tarfile.SYMTYPE, "../.."), ("a/l/x", tarfile.REGTYPE, "")],
                [("a/l", tarfile.SYMTYPE, "/tmp")],
                [("a/l", tarfile.LNKTYPE, "../../x")],
            ]
        ):
            path = self.archive(("a", tarfile.DIRTYPE, ""), *members)
            for way in ("data_filter", "own"):
                if way == "own" and hasattr(tarfile, "data_filter"):
                    self.patch(building, "tarfile", _Older())
                target = self.path / f"{number}-{way}"
                self.assertRaises(REFUSALS, building.unpack, path, str(target))
                self.assertFalse((self.path / "x").exists())
                self.patch(building, "tarfile", tarfile)

    def test_links_within_an_sdist_are_kept(self) -> None:
        """Links within the sdist are kept."""
        path = self.archive(
            ("a", tarfile.DIRTYPE, ""), ("a/f", tarfile.REGTYPE, ""), ("a/l", tarfile.SYMTYPE, "f")
        )
        for way, module in (("new", tarfile), ("old", _Older())):
            self.patch(building, "tarfile", module)
            found = building.unpack(path, str(self.path / way))
            self.assertEqual(os.readlink(os.path.join(found, "l")), "f")

    def test_sdist_has_one_directory(self) -> None:
        """An sdist has one directory."""
        path = self.archive(("a", tarfile.DIRTYPE, ""), ("b", tarfile.DIRTYPE, ""))
        self.assertRaises(VenvRefused, building.unpack, path, str(self.path / "target"))

    def test_backend_is_imported_from_the_sdist_only(self) -> None:
        """A backend is imported from the sdist, and from nowhere else."""
        self.assertEqual(building.import_paths(str(self.path), ["."]), [str(self.path)])
        for bad in ("..", "/tmp", "a/../.."):
            self.assertRaises(VenvRefused, building.import_paths, str(self.path), [bad])


class _Older:
    """``tarfile`` of a Python without filters."""

    open = staticmethod(tarfile.open)


class UpkeepTests(DirectoryCase):
    """Removing what is not needed."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add("a")
        self.add("unused")
        self.identity = environments.identity_of([self.digest])
        environments.make(self.directory, self.identity, [self.digest], {}, lambda *step: None)

    def pruned(self) -> tuple[int, int]:
        """How many environments and wheels were removed."""
        counts = upkeep.pruned(self.directory.root)
        return counts["environments"], counts["wheels"]

    def test_unnamed_environment_and_its_wheels_go(self) -> None:
        """What no name means goes, and the wheels that nothing has."""
        self.assertEqual(self.pruned(), (1, 2))
        for part in ("environments", "wheels", "new"):
            self.assertEqual(os.listdir(self.directory.path(part)), [])

    def test_each_environment_is_read_once(self) -> None:
        """Not once for each wheel."""
        for number in range(5):
            self.add(f"more{number}")
        read = self.directory.environment
        asked: list[str] = []

        def environment(directory: VenvDirectory, identity: str) -> Any:
            asked.append(identity)
            return read(identity)

        with (
            self.directory.lock("use-" + self.identity, shared=True),
            mock.patch.object(VenvDirectory, "environment", environment),
        ):
            self.assertEqual(self.pruned(), (0, 6))
        self.assertEqual(asked, [self.identity])

    def test_used_environment_stays(self) -> None:
        """What is in use stays, with its wheels."""
        with self.directory.lock("use-" + self.identity, shared=True):
            self.assertEqual(self.pruned(), (0, 1))
        self.assertEqual(self.pruned(), (1, 1))

    def test_nothing_goes_while_something_is_made(self) -> None:
        """While anything is being made, nothing that it may need is removed."""
        os.mkdir(self.directory.path("new", "x"))
        with self.directory.lock("making", shared=True):
            self.assertEqual(self.pruned(), (0, 0))
            self.assertTrue(upkeep.pruned(self.directory.root)["busy"])
            self.assertEqual(os.listdir(self.directory.path("new")), ["x"])
        self.assertEqual(self.pruned(), (1, 2))
        self.assertFalse(upkeep.pruned(self.directory.root)["busy"])
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_waiter_ends_with_the_near_side_and_removes_nothing(self) -> None:
        """While a name is being made, its removal waits; if it is given up, the name stays."""
        record = lookup.record_of({"key": "k", "python": None}, self.identity, "{}")
        self.directory.write_name("work", record)
        making = self.directory.lock("name-work")

        def end() -> None:
            raise EOFError

        given_up: Any = WaitingChannel(end)
        self.assertRaises(EOFError, upkeep.remove, given_up, self.directory.root, "work")
        self.assertEqual(given_up.sent, [{"waiting": os.getpid()}])
        given_up.ended = True
        channel: Any = WaitingChannel(making.release)
        upkeep.remove(channel, self.directory.root, "work")
        self.assertEqual(channel.sent[-2:], [{"free": True}, {"removed": [True, True]}])

    def test_environment_of_two_names_stays_for_the_other(self) -> None:
        """Its files go with its last name."""
        request = {"key": "k", "python": None}
        for name in ("one", "two"):
            record = lookup.record_of(request, self.identity, '{"requirements": []}')
            self.directory.write_name(name, record)
        root = self.directory.root
        self.assertEqual(upkeep.removed(root, "one"), [True, False])
        self.assertEqual(upkeep.removed(root, "one"), [False, False])
        self.assertEqual(self.pruned(), (0, 1))
        self.assertEqual(upkeep.removed(root, "two"), [True, True])
