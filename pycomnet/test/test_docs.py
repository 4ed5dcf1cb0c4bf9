"""The documentation's pages and examples know of each other; that these run is tested elsewhere."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet

DOCS = Path(pycomnet.__file__).parent.parent / "docs"
EXAMPLES = DOCS / "examples"


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
        self.assertEqual(shown, {path.resolve() for path in EXAMPLES.glob("*.py")})

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

    def test_architecture_pages_are_listed(self) -> None:
        """The index of the architecture has each of its pages, and nothing else."""
        text = (DOCS / "architecture.rst").read_text(encoding="utf-8")
        listed = set(re.findall(r"^   architecture/([\w-]+)$", text, re.M))
        self.assertEqual(listed, {path.stem for path in DOCS.glob("architecture/*.rst")})
