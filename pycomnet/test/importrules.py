"""The rules for imports, and what checks them: layers, cycles, libraries, the reactor.

The checker reads source text, so that an import in a function counts as any other; only ``if
TYPE_CHECKING:`` is exempt.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

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
    frozenset({"channels", "etcd", "nats"}),
    frozenset({"gateways"}),
    frozenset({"mediator", "factory"}),
    frozenset({"services", "nameserver"}),
    frozenset({"ext", "rsync", "xdeploy"}),
    frozenset({""}),  # pycomnet itself: the public names of all below
    frozenset({"aio", "blocking"}),
    frozenset({"execnet"}),
    frozenset({"xdist"}),
    frozenset({"cli", "__main__", "tap", "twisted.plugins"}),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

#: Who may import the global reactor, in a function: the places where a program begins.
#: ``services`` has the default context.
REACTOR_USERS = frozenset({"aio", "blocking", "cli", "services", "__main__", "tap"})
REACTOR = "twisted.internet.reactor"
#: A module of ours, of those that can be named in a string.
NAMED = re.compile(r"pycomnet(\.\w+)+")
#: What a source has that may name one: a string that begins with it, and ends there or at a colon.
NAMED_STRING = re.compile(r"""["'](pycomnet(?:\.\w+)+)["':]""")
#: What a source has that may import it.
REACTOR_IMPORT = re.compile(r"internet\.reactor|internet\s+import\s+(\([^)]*|[^\n(]*)\breactor\b")

#: What the far side may import: the standard library of Python 3 and of 2.7, there under a name of
#: its own, and Jython's Java. The wire also looks whether the fast codec happens to be there.
PYTHON_2 = {"__builtin__", "cStringIO", "Queue", "StringIO", "thread"} | {
    "jarray",
    "java",
    "jnr",
}
STDLIB = frozenset(sys.stdlib_module_names) | PYTHON_2
FAR_SIDE = {"wire": STDLIB | {"ormsgpack"}, "far": STDLIB}
#: Packages that a far side is offered by a name of their own, when they are first needed.
SENT = ("pycomnet.far.rsync", "pycomnet.far.xdeploy", "pycomnet.far.execnet")

#: No I/O, no clock, no randomness, no logging: these are passed in to the wire.
IMPURE = frozenset({"asyncio", "logging", "multiprocessing", "os", "subprocess"}) | frozenset(
    {"select", "selectors", "signal", "socket", "ssl", "thread", "threading"}
    | {"datetime", "time", "random", "secrets"}
)

#: The one module that may use what Twisted does not promise to keep.
TWISTED_PRIVATES = "pycomnet.net._twisted"

#: Modules that are imported by a name in a string, from above: the module with the string, and what
#: it names. docs/architecture.rst, "The layers", has the reasons.
UPWARD = frozenset(
    {
        ("pycomnet.gateways.transports", "pycomnet.mediator.client.gatewaytransport"),
        ("pycomnet.ext.pubsub.subscriber", "pycomnet.blocking.ext.pubsub"),
    }
)

#: What is imported for its types alone, and not for the clock that it has as well.
TYPES_ONLY = frozenset({("pycomnet.wire.kinds", "datetime")})


def is_type_checking(test: ast.expr) -> bool:
    """Whether an ``if``'s condition is ``TYPE_CHECKING`` or ``typing.TYPE_CHECKING``."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


@attrs.frozen
class Module:
    """What is known of a module.

    :ivar imports: each as line, absolute dotted name, and whether it runs when the module is
        imported. For ``from a import b`` the name is ``a.b``, whatever ``b`` is.
    :ivar named: the modules of this package that strings name, each with its line: these are loaded
        by name, with ``import_module``.
    """

    is_package: bool
    imports: tuple[tuple[int, str, bool], ...]
    named: tuple[tuple[int, str], ...] = ()


#: The fields of a statement that hold further statements.
BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every statement in a node that can run, and whether it does when the module is imported."""
    skipped = "body" if isinstance(node, ast.If) and is_type_checking(node.test) else None
    for field in BODIES:
        if field == skipped:
            continue
        for child in getattr(node, field, ()):
            yield child, at_import
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from statements(child, at_import and not inside)


def named_reactors(node: ast.AST, at_import: bool = True) -> Iterator[tuple[int, str, bool]]:
    """The calls that have the reactor's name as an argument: ``import_module("...")``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            for argument in child.args:
                if isinstance(argument, ast.Constant) and argument.value == REACTOR:
                    yield child.lineno, REACTOR, at_import
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield from named_reactors(child, at_import and not inside)


def named_modules(parsed: ast.AST) -> Iterator[tuple[int, str]]:
    """The modules that strings name, as ``module`` or ``module:attribute``."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if NAMED.fullmatch(name) and is_module(name):
                yield node.lineno, name


def is_module(name: str) -> bool:
    """Whether there is a module or package of this dotted name."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()


def imports(
    module: str, is_package: bool, source: str, parsed: ast.AST
) -> Iterator[tuple[int, str, bool]]:
    """The imports of a source, as :attr:`Module.imports`.

    The reactor's name in a string that is an argument counts as an import too.
    """
    for node, at_import in statements(parsed):
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
    if REACTOR in source:
        yield from named_reactors(parsed)


def read(module: str, is_package: bool, source: str) -> Module:
    """Read a source. Of a test only an import of the reactor matters, so others aren't parsed."""
    if module.startswith("pycomnet.test.") and not REACTOR_IMPORT.search(source):
        return Module(is_package, ())
    parsed = ast.parse(source)
    names = any(is_module(name) for name in NAMED_STRING.findall(source))
    named = tuple(named_modules(parsed)) if names else ()
    return Module(is_package, tuple(imports(module, is_package, source, parsed)), named)


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


def check(modules: Mapping[str, Module]) -> list[str]:
    """What is wrong with the imports of these modules, each by itself."""
    found = []
    for module, seen in sorted(modules.items()):
        here = module.split(".")[1] if module.startswith("pycomnet.") else ""
        if module.startswith("twisted.plugins."):
            here = "twisted.plugins"
        if here != "test" and here not in RANK:
            found.append(f"{module}: put {here!r} in a layer, in LAYERS of {__name__}")
            continue
        strings = [(*one, False) for one in seen.named if (module, one[1]) not in UPWARD]
        for line, name, at_import in (*seen.imports, *strings):
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
            if top == "twisted" and "._" in name and module != TWISTED_PRIVATES:
                found.append(
                    f"{where}, which Twisted does not promise to keep: see net/_twisted.py"
                )
            bare = STDLIB if is_sent(module) else FAR_SIDE.get(here)
            if there is None and bare is not None and top not in bare | {"__future__"}:
                found.append(f"{where}, which a bare far side does not have")
            if there is not None and is_sent(module) and not is_sent(name):
                found.append(f"{where}, which is not sent with it")
            if here == "wire" and top in IMPURE and (module, top) not in TYPES_ONLY:
                found.append(f"{where}, but the wire has no I/O, clock or logging")
    return found


def is_sent(name: str) -> bool:
    """Whether a module, or a name in it, is of a package of :data:`SENT`."""
    return f"{name}.".startswith(tuple(f"{package}." for package in SENT))


def empty_layers(modules: Iterable[str], layers: Iterable[frozenset[str]] = LAYERS) -> list[str]:
    """The names in layers that no module or package has."""
    there = {"" if name == "pycomnet" else name.split(".")[1] for name in modules}
    there |= {"twisted.plugins" for name in modules if name.startswith("twisted.plugins.")}
    return [
        f"LAYERS has {name!r}, which is not there"
        for name in sorted(frozenset().union(*layers) - there)
    ]


def edges(modules: Mapping[str, Module], named: bool) -> dict[str, set[str]]:
    """For each module but tests the modules that it imports, be it in a function.

    :param named: with those that its strings name.
    """
    found: dict[str, set[str]] = {}
    for module, seen in modules.items():
        if module.startswith("pycomnet.test"):
            continue
        names = [name for _, name, _ in seen.imports]
        if named:
            names += [name for _, name in seen.named if (module, name) not in UPWARD]
        # `from a import b`: `a.b` is a module, or `b` is a name in the module `a`.
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        found[module] = {name for name in targets if name in modules and name != module}
    return found


def neighbours(one: str, other: str) -> tuple[str, str] | None:
    """The two packages side by side that two modules are in; None where one is in the other's."""
    mine, theirs = one.split("."), other.split(".")
    for depth, (left, right) in enumerate(zip(mine, theirs, strict=False), 1):
        if left != right:
            return ".".join(mine[:depth]), ".".join(theirs[:depth])
    return None


def cycles(modules: Mapping[str, Module]) -> list[str]:
    """The packages that import each other, and more than two modules that do.

    A table that names modules in strings may be imported by these: it is loaded without them. So
    for cycles of modules such names do not count.
    """
    packages: dict[str, set[str]] = {}
    for module, imported in edges(modules, named=True).items():
        for other in imported:
            pair = neighbours(module, other)
            if pair is not None and all(
                modules[name].is_package for name in pair if name in modules
            ):
                packages.setdefault(pair[0], set()).add(pair[1])
    found = [f"packages in a cycle: {', '.join(cycle)}" for cycle in components(packages)]
    for cycle in components(edges(modules, named=False)):
        if len(cycle) > 2:
            found.append(f"modules in a cycle: {', '.join(cycle)}")
    return found


def components(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            at = stack.index(node)
            component = sorted(stack[at:])
            del stack[at:]
            if len(component) > 1:
                found.append(component)

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


@functools.cache
def paths() -> dict[str, Path]:
    """The files of all modules of the package, and of the plugin module, by their names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["pycomnet", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    if PLUGINS.is_file():  # not beside an installed package
        found["twisted.plugins.pycomnet_plugins"] = PLUGINS
    return found


@functools.cache
def read_module(name: str) -> Module:
    """Read a module, once."""
    path = paths()[name]
    is_package = path.name == "__init__.py"
    return read(name, is_package, path.read_text(encoding="utf-8"))


def tree() -> dict[str, Module]:
    """All modules of the package, and the plugin module."""
    return {name: read_module(name) for name in paths()}
