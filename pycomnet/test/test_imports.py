"""Imports point down, and nobody installs a reactor by importing.

The layers are those of the design's picture. Packages don't import each other in a cycle, and
inside a package no more than two modules do. As a checker that finds nothing looks like code
without a fault, it is itself tested, on small sources that break each rule.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.importrules import (
    LAYERS,
    PACKAGE,
    PLUGINS,
    REACTOR,
    UPWARD,
    Module,
    check,
    cycles,
    empty_layers,
    paths,
    read,
    read_module,
    room,
    tree,
)


class LayerTests(SynchronousTestCase):
    """The real tree keeps the rules."""

    def test_arrows_point_down(self) -> None:
        """No module imports from a layer above its own, and each has a layer."""
        modules = tree()
        self.assertIn("pycomnet.wire.frames", modules)
        self.assertEqual(check(modules), [])

    def test_each_name_in_a_layer_exists(self) -> None:
        """Each name in a layer is that of a module or package."""
        layers = LAYERS if PLUGINS.is_file() else [names - {"twisted.plugins"} for names in LAYERS]
        self.assertEqual(empty_layers(paths(), layers), [])

    def test_no_packages_import_each_other(self) -> None:
        """No package imports one that imports it, and of modules no more than two do."""
        self.assertEqual(cycles(tree()), [])

    def test_importing_loads_no_reactor(self) -> None:
        """``import pycomnet``, then every module that is not a program's, leaves it to choose."""
        names = [
            name
            for name in sorted(paths(), key=lambda name: (name != "pycomnet", name))
            if room(name) not in {"test", "cli", "tap", "twisted.plugins"}
            and not name.endswith((".__main__", ".javaio"))  # what is Java's is there only
        ]
        self.assertEqual(loads_reactor(names), None)


def loads_reactor(names: list[str]) -> str | None:
    """Import the modules in turn in a new interpreter; the first that loads the reactor."""
    script = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        f"    if {REACTOR!r} in sys.modules:\n"
        "        sys.exit('REACTOR ' + name)\n"
    )
    path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, "-c", script, json.dumps(names)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if ran.returncode == 0:
        return None
    last = ran.stderr.rstrip().rpartition("\n")[2]
    if not last.startswith("REACTOR "):
        raise AssertionError(ran.stderr)
    return last.removeprefix("REACTOR ")


class CheckerTests(SynchronousTestCase):
    """The checker finds what breaks each rule, and nothing else."""

    def found(self, module: str, source: str, is_package: bool = False) -> str:
        return "\n".join(check({module: read(module, is_package, source)}))

    def cycles(self, **sources: str) -> list[str]:
        """What is found in modules whose names have underscores for dots."""
        names = {name.replace("_", "."): source for name, source in sources.items()}
        packages = {name.rpartition(".")[0] for name in names}
        modules = {name: read(name, False, source) for name, source in names.items()}
        return cycles({**{name: Module(True, ()) for name in packages if name}, **modules})

    def test_import_from_above_is_found(self) -> None:
        """An import from above is found in every form and place."""
        for source in (
            "import pycomnet.channels.channel",
            "import json, pycomnet.channels.channel as c",
            "from pycomnet.channels.channel import Channel",
            "from pycomnet import channel",
            "from ..channel import Channel",
            "from .. import channel",
            "def f():\n    from pycomnet import channel",
            "class C:\n    async def f(self):\n        import pycomnet.channels.channel",
            "try:\n    import pycomnet.channels.channel\nexcept ImportError:\n    pass",
            "if X:\n    pass\nelse:\n    import pycomnet.channels.channel",
        ):
            self.assertIn("channel", self.found("pycomnet.far.main", source), source)
            self.assertIn("which is above it", self.found("pycomnet.far.main", source), source)

    def test_name_in_a_string_is_an_import(self) -> None:
        """A module that a string names is imported by that name, from above too."""
        for source in (
            'TABLE = {"http": ("pycomnet.mediator.client", None)}',
            'STORES = {"far": "pycomnet.nameserver.stores.sqlite:make"}',
            'def f():\n    return import_module("pycomnet.mediator.client")',
        ):
            self.assertIn("above", self.found("pycomnet.channels.channel", source), source)
            self.assertEqual(self.found("pycomnet.cli.run", source), "", source)
        for source in ('log = Logger("pycomnet.nowhere")', '"see pycomnet.mediator.client"'):
            self.assertEqual(self.found("pycomnet.channels.channel", source), "", source)

    def test_each_exception_is_still_needed(self) -> None:
        """Each module that may be named from below is named there."""
        for module, named in UPWARD:
            self.assertIn(named, [name for _, name in read_module(module).named])

    def test_one_dot_in_init_is_the_package(self) -> None:
        """In an ``__init__`` one dot is the package itself."""
        self.assertIn("above", self.found("pycomnet.gateways", "from ..services import x", True))
        self.assertEqual(self.found("pycomnet.gateways", "from .services import x", True), "")
        self.assertEqual(self.found("pycomnet.gateways.group", "from .services import x"), "")

    def test_allowed_imports_are_not_found(self) -> None:
        for module, source in (
            ("pycomnet.far.main", "import pycomnet.wire.mux\nfrom ..wire import frames"),
            ("pycomnet.far.main", "import threading, Queue\nfrom . import bootstrap"),
            ("pycomnet.wire.values", "import struct\nimport ormsgpack"),
            (
                "pycomnet.channels.channel",
                "import attrs\nfrom .connection import C\nfrom . import errors",
            ),
            ("pycomnet.cli.run", "import pycomnet\nfrom pycomnet import Group"),
            ("pycomnet.cli.run", "def main():\n    from twisted.internet import reactor"),
            ("pycomnet.test.test_x", "import pycomnet.cli, pycomnet.test.y"),
            ("pycomnet.gateways.group", "from twisted.internet import defer"),
        ):
            self.assertEqual(self.found(module, source), "", (module, source))

    def test_type_checking_imports_are_exempt(self) -> None:
        """What only a type checker reads is exempt; its else is not."""
        source = "if TYPE_CHECKING:\n    import pycomnet.cli\nelse:\n    {}"
        self.assertEqual(self.found("pycomnet.channels.channel", source.format("pass")), "")
        self.assertIn(
            ":4:", self.found("pycomnet.channels.channel", source.format("import pycomnet.cli"))
        )

    def test_twisteds_privates_are_allowed_in_one_module(self) -> None:
        """What is private in Twisted is imported by one module."""
        for source in (
            "from twisted.web._newclient import X",
            "from twisted.web.http import _X",
            "def f():\n    import twisted.internet._signals",
        ):
            self.assertIn("does not promise", self.found("pycomnet.channels.x", source))
            self.assertEqual(self.found("pycomnet.net._twisted", source), "")

    def test_package_itself_is_above_its_modules(self) -> None:
        """The package's public names are above all that they are made of."""
        for source in ("import pycomnet", "from pycomnet import Group", "from .. import Group"):
            self.assertIn("above", self.found("pycomnet.channels.channel", source), source)

    def test_module_without_layer_is_found(self) -> None:
        """A module without a layer is found, and one for tests that something else imports."""
        self.assertIn("put 'helpers'", self.found("pycomnet.helpers", ""))
        self.assertIn("put 'helpers'", self.found("pycomnet.helpers.deep", ""))
        self.assertIn(
            "tests only", self.found("pycomnet.channels.channel", "from pycomnet.test import x")
        )

    def test_layer_for_what_is_not_there_is_found(self) -> None:
        """A layer for what isn't there is found, whether a package or the plugins."""
        there = ["pycomnet", "pycomnet.wire.mux", "pycomnet.errors"]
        layers = [frozenset({"wire", "errors"}), frozenset({""})]
        self.assertEqual(empty_layers(there, layers), [])
        for name in ("mux", "twisted.plugins"):
            [found] = empty_layers(there, [*layers, frozenset({name})])
            self.assertIn(repr(name), found)

    def test_cycle_of_three_modules_is_found(self) -> None:
        """Three modules are one too many; an import in a function counts, one for types doesn't."""
        ring = {
            "pycomnet_far_a": "from .b import x",
            "pycomnet_far_b": "def f():\n    from . import c",
            "pycomnet_far_c": "import pycomnet.far.a",
        }
        [found] = self.cycles(**ring)
        self.assertEqual(
            found, "modules in a cycle: pycomnet.far.a, pycomnet.far.b, pycomnet.far.c"
        )
        typed = "if TYPE_CHECKING:\n    from .a import X"
        self.assertEqual(self.cycles(**{**ring, "pycomnet_far_c": typed}), [])
        self.assertEqual(self.cycles(**{**ring, "pycomnet_far_b": "from . import a"}), [])

    def test_cycle_of_two_packages_is_found(self) -> None:
        """Two packages are found that import each other, though no module does; at any depth."""
        for one, other in (
            ("mediator", "gateways"),
            ("gateways_forkserver", "gateways_transports"),
        ):
            [found] = self.cycles(
                **{
                    f"pycomnet_{one}_a": f"import pycomnet.{other.replace('_', '.')}.a",
                    f"pycomnet_{other}_a": "",
                    f"pycomnet_{other}_b": f"from pycomnet.{one.replace('_', '.')}.b import x",
                    f"pycomnet_{one}_b": "",
                }
            )
            self.assertIn("packages in a cycle: ", found)
            self.assertIn(f"pycomnet.{one.replace('_', '.')}, ", found + ", ")

    def test_name_in_a_string_makes_a_cycle_of_packages(self) -> None:
        """A package that names a module of another one in a string depends on that package."""
        sources = {
            "pycomnet_gateways_spec": 'TABLE = ["pycomnet.mediator.client"]',
            "pycomnet_mediator_client": "import pycomnet.gateways.spec",
        }
        [found] = self.cycles(**sources)
        self.assertIn("packages in a cycle: pycomnet.gateways, pycomnet.mediator", found)

    def test_modules_may_import_the_table_that_names_them(self) -> None:
        """Modules may use the table that names them in strings."""
        sources = {
            "pycomnet_wire_frames": 'TABLE = ["pycomnet.wire.mux", "pycomnet.wire.flow"]',
            "pycomnet_wire_mux": "from . import flow",
            "pycomnet_wire_flow": "from . import frames",
        }
        self.assertEqual(self.cycles(**sources), [])

    def test_package_and_its_subpackage_may_use_each_other(self) -> None:
        """A package's modules and those of a package in it may use each other."""
        found = self.cycles(
            pycomnet_far_a="from .forkserver import a\n",
            pycomnet_far_forkserver_a="from .. import b",
            pycomnet_far_b="",
        )
        self.assertEqual(found, [])

    def test_imports_a_bare_interpreter_lacks_are_found(self) -> None:
        """What a bare interpreter lacks is found, and I/O in the wire."""
        self.assertIn("bare", self.found("pycomnet.far.main", "import ormsgpack"))
        self.assertIn("bare", self.found("pycomnet.wire.mux", "from twisted.python import log"))
        self.assertIn("no I/O", self.found("pycomnet.wire.mux", "def f():\n    import time"))

    def test_what_is_sent_later_has_nothing_but_its_own_package(self) -> None:
        """What is sent later has nothing but the standard library and its own package."""
        module = "pycomnet.far.xdeploy.deploy"
        self.assertIn("bare", self.found(module, "import attrs"))
        self.assertIn("not sent", self.found(module, "from pycomnet.far import files"))
        self.assertEqual(self.found(module, "import fcntl\nfrom .wheels import add"), "")

    def test_reactor_at_module_level_is_found(self) -> None:
        """The reactor is found at a module's level anywhere, in functions where not allowed."""
        for source in (
            "from twisted.internet import reactor",
            "import twisted.internet.reactor",
            "from twisted.internet.reactor import callLater",
            "from twisted.internet import (\n    defer,\n    reactor,\n)",
            "class C:\n    from twisted.internet import reactor",
            "import_module('twisted.internet.reactor')",
        ):
            for module in ("pycomnet.cli.run", "pycomnet.channels.channel", "pycomnet.test.test_x"):
                self.assertIn("itself", self.found(module, source), (module, source))
        source = "def f():\n    from twisted.internet import reactor"
        self.assertIn("reactor", self.found("pycomnet.gateways.group", source))

    def test_loaded_reactor_is_blamed_on_its_module(self) -> None:
        """The subprocess sees a reactor, and says which module brought it."""
        culprit = "twisted.internet.reactor"
        self.assertEqual(loads_reactor(["pycomnet", culprit, "json"]), culprit)
        self.assertRaises(AssertionError, loads_reactor, ["pycomnet.no_such_module"])
