"""Checks the names that the documentation's pages mention: modules, classes, members and files.

The sources are parsed, not imported: some modules can only be imported on Jython.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import attrs
from twisted.application.service import Service
from twisted.internet.protocol import Protocol

import pycomnet

PACKAGE = Path(pycomnet.__file__).parent
ROOT = PACKAGE.parent

#: A reference such as ``:class:`~.connection.FileIO```, or ``:meth:`.FileIO.read```.
RELATIVE = re.compile(r":(?:class|func|meth|data|attr|exc):`(?:[^`<]*<)?~?\.+([\w.]+)")
#: What ``name.member`` means on the pages: the class of what they call by this name.
VARIABLES = {
    "calls": "UnaryCalls",
    "error": "ProtocolError",
    "follower": "INameFollower",
    "mux": "Mux",
    "request": "GatewayRequest",
    "scheduler": "Scheduler",
    "stream": "Stream",
    "table": "ChannelTable",
}
#: Names on the pages that are not this package's: Twisted's, the system's, of other protocols.
FOREIGN = frozenset(
    {"CancelledError", "HostnameEndpoint", "TestCase"}
    | {"IConsumer", "IPushProducer", "ITransport", "ServiceMaker"}
    | {"Allow", "Host", "Origin", "F_SEAL_SHRINK", "SO_PEERCRED", "SCM_RIGHTS"}
    | {"epoll_ctl", "st_dev", "st_ino"}
)
#: Base classes from elsewhere whose members the pages name.
FOREIGN_BASES = {base.__name__: frozenset(dir(base)) for base in (Exception, Protocol, Service)}

_LITERAL = re.compile(r"``([^`]+)``")
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`[~!]?([^`<]+)`")
_FILE = re.compile(r"(?<![\w./~:-])((?:\.ci|[a-z_]\w*)(?:/[\w.-]+)*/(?:[\w-]+\.\w+)?)(?![\w/*])")
_DOTTED = re.compile(r"(\w+(?:\.\w+)+)(?::(\w+(?:\.\w+)*))?(?:\(.*\))?", re.S)
#: A line that nobody writes twice: of some length, with a lower-case word.
_PROSE = re.compile(r"^(?=.{30})[^=]*[a-z]{3}")
_WORD = re.compile(r"([A-Z]\w*[a-z]\w*|_*[a-z]\w*_\w*|[A-Z]+(?:_[A-Z]+)+)(?:\(.*\))?", re.S)


@attrs.define
class Sources:
    """What is defined in the package.

    :ivar modules: dotted name of each module -> the names at its top level.
    :ivar classes: name of each class -> its members, and the names of its base classes.
    :ivar names: the names of all classes, and what else the modules have at their top level.
    :ivar words: every word of every source.
    """

    modules: dict[str, set[str]] = attrs.field(factory=dict)
    classes: dict[str, tuple[set[str], set[str]]] = attrs.field(factory=dict)
    names: set[str] = attrs.field(factory=set)
    words: set[str] = attrs.field(factory=set)

    def has_member(self, name: str, member: str) -> bool:
        """Whether a class or one of its base classes has a member."""
        if name not in self.classes:
            return member in FOREIGN_BASES.get(name, ())
        members, bases = self.classes[name]
        return member in members or any(self.has_member(base, member) for base in bases)

    def has(self, dotted: str) -> bool:
        """Whether a dotted name is a module, or leads from one to a name in it."""
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            module = ".".join(parts[:count])
            if module in self.modules:
                rest = parts[count:]
                if not rest:
                    return True
                return rest[0] in self.modules[module] and self.has_chain(rest)
        return False

    def has_chain(self, names: list[str]) -> bool:
        """Whether each name after the first is a member of the one before, as far as is known."""
        for owner, member in itertools.pairwise(names):
            owner = VARIABLES.get(owner, owner)
            if owner in self.classes and not self.has_member(owner, member):
                return False
        return True


def _targets(node: ast.AST) -> Iterator[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        found = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in found:
            for one in ast.walk(target):
                if isinstance(one, ast.Name):
                    yield one.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name
    elif isinstance(node, ast.If | ast.Try):
        for child in ast.iter_child_nodes(node):
            for inner in child.body if isinstance(child, ast.ExceptHandler) else [child]:
                yield from _targets(inner)


def _classes(body: list[ast.stmt]) -> Iterator[ast.ClassDef]:
    """The classes that a module defines, also those in an ``if`` and in other classes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
        for field in ("body", "orelse", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _classes(getattr(node, field, []))


def _members(node: ast.ClassDef, text: str) -> set[str]:
    """The members of a class: what its body defines, its slots, and what its methods use."""
    found = {name for child in node.body for name in _targets(child)}
    found.update(re.findall(r"\bself\.(\w+)", text))
    for child in node.body:
        if isinstance(child, ast.Assign) and "__slots__" in _targets(child):
            found.update(str(one.value) for one in ast.walk(child) if isinstance(one, ast.Constant))
    return found


@functools.cache
def sources() -> Sources:
    """Read all sources of the package; of tests, the words alone."""
    found = Sources()
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.words.update(re.findall(r"\w+", text))
        if path.name.startswith("test_"):
            continue
        parsed, lines = ast.parse(text), text.splitlines()
        parts = ["pycomnet", *path.relative_to(PACKAGE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.modules[name] = {name for node in parsed.body for name in _targets(node)}
        for node in _classes(parsed.body):
            bases = {one.id for base in node.bases for one in ast.walk(base) if _is_name(one)}
            whole = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            members, others = found.classes.get(node.name, (set(), set()))
            found.classes[node.name] = (members | _members(node, whole), others | bases)
    found.modules["pycomnet"] |= set(pycomnet.__all__)  # those that are loaded when first used
    found.names = set().union(found.classes, *found.modules.values())
    return found


def _is_name(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


def repeated_lines(source: str) -> list[str]:
    """The lines of prose that stand twice in one docstring of a source."""
    found = []
    for text in re.findall(r'^ *"""(.*?)"""', source, re.M | re.S):
        lines = [line.strip() for line in text.splitlines() if _PROSE.search(line)]
        found += sorted({line for line in lines if lines.count(line) > 1})
    return found


def dead_references(source: str) -> list[str]:
    """The references in a module's docstrings to a name of this package that is not there.

    Sphinx checks only those on its pages, and most modules are on none.
    """
    known = sources()
    dead = []
    for reference in RELATIVE.findall(source):
        first, *rest = parts = reference.split(".")
        if rest and first.islower():
            modules = [name for name in known.modules if name.endswith(f".{first}")]
            there = any(known.has(".".join((name, *rest))) for name in modules)
        else:
            there = first in known.names and known.has_chain(parts)
        if not there:
            dead.append(reference)
    return dead


def missing_files(text: str) -> list[str]:
    """The files and directories in a text that are neither in the package nor in the repository."""
    return [
        path
        for path in dict.fromkeys(_FILE.findall(text))
        if not (PACKAGE / path).exists() and not (ROOT / path).exists()
    ]


def _wrong_dotted(dotted: str, name: str | None) -> bool:
    known = sources()
    head, _, rest = dotted.partition(".")
    if head in ("pycomnet", "_pycomnet"):
        whole = f"pycomnet.{rest}" + (f".{name}" if name else "")
        return not known.has(whole)
    if (PACKAGE / head).is_dir():
        return not known.has(f"pycomnet.{dotted}")
    names = dotted.split(".")
    return not known.has_chain(names)


def missing_names(page: str, words: bool = True) -> list[str]:
    """The names on a page, in literals and roles, that the package does not have.

    :param words: also look at single words (classes, and what has an underscore), and at members of
        ``VARIABLES``.
    """
    known = sources()
    found = [name for name in _ROLE.findall(page) if name.startswith("pycomnet")]
    wrong = [name for name in found if _wrong_dotted(name, None)]
    for literal in dict.fromkeys(_LITERAL.findall(page)):
        wrong += missing_files(literal)
        dotted, word = _DOTTED.fullmatch(literal), _WORD.fullmatch(literal)
        if dotted is not None and not literal.endswith((".py", ".rst")):
            is_variable = dotted[1].partition(".")[0] in VARIABLES
            if (words or not is_variable) and _wrong_dotted(dotted[1], dotted[2]):
                wrong.append(literal)
        elif words and word is not None and word[1] not in FOREIGN:
            is_class = word[1][0].isupper() and not word[1].isupper()
            if word[1] not in (known.names if is_class else known.words):
                wrong.append(literal)
    return wrong
