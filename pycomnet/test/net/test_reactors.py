"""The types of reactors: that they say what Twisted's interfaces say, and that they are used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import interfaces
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyClass

import pycomnet
from pycomnet.net.reactors import EndpointReactor, GatewayReactor, PipeReactor

PACKAGE = Path(pycomnet.__file__).parent
#: The parameters of a function, and perhaps more behind them: only a source in which one of these
#: has the name, and no type or ``Any`` behind it, is parsed.
PARAMETERS = re.compile(r"\bdef \w+\((.*?)\)(?: ->[^\n:]*)?:\s", re.S)
UNTYPED = re.compile(r"\breactor\s*([,=#)]|:\s*Any\b|$)")


def untyped_reactors(source: str) -> Iterator[str]:
    """The functions in a module that have a parameter for a reactor without a type of its own."""
    if not any(UNTYPED.search(given) for given in PARAMETERS.findall(source)):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                if arg.arg == "reactor" and (
                    arg.annotation is None or ast.unparse(arg.annotation) == "Any"
                ):
                    yield f"{node.name}, line {node.lineno}"


class TypeTests(SynchronousTestCase):
    """:mod:`pycomnet.net.reactors`; ``typed_reactors.py`` has what mypy checks."""

    def test_methods_are_those_of_the_interfaces(self) -> None:
        """Each type has the methods of its interfaces, with their signatures."""
        time, tcp = interfaces.IReactorTime, interfaces.IReactorTCP
        core, descriptors = interfaces.IReactorCore, interfaces.IReactorFDSet
        expected: dict[Any, set[Any]] = {
            EndpointReactor: {time, tcp},
            PipeReactor: {time, core, descriptors},
            GatewayReactor: {time, core, descriptors, tcp},
        }
        for kind, needed in expected.items():
            self.assertEqual(set(implementedBy(kind)), needed)
            for interface in needed:
                verifyClass(interface, kind)

    def test_each_reactor_parameter_has_a_type(self) -> None:
        """No function takes just any reactor: each says what it needs of it."""
        found = {
            f"{path.relative_to(PACKAGE)}: {where}"
            for path in PACKAGE.rglob("*.py")
            if "test" not in path.relative_to(PACKAGE).parts
            for where in untyped_reactors(path.read_text("utf-8"))
        }
        self.assertEqual(found, set())

    def test_untyped_parameter_is_found(self) -> None:
        """Of a method, a function, and one that needs a name."""
        source = """
            class A:
                def f(self, reactor: Any): ...
            async def g(reactor): ...
            def h(*, reactor: Any = None): ...
            def fine(reactor: IReactorTime, other: Any): ...
        """
        lines = "\n".join(line[12:] for line in source.splitlines())
        self.assertEqual(list(untyped_reactors(lines)), ["g, line 4", "h, line 5", "f, line 3"])
