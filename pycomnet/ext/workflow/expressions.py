"""Expressions: JMESPath in ``${...}``, checked when they are loaded and bounded when they run.

A text that is one ``${...}`` as a whole stands for that expression's value. Within other text its
value is put in as text. ``$${`` is a plain ``${``.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from pycomnet.ext.workflow.errors import ExpressionError
from pycomnet.ext.workflow.valuetext import shown

#: The longest expression, in characters.
LONGEST = 2_000
#: The highest cost of an expression in the reactor's thread (some milliseconds), and in another.
INLINE = 2_000
BUDGET = 1_000_000
#: The most items, or hundreds of characters, that one operation may read or make: meanwhile it
#: holds the interpreter lock.
LARGEST = 100_000
#: Seconds that an expression has in a thread.
SECONDS = 0.8
#: How deep a value may be nested.
DEEPEST = 100
#: The most characters that ``to_number`` reads: the time that it takes grows with their square.
LONGEST_NUMBER = 1_000

#: The names that an expression may begin with.
NAMES = ("input", "last", "steps", "context", "item", "index", "error", "result", "key")


class TooCostly(ExpressionError):
    """The expression costs more than it may."""


class BadExpression(ValueError):
    """An expression that is not valid.

    :ivar offset: where in the text, counted from 0.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@attrs.frozen
class Part:
    """A part of a text: an expression, or plain text.

    :ivar offset: where an expression begins in the text.
    """

    text: str
    expression: bool = False
    offset: int = 0


def split(text: str) -> Iterator[Part]:
    """Split a text into expressions and plain text.

    :raises BadExpression: an expression has no end.
    """
    plain: list[str] = []
    at = 0
    while True:
        found = text.find("${", at)
        if found < 0:
            plain.append(text[at:])
            break
        if found and text[found - 1] == "$":
            plain.append(text[at : found - 1] + "${")
            at = found + 2
            continue
        plain.append(text[at:found])
        if any(plain):
            yield Part("".join(plain))
        plain = []
        end = _end(text, found + 2)
        yield Part(text[found + 2 : end], True, found + 2)
        at = end + 1
    if any(plain):
        yield Part("".join(plain))


def _end(text: str, at: int) -> int:
    """The index of the brace that closes an expression."""
    depth, quote, begin = 0, "", at
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"`":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                return at
            depth -= 1
        at += 1
    raise BadExpression("the expression has no end: a '}' is missing", begin)


def is_expression(value: object) -> bool:
    """Whether a value is a text that is one expression as a whole."""
    if not isinstance(value, str) or not value.startswith("${"):
        return False
    try:
        parts = list(split(value))
    except BadExpression:
        return False
    return len(parts) == 1 and parts[0].expression


def needs_evaluation(template: object) -> bool:
    """Whether a template has an expression, or an escaped one, anywhere."""
    if isinstance(template, str):
        return "${" in template
    if isinstance(template, Mapping):
        return any(needs_evaluation(value) for value in template.values())
    if isinstance(template, (list, tuple)):
        return any(needs_evaluation(value) for value in template)
    return False


def check(text: str, names: tuple[str, ...] = NAMES) -> None:
    """Check the expressions of a text.

    :param names: those that may be used at its place.
    :raises BadExpression: one is not valid, or begins with a name that nothing has.
    """
    for part in split(text):
        if not part.expression:
            continue
        tree = _compile(part)
        for name in _roots(tree):
            if name not in names:
                at = max(part.text.find(name), 0)
                raise BadExpression(
                    f"there is no {name!r} here; there are: {', '.join(names)}", part.offset + at
                )


def _compile(part: Part) -> Any:
    from jmespath.exceptions import JMESPathError

    if len(part.text) > LONGEST:
        raise BadExpression(f"the expression is longer than {LONGEST} characters", part.offset)
    if not part.text.strip():
        raise BadExpression("the expression is empty", part.offset)
    try:
        return _parsed(part.text)
    except JMESPathError as problem:
        offset = getattr(problem, "lex_position", None)
        # The library's own message draws an arrow below the whole expression.
        words = getattr(problem, "msg", "") or getattr(problem, "message", "")
        token = getattr(problem, "token_value", None)
        if token is not None and words.startswith("Invalid jmespath"):
            words = f"{token!r} is not expected here"
        text = words or str(problem).splitlines()[0]
        at = offset if isinstance(offset, int) else 0
        raise BadExpression(f"no JMESPath expression: {text}", part.offset + at) from None
    except RecursionError:
        raise BadExpression("the expression is nested too deeply", part.offset) from None


@functools.lru_cache(4096)
def _parsed(text: str) -> Any:
    from jmespath.parser import Parser

    tree = Parser().parse(text).parsed
    _check_calls(tree)
    return tree


def _check_calls(tree: Any) -> None:
    """Check that functions exist and how many arguments they take."""
    from jmespath import functions
    from jmespath.exceptions import JMESPathError

    table = functions.Functions.FUNCTION_TABLE
    if tree["type"] == "function_expression":
        name, given = tree["value"], len(tree["children"])
        if name not in table:
            raise JMESPathError(f"there is no function {name}()")
        signature = table[name]["signature"]
        many = bool(signature) and bool(signature[-1].get("variadic"))
        if given < len(signature) or (given > len(signature) and not many):
            raise JMESPathError(f"{name}() takes {len(signature)} arguments, not {given}")
    for child in tree.get("children", ()):
        if isinstance(child, dict):
            _check_calls(child)


#: Nodes whose first child sees the value that the node sees, and whose others see its result.
_CHAINS = frozenset({"subexpression", "index_expression", "pipe"})
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection", "flatten"})


def _roots(tree: Any) -> Iterator[str]:
    """The names that an expression looks up in the outermost value."""
    kind = tree["type"]
    if kind == "field":
        yield tree["value"]
    elif kind in _CHAINS or kind in _PROJECTIONS:
        yield from _roots(tree["children"][0])
    elif kind not in ("expref", "literal"):
        for child in tree.get("children", ()):
            if isinstance(child, dict):
                yield from _roots(child)


class _Cost:
    """The cost of an evaluation so far."""

    def __init__(self, budget: int, until: float | None) -> None:
        self.left = budget
        self.until = until
        self.visits = 0

    def count(self, cost: int) -> None:
        self.left -= cost
        self.visits += 1
        if self.left < 0:
            raise TooCostly("the expression takes too long: it counts more than it may")
        if self.until is not None and not self.visits & 255 and time.thread_time() > self.until:
            raise TooCostly(f"the expression takes more than {SECONDS:g} seconds of the processor")

    def weigh(self, value: Any) -> None:
        """Count a value as a whole, at all depths."""
        stack, most, deepest = [(value, 0)], LARGEST, DEEPEST
        seen = 0
        while stack:
            one, depth = stack.pop()
            seen += 1
            if type(one) in (str, bytes):
                seen += len(one) // 100
            elif isinstance(one, (list, tuple)):
                if depth >= deepest:
                    raise TooCostly(f"a value is nested deeper than {deepest}")
                if len(one) > most:
                    seen += len(one)
                else:
                    stack.extend((each, depth + 1) for each in one)
            elif isinstance(one, dict):
                if depth >= deepest:
                    raise TooCostly(f"a value is nested deeper than {deepest}")
                seen += len(one)
                if len(one) <= most:
                    stack.extend((each, depth + 1) for each in one.values())
            if seen > most:
                raise TooCostly(f"a value has more than {most} parts")
            if seen > self.left:
                self.count(seen)
        self.count(seen)


@functools.lru_cache(1)
def _interpreter_class() -> Any:
    """The interpreter that counts; made when the first expression is evaluated."""
    from jmespath import visitor

    base: Any = visitor.TreeInterpreter

    class _Counting(base):  # type: ignore[misc]
        """Counts its operations, and raises :class:`TooCostly` before there are too many."""

        def __init__(self, cost: _Cost) -> None:
            super().__init__()
            self._cost = cost

        def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
            self._cost.count(1)
            return super().visit(node, *args, **kwargs)

        def visit_flatten(self, node: Any, value: Any) -> Any:
            found = self.visit(node["children"][0], value)
            if not isinstance(found, list):
                return None
            self._room(sum(len(one) if isinstance(one, list) else 1 for one in found))
            merged: list[Any] = []
            for one in found:
                if isinstance(one, list):
                    merged.extend(one)
                else:
                    merged.append(one)
            return merged

        def visit_slice(self, node: Any, value: Any) -> Any:
            if isinstance(value, list):
                self._room(len(value))
            return super().visit_slice(node, value)

        def visit_comparator(self, node: Any, value: Any) -> Any:
            sides = [self.visit(child, value) for child in node["children"]]
            for side in sides:
                self._cost.weigh(side)
            known = [{"type": "literal", "value": side, "children": []} for side in sides]
            return super().visit_comparator({**node, "children": known}, value)

        def visit_function_expression(self, node: Any, value: Any) -> Any:
            given = [self.visit(child, value) for child in node["children"]]
            for one in given:
                self._cost.weigh(one)
            if node["value"] == "join" and isinstance(given[1], list):
                self._room(len(str(given[0])) * len(given[1]) // 100)
            text = given[0] if node["value"] == "to_number" and given else None
            if isinstance(text, str) and len(text) > LONGEST_NUMBER:
                raise TooCostly(f"a number has at most {LONGEST_NUMBER} characters")
            return self._functions.call_function(node["value"], given)

        def _room(self, size: int) -> None:
            if size > LARGEST:
                raise TooCostly(f"a list would have more than {LARGEST} items")
            self._cost.count(size)

    return _Counting


def evaluate(
    template: Any, scope: Mapping[str, Any], budget: int = BUDGET, seconds: float | None = SECONDS
) -> Any:
    """Replace the expressions in a template by their values.

    :param scope: the names that expressions may use.
    :param budget: the highest cost.
    :raises TooCostly: it costs more, or takes longer.
    :raises ExpressionError: an expression is not valid for these data.
    """
    until = None if seconds is None else time.thread_time() + seconds
    return _filled(template, scope, _Cost(budget, until))


def _filled(template: Any, scope: Mapping[str, Any], cost: _Cost) -> Any:
    if isinstance(template, str):
        return _filled_text(template, scope, cost) if "${" in template else template
    if isinstance(template, Mapping):
        return {key: _filled(value, scope, cost) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [_filled(value, scope, cost) for value in template]
    return template


def _filled_text(text: str, scope: Mapping[str, Any], cost: _Cost) -> Any:
    try:
        parts = list(split(text))
        if len(parts) == 1 and parts[0].expression:
            return _value(parts[0], scope, cost)
        return "".join(
            _as_text(_value(part, scope, cost)) if part.expression else part.text for part in parts
        )
    except BadExpression as problem:
        raise ExpressionError(f"{text}: {problem}") from None


def _value(part: Part, scope: Mapping[str, Any], cost: _Cost) -> Any:
    from jmespath.exceptions import JMESPathError

    tree = _compile(part)
    try:
        value = _interpreter_class()(cost).visit(tree, scope)
        cost.weigh(value)
    except TooCostly as problem:
        raise type(problem)(f"${{{part.text}}}: {problem}") from None
    except (JMESPathError, TypeError, ValueError, OverflowError, RecursionError) as problem:
        words = " ".join(_message(problem).split()) or type(problem).__name__
        raise ExpressionError(f"${{{part.text}}}: {words[:500]}") from None
    if type(value).__name__ == "_Expression":
        raise ExpressionError(f"${{{part.text}}}: a '&' expression is no value")
    return value


def _message(problem: Exception) -> str:
    try:
        return str(problem)
    except ValueError as unshown:  # it names a number of too many digits
        return f"{type(problem).__name__}: {unshown}"


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        try:
            return str(value)
        except ValueError as problem:  # too many digits
            raise ExpressionError(f"within text: {problem}") from None
    text = f"within text, an expression is text or a number, not {shown(value, 100)}"
    raise ExpressionError(text)


def is_true(value: Any) -> bool:
    """Whether a value counts as true, as JMESPath has it: all but null, false and what is empty."""
    return not (value is None or value is False or value in ("", [], {}))
