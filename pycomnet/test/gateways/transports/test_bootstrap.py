"""What comes before the hello of an interpreter on another machine, and what it is sent."""

from __future__ import annotations

import io
import linecache
import os
import subprocess
import sys
import traceback
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import importer, package
from pycomnet.far.importer import Importer, cache_directory
from pycomnet.far.preamble import MAX_PREAMBLE
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.sshcommand import quote, ssh_command
from pycomnet.wire.frames import MARKER


class Keeps:
    """A connection that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.made = 0
        self.lost: Failure | None = None

    def makeConnection(self, transport: Any) -> None:
        self.made += 1

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason


class Transport(StringTransport):
    """A transport that can be handed over."""

    protocol: Any = None
    aborted = False

    def hand_over(self, protocol: Any) -> None:
        self.protocol = protocol

    def abortConnection(self) -> None:
        self.aborted = True


class Beginning(SynchronousTestCase):
    """Noise, the marker, and then the connection."""

    def start(self, bootstrap_message: bytes = b"") -> tuple[AfterMarker, Keeps, Transport]:
        connection, transport = Keeps(), Transport()
        self.shown: list[str] = []
        before = AfterMarker(connection, self.shown.append, bootstrap_message)
        before.makeConnection(transport)
        transport.protocol = before
        return before, connection, transport

    def test_marker_is_found_however_cut(self) -> None:
        """The marker is found however the bytes are cut, what follows it is the connection's."""
        data = b"Welcome\n" + MARKER[:9] + b"no" + MARKER + b"hello" + MARKER
        for size in range(1, len(data) + 1):
            before, connection, transport = self.start()
            for at in range(0, len(data), size):
                transport.protocol.dataReceived(data[at : at + size])
            self.assertEqual(connection.data, b"hello" + MARKER, size)
            self.assertEqual(connection.made, 1)
            self.assertEqual(before.describe_end("it ended"), "it ended")
            self.assertEqual(self.shown, ["Welcome\n\nPYCOMNETno\n"])

    def test_end_of_what_came_instead_is_kept(self) -> None:
        """The end of what came instead is kept, and the connection's end passed on."""
        before, connection, transport = self.start()
        for number in range(2000):
            before.dataReceived(b"line %d\n" % number)
        before.connectionLost(Failure(ConnectionError("gone")))
        words = before.describe_end("it ended")
        self.assertTrue(words.startswith("it ended; before its hello it had printed:\n"))
        self.assertTrue(words.endswith("line 1999"))
        self.assertLessEqual(len(words), 1100)
        self.assertEqual(self.shown, [])
        assert connection.lost is not None
        self.assertFalse(transport.aborted)

    def test_endless_noise_is_cut_off(self) -> None:
        """What prints without end is cut off, and not kept."""
        before, _, transport = self.start()
        for _ in range(MAX_PREAMBLE // 65536 + 1):
            before.dataReceived(b"y\n" * 32768)
        self.assertTrue(transport.aborted)
        self.assertIn("more than 1048576 bytes", before.describe_end(""))
        self.assertLess(len(before.describe_end("")), 2000)

    def test_connection_begins_with_the_marker_after_a_bootstrap(self) -> None:
        """With a bootstrap message the connection begins with the marker, without one at once."""
        for bootstrap_message, made in ((b"message", 0), (b"", 1)):
            before, connection, transport = self.start(bootstrap_message)
            self.assertEqual((transport.value(), connection.made), (bootstrap_message, made))
            before.dataReceived(MARKER)
            self.assertEqual((connection.made, transport.protocol), (1, connection))


class Sent(SynchronousTestCase):
    """The package and the command."""

    def files(self) -> dict[str, bytes]:
        data = zlib.decompress(package.package()[1])
        found = {}
        while data:
            head, _, data = data.partition(b"\n")
            name, length = head.decode().split()
            found[name], data = data[: int(length)], data[int(length) :]
        return found

    def test_package_has_the_far_side_and_is_named_by_hash(self) -> None:
        """It has all of the far side, and its name tells its content."""
        files = self.files()
        for name in (
            "wire",
            "wire.mux",
            "far",
            "far.main",
            "far.worker",
            "far.forkserver.server",
            "far.importer",
        ):
            self.assertIn(name, files)
        self.assertEqual(
            files["far.main"], Path(importer.__file__).with_name("main.py").read_bytes()
        )
        name, blob = package.package()
        self.assertEqual(len(name), 20)
        self.assertLess(len(blob), 100_000)

    def test_command_is_one_line_without_secrets(self) -> None:
        """A line that no shell trips over, with nothing secret in it."""
        spec = Spec.parse("ssh=h -p 1//env:TOKEN=s3cret//python=~/a b/python -O//ssh_config=/c d")
        argv = ssh_command(spec)
        self.assertEqual(argv[:6], ("ssh", "-T", "-F", "/c d", "h", "-p"))
        self.assertNotIn("s3cret", " ".join(argv))
        self.assertNotIn("'", package.code())
        self.assertNotIn("!", package.code())
        self.assertNotIn("\n", argv[-1])
        self.assertTrue(argv[-1].startswith("exec ~/a b/python -O -c 'import "), argv[-1][:50])

    def test_quoted_words_come_through_a_shell(self) -> None:
        """Words come through a shell as they are; a home directory is the shell's."""
        for word in ("plain", "it's", "a b", "$HOME", "`x`", "*"):
            said = subprocess.run(["sh", "-c", f"printf %s {quote(word)}"], capture_output=True)
            self.assertEqual(said.stdout.decode(), word)
        self.assertEqual(quote("~/a b"), "~/'a b'")

    def test_interpreter_variables_go_with_the_command(self) -> None:
        """What an interpreter reads when it starts goes with the command."""
        spec = Spec.parse("ssh=h//env:PYTHONHASHSEED=1//env:OTHER=2")
        self.assertIn("exec env PYTHONHASHSEED=1 python3 -c", ssh_command(spec)[-1])
        self.assertNotIn("OTHER", ssh_command(spec)[-1])


class Importing(SynchronousTestCase):
    """Modules that come from memory."""

    def load(
        self, cache: str | None, source: bytes = b"def f():\n    raise ValueError  # here\n"
    ) -> Any:
        """Import ``_pycomnet.sub.module``, of this source."""
        found = Importer({"sub": b"", "sub.module": source}, cache)
        kept = {
            name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("_pyc")
        }
        sys.meta_path.insert(0, found)
        try:
            __import__("_pycomnet.sub.module")
            return sys.modules["_pycomnet.sub.module"]
        finally:
            sys.meta_path.remove(found)
            for name in [name for name in sys.modules if name.startswith("_pycomnet")]:
                del sys.modules[name]
            sys.modules.update(kept)

    def test_traceback_has_lines_of_modules_from_memory(self) -> None:
        """Tracebacks have the source's lines."""
        module = self.load(None, b"def f():\n    raise ValueError  # here\n")
        linecache.clearcache()
        try:
            module.f()
        except ValueError:
            text = traceback.format_exc()
        self.assertIn('File "_pycomnet/sub/module.py", line 2, in f', text)
        self.assertIn("raise ValueError  # here", text)

    def test_compiled_code_is_cached_and_broken_cache_replaced(self) -> None:
        """Compiled code is kept, and used; what is no code in its place is not."""
        cache = self.mktemp()
        os.mkdir(cache)
        self.load(cache, b"value = 1")
        self.assertIn("_pycomnet.sub.module", os.listdir(cache))
        # It is looked up by the package's hash, so the source itself is not compared again.
        self.assertEqual(self.load(cache, b"value = 2").value, 1)
        Path(cache, "_pycomnet.sub.module").write_bytes(b"broken")
        self.assertEqual(self.load(cache, b"value = 3").value, 3)
        self.assertEqual(self.load(cache, b"value = 4").value, 3)

    def test_unwritable_cache_is_no_error(self) -> None:
        """No room, or no right: it goes without."""
        self.assertEqual(self.load("/no/such/directory", b"value = 1").value, 1)

    def test_full_disk_leaves_no_partial_file(self) -> None:
        """Where a file can't be written whole nothing is left of it, and the far side starts."""
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        # In place of a full disk: no file may be longer than this.
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        argv = [sys.executable, "-S", "-E", "-c", f"{limit}{package.code()}"]
        bootstrap_message = package.bootstrap_message({"id": "x", "fork": False})
        env = {**os.environ, "XDG_CACHE_HOME": str(home)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        ran = subprocess.run(
            argv, input=bootstrap_message, capture_output=True, timeout=300, env=env
        )
        self.assertIn(b"PYCOMNET", ran.stdout[len(MARKER) :], ran)
        self.assertEqual(ran.stderr, b"")
        [cache] = (home / "pycomnet").iterdir()
        self.assertEqual([file.name for file in cache.iterdir() if file.suffix[1:].isdigit()], [])

    def test_cache_directory_that_others_may_write_is_not_used(self) -> None:
        """It is the user's alone, or it isn't used."""
        home = Path(self.mktemp()).absolute()
        with patch.dict(os.environ, {"XDG_CACHE_HOME": str(home)}):
            self.patch(sys, "dont_write_bytecode", False)
            path = cache_directory("abc")
            assert path is not None
            self.assertTrue(Path(path).is_dir())
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)
            os.chmod(path, 0o777)
            self.assertIsNone(cache_directory("abc"))
            os.chmod(path, 0o700)
            self.assertEqual(cache_directory("abc"), path)
            self.patch(sys, "dont_write_bytecode", True)
            self.assertIsNone(cache_directory("abc"))

    def test_far_side_says_its_marker_first(self) -> None:
        """The line and what follows it start a far side, which says its marker first."""
        bootstrap_message = package.bootstrap_message({"id": "x", "fork": False})
        argv = [sys.executable, "-S", "-E", "-c", package.code()]
        noise = io.BytesIO(bootstrap_message)
        ran = subprocess.run(argv, input=noise.read(), capture_output=True, timeout=300)
        self.assertTrue(ran.stdout.startswith(MARKER), ran)
        self.assertIn(b"PYCOMNET", ran.stdout[len(MARKER) :])

    def test_bootstrap_cut_short_ends_without_a_word(self) -> None:
        """When what it is sent ends too soon it ends, without a word."""
        argv = [sys.executable, "-c", package.code()]
        ran = subprocess.run(argv, input=b"abc", capture_output=True, timeout=300)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (3, b"", b""))
