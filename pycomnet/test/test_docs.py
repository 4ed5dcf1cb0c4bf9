"""The documentation's pages and examples know of each other; that these run is tested elsewhere."""

from __future__ import annotations

import re
from importlib import import_module
from itertools import pairwise
from operator import attrgetter

from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.test.docnames import (
    PACKAGE,
    ROOT,
    dead_references,
    missing_files,
    missing_names,
    repeated_lines,
)
from pycomnet.test.importrules import UPWARD

DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
#: The pages beside those in architecture/ that are about the code.
ABOUT_CODE = frozenset({"architecture", "glossary", "lifecycles", "protocol"})


class PageTests(SynchronousTestCase):
    """The pages and the examples know of each other."""

    if not EXAMPLES.is_dir():
        skip = "there are no docs beside an installed package"

    def test_every_example_is_shown_in_a_page(self) -> None:
        """Every example is in a page, and every page's example is there."""
        shown = {
            (page.parent / name).resolve()
            for page in DOCS.rglob("*.rst")
            for name in re.findall(
                r"^\.\. literalinclude:: (\S+)", page.read_text(encoding="utf-8"), re.M
            )
        }
        there = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.json")]
        self.assertEqual(shown, {path.resolve() for path in there})

    def test_every_public_name_is_in_the_reference(self) -> None:
        """Every public name is described in the reference."""
        text = (DOCS / "api.rst").read_text(encoding="utf-8")
        described = set(re.findall(r"^\.\. auto\w+:: pycomnet\.(\w+)", text, re.M))
        self.assertEqual(set(pycomnet.__all__) - {"__version__"} - described, set())

    def test_where_names_exist(self) -> None:
        """Each module, class and function that "Where is what" names is there."""
        text = (DOCS / "architecture" / "where.rst").read_text(encoding="utf-8")
        named = re.findall(r"``(pycomnet(?:\.\w+)*)(?::([\w.]+))?``", text)
        self.assertGreater(len(named), 40)
        for module, name in named:
            found = import_module(module)
            if name:
                attrgetter(name)(found)

    def test_names_on_pages_exist(self) -> None:
        """The modules, classes, members and files that the pages name are there.

        The pages on the architecture, the protocol and the words are about this package alone, so
        there each word in the form of a name is one of the package.
        """
        pages = [*DOCS.rglob("*.rst"), *ROOT.glob("*.rst")]
        missing = {}
        for page in pages:
            about_code = page.parent.name == "architecture" or page.stem in ABOUT_CODE
            found = missing_names(page.read_text(encoding="utf-8"), about_code)
            if found:
                missing[page.name] = found
        self.assertEqual(missing, {})

    def test_files_in_comments_exist(self) -> None:
        """The files that comments and docstrings of the package name are there."""
        tops = {path.name for path in (PACKAGE, *PACKAGE.iterdir(), *ROOT.iterdir())}
        missing = {}
        for source in PACKAGE.rglob("*.py"):
            if PACKAGE / "test" not in source.parents:
                found = missing_files(source.read_text(encoding="utf-8"))
                found = [path for path in found if path.partition("/")[0] in tops]
                if found:
                    missing[source.name] = found
        self.assertEqual(missing, {})

    def test_literal_blocks_begin_with_an_empty_line(self) -> None:
        """After a line that ends with ``::`` comes an empty one: else the block is plain text."""
        broken = []
        for page in [*DOCS.rglob("*.rst"), *ROOT.glob("*.rst")]:
            lines = page.read_text(encoding="utf-8").splitlines()
            for number, (line, following) in enumerate(pairwise(lines), 1):
                directive = line.lstrip().startswith("..")
                if line.rstrip().endswith("::") and following.strip() and not directive:
                    broken.append(f"{page.name}:{number}")
        self.assertEqual(broken, [])

    def test_no_line_stands_twice_in_a_docstring(self) -> None:
        """Not even where two changes of it were merged."""
        found = {
            source.name: repeated_lines(source.read_text(encoding="utf-8"))
            for source in PACKAGE.rglob("*.py")
            if PACKAGE / "test" not in source.parents
        }
        self.assertEqual({name: lines for name, lines in found.items() if lines}, {})

    def test_references_in_docstrings_exist(self) -> None:
        """Each name of this package that a docstring of it refers to is there."""
        found = {
            str(path.relative_to(PACKAGE)): dead
            for path in PACKAGE.rglob("*.py")
            if PACKAGE / "test" not in path.parents
            and (dead := dead_references(path.read_text(encoding="utf-8")))
        }
        self.assertEqual(found, {})

    def test_imports_that_point_up_are_explained(self) -> None:
        """Each module that a string may name from below is on the page about the layers."""
        text = (DOCS / "architecture.rst").read_text(encoding="utf-8")
        self.assertEqual([named for _, named in UPWARD if f"``{named}``" not in text], [])

    def test_architecture_pages_are_listed(self) -> None:
        """The index of the architecture has each of its pages, and nothing else."""
        text = (DOCS / "architecture.rst").read_text(encoding="utf-8")
        listed = set(re.findall(r"^   architecture/([\w-]+)$", text, re.M))
        self.assertEqual(listed, {path.stem for path in DOCS.glob("architecture/*.rst")})


class CheckerTests(SynchronousTestCase):
    """The checker of names finds each kind of name that isn't there, and no other."""

    def test_missing_names_are_found(self) -> None:
        """A module, a function, a class, a member, a word and a file that do not exist."""
        for literal in (
            "pycomnet.nowhere",
            "pycomnet.wire.mux:Nothing",
            "pycomnet.wire.mux:Mux.nothing",
            "far.nowhere",
            "Gateway.nothing",
            "mux.scheduler.nothing",
            "NoSuchClass",
            "no_such_" + "function()",
            "NO_SUCH_" + "CONSTANT",
            "far/nowhere.py",
            "python benchmarks/nowhere.py",
        ):
            self.assertEqual(len(missing_names(f"a ``{literal}`` b")), 1, literal)
        self.assertEqual(missing_names(":class:`~pycomnet.Nothing`"), ["pycomnet.Nothing"])

    def test_dead_references_are_found(self) -> None:
        """A module, a class, a member or a function that is not there, and none that is."""
        there = ":class:`~.connection.FileIO` :meth:`.FileIO.read` :func:`.deferred` :data:`.HEAD`"
        self.assertEqual(dead_references(there), [])
        self.assertEqual(
            dead_references(
                ":class:`~.link.FileIO` :meth:`the reader <.FileIO.readd>` :func:`..no_such`"
                " :class:`.connection.NoSuch`"
            ),
            ["link.FileIO", "FileIO.readd", "no_such", "connection.NoSuch"],
        )

    def test_repeated_lines_are_found(self) -> None:
        """In one docstring; not in two of them, and no short ones."""
        line = "            It fails with an error if the connection is lost.\n"
        self.assertEqual(repeated_lines(f'"""A.\n{line}{line}"""'), [line.strip()])
        self.assertEqual(repeated_lines(f'"""A.\n{line}"""\nx = 1\n"""B.\n{line}"""'), [])
        self.assertEqual(repeated_lines('"""A.\n    short\n    short\n"""'), [])

    def test_names_that_exist_are_not_found(self) -> None:
        """Modules, functions, members that a base class has, files, and other libraries' names."""
        for literal in (
            "pycomnet.wire.mux:Mux.send",
            "far.worker",
            "GatewayDied.reason",
            "FactoryService.startService",
            "mux.scheduler.sent",
            "subprocess.Popen",
            "epoll_ctl",
            "data_to_send(limit)",
            "START_TIMEOUT",
            "wire/mux.py",
            "POST /exec/PID",
        ):
            self.assertEqual(missing_names(f"a ``{literal}`` b"), [], literal)
        self.assertEqual(missing_names(":class:`~pycomnet.Group`"), [])
