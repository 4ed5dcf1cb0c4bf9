"""Writes the stub of :mod:`pycomnet.blocking`: ``python -m pycomnet.blocking.stub``.

The methods of those classes are generated on import, so no type checker and no editor sees them.
The stub declares them: each with the types of the Deferred API, without Deferreds, with the
additional ``timeout``, and with its docstring. A test checks that the stub in the repository equals
what this writes.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pycomnet import blocking
from pycomnet.blocking.docstrings import TIMEOUT_FIELD, with_field, without_deferreds
from pycomnet.blocking.wrapper import Blocking, blocking_classes, with_timeout
from pycomnet.gateways import group
from pycomnet.rsync import fetch, rsync
from pycomnet.services import default
from pycomnet.services.client import context
from pycomnet.services.server import server

PATH = Path(__file__).with_name("__init__.pyi")

HEAD = '''\
"""The same API without Deferreds. Written by ``python -m pycomnet.blocking.stub``."""

'''

#: class name -> the class of the Deferred API whose constructor it takes, without the reactor.
MAKERS: dict[str, type] = {
    "Context": context.Context,
    "Group": group.Group,
    "RSync": rsync.RSync,
    "ServiceServer": server.ServiceServer,
}
#: The functions that get a timeout.
FUNCTIONS = ("connect", "fetch", "locate", "nameserver")
#: The functions, other than those of the default context, that are as in the Deferred API.
SOURCES: dict[str, Any] = {"fetch": fetch.fetch}
#: Attributes whose class the Deferred API's own layer must not know.
ATTRIBUTES = {("Channel", "gateway"): "Gateway"}
#: The longest line of a docstring.
WIDTH = 100
STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


@functools.cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Where the names of a module come from: (module, name there); "" for a module itself."""
    known: dict[str, tuple[str, str]] = {}
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            known.update({a.asname or a.name: (node.module, a.name) for a in node.names})
        elif isinstance(node, ast.Import):
            known.update({a.asname or a.name: (a.name, "") for a in node.names})
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            known[node.name] = (module, node.name)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    known[target.id] = (module, target.id)
    return known


class _Types(ast.NodeTransformer):
    """Transforms an annotation of the Deferred API to one without Deferreds.

    :param module: the module of the annotation.
    :param wanted: gets the necessary imports: name here -> (module, name there).
    """

    def __init__(self, module: str, wanted: dict[str, tuple[str, str]]) -> None:
        self._module = module
        self._wanted = wanted

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        if ast.unparse(node.value) in ("Deferred", "defer.Deferred"):
            return self.visit(node.slice)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        name = node.id
        if name in blocking.__all__ or hasattr(builtins, name):
            return node
        found = _imports(self._module).get(name)
        if found is None:
            raise LookupError(f"{self._module} says {name!r}, which is imported nowhere in it")
        if self._wanted.setdefault(name, found) != found:
            raise LookupError(f"{name!r} is {found} in {self._module}, elsewhere another")
        return node


class _Writer:
    """Collects the stub's lines and the imports that they need."""

    def __init__(self) -> None:
        self.wanted: dict[str, tuple[str, str]] = {}
        self.lines: list[str] = []

    def annotation(self, annotation: Any, module: str) -> str:
        """An annotation in the stub's form."""
        if annotation is inspect.Parameter.empty:
            text, module = "Any", "typing"
        else:
            text = annotation if isinstance(annotation, str) else repr(annotation)
        if text == "Any":
            self.wanted["Any"] = ("typing", "Any")
            return text
        return ast.unparse(_Types(module, self.wanted).visit(ast.parse(text, mode="eval").body))

    def function(
        self,
        name: str,
        parameters: Iterable[inspect.Parameter],
        result: Any,
        module: str,
        doc: str | None = None,
        indent: str = "",
    ) -> None:
        """Write the stub of a function or a method."""
        shown = []
        star = False
        for each in parameters:
            if each.name == "self":
                shown.append("self")
                continue
            kind = each.kind
            if kind is each.KEYWORD_ONLY and not star:
                shown.append("*")
            star = star or kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
            prefix = STARS.get(kind, "")
            default = "" if each.default is each.empty else " = ..."
            shown.append(
                f"{prefix}{each.name}: {self.annotation(each.annotation, module)}{default}"
            )
        head = f"{indent}def {name}({', '.join(shown)}) -> {self.annotation(result, module)}:"
        if doc:
            self.lines += [head, *docstring(doc, indent + "    ")]
        else:
            self.lines.append(f"{head} ...")

    def method(self, name: str, function: Callable[..., Any]) -> None:
        """Write the stub of a method of the Deferred API's, or of the blocking class itself."""
        source = inspect.unwrap(function)
        signature = inspect.signature(source)
        parameters = list(signature.parameters.values())
        doc = source.__doc__
        waits = hasattr(function, "__wrapped__") and not name.startswith("__")
        if waits and "timeout" not in signature.parameters:
            parameters = with_timeout(parameters)
            doc = with_field(doc, TIMEOUT_FIELD)
        self.function(name, parameters, signature.return_annotation, source.__module__, doc, INDENT)

    def cls(self, name: str, kind: type, source: type | None) -> None:
        """The stub of a class.

        :param source: the class of the Deferred API.
        """
        self.lines += ["", f"class {name}:", *docstring(class_docstring(kind), INDENT)]
        maker = MAKERS.get(name)
        if maker is not None:
            signature = inspect.signature(maker.__init__)  # type: ignore[misc]
            has_reactor = "reactor" in signature.parameters  # which comes first
            given = [
                each.replace(kind=_keyword(each)) if has_reactor and each.name != "self" else each
                for each in signature.parameters.values()
                if each.name != "reactor"
            ]
            self.function("__init__", given, "None", maker.__module__, indent=INDENT)
        for attribute, value in sorted(vars(kind).items()):
            if isinstance(value, property):
                annotation, module = attribute_type(source, attribute)
                annotation = ATTRIBUTES.get((name, attribute), annotation)
                self.lines.append(f"{INDENT}@property")
                doc = attribute_docstring(kind, attribute)
                self.function(attribute, [SELF], annotation, module, doc, INDENT)
            elif inspect.isfunction(value) and attribute != "__init__":
                self.method(attribute, value)


INDENT = "    "
SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _keyword(parameter: inspect.Parameter) -> Any:
    named = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    return parameter.KEYWORD_ONLY if named else parameter.kind


#: A field of a class's docstring: its kind, its name and its text.
FIELD = re.compile(r"^:(param|ivar) (\w+): (.*(?:\n +.*)*)\n?", re.MULTILINE)


def class_docstring(cls: type) -> str:
    """A class's docstring without fields of what is not here: the reactor, inner attributes."""

    def kept(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        is_here = name != "reactor" if kind == "param" else hasattr(cls, name)
        return match[0] if is_here else ""

    return FIELD.sub(kept, inspect.cleandoc(cls.__doc__ or "")).rstrip()


def attribute_docstring(cls: type, name: str) -> str | None:
    """A property's docstring, or its ``:ivar:`` in the docstring of its class."""
    doc: str | None = vars(cls)[name].__doc__
    if doc is None:
        for match in FIELD.finditer(inspect.cleandoc(cls.__doc__ or "")):
            if match[2] == name:
                text = " ".join(match[3].split())
                doc = text[:1].upper() + text[1:]
    return doc


def docstring(doc: str, indent: str) -> list[str]:
    """The lines of a docstring."""
    first, *rest = _wrapped(without_deferreds(inspect.cleandoc(doc)), WIDTH - len(indent) - 3)
    prefix = "r" if "\\" in doc else ""
    if not rest:
        return [f'{indent}{prefix}"""{first}"""']
    inner = [f"{indent}{line}".rstrip() for line in rest]
    return [f'{indent}{prefix}"""{first}', *inner, f'{indent}"""']


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, those that have become too long in pieces."""
    for line in text.splitlines():
        inner = len(line) - len(line.lstrip()) + 4 * line.startswith(":")
        yield from textwrap.wrap(line, width, subsequent_indent=" " * inner) or [""]


def attribute_type(cls: type | None, name: str) -> tuple[str, str]:
    """The type of an instance's attribute, and the module that declares it."""
    for base in cls.__mro__ if cls is not None else ():
        value = vars(base).get(name)
        if isinstance(value, property):
            return str(inspect.signature(value.fget).return_annotation), base.__module__  # type: ignore[arg-type]
        if "__init__" in vars(base) and base is not object:
            found = _assigned(base, name)
            if found is not None:
                return found, base.__module__
    return "Any", "typing"


def _assigned(cls: type, name: str) -> str | None:
    source = inspect.getsource(sys.modules[cls.__module__])
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.ClassDef) and node.name == cls.__name__):
            continue
        for statement in _statements(node):
            if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == (
                f"self.{name}"
            ):
                return ast.unparse(statement.annotation)
    given = inspect.signature(cls.__init__).parameters.get(name)  # type: ignore[misc]
    return None if given is None else str(given.annotation)


def _statements(node: ast.ClassDef) -> Iterator[ast.stmt]:
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            yield from function.body


def stub() -> str:
    """The whole stub."""
    public = {name: getattr(blocking, name) for name in blocking.__all__}  # loads them
    sources = {made: source for source, made in blocking_classes().items()}
    writer = _Writer()
    for name, value in public.items():
        if name == "GatewayExecutor":
            continue  # its own module has all types
        if inspect.isclass(value) and issubclass(value, Blocking):
            writer.cls(name, value, sources.get(value))
        else:
            function = SOURCES.get(name) or getattr(default, name, value)
            if name == "ChannelGateway":
                function = value
            signature = inspect.signature(function)
            parameters = list(signature.parameters.values())
            doc = function.__doc__
            if name in FUNCTIONS:
                parameters = with_timeout(parameters)
                doc = with_field(doc, TIMEOUT_FIELD)
            writer.lines.append("")
            writer.function(name, parameters, signature.return_annotation, function.__module__, doc)
    lines = ["from pycomnet.blocking.executor import GatewayExecutor as GatewayExecutor"]
    for here, (module, name) in sorted(writer.wanted.items()):
        if not name:
            lines.append(f"import {module}" + ("" if module == here else f" as {here}"))
        else:
            lines.append(f"from {module} import {name}" + ("" if name == here else f" as {here}"))
    names = "".join(f'    "{name}",\n' for name in blocking.__all__)
    end = ["", f"__all__ = [\n{names}]"]
    return HEAD + "\n".join([*sorted(lines), *writer.lines, *end]) + "\n"


if __name__ == "__main__":
    PATH.write_text(stub())
