"""What is sent to a bare far side is in the common subset of Python 2.7 and 3.

A real Python 2.7 compiles it where there is one; a look at the syntax tree and the tokens finds the
usual slips where there is none, and those that 2.7 compiles to something else. Both are tested on
small sources.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.importrules import FAR_SIDE, PACKAGE


class NewerThanTwo(ast.NodeVisitor):
    """Collects what Python 2.7 lacks or reads as something else, of what a syntax tree shows.

    It is what can be done without a Python 2.7 at hand, so it need not be complete.
    """

    NAMES = {
        "AnnAssign": "annotation",
        "AsyncFor": "async for",
        "AsyncFunctionDef": "async def",
        "AsyncWith": "async with",
        "Await": "await",
        "JoinedStr": "f-string",
        "MatMult": "@ operator",
        "Match": "match",
        "NamedExpr": ":=",
        "Nonlocal": "nonlocal",
        "Starred": "*a",
        "TryStar": "except*",
        "YieldFrom": "yield from",
    }

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []
        self.line = 1

    def add(self, what: str) -> None:
        self.found.append((self.line, what))

    def visit(self, node: ast.AST) -> None:
        self.line = getattr(node, "lineno", self.line)
        if type(node).__name__ in self.NAMES:
            self.add(self.NAMES[type(node).__name__])
        super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.returns:
            self.add("annotation")
        own = list(own_nodes(node))
        returns = any(isinstance(n, ast.Return) and n.value for n in own)
        if returns and any(isinstance(n, ast.Yield) for n in own):
            self.add("return of a value in a generator")
        self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> None:
        if node.kwonlyargs:
            self.add("keyword-only argument")
        if node.posonlyargs:
            self.add("positional-only argument")
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation:
            self.add("annotation")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if node.keywords:
            self.add("keyword in a class's bases")
        elif not node.bases:
            self.add("class without (object)")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.cause:
            self.add("raise from")
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        if None in node.keys:
            self.add("{**d}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value is ...:
            self.add("...")

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.id if isinstance(node.func, ast.Name) else None
        if called == "super" and not node.args:
            self.add("super() without arguments")
        if called == "print" and (len(node.args) != 1 or node.keywords):
            self.add("print() as a function")
        last = node.args[-1:]
        if last and isinstance(last[0], ast.Starred):  # the one place where 2.7 has it
            last = [last[0].value]
        for child in [node.func, *node.args[:-1], *last, *node.keywords]:
            self.visit(child)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, and in none within that."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from own_nodes(child)


def newer_tokens(source: str) -> Iterator[tuple[int, str]]:
    """What Python 2.7 lacks and only the tokens show."""
    opened: list[str] = []  # for each bracket that is open: the token that its last item began with
    before = item = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.NL}:
            continue
        if token.type == tokenize.NUMBER and "_" in token.string:
            yield token.start[0], "_ in a number"
        if token.type == tokenize.STRING and token.string[:2].lower() == "rb":
            yield token.start[0], "rb''"
        if opened and before in {"(", ","}:
            item = opened[-1]
            opened[-1] = token.string
        if token.string in {"(", "[", "{"}:
            opened.append("")
        elif token.string in {")", "]", "}"}:
            if before == "," and item in {"*", "**"}:
                # The formatter writes it when it splits a long call.
                yield token.start[0], "comma after *a or **k"
            opened.pop()
        before = token.string
    if not source.isascii() and "coding" not in source.partition("\n")[0]:
        yield 1, "not ASCII, and no coding line"


def newer_syntax(source: str) -> list[str]:
    """What the source has that Python 2.7 has not."""
    visitor = NewerThanTwo()
    visitor.visit(ast.parse(source))
    return [f"line {n}: {what}" for n, what in sorted({*visitor.found, *newer_tokens(source)})]


def far_side() -> dict[str, str]:
    """The sources that a far side is sent, by module."""
    paths = (path for room in FAR_SIDE for path in (PACKAGE / room).rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in paths}


class OldPythonTests(SynchronousTestCase):
    """The wire and the worker keep to it, and what looks after that can see when they do not."""

    #: One of each kind that 2.7 refuses.
    NEWER = dedent(
        """\
        f"{a}"
        a: int = 1
        def f(a: int): pass
        def f() -> int: pass
        def f(*, a): pass
        def f(a, /): pass
        def f(*a,): pass
        def f(): nonlocal a
        def f(): yield 1; return 2
        def f(): yield from a
        async def f(): pass
        raise A from b
        (a := 1)
        a, *b = c
        a = [*b]
        a = {**b}
        f(*a, b)
        f(a, **b,)
        f(g(a), *[1, 2],)
        a @ b
        a = ...
        a = 1_000
        a = rb"b"
        class A(B, metaclass=C): pass
        print(a, file=b)
        """
    ).splitlines()

    #: What 2.7 compiles, but to something else.
    DIFFERENT = (
        "class A: pass",
        "class A(object):\n  def f(self): super().f()",
        "print(a, b)",
        "a = 'é'",
    )

    #: What looks similar and is in both.
    COMMON = dedent(
        """\
        # -*- coding: utf-8 -*- \u00e9
        class A(object):
            def f(self, *a, **k):
                super(A, self).f(1, *a, **k)
                print("%s" % (a,))
                try:
                    f(k, g(*a), b=1)
                except (A, B) as e:
                    raise C(e)
                with a as b, c as d:
                    yield {1: 2}, {1, 2}, [x for x in a], u"a", b"b", br"c", 0o17,
                return
        """
    )

    def test_far_side_has_no_newer_syntax(self) -> None:
        """No module of the wire and the worker has syntax that is newer."""
        for name, source in far_side().items():
            self.assertEqual(newer_syntax(source), [], name)

    def test_each_newer_construct_is_found(self) -> None:
        for source in [*self.NEWER, *self.DIFFERENT]:
            self.assertNotEqual(newer_syntax(source), [], source)
        self.assertEqual(newer_syntax(self.COMMON), [])
