"""One name, one thing: no two public classes of the package share a name, nor two modules."""

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
#: Modules' names that several packages have. Each names what is the same thing for another subject:
#: the errors, the client or the service of its package. A name that would mean something else in
#: each place doesn't belong here: give the new module a name that says more.
RECURRING = frozenset(
    {
        *("arguments", "audit", "batches", "blocks", "calls", "changes", "channel"),
        *("client", "connection", "credentials", "deploy", "directory", "errors", "farside"),
        *("files", "frames", "gateway", "gateway_base", "gateways", "health", "interface"),
        *("interpreter", "lifecycle", "limits", "local", "login", "memory", "messages", "metrics"),
        *("modules", "names", "options", "output", "pool", "records", "request", "requests"),
        *("resources", "rsync", "run", "scheduler", "server", "service", "session"),
        *("settings", "source", "sqlite", "states", "upkeep", "uploads", "values", "watch"),
        *("watches", "workflow"),
    }
)
#: How many modules may stand right in the package, beside its rooms.
MOST_LOOSE = 8


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


def shared_modules(paths: Iterable[str], recurring: frozenset[str]) -> list[str]:
    """What is wrong with the names of modules.

    :param paths: the modules' paths in the package.
    :param recurring: the names that several packages may have.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        name = path.rpartition("/")[2].removesuffix(".py")
        if name != "__init__":
            found[name].append(path)
    several = {name: places for name, places in found.items() if len(places) > 1}
    return [
        f"{' and '.join(places)} have one name"
        for name, places in sorted(several.items())
        if name not in recurring
    ] + [f"only one module is called {name}" for name in sorted(recurring - set(several))]


def loose(paths: Iterable[str]) -> list[str]:
    """The modules that stand right in the package."""
    return [path for path in paths if "/" not in path and path != "__init__.py"]


def modules() -> list[str]:
    """The paths of the package's modules, the tests aside."""
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return [path.as_posix() for path in paths if path.parts[0] != "test"]


class NameTests(SynchronousTestCase):
    """The names of public classes, and of modules."""

    def test_each_public_class_has_a_name_of_its_own(self) -> None:
        """No two of the package's, the tests aside."""
        sources = [(path, (PACKAGE / path).read_text()) for path in modules()]
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

    def test_modules_of_one_name_have_one_role(self) -> None:
        """No two modules have one name, but those whose name is that of a role."""
        self.assertEqual(shared_modules(modules(), RECURRING), [])

    def test_two_modules_of_one_name_are_found(self) -> None:
        """Also a name that was allowed, and that only one module has by now."""
        paths = ["__init__.py", "a/__init__.py", "a/turns.py", "b/turns.py", "a/errors.py"]
        self.assertEqual(
            shared_modules(paths, frozenset({"errors"})),
            ["a/turns.py and b/turns.py have one name", "only one module is called errors"],
        )
        self.assertEqual(shared_modules(["a/errors.py", "errors.py"], frozenset({"errors"})), [])

    def test_few_modules_stand_outside_of_the_rooms(self) -> None:
        """No more than eight modules stand right in the package."""
        found = loose(modules())
        self.assertIn("errors.py", found)
        self.assertLessEqual(len(found), MOST_LOOSE, found)

    def test_loose_modules_are_found(self) -> None:
        """A module of the package is one; a package's, and the package itself, is none."""
        self.assertEqual(loose(["__init__.py", "a.py", "b/__init__.py", "b/c.py"]), ["a.py"])
