"""Configurations: what is wrong with them is all found, and where; and tasks in Python."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet.ext.workflow.builder import Steps, Task
from pycomnet.ext.workflow.definition import Definition, check_config, check_tasks, read_config
from pycomnet.ext.workflow.errors import UnknownTask, WorkflowConfigError
from pycomnet.ext.workflow.graph import draw
from pycomnet.ext.workflow.schedules import missed, next_due
from pycomnet.ext.workflow.schema import schema
from pycomnet.ext.workflow.stepkinds import KINDS
from pycomnet.test.docnames import ROOT
from pycomnet.test.ext.workflow.kit import Drive, call


class FileTests(SynchronousTestCase):
    """Files, and where in them something is wrong."""

    def read(self, text: str, name: str = "tasks.json") -> Any:
        directory = self.mktemp()
        os.mkdir(directory)
        self.path = os.path.join(directory, name)
        with open(self.path, "w") as file:
            file.write(text)
        return read_config(self.path)

    def problems(self, text: str, name: str = "tasks.json") -> list[str]:
        """What is wrong with a file, each without the file's name."""
        with self.assertRaises(WorkflowConfigError) as caught:
            self.read(text, name)
        found: list[str] = caught.exception.problems
        return [one.removeprefix(self.path).lstrip(":") for one in found]

    def test_all_that_is_wrong_is_told_with_its_place(self) -> None:
        """Unknown keys, wrong types and expressions are all told, with line and column."""
        found = self.problems(
            '{"tasks": {"a": [\n'
            ' {"interface": "x", "metod": "y"},\n'
            ' {"interface": "x", "args": {"q": "${input.a[}", "b": "ab ${inpt.x}"}},\n'
            ' {"signl": "x"},\n'
            ' {"map": [{"call": 1}], "concurrency": 0, "retry": {}}\n'
            ']}, "nme": "x"}'
        )
        places = [one.partition(": ")[0] for one in found]
        self.assertEqual(places, ["2:22", "3:46", "3:61", "4:4", "5:13", "5:26", "5:44", "6:6"])
        self.assertIn("did you mean 'method'?", found[0])
        self.assertIn("there is no 'inpt' here", found[2])
        self.assertIn("did you mean 'signal'", found[3])
        self.assertIn("only calls are retried", found[6])
        self.assertIn("did you mean 'name'?", found[7])

    def test_toml_has_lines_too(self) -> None:
        """In TOML the place is found as well, though another line has the same text."""
        (found,) = self.problems(
            '# ${last[}\n[[tasks.a.steps]]\ninterface = "x"\nargs = "${last}"\n'
            '[[tasks.a.steps]]\ninterface = "x"\nargs = "${last[}"\n',
            "tasks.toml",
        )
        self.assertTrue(found.startswith("7:"), found)

    def test_what_is_no_file_of_tasks(self) -> None:
        """What can't be parsed, has no tasks, or is something else."""
        for text in ("{", "[]", "{}", '{"tasks": {}}', '{"tasks": []}', '{"tasks": {"a": 5}}'):
            self.assertTrue(self.problems(text))
        with self.assertRaisesRegex(WorkflowConfigError, "can't read"):
            read_config("/nowhere/tasks.json")
        self.assertIn("it isn't TOML", self.problems("x = ", "t.toml")[0])
        self.problems('{"tasks": {"a": ' + "[" * 100_000)

    def test_toml_and_json_are_the_same_task(self) -> None:
        """The same task has the same hash, from whichever file."""
        one = self.read('{"tasks": {"a": [{"interface": "x", "retry": {"attempts": 2}}]}}')
        two = self.read('[[tasks.a]]\ninterface = "x"\nretry = {attempts = 2}\n', "tasks.toml")
        self.assertEqual(Definition.of("a", one["tasks"]), Definition.of("a", two["tasks"]))


class TaskTests(SynchronousTestCase):
    """Tasks that belong together."""

    def wrong(self, tasks: Any, pattern: str, **more: Any) -> None:
        with self.assertRaisesRegex(WorkflowConfigError, pattern):
            check_config({"tasks": tasks, **more})

    def test_cycles(self) -> None:
        """Tasks that use each other are told as a cycle, also from within other steps."""
        inner = {"parallel": [[{"task": "a"}]]}
        self.wrong({"a": [{"task": "b"}], "b": [inner]}, "a -> b -> a|b -> a -> b")
        self.wrong({"a": [{"task": "a"}]}, "a -> a")
        check_tasks({"a": [{"task": "b"}, {"task": "c"}], "b": [{"task": "c"}], "c": []})

    def test_tasks_that_are_not_there(self) -> None:
        """A task that is used, or due, has to be there."""
        self.wrong({"order": [{"task": "ordr"}], "orders": []}, "did you mean 'order")
        self.wrong(
            {"a": []}, "there is no task 'b'", schedules=[{"task": "b", "cron": "* * * * *"}]
        )

    def test_names(self) -> None:
        """Steps of a list have different names, without what paths are made of."""
        self.wrong({"a": [call("x", name="n"), call("x", name="n")]}, "another step here has")
        self.wrong({"a": [call("x", name="n/m")]}, "a name has none of")

    def test_values(self) -> None:
        """Values of other types, too large or not finite are told."""
        for more, words in (
            ({"timeout": 0}, "more than 0 seconds"),
            ({"timeout": "5"}, "expected seconds"),
            ({"timeout": float("nan")}, "expected seconds"),
            ({"retry": {"attempts": 0}}, "whole number"),
            ({"retry": {"attempts": True}}, "whole number"),
            ({"catch": [{"errors": ["x"]}]}, "'then' is missing"),
            ({"catch": {}}, "list of tables"),
            ({"args": float("inf")}, "finite"),
            ({"args": {"x": object()}}, "plain values"),
            ({"tags": [1]}, "list of texts"),
            ({"idempotent": 1}, "true or false"),
        ):
            self.wrong({"a": [call("x", **more)]}, words)
        self.wrong({"a": [{"until": "2030-01-01T00:00:00"}]}, "with its zone")
        self.wrong({"a": [{"map": [], "over": "input"}]}, "an expression")

    def test_names_of_expressions_by_place(self) -> None:
        """``item`` is known in a map, ``error`` in a catch, ``result`` in a compensation."""
        self.wrong({"a": [call("x", args="${item}")]}, "there is no 'item' here")
        self.wrong({"a": [call("x", args="${error}")]}, "there is no 'error' here")
        check_tasks(
            {
                "a": [
                    {"map": [call("x", args="${item.a[?b == 'c'].d}")]},
                    call("x", catch=[{"errors": ["*"], "then": [call("y", args="${error}")]}]),
                    call("x", compensate=[call("y", args="${result.map(&a, @)}")]),
                ]
            }
        )

    def test_unknown_task(self) -> None:
        """A definition of a task that there is not."""
        with self.assertRaises(UnknownTask):
            Definition.of("b", check_tasks({"a": []}))

    def test_hash_is_of_what_the_task_uses(self) -> None:
        """Another task that it does not use changes nothing; one that it uses does."""
        tasks: Any = {"a": [{"task": "b"}], "b": [call("x")], "c": [call("y")]}
        before = Definition.of("a", check_tasks(tasks)).hash
        tasks["c"] = []
        self.assertEqual(Definition.of("a", check_tasks(tasks)).hash, before)
        tasks["b"] = []
        self.assertNotEqual(Definition.of("a", check_tasks(tasks)).hash, before)


class BuilderTests(SynchronousTestCase):
    """Tasks in Python."""

    def test_same_data_as_json(self) -> None:
        """It makes what a file has."""
        built = (
            Task("order", deadline=60, run=["@clerks"])
            .call("shop", "pay", {"sum": "${input.n}"}, name="pay", idempotent=True)
            .retry(3, delay=0.5, errors=["busy"])
            .timeout(5)
            .compensate(Steps().call("shop", "refund"))
            .catch("unknown", then=Steps().fail("lost", "no"))
            .parallel(Steps().call("a"), Steps().wait(1))
            .parallel(x=Steps().signal("go").timeout(9), y=Steps().until("2030-01-01T00:00:00Z"))
            .map(Steps().call("b"), "${input.list}", concurrency=2, tolerate=1)
            .choice(("${last}", Steps().value(None)), default=Steps().task("other"))
        )
        steps: Any = [
            {
                "interface": "shop",
                "method": "pay",
                "args": {"sum": "${input.n}"},
                "name": "pay",
                "idempotent": True,
                "retry": {"attempts": 3, "delay": 0.5, "errors": ["busy"]},
                "timeout": 5,
                "compensate": [{"interface": "shop", "method": "refund"}],
                "catch": [
                    {"errors": ["unknown"], "then": [{"fail": {"code": "lost", "message": "no"}}]}
                ],
            },
            {"parallel": [[{"interface": "a"}], [{"wait": 1}]]},
            {
                "parallel": {
                    "x": [{"signal": "go", "timeout": 9}],
                    "y": [{"until": "2030-01-01T00:00:00Z"}],
                }
            },
            {
                "map": [{"interface": "b"}],
                "over": "${input.list}",
                "concurrency": 2,
                "tolerate": 1,
            },
            {
                "choice": [{"when": "${last}", "then": [{"value": None}]}],
                "default": [{"task": "other"}],
            },
        ]
        wanted = {"deadline": 60, "run": ["@clerks"], "steps": steps}
        self.assertEqual(built.as_dict(), wanted)
        checked = built.check(Task("other"))
        self.assertEqual(checked, check_tasks({"order": wanted, "other": []}))
        json.dumps(built.as_dict())

    def test_mistakes(self) -> None:
        """What is said of no step, and branches of two sorts."""
        with self.assertRaisesRegex(ValueError, "no step yet"):
            Task("t").retry(3)
        with self.assertRaisesRegex(ValueError, "branches"):
            Task("t").parallel(Steps(), x=Steps())
        with self.assertRaises(WorkflowConfigError):
            Task("t").call("x", args="${nothing}").check()


class DrawingTests(SynchronousTestCase):
    """Drawings, and the schema."""

    def test_drawing_has_states_and_quotes_what_it_shows(self) -> None:
        """Every step is drawn with its state; texts can't break out of their quotes."""
        steps: Any = [
            call("x", name="pay", catch=[{"errors": ["*"], "then": [call("y")]}]),
            {"choice": [{"when": '${input."a\\"]"}', "then": [{"signal": "s"}]}]},
            {"parallel": {"l": [{"task": "other"}], "r": [{"map": [call("z")]}]}},
        ]
        more = {"other": [{"wait": 1}, {"fail": {"code": "c"}}]}
        definition = Drive(steps, more=more).definition
        mermaid = draw(definition, {"pay": "done"})
        self.assertIn('n1["pay: x"]', mermaid)
        self.assertIn("style n1 fill:#95d5b2", mermaid)
        self.assertNotIn('a\\"]"', mermaid)
        dot = draw(definition, {"pay": "failed"}, "dot")
        self.assertIn('n1 [label="pay: x", fillcolor="#ef8a8a"];', dot)
        self.assertEqual(dot.count("{"), dot.count("}"))

    def test_published_schema_is_the_checkers(self) -> None:
        """The file that the docs publish is what ``pycomnet workflow schema`` prints."""
        file = ROOT / "docs" / "examples" / "workflow_schema.json"
        if not file.exists():
            raise SkipTest("there are no docs beside an installed package")
        # If they differ: pycomnet workflow schema > docs/examples/workflow_schema.json
        self.assertEqual(json.loads(file.read_text(encoding="utf-8")), schema())

    def test_schema_knows_every_kind(self) -> None:
        """The schema has each kind of step and each key, and refers only to what it has."""
        found = schema()
        kinds = found["$defs"]["step"]["anyOf"]
        self.assertEqual(len(kinds), len(KINDS))
        text = json.dumps(found)
        for name in ("retry", "catch", "choice", "failure", "task", "schedule", "step"):
            self.assertIn(f'"#/$defs/{name}"', text)
            self.assertIn(name, found["$defs"])


class LargeNumberTests(SynchronousTestCase):
    """Numbers that no float holds."""

    def test_is_a_problem_and_no_crash(self) -> None:
        """Such a number is told as any other that is too large."""
        for step in ({"wait": 10**400}, {"until": 10**400}, {"signal": "s", "timeout": 10**400}):
            with self.assertRaisesRegex(WorkflowConfigError, "expected"):
                check_tasks({"a": [step]})


class ExtentTests(SynchronousTestCase):
    """Tasks that use tasks."""

    def test_depth_over_tasks(self) -> None:
        """A long chain of tasks is refused: it could not be walked."""
        chain: dict[str, Any] = {f"t{n}": [{"task": f"t{n + 1}"}] for n in range(400)}
        with self.assertRaisesRegex(WorkflowConfigError, "nested deeper than 100"):
            check_config({"tasks": {**chain, "t400": []}})

    def test_steps_over_tasks(self) -> None:
        """Tasks that use tasks twice each soon have too many steps."""
        tasks: dict[str, Any] = {f"t{n}": [{"task": f"t{n + 1}"}] * 2 for n in range(40)}
        with self.assertRaisesRegex(WorkflowConfigError, "more than 100000 steps"):
            check_config({"tasks": {**tasks, "t40": []}})


class ScheduleTests(SynchronousTestCase):
    """When tasks are due."""

    def test_next_and_missed(self) -> None:
        """The next time, in its zone, and what is made up for."""
        schedule = {"task": "t", "cron": "0 4 * * *", "zone": "Europe/Berlin"}
        begin = 1_750_000_000.0  # 2025-06-15, in summer time
        due = next_due(schedule, begin)
        self.assertEqual(due, 1_750_039_200.0)
        self.assertEqual(missed(schedule, begin, due + 3 * 86_400), [])
        last = {**schedule, "missed": "last"}
        self.assertEqual(missed(last, begin, due + 3 * 86_400), [due + 3 * 86_400])
        every = {**schedule, "missed": "all"}
        self.assertEqual(len(missed(every, begin, due + 3 * 86_400)), 4)

    def test_wrong_ones(self) -> None:
        """What is no cron expression, zone or policy."""
        for more in ({"cron": "* * *"}, {"cron": 5}, {"zone": "Mars/Base"}, {"missed": "no"}):
            schedule = {"task": "a", "cron": "* * * * *", **more}
            with self.assertRaisesRegex(WorkflowConfigError, r"schedules\[0\]"):
                check_config({"tasks": {"a": []}, "schedules": [schedule]})
