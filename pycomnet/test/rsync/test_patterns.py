"""rsync's patterns. What rsync itself does with them is compared in ``system.test_rsync``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync.patterns import Filter, translate
from pycomnet.rsync.options import make_options

#: pattern -> paths that it matches, and paths that it doesn't
TABLE = {
    b"*.pyc": ([b"a.pyc", b"x/y/a.pyc", b".pyc", b"x.pyc/"], [b"a.pyo", b"a.pyc.txt", b"a.pyc/b"]),
    b"/build": ([b"build", b"build/"], [b"x/build", b"build2"]),
    b"build/": ([b"build/", b"x/build/"], [b"build", b"rebuild/"]),
    b"/build/": ([b"build/"], [b"build", b"x/build/"]),
    b"a/*": ([b"a/b", b"x/a/b/"], [b"a/", b"a", b"a/b/c"]),
    b"a/b": ([b"a/b", b"x/a/b", b"a/b/"], [b"b", b"a/x/b", b"xa/b"]),
    b"/a/*/c": ([b"a/b/c"], [b"a/c", b"a/b/b/c", b"x/a/b/c"]),
    b"/a/**/c": ([b"a/b/c", b"a/b/b/c", b"a/b/c/"], [b"a/c", b"x/a/b/c"]),
    b"a/**": ([b"a/b", b"a/b/c", b"x/a/b", b"a/b/"], [b"a", b"b/c"]),
    b"**/b": ([b"b", b"a/b", b"a/b/"], [b"ab", b"b/c"]),
    b"/a/***": ([b"a/", b"a/b", b"a/b/c"], [b"b/", b"a", b"x/a/", b"ab"]),
    b"?x": ([b"ax", b"y/bx"], [b"x", b"abx"]),
    b"[a-c]x": ([b"ax", b"cx"], [b"dx"]),
    b"[!a-c]x": ([b"dx"], [b"ax", b"/x"]),
    b"[]x]": ([b"]", b"x"], [b"y"]),
    rb"\*x": ([b"*x"], [b"ax"]),
    b"a.b+c(d)": ([b"a.b+c(d)"], [b"aXb+c(d)"]),
    b"\xff*": ([b"\xff\xfe", b"a/\xff"], [b"\xfe"]),
    b"*": ([b"a", b"a/b", b"a/"], []),
}


class PatternTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Each pattern matches what it shall, and nothing else."""
        for pattern, (matched, others) in TABLE.items():
            rules = Filter([(False, *found) for found in translate(pattern)])
            for path in matched:
                self.assertFalse(rules.takes(path), (pattern, path))
            for path in others:
                self.assertTrue(rules.takes(path), (pattern, path))

    def test_order(self) -> None:
        """What is included comes before what is excluded."""
        options = make_options(exclude=["*.log"], include=["keep.log"])
        rules = Filter(options.rules)
        self.assertTrue(rules.takes(b"a/keep.log"))
        self.assertFalse(rules.takes(b"a/other.log"))

    def test_mistakes(self) -> None:
        """What is no pattern, or no list of them, is refused at once."""
        for pattern in (b"", b"/", b"[a"):
            self.assertRaises(ValueError, translate, pattern)
        self.assertRaises(TypeError, make_options, exclude="*.pyc")
        self.assertRaises(ValueError, make_options, links="follow")
        self.assertRaises(ValueError, make_options, outside="keep it")
