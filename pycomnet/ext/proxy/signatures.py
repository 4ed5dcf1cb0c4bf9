"""Python signatures for a service's methods, from its descriptions: calls are checked by these."""

from __future__ import annotations

import functools
import keyword
import operator
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any

import attrs

from pycomnet.text.printable import visible, visible_line

#: The types that a declaration can name. Other words are for people.
TYPES: Mapping[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, str, bytes, list, dict)
}
#: The attributes that every proxy has. A remote method of such a name is called by ``proxy[name]``.
OWN = frozenset({"batch", "record", "with_"})


class _LeftOut:
    """The default of an argument that can be left out: the service knows what it means."""

    def __repr__(self) -> str:
        return "..."


LEFT_OUT = _LeftOut()


def is_name(name: object) -> bool:
    """Whether a text can be the name of a Python variable."""
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)


def is_attribute(name: object) -> bool:
    """Whether a remote method of this name can be an attribute of a proxy.

    Names that begin with an underscore can't: programs look for such attributes on any object. Nor
    can names of a proxy's own attributes.
    """
    return is_name(name) and not str(name).startswith("_") and name not in OWN


def kind_of(words: object) -> Any:
    """A declared type as an annotation: types, their union, or the declaration's own words."""
    if isinstance(words, Mapping):
        return dict
    text = visible_line(str(words)).removesuffix("?")
    found = [TYPES.get(one) for one in text.split(" or ")]
    if any(one is None for one in found):
        return text
    return functools.reduce(operator.or_, found)


def _several(names: list[str]) -> str:
    """Names as Python's own errors list them."""
    quoted = [f"'{visible_line(name)}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def namer(names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], dict[str, Any]]:
    """A function that names values, which are as many as the names.

    For so few as most methods have, it takes a third of the time of ``dict(zip(names, values))``,
    which is a fifth of the row "1,000 such calls in a batch".
    """
    if len(names) == 1:
        (only,) = names
        return lambda values: {only: values[0]}
    if len(names) == 2:
        one, two = names
        return lambda values: {one: values[0], two: values[1]}
    if len(names) == 3:
        one, two, three = names
        return lambda values: {one: values[0], two: values[1], three: values[2]}
    return lambda values: dict(zip(names, values, strict=True))


@attrs.frozen(eq=False)
class MethodSignature:
    """A method as its service describes it.

    :ivar declared: its arguments: name -> words for its type; None if they are not declared.
    :ivar every: the names of the arguments.
    :ivar required: the names of those that can't be left out.
    :ivar positional: the arguments that may be given without their names, in order: up to the first
        that isn't a valid identifier, or is required but follows an optional one.
    """

    name: str
    doc: str
    stream: bool
    idempotent: bool
    attachments: int | None
    results: Any
    declared: Mapping[str, Any] | None
    every: frozenset[str] = attrs.field(init=False)
    required: frozenset[str] = attrs.field(init=False)
    positional: tuple[str, ...] = attrs.field(init=False)

    @every.default
    def _find_every(self) -> frozenset[str]:
        return frozenset(self.declared or ())

    @required.default
    def _find_required(self) -> frozenset[str]:
        declared = (self.declared or {}).items()
        return frozenset(name for name, kind in declared if not _is_optional(kind))

    @positional.default
    def _find_positional(self) -> tuple[str, ...]:
        found: list[str] = []
        optional = False
        for name, kind in (self.declared or {}).items():
            if not is_name(name) or (optional and not _is_optional(kind)):
                break
            optional = _is_optional(kind)
            found.append(name)
        return tuple(found)

    @classmethod
    def from_map(cls, name: str, said: Any) -> MethodSignature:
        """Read a method from ``introspect``; fields that can't be read are ignored."""
        said = said if isinstance(said, Mapping) else {}
        declared = said.get("args")
        readable = isinstance(declared, Mapping) and all(isinstance(one, str) for one in declared)
        attachments = said.get("attachments")
        return cls(
            name,
            visible(said["doc"]) if isinstance(said.get("doc"), str) else "",
            said.get("stream") is True,
            said.get("idempotent") is True,
            attachments if isinstance(attachments, int) else None,
            said.get("results"),
            declared if readable else None,
        )

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The structured arguments of a call.

        :raises TypeError: they do not fit; the message is the one that Python has for a function.
        """
        if self.declared is None:
            if args:
                raise TypeError(
                    f"{self._shown}() takes keyword arguments only, as its service does not declare"
                    f" their order; with_(args=...) passes a value that is not a map of arguments"
                )
            return kwargs
        if args:
            kwargs = self._with_positional(args, kwargs)
        names = kwargs.keys()
        if self.required <= names <= self.every:
            return kwargs
        if not names <= self.every:
            unknown = next(name for name in kwargs if name not in self.every)
            known = ", ".join(map(visible_line, self.declared)) or "none"
            raise TypeError(
                f"{self._shown}() got an unexpected keyword argument '{unknown}'; "
                f"its arguments are: {known}"
            )
        missing = [name for name in self.declared if name in self.required and name not in names]
        noun = "argument" if len(missing) == 1 else "arguments"
        raise TypeError(
            f"{self._shown}() missing {len(missing)} required {noun}: {_several(missing)}"
        )

    def _with_positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(self.positional):
            most = len(self.positional)
            noun = "argument" if most == 1 else "arguments"
            was = "was" if len(args) == 1 else "were"
            raise TypeError(
                f"{self._shown}() takes {most} positional {noun} but {len(args)} {was} given"
            )
        found = dict(zip(self.positional, args, strict=False))
        if kwargs:
            for name in kwargs:
                if name in found:
                    raise TypeError(f"{self._shown}() got multiple values for argument '{name}'")
            found.update(kwargs)
        return found

    @property
    def _shown(self) -> str:
        return visible_line(self.name)

    @functools.cached_property
    def signature(self) -> Signature:
        """The method's signature; the default of an argument that can be left out is ``...``.

        Arguments whose names are not valid identifiers are passed as ``**{"max-size": 1}``.
        """
        shown, others = [], self.declared is None
        for name, words in (self.declared or {}).items():
            if not is_name(name):
                others = True
                continue
            by_place = name in self.positional
            shown.append(
                Parameter(
                    name,
                    Parameter.POSITIONAL_OR_KEYWORD if by_place else Parameter.KEYWORD_ONLY,
                    default=LEFT_OUT if _is_optional(words) else Parameter.empty,
                    annotation=kind_of(words),
                )
            )
        if others:
            shown.append(Parameter(_free_name(self.every), Parameter.VAR_KEYWORD))
        result = Signature.empty if self.results is None else kind_of(self.results)
        return Signature(shown, return_annotation=result)


def _is_optional(words: object) -> bool:
    return isinstance(words, str) and words.endswith("?")


def _free_name(taken: frozenset[str]) -> str:
    name = "arguments"
    while name in taken:
        name = f"_{name}"
    return name


@attrs.frozen(eq=False)
class InterfaceSignature:
    """An interface as its service describes it.

    :ivar methods: its methods by their names.
    """

    name: str
    doc: str
    methods: Mapping[str, MethodSignature]

    @classmethod
    def from_map(cls, name: str, said: Any) -> InterfaceSignature:
        """Read an interface's description from ``introspect``."""
        said = said if isinstance(said, Mapping) else {}
        methods = said.get("methods")
        methods = methods if isinstance(methods, Mapping) else {}
        doc = said.get("doc")
        return cls(
            name,
            visible(doc) if isinstance(doc, str) else "",
            {
                method: MethodSignature.from_map(method, each)
                for method, each in methods.items()
                if isinstance(method, str)
            },
        )

    def help(self) -> str:
        """The interface's documentation and that of its methods, for ``help``."""
        shown = [self.doc] if self.doc else []
        for method in self.methods.values():
            lines = [described(method)]
            lines += [f"    {line}".rstrip() for line in method.doc.splitlines()]
            shown.append("\n".join(lines))
        return "\n\n".join(shown)


def described(method: MethodSignature) -> str:
    """A method's name with its signature, on one line."""
    name = visible_line(method.name)
    shown = name if is_attribute(method.name) else f"[{name!r}]"
    return f"{shown}{method.signature}" + ("  [stream]" if method.stream else "")
