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

    def test_several_lines_are_continued_as_one_text_is(self) -> None:
        """Also where they come line by line, and with comments between; the last one ends."""
        whole = "a>=1 \\\n    --hash=sha256:%s \\\n    # via b\nb" % ("0" * 64)
        self.assertEqual(Requirements.of(whole), Requirements.of(whole.splitlines()))
        self.assertEqual(Requirements.of(whole).lines, (f"a>=1 --hash=sha256:{'0' * 64}", "b"))
        self.assertEqual(Requirements.of("a\\").lines, ("a",))
        with self.assertRaisesRegex(InvalidRequirements, "line 3"):
            Requirements.of("a\\\n\nb c\nd")

    def test_hashes_are_part_of_what_is_wanted(self) -> None:
        """In any order and case; other hashes, or none, are other requirements."""
        one, two = "sha256:" + "a1" * 32, "sha512:" + "b2" * 64
        given = Requirements.of(f"a==1 --hash={two} --hash {one.upper().replace('SHA', 'sha')}")
        self.assertEqual(given, Requirements.of(f"A == 1 --hash={one} --hash={two}"))
        self.assertTrue(given.hashed)
        self.assertEqual(str(given), "a==1")
        keys = {Requirements.of(f"a==1{more}").key for more in ("", f" --hash={one}")}
        self.assertEqual(len(keys | {given.key}), 3)
        self.assertFalse(Requirements.of("a==1").hashed)
        for bad in ("md5:" + "0" * 32, "sha256:0", "sha256", "sha256:" + "g" * 64):
            with self.assertRaisesRegex(InvalidRequirements, "line 1 .* has the hash"):
                Requirements.of(f"a==1 --hash={bad}")

    def test_files_may_change(self) -> None:
        """What a file has may change."""
        self.assertTrue(Requirements.of("a @ https://x.example/a-1.0.tar.gz").fixed)
        for url in ("file:///tmp/a-1.0.tar.gz", "FILE:///tmp/a", "git+file:///tmp/a", "file:a"):
            self.assertFalse(Requirements.of(f"a @ {url}").fixed, url)

    def test_constraints_make_other_requirements(self) -> None:
        """In any order; they want nothing themselves, so they have no extras."""
        plain, one = Requirements.of("a"), Requirements.of("a", "c<2\nB == 1")
        self.assertEqual(one, Requirements.of("a", ["b==1", "c <2  # why"]))
        self.assertEqual((one.lines, one.constraints), (("a",), ("b==1", "c<2")))
        keys = {each.key for each in (plain, one, Requirements.of("a\nc<2\nb==1"))}
        self.assertEqual(len(keys), 3)
        self.assertFalse(Requirements.of("a", "b @ file:///tmp/b.whl").fixed)
        for text, said in (
            ("a\n-c x", "line 2 of the constraints"),
            ("b[x]", "extras"),
        ):
            self.assertRaisesRegex(InvalidRequirements, said, Requirements.of, "a", text)

    def test_refusal_names_the_line_and_the_remedy(self) -> None:
        """The error has the line's number, and what to do."""
        for text, said in (
            ("a\n-r more.txt", "line 2 .*option of pip"),
            ("a\n\nb c", "line 3"),
            ("./here", "install="),
            ("-c limits.txt", "constraints="),
            ("--index-url x", "index="),
            ("-e .", "install="),
            ("--editable=.", "install="),
        ):
            self.assertRaisesRegex(InvalidRequirements, said, Requirements.of, text)
        self.assertRaises(InvalidRequirements, Requirements.of, [b"a"])

    def test_environment_name_leads_nowhere_else(self) -> None:
        """An environment's name is a file's name, and leads nowhere else."""
        for name in ("work", "a.b-c_1", "0"):
            self.assertEqual(check_name(name), name)
        for bad in ("", ".", "..", "../a", "a/b", ".hidden", "a\0", "a b", "a" * 101, 5, None):
            self.assertRaises(InvalidRequirements, check_name, bad)
