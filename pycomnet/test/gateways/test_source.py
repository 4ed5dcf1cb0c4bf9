"""What is sent for a function, a module and a text; and what is refused, naming what it needs."""

# Much of what is here is meant to be wrong where it stands.
# ruff: noqa: B008, B905, F821, RUF013
# mypy: disable-error-code="name-defined,valid-type,assignment,return-value,index"

from __future__ import annotations
import __future__

import doctest
import functools
import gzip
import importlib.util
import inspect
import linecache
import os as system
import sys
import types
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.errors import CodeNotSendable, PycomnetError
from pycomnet.far.bytecode import bytecode
from pycomnet.far.execute import _function as far_function
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.gateways.source import FarPython, call_request, exec_request

SETTING = 5
open = gzip.open  # a module's own, which hides a builtin
same = len
print = print  # the builtin itself


def request(function: Callable[..., Any], **kwargs: Any) -> dict[str, Any]:
    """The request of ``remote_exec``."""
    return exec_request(function, kwargs)


def run(request: dict[str, Any], *args: Any) -> Any:
    """Run what a request says as a far side does: alone, with the lines where they were."""
    source, line = request["source"], request["line"]
    if source[:1].isspace():
        source, line = "if 1:\n" + source, line - 1
    text = "\n" * (line - 1) + source
    flags = __future__.annotations.compiler_flag
    namespace: dict[str, Any] = {"__name__": "far", "__file__": request["filename"]}
    exec(compile(text, request["filename"], "exec", flags, dont_inherit=True), namespace)
    return namespace[request["function"]](*args)


class Box:
    """A class, for its methods."""

    def method(self, channel):
        return channel

    @staticmethod
    def static(channel):
        return [channel]

    @classmethod
    def of_class(cls, channel):
        return cls

    def __call__(self, channel):
        return channel


box = Box()


def decorator(function):
    """A decorator that leaves no trace in what it returns but the function's own."""
    return function


def wrapping(function):
    """A decorator as they should be."""

    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


class Text(SynchronousTestCase):
    """Source text."""

    def test_text_is_sent_as_it_is(self) -> None:
        self.assertEqual(
            exec_request("channel.send(1)\n", {}),
            {"source": "channel.send(1)\n", "filename": "<remote_exec>"},
        )

    def test_keyword_arguments_go_with_the_text(self) -> None:
        """Its global names go with it."""
        self.assertEqual(exec_request("x", {"a": 1})["kwargs"], {"a": 1})
        self.assertNotIn("kwargs", exec_request("x", {}))

    def test_common_indent_is_removed_and_line_numbers_stay(self) -> None:
        """What all lines are indented by is removed, and their numbers stay."""
        text = """
            if True:
                channel.send(1)

            # done
        """
        self.assertEqual(
            exec_request(text, {})["source"],
            "\nif True:\n    channel.send(1)\n\n# done\n",
        )

    def test_blank_lines_in_strings_keep_their_blanks(self) -> None:
        text = "x = '''a\n   \n\t\nb'''\n"
        self.assertEqual(exec_request(text, {})["source"], text)
        indented = "    x = '''a\n      \n    b'''\n"
        self.assertEqual(exec_request(indented, {})["source"], "x = '''a\n  \nb'''\n")

    def test_tabs_are_dedented_unless_mixed_with_blanks(self) -> None:
        """Tabs are as good as blanks; what is not indented alike is left alone."""
        self.assertEqual(exec_request("\tx\n\t\ty", {})["source"], "x\n\ty")
        self.assertEqual(exec_request("\tx\n    y", {})["source"], "\tx\n    y")

    def test_empty_and_blank_texts_are_sent(self) -> None:
        """No text, and blank text, are texts."""
        for text in ("", "\n", "   ", "\n   \n"):
            self.assertEqual(exec_request(text, {})["source"], text)

    def test_other_types_are_refused_by_name(self) -> None:
        """Nothing else can be run, and what can is said."""
        for thing, kind in ((5, "int"), (b"x", "bytes"), (None, "NoneType")):
            error = self.assertRaises(CodeNotSendable, exec_request, thing, {})
            self.assertEqual(
                str(error), f"source text, a function or a module can be run, not {kind}"
            )
            self.assertIsInstance(error, PycomnetError)


class Module(SynchronousTestCase):
    """Modules."""

    def test_modules_source_is_sent_with_its_file_name(self) -> None:
        got = exec_request(functools, {"x": 1})
        self.assertEqual(got["filename"], functools.__file__)
        self.assertEqual(got["source"], inspect.getsource(functools))
        self.assertEqual(got["kwargs"], {"x": 1})

    def test_packages_source_is_its_init(self) -> None:
        """A package's is that of its ``__init__``."""
        self.assertEqual(
            exec_request(pycomnet, {}),
            {"source": inspect.getsource(pycomnet), "filename": pycomnet.__file__},
        )

    def test_module_without_source_is_refused(self) -> None:
        """One without source is refused by name."""
        for module, name in ((sys, "sys"), (types.ModuleType("made_up"), "made_up")):
            error = self.assertRaises(CodeNotSendable, exec_request, module, {})
            self.assertEqual(str(error), f"module {name}: its source can't be found")

    def test_module_made_from_a_file_has_its_text(self) -> None:
        """A module made from a file just now has that file's text."""
        path = self.mktemp() + ".py"
        Path(path).write_text("channel.send('from a file')\n")
        spec = importlib.util.spec_from_file_location("fresh", path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        self.assertEqual(exec_request(module, {})["source"], "channel.send('from a file')\n")


class Lines(SynchronousTestCase):
    """A function's source, file and line."""

    def raising_line(self, function: Callable[..., Any]) -> int:
        """The line at which it raises when it is run from its request."""
        made = request(function)
        try:
            run(made, None)
        except ZeroDivisionError as error:
            traceback = error.__traceback__
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            assert traceback is not None
            code = traceback.tb_frame.f_code
            self.assertEqual(code.co_filename, made["filename"])
            text = linecache.getline(code.co_filename, traceback.tb_lineno)
            self.assertIn("# here", text)
            return traceback.tb_lineno
        self.fail("it did not raise")

    def test_function_has_file_name_and_line(self) -> None:
        """A module's function has the lines of its file."""
        made = request(top_level)
        self.assertEqual(made["function"], "top_level")
        self.assertEqual(made["line"], top_level.__code__.co_firstlineno)
        self.assertEqual(made["filename"], __file__)
        self.raising_line(top_level)

    def test_indented_functions_lines_stay_as_in_its_file(self) -> None:
        """So does an indented one, whose strings and continued lines may be indented less."""

        def nested(channel):
            text = """
less
            """
            assert text == "\nless\n            ", text
            value = 1
            return value / 0  # here

        self.raising_line(nested)

    def test_function_in_nested_blocks_keeps_its_lines(self) -> None:
        """And one in a block in a block."""
        if SETTING:
            for _ in range(1):

                def nested(channel):
                    return 1 / 0  # here

        self.raising_line(nested)

    def test_static_methods_source_begins_below_the_decorator(self) -> None:
        """A static method is a plain function: its source begins below the decorator."""
        made = request(Box.static)
        self.assertEqual(run(made, 5), [5])
        self.assertEqual(made["line"], Box.static.__code__.co_firstlineno + 1)

    def test_method_taken_from_its_class_is_a_plain_function(self) -> None:
        self.assertEqual(run(request(Box.method), "self", "argument"), "argument")

    def test_renamed_function_is_sent_under_its_source_name(self) -> None:
        """A function with another name than its source has is found all the same."""

        def original(channel):
            return "ran"

        original.__name__ = original.__qualname__ = "renamed"
        made = request(original)
        self.assertEqual(made["function"], "original")
        self.assertEqual(run(made, None), "ran")

    def test_requests_of_one_function_share_source_not_arguments(self) -> None:
        """What was found out of a function is kept, not shared: requests are apart."""
        first, second = request(top_level, a=1), request(top_level, b=2)
        self.assertEqual((first["kwargs"], second["kwargs"]), ({"a": 1}, {"b": 2}))
        self.assertNotIn("kwargs", request(top_level))
        self.assertIs(first["source"], second["source"])


def top_level(channel):
    value = 1
    return value / 0  # here


class Alone(SynchronousTestCase):
    """Functions that can run alone, and do."""

    def check(self, function: Callable[..., Any], expected: Any, *args: Any) -> None:
        """Run it from its request."""
        self.assertEqual(run(request(function), None, *args), expected)

    def test_function_may_use_builtins(self) -> None:
        """Builtins are everywhere, also when a module has them by their own name."""

        def function(channel):
            print(end="")
            return sorted(map(len, ["aa", "b"])), isinstance(__name__, str), bool(__file__)

        self.check(function, ([1, 2], True, True))

    def test_function_may_use_its_own_imports(self) -> None:
        """What it imports itself is its own."""

        def function(channel):
            import os.path as path
            from math import floor

            return floor(1.5), path.join("a", "b")

        self.check(function, (1, "a/b"))

    def test_recursive_function_finds_itself(self) -> None:
        """It may call itself: it is there under its name."""

        def factorial(channel, n=5):
            return n * factorial(channel, n - 1) if n else 1

        def indirectly(channel, n=5):
            def inner():
                return indirectly(channel, n - 1)

            return inner() if n else "down"

        # A nested function's own name would be a closure's.
        for function in (factorial, indirectly):
            error = self.assertRaises(CodeNotSendable, request, function)
            self.assertIn("is a closure over", str(error))
        self.check(fibonacci, 55, 10)

    def test_annotations_are_not_evaluated(self) -> None:
        """Annotations are not evaluated there, wherever they are."""

        def function(channel: Box, *rest: SETTING, key: BytesIO = None) -> pycomnet.Channel:
            local: Nowhere = 1

            class Inner:
                field: Nowhere = 2
                bare: Nowhere

            def inner(x: Nowhere) -> Nowhere:
                return x

            return local, Inner.field, inner(3)

        self.check(function, (1, 2, 3))

    def test_defaults_may_use_builtins(self) -> None:
        """Defaults may use builtins and names of their own."""

        def function(channel, a=max(1, 2), *, key=lambda x: x + 1, c=tuple(n * 2 for n in [1])):
            return a, key(1), c

        self.check(function, (2, 2, (2,)))

    def test_nested_scopes_see_each_other(self) -> None:
        """Functions, lambdas, comprehensions, generators and classes within see each other."""

        def function(channel):
            offset = 1

            def add(x):
                return x + offset

            class Base:
                factor = 2
                doubled = factor * 2

                def apply(self, x):
                    return add(x) * self.factor

            class Derived(Base):
                def apply(self, x):
                    return super().apply(x) + self.doubled

            made = [Derived().apply(x) for x in range(3) if x]
            return made, {k: v for k, v in zip("ab", made)}, (lambda y: y + offset)(1)

        self.check(function, ([8, 10], {"a": 8, "b": 10}, 2))

    def test_function_may_make_globals(self) -> None:
        """It may make globals of its own, wherever it sets and reads them."""

        def function(channel):
            global counter, module

            def inner():
                global deep
                deep = 3

            counter = 1
            counter += 1
            import math as module

            inner()
            return counter, module.floor(2.5), deep

        self.check(function, (2, 2, 3))

    def test_names_bound_by_except_are_the_functions_own(self) -> None:
        """What ``except`` and ``with`` bind is its own."""

        def function(channel):
            try:
                {}["x"]
            except KeyError as error:
                return repr(error)

        self.check(function, "KeyError('x')")

    def test_names_bound_by_walrus_and_match_are_its_own(self) -> None:
        """So is what newer syntax binds."""

        def function(channel):
            if (n := 5) > 3:
                match [n, 2]:
                    case [first, *rest]:
                        return first, rest

        self.check(function, (5, [2]))

    def test_python_2_builtins_may_be_used(self) -> None:
        """Builtins that only Python 2 has can be used: the far side may be one."""

        def function(channel):
            return unicode, xrange, raw_input

        self.assertEqual(request(function)["function"], "function")

    def test_channel_may_come_in_star_arguments(self) -> None:
        """The channel may come as one of any arguments."""

        def stars(*args, **kwargs):
            return len(args)

        def only(channel, /):
            return 1

        self.check(stars, 1)
        self.check(only, 1)


def fibonacci(channel, n):
    return n if n < 2 else fibonacci(channel, n - 1) + fibonacci(channel, n - 2)


class Refused(SynchronousTestCase):
    """Functions that can't run alone, and what they are told."""

    def refused(self, function: Any) -> str:
        """The message of the error."""
        return str(self.assertRaises(CodeNotSendable, request, function))

    def uses(self, function: Callable[..., Any], name: str) -> None:
        """It is refused for using a global."""
        self.assertEqual(
            self.refused(function),
            f"function {function.__name__} uses the global {name!r}, which is not there where it "
            f"runs: import it inside the function, pass it as an argument, or put it at its "
            f"module's top level and offer that: gateway.send_modules('pycomnet')",
        )

    def test_global_that_it_uses_is_named(self) -> None:

        def function(channel):
            channel.send(SETTING)

        self.uses(function, "SETTING")

    def test_module_imported_outside_is_named(self) -> None:
        """A module that is imported outside is a global."""

        def function(channel):
            return system.getpid()

        self.uses(function, "system")

    def test_global_that_hides_a_builtin_is_named(self) -> None:
        """So is what hides a builtin: it would run, and do something else."""

        def function(channel):
            return open("x")

        self.uses(function, "open")

    def test_builtin_under_another_name_is_named(self) -> None:
        """So is a builtin by another name."""

        def function(channel):
            return same("x")

        self.uses(function, "same")

    def test_undefined_name_is_named(self) -> None:
        """So is a name that there isn't."""

        def function(channel):
            return lne("x")

        self.uses(function, "lne")

    def test_global_in_nested_scopes_is_named(self) -> None:
        """In whatever is within it."""

        def in_function(channel):
            def inner():
                return lambda: SETTING

            return inner

        def in_comprehension(channel):
            return [SETTING for _ in range(3)]

        def in_generator(channel):
            return sum(x for x in range(SETTING))

        def in_class(channel):
            class Inner:
                setting = SETTING

            return Inner

        def in_base(channel):
            class Inner(Box):
                pass

            return Inner

        def in_method(channel):
            class Inner:
                def method(self):
                    return SETTING

            return Inner

        def in_decorator(channel):
            @decorator
            def inner():
                pass

            return inner

        def in_inner_default(channel):
            def inner(x=SETTING):
                return x

            return inner

        for function in (in_function, in_comprehension, in_generator, in_class, in_method):
            self.uses(function, "SETTING")
        self.uses(in_inner_default, "SETTING")
        self.uses(in_base, "Box")
        self.uses(in_decorator, "decorator")

    def test_class_body_names_do_not_count_in_its_methods(self) -> None:
        """A class's names are not those of the functions within it."""

        def function(channel):
            class Inner:
                SETTING = 1

                def method(self):
                    return SETTING

            return Inner

        self.uses(function, "SETTING")

    def test_global_in_defaults_is_named(self) -> None:
        """Defaults are evaluated there."""

        def positional(channel, x=SETTING):
            return x

        def keyword(channel, *, x=(1, [SETTING])):
            return x

        def lambdas(channel, x=lambda y: y + SETTING):
            return x

        for function in (positional, keyword, lambdas):
            self.uses(function, "SETTING")

    def test_first_of_several_globals_is_named(self) -> None:
        """Of several the first by name is named."""

        def function(channel):
            return system, SETTING, Box

        self.uses(function, "Box")

    def test_closure_variables_are_named(self) -> None:
        """The variables that it is a closure over are named."""
        one = two = 1

        def function(channel):
            return one + two

        self.assertEqual(
            self.refused(function),
            "function function is a closure over one, two: pass it as an argument",
        )

    def test_method_with_super_is_a_closure_over_its_class(self) -> None:
        """A method that uses ``super`` is a closure over its class."""

        class Derived(Box):
            def method(self, channel):
                return super().method(channel)

        self.assertIn("is a closure over __class__", self.refused(Derived.method))

    def test_lambda_for_another_python_is_refused(self) -> None:
        """A lambda has no source of its own, and its code is for the same Python only."""
        message = self.refused(lambda channel: channel.send(1))
        self.assertEqual(
            message,
            f"a lambda: its source can't be found, and its compiled code runs on {bytecode()} "
            f"only, not on any other: define it in a file, or send its source as text",
        )
        self.assertIn("global 'SETTING'", self.refused(lambda channel: SETTING))

    def test_generator_function_is_refused(self) -> None:
        """A generator function, whose body would never run."""
        for kind in (exec_request, call_request):
            args: tuple[Any, ...] = ({},) if kind is exec_request else ((), {})
            error = self.assertRaises(CodeNotSendable, kind, generates, *args)
            self.assertIn("generates is a generator function", str(error))

    def test_async_function_is_refused(self) -> None:
        """Nothing awaits there."""

        async def function(channel):
            return 1

        self.assertEqual(
            self.refused(function), "function function is async: only plain functions can be sent"
        )

    def test_decorated_function_is_refused_with_advice(self) -> None:
        """What a decorator made of a function is another, which is not there where it runs."""

        @wrapping
        def wrapped(channel):
            return 1

        self.assertEqual(
            self.refused(wrapped),
            "function wrapped is decorated: send what it wraps (its __wrapped__), or put it at "
            "its module's top level and offer that: gateway.send_modules('pycomnet')",
        )

    def test_functools_cached_function_is_refused(self) -> None:
        """So is what ``functools`` makes of a function."""

        @functools.lru_cache
        def function(channel):
            return 1

        self.assertIn("is decorated: send what it wraps", self.refused(function))
        self.assertEqual(run(request(function.__wrapped__), None), 1)

    def test_bound_method_is_refused_with_advice(self) -> None:
        """A bound method has an object with it."""
        self.assertEqual(
            self.refused(Box().method),
            "method Box.method is bound to what can't be sent: send a plain function that makes "
            "the object there, or offer its module: gateway.send_modules('pycomnet')",
        )

    def test_partial_with_positional_arguments_is_refused(self) -> None:
        """The channel is a function's first argument, so a partial can't have that."""
        self.assertEqual(
            self.refused(functools.partial(top_level, 1)),
            "a functools.partial for remote_exec can't have positional arguments, as the channel "
            "is the first: give them by keyword",
        )

    def test_what_is_not_written_in_python_is_refused(self) -> None:
        """What isn't a function, or isn't written in Python, is named by its type."""
        words = "only functions written in Python can be sent, not "
        by_name = "; what is installed there is found by name: call('"
        self.assertEqual(
            self.refused(len), f"{words}builtin_function_or_method{by_name}builtins:len')"
        )
        self.assertEqual(self.refused(Box), f"{words}type{by_name}{__name__}:Box')")
        self.assertEqual(self.refused(Box()), f"{words}Box")
        self.assertEqual(self.refused("".join), f"{words}builtin_function_or_method")

    def test_function_without_source_is_refused_for_another_python(self) -> None:
        """A function that was made from a text that is nowhere to be found."""
        namespace: dict[str, Any] = {}
        exec("def made(channel): pass", namespace)
        self.assertEqual(
            self.refused(namespace["made"]),
            f"function made: its source can't be found, and its compiled code runs on "
            f"{bytecode()} only, not on any other: define it in a file, or send its source as text",
        )

    def test_function_whose_file_has_changed_is_refused(self) -> None:
        """A function whose file was changed since, so that something else is where it was."""
        for text in ("x = (", "def other(channel):\n    pass\n", "def made(channel:\n"):
            path = self.mktemp() + ".py"
            Path(path).write_text(text)
            namespace: dict[str, Any] = {}
            exec(compile("def made(channel): pass", path, "exec"), namespace)
            message = self.refused(namespace["made"])
            self.assertIn("function made: its source can't be found", message)

    def test_function_without_channel_parameter_is_refused(self) -> None:
        """A function for ``remote_exec`` takes the channel first."""

        def nothing():
            pass

        def keyword(*, channel):
            pass

        def keywords(**kwargs):
            pass

        for function in (nothing, keyword, keywords):
            self.assertEqual(
                self.refused(function),
                f"function {function.__name__} must take the channel as its first parameter",
            )
        self.assertEqual(call_request(nothing, (), {})["function"], "nothing")


class Decorated(SynchronousTestCase):
    """Functions that a decorator gave back as they were."""

    def test_decorators_are_left_out_and_lines_stay(self) -> None:

        @decorator
        @decorator
        def plainly(channel):
            return 1 / 0  # here

        made = request(plainly)
        self.assertNotIn("@", made["source"])
        Lines.raising_line(self, plainly)  # type: ignore[arg-type]


class WithoutSource(SynchronousTestCase):
    """Functions without source: compiled code, for the same Python."""

    far = FarPython(bytecode())

    def made(self, text: str) -> Any:
        """What a text defines as ``made``, as the REPL would."""
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, "<stdin>", "exec"), namespace)
        return namespace["made"]

    def there(self, function: Any, *args: Any) -> Any:
        """Its result, run as the far side does."""
        return far_function(call_request(function, (), {}, self.far))(*args)

    def test_compiled_function_keeps_its_defaults(self) -> None:
        """It runs with its defaults."""
        made = self.made("def made(a, b=2, *, c=3): return a, b, c")
        self.assertEqual(self.there(made, 1), (1, 2, 3))

    def test_compiled_function_finds_itself_by_name(self) -> None:
        made = self.made("def made(n): return n * made(n - 1) if n else 1")
        self.assertEqual(self.there(made, 5), 120)

    def test_compiled_lambda_runs(self) -> None:
        """A lambda, too."""
        self.assertEqual(self.there(lambda x, y=4: x + y, 1), 5)

    def test_compiled_function_is_refused_for_the_same_reasons(self) -> None:
        """What it needs is named as it is of a function with source."""
        for text, words in (
            ("import os\ndef made(channel): return os.getpid()", "uses the global 'os'"),
            ("async def made(channel): pass", "is async"),
            (
                "def outer(n):\n  def inner(channel): return n\n  return inner\nmade = outer(1)",
                "is a closure over n",
            ),
        ):
            error = self.assertRaises(CodeNotSendable, exec_request, self.made(text), {}, self.far)
            self.assertIn(words, str(error))

    def test_compiled_code_goes_to_the_same_python_alone(self) -> None:
        """Another Python gets none, and the far side takes none from another."""
        made = self.made("def made(): pass")
        error = self.assertRaises(
            CodeNotSendable, call_request, made, (), {}, FarPython("pypy-3.9-50010d0a")
        )
        self.assertIn("not on pypy-3.9-50010d0a: define it in a file", str(error))
        request = call_request(made, (), {}, self.far)
        request["bytecode"] = "pypy-3.9-50010d0a"
        request["code"] = b"not even looked at"
        refusal = self.assertRaises(ValueError, far_function, request)
        self.assertIn("the code of a function for pypy-3.9-50010d0a can't run on", str(refusal))

    def test_source_known_to_linecache_is_sent(self) -> None:
        """Where whoever ran the text has told linecache, its source is sent."""
        text = "\ndef made(channel):\n    return 1 / 0  # here\n"
        name = "<python-input-7>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        self.addCleanup(linecache.cache.pop, name)
        namespace: dict[str, Any] = {"__name__": "nowhere to be found"}
        exec(compile(text, name, "exec"), namespace)
        made = exec_request(namespace["made"], {}, self.far)
        self.assertEqual((made["line"], made["filename"]), (2, name))
        self.assertTrue(made["source"].startswith("def made"))

    def test_source_known_to_doctest_is_sent(self) -> None:
        """doctest tells linecache in its own way."""
        example = ">>> def made(channel): return 5\n>>> keep(made)\n"
        kept: list[Any] = []

        def keep(function: Any) -> None:
            kept.append(exec_request(function, {}, self.far))

        parsed = doctest.DocTestParser().get_doctest(
            example, {"keep": keep, "__name__": __name__}, "example", None, 0
        )
        doctest.DocTestRunner(verbose=False).run(parsed)
        self.assertEqual(kept[0]["source"], "def made(channel): return 5\n")


class Partials(SynchronousTestCase):
    """``functools.partial``."""

    def test_partials_keywords_yield_to_given_ones(self) -> None:
        """Its keywords are the function's, unless others are given."""
        part = functools.partial(top_level, a=1, b=2)  # type: ignore[call-arg]
        self.assertEqual(exec_request(part, {"b": 3})["kwargs"], {"a": 1, "b": 3})

    def test_partials_arguments_come_first(self) -> None:
        part = functools.partial(functools.partial(fibonacci, None), n=10)
        made = call_request(part, (), {})
        self.assertEqual((made["args"], made["kwargs"]), ([None], {"n": 10}))
        self.assertEqual(call_request(functools.partial(fibonacci, 1), (2,), {})["args"], [1, 2])


class Offered(SynchronousTestCase):
    """Functions of modules that were offered: they are imported there."""

    far = FarPython("", ModuleOffer.of(["pycomnet"]))

    def where(self, function: Any) -> str:
        """What is imported."""
        made = call_request(function, (1,), {}, self.far)
        self.assertEqual(made["args"], [1])
        self.assertNotIn("source", made)
        return str(made["import"]).removeprefix(f"{__name__}:")

    def test_functions_and_classes_of_an_offered_module_are_imported(self) -> None:
        """A function, whatever it uses; a decorated one, a class and what is in it."""
        self.assertEqual(self.where(uses_setting), "uses_setting")
        self.assertEqual(self.where(decorated), "decorated")
        self.assertEqual(self.where(cached), "cached")
        self.assertEqual(self.where(Box), "Box")
        self.assertEqual(self.where(Box.static), "Box.static")

    def test_bound_methods_of_module_objects_are_imported(self) -> None:
        """A bound method of a class or of an object that the module has; the object itself."""
        self.assertEqual(self.where(Box.of_class), "Box.of_class")
        self.assertEqual(self.where(box.method), "box.method")
        self.assertEqual(self.where(box), "box")

    def test_what_its_module_lacks_is_sent_or_refused(self) -> None:
        """What the module has not under its name is sent, or refused, as ever."""
        error = self.assertRaises(CodeNotSendable, call_request, Box().method, (), {}, self.far)
        self.assertIn("is bound to what can't be sent", str(error))

        def nested(channel):
            return 1

        self.assertIn("source", exec_request(nested, {}, self.far))
        nested.__qualname__ = "uses_setting"  # another one's name
        self.assertIn("source", exec_request(nested, {}, self.far))

    def test_offered_directorys_module_is_not_ours_of_that_name(self) -> None:
        """A directory's module is not one that is imported here from elsewhere."""
        directory = Path(self.mktemp())
        directory.mkdir()
        name = __name__.partition(".")[0]
        (directory / f"{name}.py").write_text("")
        far = FarPython("", ModuleOffer.of([directory]))
        self.assertIn("source", exec_request(top_level, {}, far))

    def test_imported_function_must_take_the_channel(self) -> None:
        """For remote_exec it takes the channel, too."""
        self.assertIn("import", exec_request(uses_setting, {}, self.far))
        self.assertRaises(CodeNotSendable, exec_request, takes_nothing, {}, self.far)


def uses_setting(channel):
    return SETTING, helper(channel)


def helper(value):
    return value


def takes_nothing():
    return SETTING


@wrapping
def decorated(channel):
    return SETTING


@functools.lru_cache
def cached(channel):
    return SETTING


class Calling(SynchronousTestCase):
    """``call``."""

    def test_call_sends_a_function_with_its_arguments(self) -> None:
        """A function goes with its arguments, as ``remote_exec``'s does; none are left out."""
        made = call_request(fibonacci, (None, 10), {})
        self.assertEqual(made["args"], [None, 10])
        self.assertNotIn("kwargs", made)
        self.assertEqual(run(made, *made["args"]), 55)
        made = call_request(fibonacci, (), {"n": 1})
        self.assertEqual(made["kwargs"], {"n": 1})
        self.assertNotIn("args", made)

    def test_call_by_name_is_an_import(self) -> None:
        """A name is imported there."""
        self.assertEqual(
            call_request("os.path:join", ("a", "b"), {}),
            {"import": "os.path:join", "args": ["a", "b"]},
        )
        self.assertEqual(call_request("a:B.c", (), {}), {"import": "a:B.c"})

    def test_name_without_module_or_function_is_refused(self) -> None:
        for name in ("", "os", "os.path.join", ":join", "os:"):
            error = self.assertRaises(CodeNotSendable, call_request, name, (), {})
            self.assertEqual(str(error), f"expected 'module:function', not {name!r}")

    def test_call_refuses_what_cannot_run_alone(self) -> None:
        """What can't run alone is refused here too."""

        def function():
            return SETTING

        error = self.assertRaises(CodeNotSendable, call_request, function, (), {})
        self.assertIn("'SETTING'", str(error))
        error = self.assertRaises(CodeNotSendable, call_request, 5, (), {})
        self.assertEqual(str(error), "a function can be called, not int")


def generates(channel):
    yield channel
