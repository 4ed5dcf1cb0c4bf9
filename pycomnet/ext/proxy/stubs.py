"""Writes a typing.Protocol for an interface, from its service's description.

A description comes from a network, and what is written here may be imported. So names are
written only if they are Python names, and everything else only within string literals and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from pycomnet.ext.proxy.signatures import (
    TYPES,
    InterfaceSignature,
    MethodSignature,
    is_attribute,
    is_name,
)

#: A proxy's own method that the Protocols have as well. With ``binary`` results are others.
WITH = """
    @{overload}
    def with_(
        self,
        *,
        timeout: {float} | None = ...,
        attachments: {Sequence}[{Any}] = ...,
        args: {Any} = ...,
    ) -> {own}: ...
    @{overload}
    def with_(
        self,
        *,
        binary: {bool},
        timeout: {float} | None = ...,
        attachments: {Sequence}[{Any}] = ...,
        args: {Any} = ...,
    ) -> {Any}: ..."""
#: What is imported: name -> the module that has it.
MODULES = {
    "Any": "typing",
    "Protocol": "typing",
    "overload": "typing",
    "AsyncIterator": "collections.abc",
    "Iterator": "collections.abc",
    "Sequence": "collections.abc",
    "Deferred": "twisted.internet.defer",
}


def stub_of(described: Mapping[str, Any]) -> str:
    """The source of a module with two Protocols for each interface: one whose methods return
    Deferreds, and one for :mod:`pycomnet.blocking.ext.proxy`.

    :param described: what ``introspect`` returns.
    """
    interfaces = [InterfaceSignature.from_map(name, said) for name, said in described.items()]
    writer = _Writer({method for each in interfaces for method in each.methods})
    names: set[str] = set()
    for each in interfaces:
        name = class_name(each.name, names)
        writer.protocol(name, each, "Deferred")
        writer.protocol(class_name(f"Blocking{name}", names), each, None)
    return writer.source()


def class_name(interface: str, taken: set[str]) -> str:
    """A name for an interface's class: of ``org.example.tool-box``, ``ToolBox``."""
    last = interface.rpartition(".")[2] or interface
    parts = re.split(r"[^0-9A-Za-z]+", last)
    name = "".join(part[:1].upper() + part[1:] for part in parts)
    if not is_name(name) or name in MODULES:
        name = f"Service{name}"
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{number}", number + 1
    taken.add(found)
    return found


@attrs.define
class _Writer:
    """Collects the lines.

    :ivar methods: the names of all methods: a type of such a name is written in another way, as
        within the class the name is the method's.
    """

    methods: set[str]
    lines: list[str] = attrs.field(factory=list)
    used: set[str] = attrs.field(factory=set)

    def type(self, name: str) -> str:
        """A type's name as it is written in the class."""
        self.used.add(name)
        if name not in self.methods:
            return name
        return f"_builtins.{name}" if name in TYPES else f"_{name}"

    def protocol(self, name: str, interface: InterfaceSignature, result: str | None) -> None:
        """Write a class.

        :param result: what the results come in, or None.
        """
        self.used.add("Protocol")
        kind = "Protocol" if "Protocol" not in self.methods else "_Protocol"
        self.lines += ["", "", f"class {name}({kind}):"]
        how = "without Deferreds" if result is None else "with Deferreds"
        text = f"The interface {interface.name!r}, {how}."
        self.lines += _docstring(f"{text}\n\n{interface.doc}", 4)
        types = ("float", "bool", "Sequence", "Any", "overload")
        self.lines += WITH.format(own=name, **{each: self.type(each) for each in types}).split("\n")
        for method in interface.methods.values():
            self.lines += ["", *self._method(method, result)]

    def _method(self, method: MethodSignature, result: str | None) -> Iterator[str]:
        if not is_attribute(method.name):
            yield f"    # proxy[{method.name!r}]: a method whose name is no attribute of a proxy"
            return
        gives = self._kind(method.results)
        if method.stream:
            gives = self.type("AsyncIterator" if result else "Iterator") + f"[{self.type('Any')}]"
        elif result:
            gives = f"{self.type(result)}[{gives}]"
        head = f"    def {method.name}({', '.join(self._parameters(method))}) -> {gives}:"
        if not method.doc:
            yield f"{head} ..."
            return
        yield head
        yield from _docstring(method.doc, 8)
        yield "        ..."

    def _parameters(self, method: MethodSignature) -> Iterator[str]:
        yield "self"
        names = list(method.declared or ())
        if "self" in names:  # then all are passed by name, and this one is not shown
            yield f"**arguments: {self.type('Any')}"
            return
        starred = False
        for name in filter(is_name, names):
            assert method.declared is not None
            if name not in method.positional and not starred:
                starred = True
                yield "*"
            kind = self._kind(method.declared[name])
            if name not in method.required:
                kind += " = ..." if kind == self.type("Any") else " | None = ..."
            yield f"{name}: {kind}"
        if method.declared is None or not all(map(is_name, names)):
            other = "arguments"
            while other in names:
                other = f"_{other}"
            yield f"**{other}: {self.type('Any')}"

    def _kind(self, words: object) -> str:
        """A declared type in the source: only names of our own."""
        text = "dict" if isinstance(words, Mapping) else str(words)
        names = text.removesuffix("?").split(" or ")
        if any(name not in TYPES for name in names):
            return self.type("Any")
        parameters = {"list": "[{Any}]", "dict": "[{str}, {Any}]"}
        found = []
        for name in names:
            inner = parameters.get(name, "")
            if inner:
                inner = inner.format(Any=self.type("Any"), str=self.type("str"))
            found.append(self.type(name) + inner)
        return " | ".join(found)

    def source(self) -> str:
        """The module."""
        head = [
            '"""Protocols of services; written by ``pycomnet describe --stub``."""',
            "",
            "from __future__ import annotations",
            "",
        ]
        if self.used & self.methods & TYPES.keys():
            head.append("import builtins as _builtins")
        wanted: dict[str, list[str]] = {}
        for name in sorted(self.used & MODULES.keys()):
            shown = f"{name} as _{name}" if name in self.methods else name
            wanted.setdefault(MODULES[name], []).append(shown)
        for module in sorted(wanted, key=lambda module: (module.startswith("twisted"), module)):
            if module.startswith("twisted"):
                head.append("")
            head.append(f"from {module} import {', '.join(wanted[module])}")
        return "\n".join([*head, *self.lines]) + "\n"


def _docstring(text: str, indent: int) -> list[str]:
    """A text as a string literal that holds all of it."""
    space = " " * indent
    text = text.strip().encode("utf-8", "backslashreplace").decode()  # it may have surrogates
    text = text.replace("\\", "\\\\")
    if '"""' in text or text.endswith('"'):
        text = text.replace('"', '\\"')
    first, *rest = text.split("\n")
    if not rest:
        return [f'{space}"""{first}"""']
    inner = [f"{space}{line}".rstrip() for line in rest]
    return [f'{space}"""{first}', *inner, f'{space}"""']
