"""What goes wrong with other programs that copy trees, case by case.

==== ============================================================ ==================================
case what is sent                                                 test
==== ============================================================ ==================================
1    a link's relative text, from any working directory           ``test_link_text``
2    an absolute link that points into the tree                   ``test_absolute_link_into_tree``
3    a link that points outside the tree, or nowhere              ``LinkPolicyTests``
4    links to Windows without the privilege                       ``test_no_privilege``
5    Windows' ``readlink`` with its prefix                        ``test_link_prefix``
6    a junction in the destination, with delete                   ``test_junction``
7    names that differ in case only                               ``test_case``
8    names that Windows can't have                                ``test_refused_names``
9    a name of 255 characters, a path over 260                    ``test_long_name``,
                                                                  ``test_long_path``
10   names that are not UTF-8                                     ``test_bytes_in_names``,
                                                                  ``test_bytes_to_windows``
11   NFC and NFD of one name                                      ``test_forms_of_unicode``
12   times that differ in nanoseconds only                        ``TimeTests``
13   same size and time, other content                            ``test_checksum``
14   a file that grows while it is sent                           ``test_file_that_grows``
15   an unreadable directory, with delete                         ``test_unreadable_directory``
16   a file or link where there is a full directory               ``test_full_directory_in_the_way``
17   killed in mid-file                                           ``test_cut_off_in_mid_file``
18   a hostile other end                                          ``HostileTests``
19   other Pythons                                                ``test_far_python``
20   a mode change alone                                          ``test_mode_alone``
21   an unreadable file                                           ``test_unreadable_file``
22   a FIFO, socket or device                                     ``test_special_files``
23   several targets, one slow, one that dies                     ``test_slow_and_dying_targets``
24   much data through a hop and ssh                              ``benchmarks/rsync.py``
==== ============================================================ ==================================
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet.far.rsync import names, scan, times, tree
from pycomnet.far.rsync.entries import ABORT, FILE, LAST, BadBatch
from pycomnet.far.rsync.files import TEMPORARY, temporary_name, temporary_names
from pycomnet.far.rsync.scan import Batch
from pycomnet.far.rsync.tree import LATEST, AtDirectory
from pycomnet.test.rsync.kit import CutOff, FakeWindows, Sender, sync, tree_of, write

NOON = 1700000000123456789
#: Where the tests with real far sides are.
SYSTEM = "system/test_rsync.py"


class TableTests(SynchronousTestCase):
    """The table above."""

    def test_names_are_those_of_tests(self) -> None:
        """Each test that it names is there."""
        room = Path(__file__).parent
        paths = (*room.glob("test_*.py"), *room.glob("*_cases.py"), room.parent / SYSTEM)
        texts = [path.read_text() for path in paths]
        named = re.findall(r"``(?:\w+\.)?(test_\w+|\w+Tests)``", __doc__ or "")
        self.assertGreater(len(named), 24)
        for name in named:
            found = [text for text in texts if re.search(rf"(def|class) {name}\b", text)]
            self.assertTrue(found, name)


class CaseTests(SynchronousTestCase):
    """A source and a destination."""

    def setUp(self) -> None:
        base = os.path.realpath(self.mktemp())
        self.source = os.path.join(base, "source")
        self.destination = os.path.join(base, "destination")
        os.makedirs(self.source)
        os.makedirs(self.destination)

    def in_source(self, path: str, content: bytes = b"", time: int | None = NOON) -> str:
        whole = os.path.join(self.source, path)
        write(whole, content, time)
        return whole

    def in_destination(self, path: str, content: bytes = b"", time: int | None = NOON) -> str:
        whole = os.path.join(self.destination, path)
        write(whole, content, time)
        return whole

    def assert_equal_trees(self) -> None:
        """Fail unless the trees are equal: names, kinds, modes, times, content, links."""
        self.assertEqual(tree_of(self.destination), tree_of(self.source))

    def assert_nothing_to_do(self, **options: object) -> None:
        """Fail unless another run finds nothing to do."""
        again = sync(self.source, self.destination, **options)
        self.assertEqual({kind: found for kind, found in again.items() if found}, {})


class LinkTests(CaseTests):
    def test_link_text(self) -> None:
        """The text of a relative link is kept, whatever the working directory is (case 1)."""
        self.in_source("sub/existant")
        os.symlink("existant", f"{self.source}/sub/rel")
        self.addCleanup(os.chdir, os.getcwd())
        for directory in (self.source, f"{self.source}/sub", "/"):
            os.chdir(directory)
            shutil.rmtree(self.destination)
            sync(self.source, self.destination)
            self.assertEqual(os.readlink(f"{self.destination}/sub/rel"), "existant")
        self.assert_equal_trees()
        self.assert_nothing_to_do()

    def test_absolute_link_into_tree(self) -> None:
        """An absolute link into the source points to the same place in the destination (case 2)."""
        self.in_source("sub/file")
        os.symlink(f"{self.source}/sub/file", f"{self.source}/link")
        os.symlink(self.source, f"{self.source}/root")
        sync(self.source, self.destination)
        self.assertEqual(os.readlink(f"{self.destination}/link"), f"{self.destination}/sub/file")
        self.assertEqual(os.readlink(f"{self.destination}/root"), self.destination)
        self.assert_nothing_to_do()

    def test_changed_link(self) -> None:
        """A link with another text is replaced, in one step."""
        os.symlink("new", f"{self.source}/link")
        os.symlink("old", f"{self.destination}/link")
        self.assertEqual(sync(self.source, self.destination)["made"], [b"link"])
        self.assertEqual(os.readlink(f"{self.destination}/link"), "new")
        self.assertEqual(os.listdir(self.destination), ["link"])

    def test_link_in_a_directorys_place(self) -> None:
        """A directory is made where there is a link to one: nothing is written through the link."""
        outside = os.path.join(os.path.dirname(self.source), "outside")
        os.makedirs(outside)
        self.in_source("sub/file", b"content")
        os.symlink(outside, f"{self.destination}/sub")
        sync(self.source, self.destination)
        self.assertEqual(os.listdir(outside), [])
        self.assert_equal_trees()


class LinkPolicyTests(CaseTests):
    """Links that lead out of the tree, or nowhere (case 3)."""

    def setUp(self) -> None:
        super().setUp()
        outside = os.path.join(os.path.dirname(self.source), "outside")
        write(f"{outside}/file", b"from outside", NOON)
        self.outside = outside
        self.in_source("inside", b"from inside")
        os.symlink(f"{outside}/file", f"{self.source}/out")
        os.symlink("nowhere", f"{self.source}/dangling")
        os.symlink("inside", f"{self.source}/fine")

    def test_keep(self) -> None:
        """They are kept, and noted."""
        done = sync(self.source, self.destination)
        self.assert_equal_trees()
        self.assertEqual(set(done["noted"]), {b"out", b"dangling"})
        self.assertIn("outside the tree", done["noted"][b"out"])
        self.assertIn("not there", done["noted"][b"dangling"])

    def test_skip(self) -> None:
        """They are skipped, and it is said; what is there in their place stays."""
        self.in_destination("out", b"mine")
        done = sync(self.source, self.destination, outside="skip", delete=True)
        self.assertEqual(set(done["skipped"]), {b"out", b"dangling"})
        self.assertEqual(sorted(os.listdir(self.destination)), ["fine", "inside", "out"])
        self.assertFalse(os.path.islink(f"{self.destination}/out"))

    def test_copy(self) -> None:
        """What they point to is sent; what points nowhere has failed."""
        done = sync(self.source, self.destination, outside="copy")
        self.assertEqual(tree_of(self.destination)[b"out"][3], b"from outside")
        self.assertTrue(os.path.islink(f"{self.destination}/fine"))
        self.assertEqual(set(done["failed"]), {b"dangling"})
        self.assertIn("nowhere", done["failed"][b"dangling"])

    def test_error(self) -> None:
        """They have failed; the rest is sent."""
        done = sync(self.source, self.destination, outside="error")
        self.assertEqual(set(done["failed"]), {b"out", b"dangling"})
        self.assertEqual(sorted(os.listdir(self.destination)), ["fine", "inside"])

    def test_copy_of_a_directory_that_is_excluded(self) -> None:
        """A pattern for directories goes for a link that is copied as one, as with ``rsync -L``."""
        self.in_source("there/file")
        for name in ("build", "other"):
            os.symlink("there", f"{self.source}/{name}")
        os.symlink("there/file", f"{self.source}/file")
        self.in_destination("build/mine")
        rules = {"links": "copy", "exclude": ["build/", "file/"], "delete": True}
        done = sync(self.source, self.destination, **rules)
        self.assertEqual(
            [path for path in done["sent"] if path.endswith(b"file")],
            [b"file", b"other/file", b"there/file"],
        )
        self.assertEqual(os.listdir(f"{self.destination}/build"), ["mine"])

    def test_copy_of_a_loop(self) -> None:
        """A link to a directory above itself ends the run nowhere: it has failed."""
        os.makedirs(f"{self.source}/sub")
        os.symlink("..", f"{self.source}/sub/up")
        done = sync(self.source, self.destination, links="copy")
        self.assertIn("in itself", done["failed"][b"sub/up"])


class WindowsTests(CaseTests):
    """A destination on Windows."""

    def setUp(self) -> None:
        super().setUp()
        self.windows = FakeWindows(self.destination)

    def send(self, **options: Any) -> dict[str, Any]:
        sender = Sender(self.source, **options)
        return sender.run("C:/", names.Nt(), self.windows)

    def test_tree(self) -> None:
        """A tree arrives, and a second run finds nothing to do but times of directories."""
        self.in_source("sub/deeper/file.txt", b"content")
        self.in_source("long", b"x" * 100000)
        done = self.send()
        self.assertEqual(done["failed"], {})
        with open(f"{self.destination}/sub/deeper/file.txt", "rb") as file:
            self.assertEqual(file.read(), b"content")
        self.assertEqual(os.path.getsize(f"{self.destination}/long"), 100000)
        again = self.send()
        self.assertEqual((again["sent"], again["made"], again["changed"]), ([], [], []))

    def test_no_privilege(self) -> None:
        """Without the privilege a link has failed, with the remedy; or it is copied (case 4)."""
        self.in_source("file", b"content")
        os.symlink("file", f"{self.source}/link")
        self.windows.may_link = False
        done = self.send()
        self.assertEqual(set(done["failed"]), {b"link"})
        self.assertIn("developer mode", done["failed"][b"link"])
        self.assertEqual(done["sent"], [b"file"])
        self.assertEqual(self.send(links="copy")["sent"], [b"link"])

    def test_no_symlink_function(self) -> None:
        """Where Python has no ``symlink`` the same (case 4)."""
        os.symlink("file", f"{self.source}/link")
        with mock.patch.object(FakeWindows, "symlink"):
            del FakeWindows.symlink
            self.assertIn("links='copy'", self.send()["failed"][b"link"])

    def test_link_prefix(self) -> None:
        """The prefix of what ``readlink`` returns is not part of a link's text (case 5)."""
        flavour = names.Nt()
        self.assertEqual(flavour.text_of("\\\\?\\C:\\a\\b"), b"C:/a/b")
        self.assertEqual(flavour.text_of("\\\\?\\UNC\\server\\share"), b"//server/share")
        self.assertEqual(flavour.text_of("..\\a"), b"../a")
        self.in_source("sub/file")
        os.symlink(f"{self.source}/sub", f"{self.source}/link")
        self.assertEqual(self.send()["failed"], {})
        self.assertEqual(self.windows.readlink("C:\\link"), "\\\\?\\C:\\sub")
        self.assertEqual(self.send()["made"], [])  # it is the same link

    def test_junction(self) -> None:
        """A junction is deleted, and not what it points to (case 6)."""
        outside = os.path.join(os.path.dirname(self.source), "outside")
        write(f"{outside}/precious", b"")
        os.symlink(outside, f"{self.destination}/junction")
        self.windows.junctions.add(f"{self.destination}/junction")
        self.assertEqual(self.send(delete=True)["deleted"], [b"junction"])
        self.assertEqual(os.listdir(self.destination), [])
        self.assertEqual(os.listdir(outside), ["precious"])

    def test_junction_of_an_old_python(self) -> None:
        """Before Python 3.8 it is known as some reparse point only, and not entered either."""
        self.windows.has_tags = False
        self.test_junction()

    def test_modes_are_not_set(self) -> None:
        """A file that may not be written to here can be replaced and deleted there."""
        os.chmod(self.in_source("file", b"one"), 0o444)
        self.assertEqual(self.send()["sent"], [b"file"])
        os.chmod(self.in_source("file2", b"two"), 0o444)
        os.replace(os.path.join(self.source, "file2"), os.path.join(self.source, "file"))
        os.utime(os.path.join(self.source, "file"))
        self.assertEqual((self.send()["sent"], self.send()["sent"]), ([b"file"], []))
        os.remove(os.path.join(self.source, "file"))
        self.assertEqual(self.send(delete=True)["deleted"], [b"file"])

    def test_names_there_that_can_not_be_had(self) -> None:
        """What others have made by other ways fails; the rest is deleted, and the run ends."""
        for name in (b"aux", b"\xed\xb2\x80", b"old"):
            write(os.path.join(os.fsencode(self.destination), name), b"")

        def listdir(path: str) -> list[str]:
            """Half of a surrogate pair, as Windows tells it."""
            found = os.listdir(self.windows.here(path))
            return [os.fsencode(one).decode("utf-8", "surrogatepass") for one in found]

        self.in_source("new/file", b"new")
        with mock.patch.object(self.windows, "listdir", listdir):
            done = self.send(delete=True)
        self.assertEqual((done["sent"], done["deleted"]), ([b"new/file"], [b"old"]))
        self.assertEqual(set(done["failed"]), {b"aux", b"\xed\xb2\x80"})

    def test_case(self) -> None:
        """Names that are one name there are both named, and neither is written (case 7)."""
        for name in ("A", "a", "b"):
            self.in_source(name, name.encode())
        self.in_destination("a", b"old")
        done = self.send(delete=True)
        self.assertEqual(set(done["failed"]), {b"A", b"a"})
        self.assertIn("'A', 'a'", done["failed"][b"a"])
        self.assertEqual(done["sent"], [b"b"])
        self.assertEqual(tree_of(self.destination)[b"a"][3], b"old")

    def test_case_in_several_lists(self) -> None:
        """Of names that come in several lists the later ones are refused, with both names."""
        for name in ("Name", "b", "c", "name", "\xc4", "\xe4"):
            self.in_source(name, name.encode())
        for most in (1, 2, 4):
            with mock.patch.multiple(scan, FIRST_BATCH=most, BATCH=most):
                done = self.send()
            self.assertEqual(set(done["failed"]) - {b"Name", "\xc4".encode()},
                             {b"name", "\xe4".encode()})  # fmt: skip
            self.assertIn("'Name', 'name'", done["failed"][b"name"])

    def test_another_case(self) -> None:
        """With delete, what is listed in another case is not deleted."""
        self.in_source("File", b"new content")
        self.in_destination("file", b"old")
        done = self.send(delete=True)
        self.assertEqual((done["sent"], done["deleted"]), ([b"File"], []))
        self.assertEqual(tree_of(self.destination)[b"file"][3], b"new content")

    def test_forms_of_unicode(self) -> None:
        """The two forms of one name conflict where they are folded (case 11)."""
        for name in (b"\xc3\xa9", b"e\xcc\x81"):
            write(os.path.join(os.fsencode(self.source), name), name)
        folding = mock.patch("pycomnet.far.rsync.folding.Folding._probe", lambda *_: True)
        with folding:
            done = sync(self.source, self.destination)
        self.assertEqual(set(done["failed"]), {b"\xc3\xa9", b"e\xcc\x81"})
        self.assertEqual(os.listdir(self.destination), [])
        done = sync(self.source, self.destination)  # here they are two names
        self.assertEqual(done["failed"], {})
        self.assert_equal_trees()

    def test_refused_names(self) -> None:
        """Each name that Windows can't have has failed, with what and where; the rest is sent."""
        refused = {
            "NUL.x": "NUL is a device",
            "con.a.txt": "CON is a device",
            "x:y": "':' (character 2)",
            "dot.": "'.' (character 4)",
            "blank ": "' ' (character 6)",
            "sub/a*b": "'*' (character 2)",
            "com\u00b9": "is a device",
            "a\nb": "U+000A (character 2)",
        }
        for name in refused:
            self.in_source(name)
        self.in_source("sub/fine")
        done = self.send()
        self.assertEqual({os.fsdecode(name) for name in done["failed"]}, set(refused))
        for name, text in refused.items():
            self.assertIn(text, done["failed"][os.fsencode(name)])
        self.assertEqual(done["sent"], [b"sub/fine"])

    def test_long_path(self) -> None:
        """A path of more than 260 characters is used in its long form (case 9)."""
        path = "/".join(["x" * 100] * 4)
        self.in_source(path, b"content")
        self.assertEqual(self.send()["failed"], {})
        self.assertTrue(os.path.exists(f"{self.destination}/{path}"))

    def test_bytes_to_windows(self) -> None:
        """A name that is not UTF-8 has failed (case 10)."""
        write(os.path.join(os.fsencode(self.source), b"a\xff"), b"")
        self.in_source("b")
        done = self.send()
        self.assertEqual(done["failed"], {b"a\xff": "byte 1 of the name is not UTF-8"})
        self.assertEqual(done["sent"], [b"b"])


class NameTests(CaseTests):
    def test_long_name(self) -> None:
        """A name of 255 characters is sent: its temporary name is no longer (case 9)."""
        self.in_source("x" * 255, b"content")
        self.in_source("y" * 255, b"x" * 100000)
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assert_equal_trees()

    def test_bytes_in_names(self) -> None:
        """Names are bytes, and so are links' texts (case 10)."""
        root = os.fsencode(self.source)
        write(os.path.join(root, b"\xff\xfe", b"a\nb"), b"1", NOON)
        os.symlink(b"\xff\xfe/a\nb", os.path.join(root, b"li\x80nk"))
        sync(self.source, self.destination)
        self.assert_equal_trees()
        self.assert_nothing_to_do()


class TimeTests(CaseTests):
    """Times that differ in nanoseconds only (case 12)."""

    def test_noticed(self) -> None:
        """It is noticed; the content is compared, not sent, and the time is set."""
        self.in_source("file", b"content", NOON)
        self.in_destination("file", b"content", NOON + 1)
        sender = Sender(self.source)
        done = sender.run(self.destination)
        self.assertEqual((done["equal"], done["sent"], sender.literal), ([b"file"], [], 0))
        self.assert_equal_trees()

    def test_zeros_at_the_end(self) -> None:
        """A time that only looks truncated is noticed, too: the file system can do better."""
        self.in_source("file", b"one", NOON)
        self.in_destination("file", b"two", NOON // 1000 * 1000)
        self.assertEqual(sync(self.source, self.destination)["sent"], [b"file"])
        self.assert_equal_trees()

    def test_outside_of_64_bits(self) -> None:
        """A time that no list can have becomes the nearest that one can; the result says so."""
        self.in_source("other", b"other")
        paths = [self.in_source("directory/file", b"content"), f"{self.source}/directory"]
        os.symlink("nowhere", f"{self.source}/link")
        paths.append(f"{self.source}/link")
        for path in (*paths, self.source):
            os.utime(path, ns=(10**19, 10**19), follow_symlinks=False)
            if os.lstat(path).st_mtime_ns != 10**19:
                raise SkipTest("this file system has no such times")
        outcome = sync(self.source, self.destination, delete=True)
        self.assertEqual(sorted(outcome["noted"]), [b"directory", b"directory/file", b"link"])
        self.assertIn("2262", outcome["noted"][b"directory"])
        self.assertEqual((outcome["failed"], outcome["deleted"]), ({}, []))
        arrived = tree_of(self.destination)
        self.assertEqual(arrived[b"directory/file"][2:4], (LATEST, b"content"))
        self.assertEqual(arrived[b"directory"][2], LATEST)
        self.assertEqual(arrived[b"other"], tree_of(self.source)[b"other"])
        again = sync(self.source, self.destination)
        self.assertEqual((again["sent"], again["changed"]), ([], []))

    def test_coarse_file_system(self) -> None:
        """Where times have seconds only, a truncated one is the same."""
        self.in_source("file", b"content", NOON)
        self.in_destination("file", b"content", NOON // 10**9 * 10**9)
        with mock.patch.object(times.Times, "_probe", lambda *_: 10**9):
            done = sync(self.source, self.destination)
        self.assertEqual((done["sent"], done["equal"]), ([], []))


class ContentTests(CaseTests):
    def test_checksum(self) -> None:
        """Same size and time, other content: sent with ``checksum`` only (case 13)."""
        for name, size in (("short", 10), ("long", 200000)):
            self.in_source(name, b"1" * size)
            self.in_destination(name, b"2" * size)
        self.assertEqual(sync(self.source, self.destination)["sent"], [])
        done = sync(self.source, self.destination, checksum=True)
        self.assertEqual(sorted(done["sent"]), [b"long", b"short"])
        self.assert_equal_trees()

    def test_long_file_of_equal_content(self) -> None:
        """A long file that has its content already is not replaced; it gets its mode and time."""
        for name, content in (("random", os.urandom(300000)), ("zeros", bytes(300000))):
            self.in_source(name, content)
            os.chmod(self.in_destination(name, content, NOON - 1), 0o600)
        files = {name: os.stat(f"{self.destination}/{name}").st_ino for name in ("random", "zeros")}
        for options in ({}, {"checksum": True}):
            done = sync(self.source, self.destination, **options)
            self.assertEqual((done["sent"], sorted(done["equal"])), ([], [b"random", b"zeros"]))
            self.assert_equal_trees()
            for name, number in files.items():
                self.assertEqual(os.stat(f"{self.destination}/{name}").st_ino, number)
        self.assertEqual(sorted(os.listdir(self.destination)), ["random", "zeros"])

    def test_checksum_of_equal_content(self) -> None:
        """With ``checksum`` equal content is not sent."""
        self.in_source("short", b"1" * 10)
        self.in_source("long", os.urandom(300000))
        sync(self.source, self.destination)
        sender = Sender(self.source, checksum=True)
        done = sender.run(self.destination)
        self.assertEqual((done["equal"], sender.literal), ([b"short", b"long"], 0))
        self.assert_equal_trees()

    def test_parts_of_a_long_file(self) -> None:
        """Of a long file that has changed little, little is sent."""
        old = os.urandom(1000000)
        self.in_source("file", b"front" + old[:500000] + b"middle" + old[500000:])
        self.in_destination("file", old, NOON - 1)
        sender = Sender(self.source)
        sender.run(self.destination)
        self.assertLess(sender.literal, 20000)
        self.assert_equal_trees()

    def test_cut_off_in_mid_file(self) -> None:
        """The final name is whole, old or new; the next run goes on from there (case 17)."""
        content = os.urandom(2000000)
        self.in_source("new", content)
        self.in_source("old", content[::-1])
        self.in_destination("old", b"old content", NOON - 1)
        sender = Sender(self.source, cut=1500000)
        self.assertRaises(CutOff, sender.run, self.destination)
        left = sorted(os.listdir(self.destination))
        self.assertEqual(left[1:], ["old"])
        self.assertEqual(left[0].encode(), temporary_name(b"new"))
        self.assertEqual(tree_of(self.destination)[b"old"][3], b"old content")
        sender = Sender(self.source)
        sender.run(self.destination)
        self.assertLess(sender.literal, 2000000 + 700000)
        self.assert_equal_trees()

    def test_a_file_that_was_left(self) -> None:
        """What a killed run has left is removed, if its file is not sent any more."""
        self.in_destination((TEMPORARY + b"0" * 20).decode(), b"left")
        sync(self.source, self.destination)
        self.assertEqual(os.listdir(self.destination), [])

    def test_given_up_and_not_writable(self) -> None:
        """A file that can't be made here, and that its sender gives up, has failed once."""
        self.in_source("full", b"1" * 100000)
        self.in_source("other", b"2")
        create = AtDirectory.create

        class GivingUp(Sender):
            """Says of each long file that it has changed meanwhile."""

            def _content(self, number: int, digest: bytes = b"") -> None:
                if self._path(number) != b"full":
                    super()._content(number, digest)
                    return
                self._messages.append(["long", number, 4096, NOON, 0o644, False])
                self.raw.put(ABORT)

        def full(directory: AtDirectory, name: bytes) -> int:
            if name in temporary_names(b"full") or not refused:
                refused.append(name)
                raise OSError(28, "No space left on device")
            return create(directory, name)

        refused: list[bytes] = []
        with mock.patch.object(AtDirectory, "create", full):
            outcome = GivingUp(self.source).run(self.destination)
        self.assertEqual(outcome["failed"], {b"full": "No space left on device"})
        self.assertEqual(outcome["sent"], [b"other"])

    def test_unreadable_file(self) -> None:
        """What can't be read has failed; the old content keeps its old time (case 21)."""
        self.in_source("a", b"new content")
        self.in_source("b", b"content")
        self.in_destination("a", b"old", NOON - 5)
        sender = Sender(self.source)
        read = sender._read

        def refuse(number: int) -> object:
            if sender._path(number) == b"a":
                raise PermissionError(13, "Permission denied")
            return read(number)

        sender._read = refuse  # type: ignore[method-assign,assignment]
        done = sender.run(self.destination)
        self.assertEqual(done["failed"], {b"a": "Permission denied"})
        self.assertEqual(done["sent"], [b"b"])
        self.assertEqual(tree_of(self.destination)[b"a"][2:4], (NOON - 5, b"old"))
        self.assertEqual(sync(self.source, self.destination)["sent"], [b"a"])

    def test_special_files(self) -> None:
        """A FIFO or socket is skipped, and it is said; the run does not stop at it (case 22)."""
        os.mkfifo(f"{self.source}/fifo")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.source)  # the address of a socket is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
        self.in_source("z", b"content")
        done = sync(self.source, self.destination)
        self.assertEqual(done["skipped"], {b"fifo": "it is a FIFO", b"socket": "it is a socket"})
        self.assertEqual(done["sent"], [b"z"])


class AttributeTests(CaseTests):
    def test_owner_and_set_user_id(self) -> None:
        """A file that gets another owner keeps the set-user-id bit of its mode, in one run."""
        if os.getuid():
            raise SkipTest("only root gives files to others")
        for root, owner in ((self.source, 1234), (self.destination, 1235)):
            write(f"{root}/file", b"content", NOON)
            os.chown(f"{root}/file", owner, owner)
            os.chmod(f"{root}/file", 0o4755)
        sync(self.source, self.destination, owners=True)
        status = os.stat(f"{self.destination}/file")
        self.assertEqual((status.st_uid, stat.S_IMODE(status.st_mode)), (1234, 0o4755))
        self.assert_nothing_to_do(owners=True)

    def test_mode_alone(self) -> None:
        """A mode that has changed alone is set, as it is, in one run (case 20)."""
        path = self.in_source("file", b"content")
        os.makedirs(f"{self.source}/sub", exist_ok=True)
        sync(self.source, self.destination)
        for mode in (0o644, 0o755, 0o400, 0o4711, 0o000, 0o666):
            os.chmod(path, mode)
            os.chmod(f"{self.source}/sub", 0o700 | mode)
            done = sync(self.source, self.destination)
            self.assertEqual(done["sent"], [])
            self.assert_equal_trees()
            self.assert_nothing_to_do()

    def test_times_of_directories(self) -> None:
        """A directory's time is its source's, though files were written into it."""
        self.in_source("a/b/file", b"content")
        for path in ("a/b", "a", "."):
            os.utime(f"{self.source}/{path}", ns=(NOON, NOON))
        sync(self.source, self.destination)
        self.assert_equal_trees()
        self.assertEqual(os.stat(self.destination).st_mtime_ns, NOON)
        self.in_source("a/b/other", b"content")
        os.utime(f"{self.source}/a/b", ns=(NOON, NOON))
        sync(self.source, self.destination)
        self.assert_equal_trees()

    def test_hard_links(self) -> None:
        """Several names of one file are that there, too, and stay so."""
        first = self.in_source("a/first", b"content")
        os.makedirs(f"{self.source}/b")
        os.link(first, f"{self.source}/b/second")
        sync(self.source, self.destination, hard_links=True)
        self.assert_equal_trees()
        self.assert_nothing_to_do(hard_links=True)
        write(first, b"other content", NOON + 1)
        sync(self.source, self.destination, hard_links=True)
        self.assert_equal_trees()
        os.remove(f"{self.source}/b/second")
        self.in_source("b/second", b"on its own")
        sync(self.source, self.destination, hard_links=True)
        self.assert_equal_trees()


class ListTests(CaseTests):
    """A tree that takes many lists."""

    def test_directories_in_parts(self) -> None:
        """Directories whose entries come in several lists are as others, also with delete."""
        for directory in ("", "a/", "a/b/", "c/"):
            for number in range(17):
                self.in_source(f"{directory}f{number}", b"content")
            self.in_destination(f"{directory}extra/file")
            self.in_destination(f"{directory}z")
        self.in_destination("a/f3/full")
        for first, most in ((1, 1), (3, 5), (7, 100)):
            target = f"{self.destination}{first}"
            shutil.copytree(self.destination, target, symlinks=True)
            with mock.patch.multiple(scan, FIRST_BATCH=first, BATCH=most):
                done = sync(self.source, target, delete=True)
                self.assertEqual(done["failed"], {})
                self.assertEqual(len(done["deleted"]), 8)
                self.assertEqual(tree_of(target), tree_of(self.source))
                again = sync(self.source, target, delete=True)
                self.assertEqual({kind: found for kind, found in again.items() if found}, {})

    def test_empty_tree(self) -> None:
        """An empty source makes an empty directory; with delete it empties one."""
        self.in_destination("file")
        sync(self.source, self.destination)
        self.assertEqual(os.listdir(self.destination), ["file"])
        sync(self.source, self.destination, delete=True)
        self.assertEqual(os.listdir(self.destination), [])

    def test_deep_tree(self) -> None:
        """A tree may be deeper than directories are kept open."""
        path = "/".join("d" * 60)
        self.in_source(f"{path}/file", b"content")
        os.symlink("file", f"{self.source}/{path}/link")
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assert_equal_trees()
        self.assert_nothing_to_do()


class DeleteTests(CaseTests):
    def test_delete(self) -> None:
        """What the source does not have is deleted, whole trees as well, if asked."""
        self.in_source("kept")
        for path in ("kept", "file", "tree/deep/file", "tree/other"):
            self.in_destination(path)
        os.symlink("/", f"{self.destination}/link")
        self.assertEqual(sync(self.source, self.destination)["deleted"], [])
        done = sync(self.source, self.destination, delete=True)
        self.assertEqual(done["deleted"], [b"file", b"link", b"tree"])
        self.assert_equal_trees()

    def test_unreadable_directory(self) -> None:
        """If a directory can't be read, nothing is deleted, and it is said (case 15)."""
        self.in_source("secret/file")
        self.in_destination("secret/file")
        self.in_destination("secret/other")
        self.in_destination("extra")
        scandir = os.scandir

        def refuse(path: bytes) -> object:
            if path.endswith(b"secret"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        with mock.patch("os.scandir", refuse):
            done = sync(self.source, self.destination, delete=True)
        self.assertEqual(done["failed"], {b"secret": "Permission denied"})
        self.assertEqual(done["deleted"], [])
        self.assertEqual(sorted(os.listdir(f"{self.destination}/secret")), ["file", "other"])
        self.assertEqual(sync(self.source, self.destination, delete=True)["deleted"],
                         [b"extra", b"secret/other"])  # fmt: skip

    def test_excluded_is_not_deleted(self) -> None:
        """What is excluded is neither sent nor deleted, nor is what it is in."""
        self.in_source("a.pyc")
        self.in_source("b.py")
        self.in_destination("old/c.pyc")
        self.in_destination("old/d.py")
        done = sync(self.source, self.destination, delete=True, exclude=["*.pyc"])
        self.assertEqual(done["sent"], [b"b.py"])
        self.assertEqual(done["deleted"], [])
        self.assertEqual(set(tree_of(self.destination)), {b"b.py", b"old", b"old/c.pyc"})

    def test_full_directory_in_the_way(self) -> None:
        """A full directory where something else shall be makes room with delete only (case 16)."""
        self.in_source("file", b"content")
        self.in_source("long", b"x" * 100000)
        os.symlink("file", f"{self.source}/link")
        for name in ("file", "long", "link"):
            self.in_destination(f"{name}/full/of/things")
        done = sync(self.source, self.destination)
        self.assertEqual(set(done["failed"]), {b"file", b"long", b"link"})
        self.assertIn("not empty", done["failed"][b"file"])
        self.assertEqual(sorted(os.listdir(self.destination)), ["file", "link", "long"])
        self.assertEqual(sync(self.source, self.destination, delete=True)["failed"], {})
        self.assert_equal_trees()

    def test_empty_directory_in_the_way(self) -> None:
        """An empty directory makes room without delete, and a file for a directory."""
        self.in_source("file", b"content")
        self.in_source("directory/file", b"content")
        os.makedirs(f"{self.destination}/file")
        self.in_destination("directory", b"a file")
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assert_equal_trees()

    def test_dry_run(self) -> None:
        """Nothing is changed, and the result says what would be."""
        self.in_source("new/file", b"content")
        self.in_source("changed", b"content")
        self.in_source("mode", b"content")
        self.in_destination("changed", b"old")
        os.chmod(self.in_destination("mode", b"content"), 0o600)
        self.in_destination("extra/file")
        before = tree_of(self.destination)
        done = sync(self.source, self.destination, dry_run=True, delete=True)
        self.assertEqual(tree_of(self.destination), before)
        self.assertEqual(sorted(done["sent"]), [b"changed", b"new/file"])
        self.assertEqual(done["made"], [b"new"])
        self.assertEqual(done["changed"], [b"mode"])
        self.assertEqual(done["deleted"], [b"extra"])
        shutil.rmtree(self.destination)
        done = sync(self.source, self.destination, dry_run=True)
        self.assertEqual(sorted(done["sent"]), [b"changed", b"mode", b"new/file"])
        self.assertFalse(os.path.exists(self.destination))


class HostileTests(CaseTests):
    """A sending end that would write outside of the destination (case 18)."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = os.path.join(os.path.dirname(self.source), "outside")
        os.makedirs(self.outside)

    def hostile(self, **columns: object) -> Sender:
        made = Batch(0)
        made.modes, made.sizes, made.times = [0o644], [0], [NOON]
        for name, value in columns.items():
            setattr(made, name, value)

        class Scripted:
            root = self.source.encode()
            clean = True

            def batches(self) -> list[Batch]:
                return [made]

        return Sender(self.source, scan=Scripted())

    def test_names_that_lead_out(self) -> None:
        """``..``, an absolute name or one with a separator ends the run."""
        for name in (b"..", b".", b"", b"../x", b"/etc/x", b"a/b"):
            sender = self.hostile(directories=[[b"", 1, 1]], names=[name], kinds=bytearray([1]))
            self.assertRaises(BadBatch, sender.run, self.destination)

    def test_directories_that_lead_out(self) -> None:
        """The path of a directory is checked, part by part."""
        for path in (b"..", b"../outside", b"/etc", b"a//b", b"a/../../outside"):
            sender = self.hostile(directories=[[path, 1, 1]], names=[b"x"], kinds=bytearray([1]))
            self.assertRaises(BadBatch, sender.run, self.destination)

    def test_parent_that_is_a_link(self) -> None:
        """A link that was sent is not followed, nor one that was there."""
        sender = self.hostile(
            directories=[[b"", 1, 1], [b"link", 1, 1]],
            names=[b"link", b"x"],
            kinds=bytearray([2, 0]),
            texts=[self.outside.encode()],
            modes=[0o777, 0o755],
            sizes=[0, 0],
            times=[NOON, NOON],
        )
        done = sender.run(self.destination)
        self.assertEqual(os.listdir(self.outside), [])
        self.assertEqual(set(done["failed"]), {b"link/x"})

    def test_names_that_come_twice(self) -> None:
        """A name that is listed twice, and a directory that is, end the run."""
        for lists, names_ in (
            ([[b"", 2, 1]], [b"x", b"x"]),
            ([[b"", 1, 0], [b"", 1, 1]], [b"x", b"x"]),
            ([[b"", 1, 1], [b"", 1, 1]], [b"x", b"y"]),
            ([[b"", 1, 0], [b"x", 0, 1], [b"", 1, 1]], [b"x", b"y"]),
        ):
            sender = self.hostile(
                directories=lists, names=names_, kinds=bytearray([0, 2]), texts=[b"/"],
                modes=[0o777] * 2, sizes=[0, 0], times=[NOON] * 2,
            )  # fmt: skip
            self.assertRaises(BadBatch, sender.run, self.destination)

    def test_leader_that_is_a_link(self) -> None:
        """No other name is made of what is no regular file, also if the system would."""
        self.in_source("a")
        sender = self.hostile(
            directories=[[b"", 2, 1]], names=[b"a", b"b"], kinds=bytearray([5, 4]), firsts=[0],
            modes=[0o644] * 2, sizes=[0, 0], times=[NOON] * 2,
        )  # fmt: skip

        def swap(_: bytes) -> None:
            os.remove(f"{self.destination}/a")
            os.symlink(self.outside, f"{self.destination}/a")

        with mock.patch.object(sender, "_got_written", swap):
            done = sender.run(self.destination)
        self.assertEqual(set(done["failed"]), {b"b"})
        self.assertEqual(os.listdir(self.destination), ["a"])

    def test_directory_that_is_swapped_meanwhile(self) -> None:
        """A directory that somebody swaps for a link during the run does not lend it its mode."""
        self.in_source("d/file", b"content")
        os.chmod(f"{self.source}/d", 0o755)
        os.chmod(self.outside, 0o700)
        sender = Sender(self.source)
        written = sender._got_written

        def swap(numbers: bytes) -> None:
            written(numbers)
            shutil.rmtree(f"{self.destination}/d")
            os.symlink(self.outside, f"{self.destination}/d")

        with mock.patch.object(sender, "_got_written", swap):
            sender.run(self.destination)
        self.assertEqual(stat.S_IMODE(os.stat(self.outside).st_mode), 0o700)

    def test_link_that_another_run_makes_meanwhile(self) -> None:
        """A cancelled run that has not seen that yet may make it first, as it was or another."""
        os.symlink("target", f"{self.source}/link")
        place = f"{self.destination}/link"
        own = tree.AtDirectory.symlink
        for there in ("target", "elsewhere"):

            def late(opened: Any, text: Any, name: Any, there: str = there) -> None:
                if not os.path.lexists(place):
                    os.symlink(there, place)
                own(opened, text, name)

            with mock.patch.object(tree.AtDirectory, "symlink", late):
                done = Sender(self.source).run(self.destination)
            self.assertEqual(done["failed"], {})
            self.assertEqual(os.listdir(self.destination), ["link"])
            self.assertEqual(os.readlink(place), "target")
            os.remove(place)

    def test_lists_with_a_gap(self) -> None:
        """A list that does not go on where the last ended is refused: nothing counts as deleted."""
        kept = self.in_destination("a", b"old")
        listed = {"names": [b"b"], "kinds": bytearray([FILE]), "directories": [[b"", 1, LAST]]}
        sender = self.hostile(first=1, **listed)
        self.assertRaises(BadBatch, sender.run, self.destination)
        self.assertTrue(os.path.exists(kept))

    def test_columns_that_do_not_fit(self) -> None:
        """A list whose columns differ in length ends the run."""
        for columns in (
            {"directories": [[b"", 2, 1]], "names": [b"x"], "kinds": bytearray([1])},
            {"directories": [[b"", 1, 1]], "names": [b"x"], "kinds": bytearray([2])},
            {"directories": [[b"", 1, 1]], "names": [b"x"], "kinds": bytearray([4])},
            {
                "directories": [[b"", 1, 1]],
                "names": [b"x", b"y"],
                "kinds": bytearray([1, 1]),
                "modes": [0o644, 0o644],
                "sizes": [0, 0],
                "times": [NOON, NOON],
            },
        ):
            sender = self.hostile(**columns)
            self.assertRaises(BadBatch, sender.run, self.destination)


class ModeTests(CaseTests):
    def test_mode_of_a_temporary_file(self) -> None:
        """Until it is whole, a file is readable by its owner only."""
        self.in_source("file", b"x" * 1000000)
        os.chmod(f"{self.source}/file", 0o644)
        self.assertRaises(CutOff, Sender(self.source, cut=500000).run, self.destination)
        (left,) = os.listdir(self.destination)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.destination}/{left}").st_mode), 0o600)
