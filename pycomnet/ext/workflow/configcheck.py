"""Checks a configuration, and reports all its problems, not only the first."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pycomnet.ext.workflow import expressions
from pycomnet.ext.workflow.stepkinds import (
    COMMON,
    KINDS,
    MOST_RECORDS,
    MOST_STEPS,
    TABLES,
    Field,
    inner_lists,
    kind_of,
)
from pycomnet.ext.workflow.timestamps import timestamp
from pycomnet.text.similar import most_similar, suggestion_or_all

#: How deep steps may be in steps.
DEEPEST = 40
#: How deep they may be with those of the tasks that they use.
DEEPEST_IN_ALL = 100
#: What ends a name in a path.
RESERVED = "/[]!~"

Key = tuple[str | int, ...]
#: The names that every expression may use.
EVERYWHERE = ("input", "last", "steps", "context")


class ConfigCheck:
    """Checks a configuration, and collects its problems."""

    def __init__(self) -> None:
        #: the problems: the path of the value, a text, and an offset in the value
        self.problems: list[tuple[Key, str, int]] = []
        self._depth = 0
        #: the earlier steps of this list, and before it of those around it: name -> whether their
        #: files are kept
        self._keeping: list[dict[str, bool]] = []

    def wrong(self, path: Key, message: str, offset: int = 0) -> None:
        self.problems.append((path, message, offset))

    # -- tables ----------------------------------------------------------------------------------

    def table(
        self, kind: str, value: Any, path: Key, names: tuple[str, ...] = EVERYWHERE
    ) -> dict[str, Any]:
        return self.fields(TABLES[kind], value, path, names)

    def fields(
        self, fields: Mapping[str, Field], value: Any, path: Key, names: tuple[str, ...]
    ) -> dict[str, Any]:
        """Check a table's keys and values."""
        if not isinstance(value, Mapping):
            self.wrong(path, f"expected a table (an object), got {value!r:.80}")
            return {}
        found = {}
        for key, one in value.items():
            field = fields.get(key)
            if field is None:
                hint = suggestion_or_all(key, fields)
                self.wrong((*path, str(key)), f"no such key{hint}", -1)
                continue
            found[key] = self.value(field, one, (*path, key), names)
        for key, field in fields.items():
            if field.required and key not in value:
                self.wrong(path, f"{key!r} is missing: {field.words}")
        return found

    def value(self, field: Field, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        """Check a value by its field's type."""
        function: Any = getattr(self, f"_{field.type}", None)
        if function is not None:
            return function(value, path, names)
        if field.type in TABLES:
            return self.table(field.type, value, path, names)
        return self._plain_value(field, value, path)

    def _plain_value(self, field: Field, value: Any, path: Key) -> Any:
        if field.type == "text":
            if not isinstance(value, str) or not value or len(value) > 1000:
                self.wrong(path, f"expected a text, got {value!r:.80}")
        elif field.type == "bool":
            if not isinstance(value, bool):
                self.wrong(path, f"expected true or false, got {value!r:.80}")
        elif field.type == "int":
            if type(value) is not int or not field.least <= value <= field.most:
                limits = f"{field.least:g} to {field.most:g}"
                self.wrong(path, f"expected a whole number from {limits}, got {value!r:.80}")
        elif (
            type(value) not in (int, float)
            or (type(value) is float and not math.isfinite(value))
            or not field.least <= value <= field.most
        ):
            what = "seconds" if field.type == "seconds" else "a number"
            limits = f"{field.least:g} to {field.most:g}"
            self.wrong(path, f"expected {what} from {limits}, got {value!r:.80}")
        elif field.type == "seconds" and not value:
            self.wrong(path, "expected more than 0 seconds")
        return value

    # -- the types of fields ---------------------------------------------------------------------

    def _name(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 100:
            self.wrong(path, f"expected a name, got {value!r:.80}")
        elif any(char in RESERVED for char in value):
            self.wrong(path, f"a name has none of {' '.join(RESERVED)}, got {value!r:.80}")
        return value

    def _texts(self, value: Any, path: Key, names: tuple[str, ...]) -> list[Any]:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)) or not all(
            isinstance(one, str) and one for one in values
        ):
            self.wrong(path, f"expected a list of texts, got {value!r:.80}")
            return []
        return list(values)

    def _expression(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if not expressions.is_expression(value) and not (
            isinstance(value, str) and value.startswith("${")
        ):
            self.wrong(path, f"expected an expression, '${{...}}', got {value!r:.80}")
            return value
        return self._any(value, path, names)

    def _template(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if not isinstance(value, str):
            self.wrong(path, f"expected a text, got {value!r:.80}")
            return value
        return self._any(value, path, names)

    def _duration(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if isinstance(value, str):
            return self._expression(value, path, names)
        return self._plain_value(Field("number", ""), value, path)

    def _moment(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if isinstance(value, datetime.datetime):  # of TOML
            value = value.isoformat()
        if isinstance(value, str) and "${" in value:
            return self._any(value, path, names)
        try:
            timestamp(value)
        except ValueError as problem:
            self.wrong(path, str(problem))
        return value

    def _any(self, value: Any, path: Key, names: tuple[str, ...], depth: int = 0) -> Any:
        if depth > expressions.DEEPEST:
            self.wrong(path, f"nested deeper than {expressions.DEEPEST}")
        elif isinstance(value, str):
            if "${" in value:
                try:
                    expressions.check(value, names)
                except expressions.BadExpression as problem:
                    self.wrong(path, str(problem), problem.offset)
                except ModuleNotFoundError as missing:
                    self.wrong(path, needs(missing))
        elif isinstance(value, Mapping):
            found = {}
            for key, one in value.items():
                if not isinstance(key, str):
                    self.wrong(path, f"the key {key!r:.80} is no text")
                found[key] = self._any(one, (*path, key), names, depth + 1)
            return found
        elif isinstance(value, (list, tuple)):
            return [self._any(one, (*path, at), names, depth + 1) for at, one in enumerate(value)]
        elif value is not None and type(value) not in (bool, int, float):
            self.wrong(path, f"expected plain values, got {type(value).__name__}")
        elif type(value) is float and not math.isfinite(value):
            self.wrong(path, f"expected a finite number, got {value!r}")
        return value

    def _plain(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        return self._any(value, path, ())

    def _cron(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        from pycomnet.ext.workflow.schedules import check_cron

        try:
            check_cron(value)
        except ValueError as problem:
            self.wrong(path, str(problem))
        except ModuleNotFoundError as missing:
            self.wrong(path, needs(missing))
        return value

    def _zone(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        from pycomnet.ext.workflow.schedules import zone

        try:
            zone(value)
        except ValueError as problem:
            self.wrong(path, str(problem))
        return value

    def _missed(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if value not in ("skip", "last", "all"):
            self.wrong(path, f"expected 'skip', 'last' or 'all', got {value!r:.80}")
        return value

    # -- steps -----------------------------------------------------------------------------------

    def _steps(self, value: Any, path: Key, names: tuple[str, ...]) -> list[dict[str, Any]]:
        if not isinstance(value, (list, tuple)):
            self.wrong(path, f"expected a list of steps, got {value!r:.80}")
            return []
        if len(value) > MOST_STEPS:
            self.wrong(path, f"expected at most {MOST_STEPS} steps, got {len(value)}")
            return []
        if self._depth >= DEEPEST:
            self.wrong(path, f"steps are nested deeper than {DEEPEST}")
            return []
        self._depth += 1
        self._keeping.append({})
        found, seen = [], set()
        for at, one in enumerate(value):
            step = self._step(one, (*path, at), names)
            name = step.setdefault("name", str(at + 1))
            if name in seen:
                self.wrong((*path, at), f"another step here has the name {name!r}")
            if isinstance(name, str):
                seen.add(name)
                self._keeping[-1][name] = step.get("files") is True
            found.append(step)
        self._keeping.pop()
        self._depth -= 1
        return found

    def _step(self, value: Any, path: Key, names: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.wrong(path, f"expected a step (an object), got {value!r:.80}")
            return {}
        kind = kind_of(value)
        if kind is None:
            first = [next(iter(fields)) for fields in KINDS.values()]
            hints = [
                f"did you mean {near!r} instead of {key!r}?"
                for key in value
                if key not in COMMON and (near := most_similar(key, first))
            ]
            text = f"a step has one of these keys: {', '.join(first)}"
            self.wrong(path, f"{text}; {hints[0]}" if hints else text)
            return {}
        inner = names
        if kind == "map":
            inner = tuple(dict.fromkeys((*names, "item", "index")))
        fields = {**KINDS[kind], **COMMON}
        found = {}
        for key, one in value.items():
            field = fields.get(key)
            if field is None:
                hint = suggestion_or_all(key, fields)
                self.wrong((*path, str(key)), f"no such key in a step of {kind!r}{hint}", -1)
                continue
            known = names
            if key == "map":
                known = inner
            elif key == "compensate":
                known = tuple(dict.fromkeys((*names, "result", "key")))
            found[key] = self.value(field, one, (*path, key), known)
        for at, name in enumerate(found.get("attach", ())):
            # The nearest of that name is meant, as in expressions.
            if not next((one[name] for one in reversed(self._keeping) if name in one), False):
                text = f"there is no earlier step {name!r} here whose files are kept ('files')"
                self.wrong((*path, "attach", at), text)
        found["kind"] = kind
        if "retry" in found and kind != "call":
            self.wrong((*path, "retry"), "only calls are retried: put it at the calls within")
        if "timeout" in found and kind in ("wait", "until", "fail", "value"):
            self.wrong((*path, "timeout"), f"a step of the kind {kind!r} has no timeout")
        return found

    def _branches(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            for key in value:
                self._name(key, (*path, key), names)
            return {key: self._steps(one, (*path, key), names) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._steps(one, (*path, at), names) for at, one in enumerate(value)]
        self.wrong(path, f"expected lists of steps, by name or in a list, got {value!r:.80}")
        return []

    def _choices(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        return self._tables("choice", value, path, names)

    def _catches(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        known = tuple(dict.fromkeys((*names, "error")))
        return self._tables("catch", value, path, known)

    def _schedules(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        return self._tables("schedule", value, path, names)

    def _tables(self, kind: str, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if not isinstance(value, (list, tuple)):
            self.wrong(path, f"expected a list of tables, got {value!r:.80}")
            return []
        return [self.table(kind, one, (*path, at), names) for at, one in enumerate(value)]

    def _tasks(self, value: Any, path: Key, names: tuple[str, ...]) -> Any:
        if not isinstance(value, Mapping) or not value:
            self.wrong(path, "expected tasks by their names")
            return {}
        found = {}
        for name, one in value.items():
            at = (*path, name)
            self._name(name, at, names)
            if isinstance(one, (list, tuple)):
                found[name] = {"steps": self._steps(one, at, names)}
            else:
                found[name] = self.table("task", one, at, names)
        return found

    # -- what belongs together -------------------------------------------------------------------

    def references(self, settings: Mapping[str, Any]) -> None:
        """Check that the tasks exist that others name, and that none uses itself."""
        tasks = settings["tasks"]
        uses: dict[str, list[str]] = {name: [] for name in tasks}
        for name, task in tasks.items():
            for path, step in _with_paths(task["steps"], ("tasks", name)):
                other = step.get("task")
                if other is None:
                    continue
                self._exists(other, tasks, (*path, "task"))
                if other in tasks:
                    uses[name].append(other)
        for at, schedule in enumerate(settings.get("schedules", ())):
            self._exists(schedule["task"], tasks, ("schedules", at, "task"))
        cycle = _cycle(uses)
        if cycle:
            self.wrong(
                ("tasks", cycle[0]), f"tasks use each other in a cycle: {' -> '.join(cycle)}"
            )
        elif not self.problems:
            self._sizes(tasks, uses)
            self._no_files(tasks, uses)

    def _no_files(self, tasks: Mapping[str, Any], uses: Mapping[str, list[str]]) -> None:
        """Check that tasks that are not durable keep no files, nor those that they use."""
        for name in [name for name, task in tasks.items() if not task.get("durable", True)]:
            used, waiting = {name}, [name]
            while waiting:
                more = set(uses[waiting.pop()]) - used
                used |= more
                waiting += more
            for one in sorted(used):
                for path, step in _with_paths(tasks[one]["steps"], ("tasks", one)):
                    if step.get("files"):
                        text = f"runs of {name!r} keep no files, as the task is not durable"
                        self.wrong((*path, "files"), text)

    def _sizes(self, tasks: Mapping[str, Any], uses: Mapping[str, list[str]]) -> None:
        """Check how deep and how many the steps of tasks are, with those of the tasks they use."""
        sizes: dict[str, tuple[int, int]] = {}
        for name in _used_first(uses):
            depth, count = sizes[name] = _extent(tasks[name]["steps"], sizes)
            if depth > DEEPEST_IN_ALL:
                text = f"with the tasks that it uses, steps are nested deeper than {DEEPEST_IN_ALL}"
            elif count > MOST_RECORDS:
                text = f"with the tasks that it uses, it has more than {MOST_RECORDS} steps"
            else:
                continue
            self.wrong(("tasks", name), text)
            return

    def _exists(self, name: str, tasks: Mapping[str, Any], path: Key) -> None:
        if name in tasks:
            return
        self.wrong(path, f"there is no task {name!r}{suggestion_or_all(name, tasks)}")


def _with_paths(steps: Any, path: Key) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """All steps at all depths, with where they are. A task may be written as its list of steps, so
    its paths are only nearly those of the file."""
    for at, step in enumerate(steps):
        here = (*path, at)
        yield here, step
        for inner in inner_lists(step):
            yield from _with_paths(inner, here)


def _cycle(uses: Mapping[str, list[str]]) -> list[str]:
    """The names in a cycle, from one back to it; empty if there is none."""
    done: set[str] = set()

    for start in uses:
        if start in done:
            continue
        path: list[str] = []
        stack = [(start, iter(uses[start]))]
        path.append(start)
        while stack:
            name, others = stack[-1]
            for other in others:
                if other in path:
                    return [*path[path.index(other) :], other]
                if other not in done:
                    path.append(other)
                    stack.append((other, iter(uses[other])))
                    break
            else:
                done.add(name)
                path.pop()
                stack.pop()
    return []


def _used_first(uses: Mapping[str, list[str]]) -> Iterator[str]:
    """The names, each after those that it uses; there are no cycles."""
    done: set[str] = set()
    for start in uses:
        stack = [start]
        while stack:
            name = stack[-1]
            missing = [one for one in uses[name] if one not in done]
            stack += missing[:1]
            if not missing:
                stack.pop()
                if name not in done:
                    done.add(name)
                    yield name


def _extent(steps: Any, sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """How deep steps are, and how many."""
    deepest = count = 0
    for step in steps:
        depth, more = sizes[step["task"]] if "task" in step else (0, 0)
        for inner in inner_lists(step):
            one, number = _extent(inner, sizes)
            depth, more = max(depth, one), more + number
        deepest, count = max(deepest, depth + 1), count + 1 + more
    return deepest, count


def needs(missing: ModuleNotFoundError) -> str:
    """What to do where a library is not installed."""
    return f"this needs {missing.name}: pip install 'pycomnet[workflow]'"
