"""What ``remote_exec`` of the drop-in takes, and what it refuses."""

from __future__ import annotations

import os
import types

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.execnet.source import missing_names, source_of_function, task_of


def good(channel, data=1):
    """May be sent."""
    channel.send(data)


def uses_global(channel):
    """May not be sent."""
    channel.send(os)


def wrong(first):
    """May not be sent."""


class SourceTests(SynchronousTestCase):
    """Tasks."""

    def test_a_function_is_sent_with_where_it_is(self) -> None:
        """So tracebacks show its own file and lines."""
        task = task_of(good, {"data": 2})
        self.assertEqual(task["function"], "good")
        self.assertEqual(task["filename"], good.__code__.co_filename)
        self.assertEqual(task["line"], good.__code__.co_firstlineno)
        self.assertNotIn("kwargs", task)
        self.assertTrue(source_of_function(good).startswith("def good(channel"))

    def test_text_is_moved_to_the_left(self) -> None:
        """As it stands in an indented string of the caller's."""
        task = task_of("\n   a = 1\n   b = 2\n", {})
        self.assertEqual(task, {"source": "\na = 1\nb = 2\n", "filename": "<remote exec>"})

    def test_a_modules_source_is_read_anew(self) -> None:
        """It may have been written since it was imported."""
        module = types.ModuleType("written")
        module.__file__ = os.path.abspath(self.mktemp())
        for text in ("first = 1\n", "second = 22\n"):
            with open(module.__file__, "w") as file:
                file.write(text)
            self.assertEqual(task_of(module, {})["source"], text)

    def test_only_functions_take_arguments(self) -> None:
        """There would be nothing to give them to."""
        for source in ("pass", types):
            with self.assertRaises(TypeError):
                task_of(source, {"a": 1})

    def test_functions_that_can_not_run_alone_are_refused(self) -> None:
        """With a ValueError, as in execnet."""
        value = 1

        def closure(channel):
            channel.send(value)

        space: dict[str, object] = {}
        exec("def unseen(channel): pass", space)
        for function in (uses_global, wrong, closure, space["unseen"], lambda channel: 1, print):
            with self.assertRaises(ValueError):
                task_of(function, {})

    def test_what_is_text_by_str_is_run(self) -> None:
        """As the sources of other libraries are, which are neither str nor callable."""

        class Source:
            def __str__(self) -> str:
                return "  a = 1"

        self.assertEqual(task_of(Source(), {})["source"], "a = 1")

    def test_names_that_are_no_builtins_are_found(self) -> None:
        """In the function, and not those of methods."""
        text = "def f(a, b):\n  os\n  d = len(a)\n  return d.send(dict(testing=2))\n"
        self.assertEqual(missing_names(text, good.__code__), ["os"])
