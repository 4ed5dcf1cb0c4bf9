"""One name, one thing: no two public classes of the package share a name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.importrules import PACKAGE

#: The API once more, without Deferreds, for asyncio, and as execnet has it: there the same name is
#: the same thing.
TWINS = frozenset({"blocking", "aio.py", "execnet"})
#: What both ends call so, and what Twisted wants each twistd plugin's options to be called.
SHARED = frozenset({"RemoteError", "Options"})


def repeated(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Public classes that have the name of another.

    :param sources: a module's path in the package, and its source.
    :returns: name -> where it stands.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path, source in sources:
        if path.partition("/")[0] in TWINS:
            continue
        for name in re.findall(r"^class ([a-zA-Z]\w*)", source, re.M):
            found[name].append(path)
    return {
        name: places for name, places in found.items() if len(places) > 1 and name not in SHARED
    }


class NameTests(SynchronousTestCase):
    """The names of public classes."""

    def test_each_public_class_has_a_name_of_its_own(self) -> None:
        """No two of the package's, the tests aside."""
        paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
        sources = [
            (path.as_posix(), (PACKAGE / path).read_text())
            for path in paths
            if path.parts[0] != "test"
        ]
        self.assertGreater(len(sources), 100)
        self.assertEqual(repeated(sources), {})

    def test_two_of_one_name_are_found(self) -> None:
        """In different modules; private ones, and the twins of the API, don't count."""
        sources = [
            ("a.py", "class Reader: pass\nclass _Own: pass\nclass RemoteError: pass"),
            ("b/c.py", "class Reader: pass\nclass _Own: pass\nclass RemoteError: pass"),
            ("blocking/d.py", "class Reader: pass"),
        ]
        self.assertEqual(repeated(sources), {"Reader": ["a.py", "b/c.py"]})
