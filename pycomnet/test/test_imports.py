"""Imports point down, and nobody installs a reactor by importing.

The layers are those of the design's picture. The checker reads source text, so that an import in a
function counts as any other; only ``if TYPE_CHECKING:`` is exempt. As a checker that finds nothing
looks like code without a fault, it is itself tested, on small sources that break each rule.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet

PACKAGE = Path(pycomnet.__file__).parent
PLUGINS = PACKAGE.parent / "twisted" / "plugins" / "pycomnet_plugins.py"

#: From the bottom up: the names right under ``pycomnet``. A module may import its own layer and
#: those below. A new name has to be put somewhere before the tests pass.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"wire"}),
    frozenset({"far"}),
    frozenset({"text"}),
    frozenset({"errors", "deferred"}),
    frozenset({"interfaces", "forks", "ranges"}),
    frozenset({"net"}),
    frozenset({"auth"}),
    frozenset({"channels"}),
    frozenset({"gateways"}),
    frozenset({"mediator", "factory"}),
    frozenset({"services", "nameserver"}),
    frozenset({""}),  # pycomnet itself: the public names of all below
    frozenset({"aio", "blocking"}),
    frozenset({"cli", "__main__", "tap", "twisted.plugins"}),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: Who may import the global reactor, in a function: the places where a program begins.
#: ``services`` has the default context.
REACTOR_USERS = frozenset({"aio", "blocking", "cli", "services", "__main__", "tap"})
REACTOR = "twisted.internet.reactor"

#: What the far side may import: the standard library of Python 3 and of 2.7, there under a name of
#: its own, and Jython's Java. The wire also looks whether the fast codec happens to be there.
PYTHON_2 = {"__builtin__", "cStringIO", "Queue", "StringIO", "thread"} | {
    "jarray",
    "java",
    "jnr",
}
STDLIB = frozenset(sys.stdlib_module_names) | PYTHON_2
FAR_SIDE = {"wire": STDLIB | {"ormsgpack"}, "far": STDLIB}

#: No I/O, no clock, no randomness, no logging: these are passed in to the wire.
IMPURE = frozenset({"asyncio", "logging", "multiprocessing", "os", "subprocess"}) | frozenset(
    {"select", "selectors", "signal", "socket", "ssl", "thread", "threading"}
    | {"datetime", "time", "random", "secrets"}
)

#: What is imported for its types alone, and not for the clock that it has as well.
TYPES_ONLY = frozenset({("pycomnet.wire.kinds", "datetime")})


def is_type_checking(test: ast.expr) -> bool:
    """Whether an ``if``'s condition is ``TYPE_CHECKING`` or ``typing.TYPE_CHECKING``."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def runtime_nodes(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that can run, and whether it does when the module is imported."""
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, at_import
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield other, at_import
                yield from runtime_nodes(other, at_import)
        else:
            yield from runtime_nodes(child, at_import and not inside)


def imports(module: str, is_package: bool, source: str) -> Iterator[tuple[int, str, bool]]:
    """Each import as line, absolute dotted name, and whether it runs when the module is imported.

    For ``from a import b`` the name is ``a.b``, whatever ``b`` is. The reactor's name in a string
    that is an argument (``import_module("...")``) counts as an import too.
    """
    for node, at_import in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, at_import
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                package = package[: len(package) - node.level + is_package]
                base = ".".join([*package, base]) if base else ".".join(package)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}", at_import
        elif isinstance(node, ast.Call):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and argument.value == REACTOR:
                    yield node.lineno, REACTOR, at_import


def room(name: str) -> str | None:
    """The part of ``LAYERS`` that a dotted name belongs to; None for what is not ours."""
    if name.startswith("twisted.plugins.pycomnet"):
        return "twisted.plugins"
    head, _, rest = name.partition(".")
    if head != "pycomnet":
        return None
    first = rest.partition(".")[0]
    # `from pycomnet import Group` is an import of the package, `... import errors` of the module.
    return first if first in RANK or first == "test" or is_ours(first) else ""


def is_ours(name: str) -> bool:
    """Whether there is a module or package of that name in the tree, placed or not."""
    return bool(name) and ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file())


def check(modules: Mapping[str, tuple[bool, str]]) -> list[str]:
    """What is wrong with the imports of these modules (name: is it a package, its source)."""
    found = []
    for module, (is_package, source) in sorted(modules.items()):
        here = module.split(".")[1] if module.startswith("pycomnet.") else ""
        if module.startswith("twisted.plugins."):
            here = "twisted.plugins"
        if here != "test" and here not in RANK:
            found.append(f"{module}: put {here!r} in a layer, in LAYERS of {__name__}")
            continue
        for line, name, at_import in imports(module, is_package, source):
            where = f"{module}:{line}: imports {name}"
            there = room(name)
            is_reactor = name == REACTOR or name.startswith(REACTOR + ".")
            if is_reactor and (at_import or here not in REACTOR_USERS | {"test"}):
                found.append(f"{where}{' when it is imported itself' if at_import else ''}")
            if here == "test":
                continue
            if there == "test":
                found.append(f"{where}, which is for tests only")
            elif there is not None and RANK.get(there, len(LAYERS)) > RANK[here]:
                found.append(f"{where}, which is above it")
            top = name.partition(".")[0]
            if there is None and here in FAR_SIDE and top not in FAR_SIDE[here] | {"__future__"}:
                found.append(f"{where}, which a bare far side does not have")
            if here == "wire" and top in IMPURE and (module, top) not in TYPES_ONLY:
                found.append(f"{where}, but the wire has no I/O, clock or logging")
    return found


def tree() -> dict[str, tuple[bool, str]]:
    """All modules of the package and the plugin module, as :func:`check` takes them."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["pycomnet", *path.relative_to(PACKAGE).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found[name] = is_package, path.read_text(encoding="utf-8")
    if PLUGINS.is_file():  # not beside an installed package
        found["twisted.plugins.pycomnet_plugins"] = False, PLUGINS.read_text(encoding="utf-8")
    return found


class LayerTests(SynchronousTestCase):
    """The real tree keeps the rules."""

    def test_arrows_point_down(self) -> None:
        """No module imports from a layer above its own, and each has a layer."""
        modules = tree()
        self.assertIn("pycomnet.wire.frames", modules)
        self.assertEqual(check(modules), [])

    def test_importing_loads_no_reactor(self) -> None:
        """``import pycomnet``, then every module that is not a program's, leaves it to choose."""
        names = [
            name
            for name in sorted(tree(), key=lambda name: (name != "pycomnet", name))
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
        timeout=120,
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
        return "\n".join(check({module: (is_package, source)}))

    def test_up(self) -> None:
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

    def test_relative_in_package(self) -> None:
        """In an ``__init__`` one dot is the package itself."""
        self.assertIn("above", self.found("pycomnet.gateways", "from ..services import x", True))
        self.assertEqual(self.found("pycomnet.gateways", "from .services import x", True), "")
        self.assertEqual(self.found("pycomnet.gateways.group", "from .services import x"), "")

    def test_down_and_beside(self) -> None:
        """What is allowed is not found."""
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

    def test_type_checking(self) -> None:
        """What only a type checker reads is exempt; its else is not."""
        source = "if TYPE_CHECKING:\n    import pycomnet.cli\nelse:\n    {}"
        self.assertEqual(self.found("pycomnet.channels.channel", source.format("pass")), "")
        self.assertIn(
            ":4:", self.found("pycomnet.channels.channel", source.format("import pycomnet.cli"))
        )

    def test_root(self) -> None:
        """The package's public names are above all that they are made of."""
        for source in ("import pycomnet", "from pycomnet import Group", "from .. import Group"):
            self.assertIn("above", self.found("pycomnet.channels.channel", source), source)

    def test_unplaced(self) -> None:
        """A module without a layer is found, and one for tests that something else imports."""
        self.assertIn("put 'helpers'", self.found("pycomnet.helpers", ""))
        self.assertIn("put 'helpers'", self.found("pycomnet.helpers.deep", ""))
        self.assertIn(
            "tests only", self.found("pycomnet.channels.channel", "from pycomnet.test import x")
        )

    def test_far_side(self) -> None:
        """What a bare interpreter lacks is found, and I/O in the wire."""
        self.assertIn("bare", self.found("pycomnet.far.main", "import ormsgpack"))
        self.assertIn("bare", self.found("pycomnet.wire.mux", "from twisted.python import log"))
        self.assertIn("no I/O", self.found("pycomnet.wire.mux", "def f():\n    import time"))

    def test_reactor(self) -> None:
        """The reactor is found at a module's level anywhere, in functions where not allowed."""
        for source in (
            "from twisted.internet import reactor",
            "import twisted.internet.reactor",
            "from twisted.internet.reactor import callLater",
            "class C:\n    from twisted.internet import reactor",
            "import_module('twisted.internet.reactor')",
        ):
            for module in ("pycomnet.cli.run", "pycomnet.channels.channel", "pycomnet.test.test_x"):
                self.assertIn("itself", self.found(module, source), (module, source))
        source = "def f():\n    from twisted.internet import reactor"
        self.assertIn("reactor", self.found("pycomnet.gateways.group", source))

    def test_reactor_is_loaded(self) -> None:
        """The subprocess sees a reactor, and says which module brought it."""
        culprit = "twisted.internet.reactor"
        self.assertEqual(loads_reactor(["pycomnet", culprit, "json"]), culprit)
        self.assertRaises(AssertionError, loads_reactor, ["pycomnet.no_such_module"])
