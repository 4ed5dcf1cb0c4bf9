"""What has changed of a source, and the part of it that is compared then."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync.files import TEMPORARY
from pycomnet.far.rsync.scan import Scan
from pycomnet.rsync.changes import EVERYTHING, NOTHING, Changes, changes_of
from pycomnet.rsync.options import make_options
from pycomnet.test.rsync.kit import Sender, tree_of, write


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = os.fsencode(os.path.abspath(self.mktemp()))
        for path in (b"a/b/c", b"a/b/d", b"a/e", b"f/g/h", b"i"):
            write(os.path.join(self.root, path), b"x" * len(path))

    def changes(self, *paths: bytes, new: bool = False, **options: object) -> Changes:
        found = [(os.path.join(self.root, path), new) for path in paths]
        return changes_of(self.root, found, make_options(**options))  # type: ignore[arg-type]

    def scanned(self, changes: Changes) -> list[bytes]:
        scan = Scan(self.root, make_options(), part=changes)
        return [path for batch in scan.batches() for path in batch.paths()]

    def test_a_file_is_a_matter_of_its_directory(self) -> None:
        """Its directory is compared, and those through which it is reached."""
        changes = self.changes(b"a/b/c")
        self.assertEqual((changes.listed, changes.whole), ({b"a/b"}, frozenset()))
        self.assertEqual(self.scanned(changes), [b"a", b"a/b", b"a/b/c", b"a/b/d"])

    def test_what_is_in_the_root(self) -> None:
        """The root's own entries are compared, and nothing below."""
        for path in (b"i", b"gone", b"."):
            self.assertEqual(self.scanned(self.changes(path)), [b"a", b"f", b"i"])

    def test_a_new_directory_is_compared_as_a_whole(self) -> None:
        """With all that is below it, as what came with it is not told one by one."""
        changes = self.changes(b"f", new=True)
        self.assertEqual(self.scanned(changes), [b"a", b"f", b"i", b"f/g", b"f/g/h"])
        self.assertEqual(self.scanned(self.changes(b"f")), [b"a", b"f", b"i"])

    def test_what_is_excluded_is_no_change(self) -> None:
        """Nor is a temporary file of a run that comes here."""
        self.assertFalse(self.changes(b"a/b/c", exclude=["c"]))
        self.assertFalse(self.changes(b"a/b/c", exclude=["/a/"]))
        self.assertFalse(self.changes(b"a/b", exclude=["b/"]))
        self.assertFalse(self.changes(b"a/" + TEMPORARY + b"0" * 20))
        self.assertTrue(self.changes(b"a/b/c", b"i", exclude=["c"]))

    def test_what_is_elsewhere_too_is_everything(self) -> None:
        """With hard links and copies of links, a change may be one of other paths as well."""
        for options in ({"hard_links": True}, {"links": "copy"}, {"outside": "copy"}):
            self.assertTrue(self.changes(b"i", **options).is_everything)
        self.assertFalse(self.changes(b"i").is_everything)

    def test_union(self) -> None:
        """Changes add up."""
        both = self.changes(b"a/e") | self.changes(b"f/g/h")
        self.assertEqual(self.scanned(both), [b"a", b"f", b"a/b", b"a/e", b"f/g", b"f/g/h"])
        self.assertTrue((both | EVERYTHING).is_everything)
        self.assertEqual(both | NOTHING, both)
        self.assertFalse(NOTHING)

    def test_a_directory_that_has_gone(self) -> None:
        """What is not there any more is not compared, and is no failure."""
        changes = self.changes(b"gone/x/y")
        scan = Scan(self.root, make_options(), part=changes)
        self.assertEqual([path for batch in scan.batches() for path in batch.paths()], [])
        self.assertTrue(scan.clean)

    def test_only_what_is_compared_is_deleted(self) -> None:
        """A run of a part of a tree deletes nothing elsewhere, and makes that part equal."""
        target = os.path.join(self.root, b"..", b"target")
        Sender(self.root).run(target)
        for path in (b"a/old", b"a/b/old", b"f/old", b"old"):
            write(os.path.join(target, path))
        write(os.path.join(self.root, b"a/b/new"), b"new")
        os.remove(os.path.join(self.root, b"a/b/d"))
        options = make_options(delete=True)
        scan = Scan(self.root, options, part=self.changes(b"a/b/d"))
        outcome = Sender(self.root, scan=scan, delete=True).run(target)
        self.assertEqual(sorted(outcome["deleted"]), [b"a/b/d", b"a/b/old"])
        self.assertEqual(outcome["sent"], [b"a/b/new"])
        self.assertEqual(
            set(tree_of(target)) - set(tree_of(self.root)), {b"a/old", b"f/old", b"old"}
        )
