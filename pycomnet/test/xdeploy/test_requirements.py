"""Requirements: equal ones are equal, and what is none is refused with what to do."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.xdeploy.requirements import InvalidRequirements, Requirements, check_name


class RequirementsTests(SynchronousTestCase):
    """:class:`Requirements`."""

    def test_order_blanks_and_case_do_not_matter(self) -> None:
        """Order, blanks, comments, case and repetition don't matter."""
        one = Requirements.of("requests>=2,<3\nattrs[b,a] ; python_version<'4'\n\n# a comment\n")
        other = Requirements.of(
            ["Attrs[A, B]; python_version < '4'", "requests <3, >=2  # why", "requests<3,>=2"]
        )
        self.assertEqual(one, other)
        self.assertEqual(one.key, other.key)
        self.assertEqual(len(one.lines), 2)

    def test_separators_in_names_are_the_same(self) -> None:
        """Underscores, dots and dashes are the same in names."""
        self.assertEqual(Requirements.of("A_b.C").lines, ("a-b-c",))

    def test_versions_extras_and_markers_matter(self) -> None:
        """Another version, extra or marker is something else."""
        texts = ["a", "a>=1", "a[x]", "a; python_version < '3'", "a @ https://x.example/a.whl", ""]
        self.assertEqual(len({Requirements.of(text).key for text in texts}), len(texts))

    def test_backslash_continues_a_line(self) -> None:
        """A backslash continues a line, as in a file for pip."""
        self.assertEqual(Requirements.of("a\\\n>=1").lines, ("a>=1",))

    def test_files_may_change(self) -> None:
        """What a file has may change."""
        self.assertTrue(Requirements.of("a @ https://x.example/a-1.0.tar.gz").fixed)
        self.assertFalse(Requirements.of("a @ file:///tmp/a-1.0.tar.gz").fixed)

    def test_refusal_names_the_line_and_the_remedy(self) -> None:
        """The error has the line's number, and what to do."""
        for text, said in (
            ("a\n-r more.txt", "line 2 .*option of pip"),
            ("a\n\nb c", "line 3"),
            ("./here", "install="),
            ("--index-url x", "index="),
        ):
            self.assertRaisesRegex(InvalidRequirements, said, Requirements.of, text)
        self.assertRaises(InvalidRequirements, Requirements.of, [b"a"])

    def test_environment_name_leads_nowhere_else(self) -> None:
        """An environment's name is a file's name, and leads nowhere else."""
        for name in ("work", "a.b-c_1", "0"):
            self.assertEqual(check_name(name), name)
        for bad in ("", ".", "..", "../a", "a/b", ".hidden", "a\0", "a b", "a" * 101, 5, None):
            self.assertRaises(InvalidRequirements, check_name, bad)
