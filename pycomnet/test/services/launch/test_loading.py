"""From a module's name to its services, and what can be wrong on the way."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ServiceNotLoaded
from pycomnet.services.interface import Service
from pycomnet.services.launch.loading import load

GOOD = """
import pycomnet
from loaded_base import Base

@pycomnet.interface("org.example.first")
class First(pycomnet.Service):
    pass

@pycomnet.interface("org.example.second")
class Second(Base):
    def __init__(self, size=1):
        self.size = size

class Plain(pycomnet.Service):
    pass

second = Second(7)

def make(size):
    return Second(size)

class Place:
    inside = second

number = 3
"""
FAMILY = """
import pycomnet

@pycomnet.interface("org.example.base")
class Base(pycomnet.Service):
    pass

@pycomnet.interface("org.example.more")
class More(Base):
    pass

class Most(More):
    pass

@pycomnet.interface("org.example.other")
class Other(pycomnet.Service):
    pass
"""
BASE = """
import pycomnet

@pycomnet.interface("org.example.base")
class Base(pycomnet.Service):
    pass
"""


class LoadTests(SynchronousTestCase):
    """Modules in a directory of their own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.patch(sys, "path", [str(self.directory), *sys.path])
        self.module("loaded_good", GOOD)
        self.module("loaded_base", BASE)

    def module(self, name: str, source: str) -> None:
        """Write a module; it is forgotten after the test."""
        (self.directory / f"{name}.py").write_text(source)
        self.addCleanup(sys.modules.pop, name, None)

    def names(self, name: str, **options: object) -> list[str]:
        """The classes of what is loaded."""
        loaded = load(name, options)
        self.assertTrue(all(isinstance(one, Service) for one in loaded))
        return [type(one).__name__ for one in loaded]

    def refused(self, name: str, **options: object) -> str:
        """The error's message."""
        return str(self.assertRaises(ServiceNotLoaded, load, name, options))

    def test_module_gives_its_own_classes_in_order(self) -> None:
        """All classes that it defines itself and that have an interface, in their order."""
        self.assertEqual(self.names("loaded_good"), ["First", "Second"])

    def test_target_is_class_instance_function_or_attribute(self) -> None:
        """A class, an instance, a function, and what is within something."""
        self.assertEqual(self.names("loaded_good:First"), ["First"])
        for name in ("loaded_good:second", "loaded_good:Place.inside"):
            (service,) = load(name)
            self.assertEqual(service.size, 7)  # type: ignore[attr-defined]

    def test_subclass_alone_is_run(self) -> None:
        """A service and its subclass in one module: the subclass is what is to run, alone."""
        self.module("loaded_family", FAMILY)
        found = load("loaded_family")
        self.assertEqual([type(one).__name__ for one in found], ["Most", "Other"])
        self.assertEqual(list(found[0].interfaces), ["org.example.base", "org.example.more"])
        self.assertEqual(type(load("loaded_family:Base")[0]).__name__, "Base")

    def test_options_are_keyword_arguments(self) -> None:
        """Keyword arguments of the class or the function."""
        for name in ("loaded_good:Second", "loaded_good:make"):
            (service,) = load(name, {"size": 5})
            self.assertEqual(service.size, 5)  # type: ignore[attr-defined]

    def test_missing_module_says_where_was_looked(self) -> None:
        """It says where was looked, and names the part that is missing."""
        self.assertIn("there is no module 'loaded_none' in: ", self.refused("loaded_none.part"))
        self.assertIn(str(self.directory), self.refused("loaded_none"))
        self.assertIn("no module 'loaded_good.sub'", self.refused("loaded_good.sub"))

    def test_failure_shows_where_it_was_raised(self) -> None:
        """What a module raises is shown with where it did; so is what it can't import itself."""
        self.module("loaded_fails", "import json\njson.loads('x')\n")
        text = self.refused("loaded_fails")
        self.assertIn("can't import module 'loaded_fails':\nTraceback", text)
        self.assertIn('loaded_fails.py", line 2, in <module>', text)
        self.assertNotIn("importlib", text)
        self.module("loaded_needs", "import no_such_thing\n")
        text = self.refused("loaded_needs")
        self.assertIn('loaded_needs.py", line 1', text)
        self.assertTrue(text.endswith("No module named 'no_such_thing'"))
        self.module("loaded_syntax", "def\n")
        self.assertIn("SyntaxError", self.refused("loaded_syntax"))
        self.module("loaded_exits", "raise SystemExit(0)\n")
        self.assertIn("exits when it is imported", self.refused("loaded_exits"))

    def test_not_a_name(self) -> None:
        """A file, and something odd."""
        self.assertIn("name the module: shop.calc", self.refused("shop/calc.py"))
        self.assertIn("expected MODULE or MODULE:NAME", self.refused("shop calc"))
        self.assertIn("expected MODULE or MODULE:NAME", self.refused(""))

    def test_missing_service_is_an_error(self) -> None:
        """None in the module, none of the name, and what isn't one."""
        self.assertIn("defines no service", self.refused("json"))
        self.assertIn(
            "has no 'Third'; its services are: First, Second", self.refused("loaded_good:Third")
        )
        self.assertIn("is no service, but a int", self.refused("loaded_good:number"))
        self.assertIn("gives no service, but a Place", self.refused("loaded_good:Place"))
        self.assertIn("has no interface", self.refused("loaded_good:Plain"))

    def test_cannot_be_made(self) -> None:
        """Wrong options are told with the error; an instance takes none."""
        self.assertIn(
            "unexpected keyword argument 'colour'", self.refused("loaded_good:Second", colour=1)
        )
        self.assertIn("takes no options", self.refused("loaded_good:second", size=1))
