"""Expressions: what they give, and that none takes too long."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ext.workflow import expressions
from pycomnet.ext.workflow.errors import ExpressionError
from pycomnet.ext.workflow.expressions import BadExpression, TooCostly, check, evaluate


class ValueTests(SynchronousTestCase):
    """What templates give."""

    def test_templates(self) -> None:
        """A whole expression keeps its type, one within text becomes text, the rest stays."""
        scope = {"input": {"a": {"b": [1, 2]}, "n": 1.5, "t": True}}
        for template, wanted in (
            ("${input.a.b}", [1, 2]),
            ({"x": ["${input.a.b[0]}", None, 5]}, {"x": [1, None, 5]}),
            ("n=${input.n} t=${input.t}", "n=1.5 t=true"),
            ("$${input} and ${input.n}", "${input} and 1.5"),
            ("$${input}", "${input}"),
            ("${input.{a: n, b: `}`}}", None),
            ("${input.{a: n, b: '}'}}", {"a": 1.5, "b": "}"}),
            ("plain", "plain"),
        ):
            if wanted is not None:
                self.assertEqual(evaluate(template, scope), wanted)

    def test_no_value(self) -> None:
        """What does not fit the data is an error with the expression in it."""
        for template in ("${sum(input)}", "x ${input}", "${&input}", '${sort(`[1, "a"]`)}'):
            with self.assertRaises(ExpressionError):
                evaluate(template, {"input": {"a": 1}})

    def test_checked_when_loaded(self) -> None:
        """Syntax, functions, arguments and names are checked before anything runs."""
        for template, offset in (
            ("${input.a[}", 10),
            ("ab ${inpt}", 5),
            ("${}", 2),
            ("${input", 2),
            ("${nofunction(input)}", 2),
            ("${length(input, input)}", 2),
            ("${" + "(" * 1_500 + "}", None),
            ("${" + "x" * 3_000 + "}", 2),
        ):
            with self.assertRaises(BadExpression) as caught:
                check(template)
            if offset is not None:
                self.assertEqual(caught.exception.offset, offset, template)

    def test_library_is_loaded_by_the_first_expression(self) -> None:
        """Plain chains need no jmespath."""
        code = (
            "import sys; from pycomnet.ext.workflow.definition import check_tasks; "
            "check_tasks({'t': [{'interface': 'x', 'args': {'plain': 'text'}}]}); "
            "sys.exit('jmespath' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code]).returncode, 0)


class CostTests(SynchronousTestCase):
    """Expressions that never end."""

    def bombs(self) -> dict[str, tuple[str, Any]]:
        doubled = " | ".join(["[@,@][]"] * 60)
        nested = " | ".join(["[@,@]"] * 60)
        return {
            "doubles a list": (f"input | {doubled}", [1]),
            "nests what it shares": (f"input | {nested}", 1),
            "writes that out": (f"to_string(input | {nested})", 1),
            "compares that": (f"(input | {nested}) == (input | {nested})", 1),
            "joins": ("join(input.s, input.l)", {"s": "x" * 900_000, "l": ["y"] * 90_000}),
            "maps in maps": (
                "map(&length(map(&length(@), $all)), $all)".replace("$all", "input[]"),
                [[1, 2]] * 50_000,
            ),
            "doubles a text": (" | ".join(["input", *["join('', [@,@])"] * 60]), "ab"),
            "filters in filters": (
                "input[?length(@[?length(@[?@]) > `0`]) > `-1`]",
                [[[1] * 100] * 100] * 100,
            ),
        }

    def test_long_number(self) -> None:
        """A text of very many digits is not read as a number."""
        with self.assertRaisesRegex(TooCostly, "at most 1000"):
            evaluate("${to_number(input)}", {"input": "9" * 1_001})

    def test_each_ends_soon(self) -> None:
        """Each is stopped by what it counts, and takes no more processor time than that."""
        for name, (text, data) in self.bombs().items():
            begun = time.process_time()
            with self.assertRaises(ExpressionError, msg=name):
                evaluate(f"${{{text}}}", {"input": data}, expressions.BUDGET, None)
            self.assertLess(time.process_time() - begun, 10, name)

    def test_inline_budget_is_small(self) -> None:
        """In the reactor's thread each is given up after some thousand steps."""
        for name, (text, data) in self.bombs().items():
            with self.assertRaises(TooCostly, msg=name):
                evaluate(f"${{{text}}}", {"input": data}, expressions.INLINE, None)

    def test_depth(self) -> None:
        """A value that is nested too deeply is refused, and does not exhaust the stack."""
        deep: Any = 1
        for _ in range(10_000):
            deep = [deep]
        with self.assertRaises(ExpressionError):
            evaluate("${input}", {"input": deep})
