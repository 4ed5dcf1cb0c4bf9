"""Finds how a service differs from the class that its client was written for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from inspect import Parameter
from typing import Any

from pycomnet.ext.proxy.signatures import OWN, TYPES, InterfaceSignature, MethodSignature
from pycomnet.services.interface import Service
from pycomnet.text.printable import visible_line

#: Results that stand for one value after the other.
STREAMS = ("AsyncIterator", "Iterator", "AsyncIterable", "Iterable", "Generator", "AsyncGenerator")
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def differences(expected: type, found: InterfaceSignature) -> list[str]:
    """List what a client that was written for a class can't do with a service.

    Additional methods of the service, and additional optional arguments, do not matter.

    :param expected: a ``typing.Protocol``, or the service's own class.
    """
    if issubclass(expected, Service):
        return list(_from_service(expected, found))
    return list(_from_protocol(expected, found))


def _from_service(expected: type[Service], found: InterfaceSignature) -> Iterator[str]:
    declared = expected.interfaces.get(found.name)
    if declared is None:
        have = ", ".join(expected.interfaces) or "none"
        yield f"{expected.__qualname__} has no interface {found.name!r}, but: {have}"
        return
    here = InterfaceSignature.from_map(found.name, declared.describe())
    for name, mine in here.methods.items():
        theirs = found.methods.get(name)
        if theirs is None:
            yield _no_method(name)
            continue
        yield from _stream(name, mine.stream, theirs)
        if mine.declared is None or theirs.declared is None:
            continue
        yield from _arguments(
            theirs,
            {each: _plain_words(words) for each, words in mine.declared.items()},
            mine.required,
        )


def _from_protocol(expected: type, found: InterfaceSignature) -> Iterator[str]:
    for name, mine in _functions(expected):
        theirs = found.methods.get(name)
        if theirs is None:
            yield _no_method(name)
            continue
        signature = inspect.signature(mine)
        result = _written(signature.return_annotation)
        if result:
            yield from _stream(name, result.partition("[")[0].endswith(STREAMS), theirs)
        if theirs.declared is None:
            continue
        parameters = list(signature.parameters.values())[1:]  # without self
        if any(each.kind is Parameter.VAR_POSITIONAL for each in parameters):
            continue
        named = {each.name: each for each in parameters if each.kind in _BY_NAME}
        open_ended = any(each.kind is Parameter.VAR_KEYWORD for each in parameters)
        yield from _arguments(
            theirs,
            {each: _written(one.annotation) for each, one in named.items()},
            frozenset(each for each, one in named.items() if one.default is Parameter.empty),
            open_ended,
        )


def _functions(expected: type) -> Iterator[tuple[str, Any]]:
    """The methods of a Protocol and of its bases."""
    for name, value in inspect.getmembers(expected, inspect.isfunction):
        if not name.startswith("_") and name not in OWN:
            yield name, value


def _no_method(name: str) -> str:
    return f"{name}: the service has no such method"


def _stream(name: str, mine: bool, theirs: MethodSignature) -> Iterator[str]:
    if mine is not theirs.stream:
        gives = "a stream" if theirs.stream else "one value"
        yield f"{name}: it gives {gives} there, and {'a stream' if mine else 'one value'} here"


def _arguments(
    theirs: MethodSignature,
    mine: dict[str, str],
    required: frozenset[str],
    open_ended: bool = False,
) -> Iterator[str]:
    """Compare arguments.

    :param mine: argument -> its type in words, or nothing if it has no annotation.
    :param required: those that are always given here.
    :param open_ended: whether any others may be given here.
    """
    assert theirs.declared is not None
    shown = visible_line(theirs.name)
    for name, words in mine.items():
        if name not in theirs.every:
            yield f"{shown}: it has no argument {name!r} there"
            continue
        if name in theirs.required and name not in required:
            yield f"{shown}: the argument {name!r} can't be left out there"
        here, there = _types(words), _types(_plain_words(theirs.declared[name]))
        if here and there and not here <= there:
            wanted = " or ".join(sorted(there))
            yield f"{shown}: the argument {name!r} is {wanted} there, and {words} here"
    if not open_ended:
        for name in sorted(theirs.required - mine.keys()):
            yield f"{shown}: the argument {visible_line(name)!r} is required there"


def _plain_words(words: object) -> str:
    return str(words).removesuffix("?")


def _written(annotation: Any) -> str:
    """An annotation as text, without what a Deferred of it adds."""
    if annotation is inspect.Signature.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = text.replace("typing.", "").replace("collections.abc.", "")
    head, bracket, rest = text.partition("[")
    if bracket and head.rpartition(".")[2] == "Deferred":
        text = rest.removesuffix("]")
    return text


def _types(words: str) -> frozenset[str]:
    """The types that a text names; empty if it names others, too. None is any argument's own."""
    found = set()
    for one in words.replace(" or ", "|").split("|"):
        name = one.strip().partition("[")[0].lower()
        if name == "none":
            continue
        if name not in TYPES:
            return frozenset()
        found.add(name)
        if name == "float":
            found.add("int")  # is taken for it everywhere
    return frozenset(found)
