"""The stub of the API without Deferreds is what its source makes of it."""

from __future__ import annotations

import ast
import inspect
import re

from twisted.trial.unittest import SynchronousTestCase

from pycomnet import blocking
from pycomnet.blocking.docstrings import WORDS
from pycomnet.blocking.ext import proxy, workflow
from pycomnet.blocking.stub import PATH, stub
from pycomnet.blocking.wrapper import blocking_classes


class StubTests(SynchronousTestCase):
    """``pycomnet/blocking/__init__.pyi``."""

    def test_stub_is_up_to_date(self) -> None:
        """It is what ``python -m pycomnet.blocking.stub`` writes."""
        self.assertEqual(
            PATH.read_text(), stub(), "write it anew: python -m pycomnet.blocking.stub"
        )

    def test_stub_has_exactly_what_is_public(self) -> None:
        """Each public method and property of each class is in it, and no other."""
        text = PATH.read_text()
        for name in blocking.__all__:
            if name == "GatewayExecutor":
                continue
            self.assertRegex(text, rf"(?m)^(class|def) {name}\b")
        for inner in ("abandoned", "forget", "forked", "shut_down"):
            self.assertNotIn(f"def {inner}(", text)
            self.assertFalse(hasattr(blocking.Group, inner) or hasattr(blocking.Gateway, inner))

    def test_has_the_docstrings(self) -> None:
        """What has a docstring when it runs has one in the stub, where an editor looks for it."""
        missing = [name for name, doc in stub_docstrings().items() if not doc and runtime_doc(name)]
        self.assertEqual(missing, [])

    def test_docstrings_say_timeout_where_one_was_added(self) -> None:
        """The additional ``timeout`` is explained, and nothing else is: not the reactor."""
        docs = stub_docstrings()
        self.assertIn(":param timeout: seconds", docs["Channel.receive"])
        self.assertNotIn("timeout", docs["MultiChannel.make_receive_queue"])
        self.assertIn(":param output:", docs["Group"])
        self.assertNotIn(":param reactor:", docs["Group"])

    def test_docstrings_are_without_deferreds(self) -> None:
        """What a Deferred would fire or fail with is returned or raised here."""
        for name, doc in stub_docstrings().items():
            self.assertNotRegex(doc, r"Deferred|coroutine|\b[Ff]ires\b|[Ff]ails with", name)

    def test_help_is_without_deferreds(self) -> None:
        """``help`` shows the same: a method returns its result, and has a ``timeout``."""
        self.assertIn(":param timeout: seconds", blocking.locate.__doc__ or "")
        self.assertIn(":returns: it; raises", vars(blocking.Channel)["receive"].__doc__)
        self.assertTrue({proxy.Proxy, workflow.Workflow} <= set(blocking_classes().values()))
        functions = [getattr(blocking, name) for name in ("connect", "locate", "nameserver")]
        for kind in blocking_classes().values():
            functions += [value for value in vars(kind).values() if inspect.isfunction(value)]
        for function in functions:
            name = function.__qualname__
            self.assertNotRegex(
                function.__doc__ or "", r"coroutine|\b[Ff]ires\b|[Ff]ails with", name
            )

    def test_each_replacement_is_used(self) -> None:
        """Each phrase that the stub replaces is in a docstring of the Deferred API."""
        docs = []
        for kind in blocking_classes():
            docs += [value.__doc__ or "" for value in vars(kind).values() if callable(value)]
        text = "\n".join(map(inspect.cleandoc, docs))
        for there, _ in WORDS:
            self.assertRegex(text, there.replace(" ", r"\s+"))

    def test_docstrings_are_no_wider_than_the_code(self) -> None:
        """No line of a docstring is longer than 100 characters."""
        lines = [line for line in PATH.read_text().splitlines() if not re.match(" *def ", line)]
        self.assertEqual([line for line in lines if len(line) > 100], [])


def stub_docstrings() -> dict[str, str]:
    """Name of a class, function or method (``Class.method``) in the stub -> its docstring."""
    docs = {}
    for node in ast.parse(PATH.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            docs[node.name] = ast.get_docstring(node) or ""
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef):
                    docs[f"{node.name}.{inner.name}"] = ast.get_docstring(inner) or ""
    return docs


def runtime_doc(name: str) -> str | None:
    """The docstring of that when it runs; a constructor's is that of its class."""
    owner, _, method = name.partition(".")
    if method == "__init__":
        return None
    value = getattr(blocking, owner)
    return inspect.getdoc(vars(value)[method] if method else value)
