"""Typed proxies: Protocols from what a service says, and in what a service differs from one."""

from __future__ import annotations

import ast
import inspect
from collections.abc import AsyncIterator
from typing import Any, Protocol

from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ext.proxy import InterfaceDiffers, proxy
from pycomnet.ext.proxy.differences import differences
from pycomnet.ext.proxy.signatures import InterfaceSignature
from pycomnet.ext.proxy.stubs import stub_of
from pycomnet.services.interface import Service, describe, interface, method
from pycomnet.test.ext.proxy.kit import ProxyCase, Tools
from pycomnet.test.properties import given


class Adding(Protocol):
    """What a client needs of :class:`Tools`, as it is."""

    def add(self, a: int, b: int = ...) -> Deferred[int]: ...

    def ticks(self, *, count: int) -> AsyncIterator[int]: ...

    def say(self, text: str) -> Deferred[Any]: ...

    def anything(self, **arguments: Any) -> Deferred[Any]: ...

    def with_(self, *, timeout: float) -> Adding: ...


class Wrong(Protocol):
    """What a client was written for that knows an older service."""

    def add(self, a: str, c: int, *, b: int = ...) -> AsyncIterator[int]: ...

    def gone(self) -> Deferred[None]: ...

    def say(self, timeout: float) -> Deferred[Any]: ...

    def ticks(self, count: int = 1) -> Deferred[int]: ...


class DifferenceTests(ProxyCase):
    """A service that is not what the client was written for."""

    def test_service_that_fits_is_called(self) -> None:
        """What the service has more is no matter."""
        typed = proxy(self.remote, interface=Adding)
        self.assertEqual(self.result(typed.add(1, 2)), 3)
        self.assertEqual(self.collected(typed.ticks(count=2)), [0, 1])
        self.assertEqual(self.result(typed.with_(timeout=5).add(1)), 1)

    def test_first_call_says_in_what_it_differs(self) -> None:
        """Each difference by itself; the method is not called."""
        typed = proxy(self.remote, interface=Wrong)
        problem = self.failure(typed.say(timeout=1), InterfaceDiffers)
        self.assertEqual(
            sorted(problem.differences),
            [
                "add: it gives one value there, and a stream here",
                "add: it has no argument 'c' there",
                "add: the argument 'a' is int there, and str here",
                "gone: the service has no such method",
                "say: the argument 'text' is required there",
                "ticks: it gives a stream there, and one value here",
                "ticks: the argument 'count' can't be left out there",
            ],
        )
        for each in problem.differences:
            self.assertIn(f"\n  {each}", str(problem))
        self.assertIn("org.example.tools at tcp:127.0.0.1:", str(problem))
        self.assertIn("differs from Wrong", str(problem))
        self.assertEqual([name for name, _ in self.tools.calls], ["introspect"])

    def test_service_that_was_mended_is_called(self) -> None:
        """The next call compares again."""
        typed = proxy(self.remote, interface=Wrong)
        self.failure(typed.gone(), InterfaceDiffers)
        again = proxy(typed, interface=Adding)
        self.assertEqual(self.result(again.add(1, 2)), 3)

    def test_services_own_class_is_compared(self) -> None:
        """Its declarations are those that the server has, or the error says in what they differ."""
        self.assertEqual(self.result(proxy(self.remote, interface=Tools).add(a=1)), 1)

        @interface("org.example.tools")
        class Older(Service):
            """As a client has it that was not updated."""

            @method(args={"a": "str", "z": "int?"})
            def add(self, request: Any) -> Any:
                """Another one."""

        problem = self.failure(proxy(self.remote, interface=Older).add(a=1), InterfaceDiffers)
        self.assertEqual(
            problem.differences,
            [
                "add: the argument 'a' is int there, and str here",
                "add: it has no argument 'z' there",
            ],
        )

    def test_what_is_no_class_is_refused(self) -> None:
        """An interface's name in its place, for example."""
        self.assertRaises(TypeError, proxy, self.remote, interface="org.example.tools")


class StubTests(SynchronousTestCase):
    """``pycomnet describe --stub``: Protocols."""

    def load(self, source: str) -> dict[str, Any]:
        """Run the source of a stub that a test has made of this package's own classes."""
        space: dict[str, Any] = {"__name__": "stub"}
        exec(compile(source, "stub", "exec"), space)
        return space

    def test_stub_fits_the_service_that_it_was_made_of(self) -> None:
        """Both Protocols have no difference from the service, and have its documentation."""
        said = describe(Tools())
        made = self.load(stub_of(said))
        found = InterfaceSignature.from_map("org.example.tools", said["org.example.tools"])
        for name in ("Tools", "BlockingTools"):
            self.assertEqual(differences(made[name], found), [])
        add = made["Tools"].add
        self.assertEqual(
            add.__doc__,
            str(inspect.getdoc(Tools.add)).replace("\n\n", "\n\n        ") + "\n        ",
        )
        self.assertEqual(
            str(inspect.signature(add)),
            "(self, a: 'int', b: 'int | None' = Ellipsis) -> 'Deferred[int]'",
        )
        blocking = inspect.signature(made["BlockingTools"].ticks)
        self.assertEqual(blocking.return_annotation, "Iterator[Any]")
        self.assertFalse(hasattr(made["Tools"], "import"))

    def test_methods_with_the_names_of_types(self) -> None:
        """A method ``list`` does not hide the type ``list``."""
        said = {
            "x.int": {
                "methods": {
                    "list": {"args": {"of": "list?"}, "results": "list"},
                    "Any": {"args": {"a": "a word"}},
                }
            }
        }
        source = stub_of(said)
        self.load(source)
        self.assertIn("def list(self, of: _builtins.list[_Any] | None = ...)", source)
        self.assertIn("def Any(self, a: _Any)", source)

    @given(
        st.dictionaries(
            st.text(max_size=20),
            st.fixed_dictionaries(
                {
                    "doc": st.text(),
                    "methods": st.dictionaries(
                        st.text(max_size=9) | st.sampled_from(["a", "list", "x\nimport os"]),
                        st.fixed_dictionaries(
                            {
                                "doc": st.text(alphabet='"\\\n\r\x00\u2028\ud800a ') | st.text(),
                                "stream": st.booleans(),
                                "results": st.text(max_size=9) | st.none(),
                                "args": st.none()
                                | st.dictionaries(
                                    st.text(max_size=9), st.sampled_from(["int?", "x", "str"])
                                ),
                            }
                        ),
                        max_size=4,
                    ),
                }
            ),
            max_size=3,
        )
    )
    def test_whatever_a_service_says_only_classes_are_written(self, said: Any) -> None:
        """Imports of ours, classes, methods without code, and strings: nothing that would run."""
        source = stub_of(said)
        source.encode()
        doc, *body = ast.parse(source).body
        self.assertIsInstance(doc, ast.Expr)
        for node in body:
            if isinstance(node, ast.ClassDef):
                self.assertEqual([type(base) for base in node.bases], [ast.Name])
                for inner in node.body:
                    self.assert_is_empty(inner)
            elif isinstance(node, ast.ImportFrom):
                self.assertIn(
                    node.module,
                    ("__future__", "typing", "collections.abc", "twisted.internet.defer"),
                )
            else:
                assert isinstance(node, ast.Import), ast.dump(node)
                self.assertEqual([alias.name for alias in node.names], ["builtins"])

    def assert_is_empty(self, node: ast.stmt) -> None:
        """A docstring, or a function of nothing but its own and an ellipsis."""
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.assertEqual(ast.unparse(default), "...")
            for decorator in node.decorator_list:
                self.assertIn(ast.unparse(decorator), ("overload", "_overload"))
            for inner in node.body:
                self.assert_is_empty(inner)
        else:
            assert isinstance(node, ast.Expr), ast.dump(node)
            self.assertIsInstance(node.value, ast.Constant)
