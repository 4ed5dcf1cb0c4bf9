"""Definitions of tasks: read from a file, checked as a whole, and pinned by their hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from pycomnet.ext.workflow import positions
from pycomnet.ext.workflow.configcheck import ConfigCheck, Key
from pycomnet.ext.workflow.errors import UnknownTask, WorkflowConfigError
from pycomnet.ext.workflow.stepkinds import inner_lists
from pycomnet.text.settingsfile import UnreadableSettings, read_settings
from pycomnet.text.similar import suggestion_or_all

#: The most bytes of a file.
MAX_FILE = 4 << 20
#: The most problems that are reported.
MOST_PROBLEMS = 50


@attrs.frozen
class Definition:
    """A task with all tasks that it uses, as a run pins it.

    :ivar hash: the SHA-256 of its canonical JSON.
    :ivar data: that JSON, which a store keeps.
    :ivar main: the task itself.
    """

    task: str
    tasks: Mapping[str, Mapping[str, Any]]
    hash: str
    data: bytes = attrs.field(repr=False)
    main: Mapping[str, Any] = attrs.field(init=False, repr=False, eq=False)

    @main.default
    def _main(self) -> Mapping[str, Any]:
        return self.tasks[self.task]

    @classmethod
    def of(cls, task: str, tasks: Mapping[str, Mapping[str, Any]]) -> Definition:
        """The definition of a task, of checked ones.

        :raises UnknownTask: there is no such task.
        """
        if task not in tasks:
            raise UnknownTask(f"there is no task {task!r}{suggestion_or_all(task, tasks)}")
        used, waiting = {task}, [task]
        while waiting:
            for step in all_steps(tasks[waiting.pop()]["steps"]):
                name = step.get("task")
                if name is not None and name not in used:
                    used.add(name)
                    waiting.append(name)
        # Decoded from its canonical form: its dicts have the same order as after a restart.
        return cls.load(canonical(task, {name: tasks[name] for name in used}))

    @classmethod
    def load(cls, data: bytes) -> Definition:
        """Decode the definition that a store has kept."""
        found = json.loads(data)
        return cls(found["task"], found["tasks"], hashlib.sha256(data).hexdigest(), data)


def canonical(task: str, tasks: Mapping[str, Any]) -> bytes:
    """The bytes that are hashed."""
    both = {"task": task, "tasks": tasks}
    return json.dumps(both, sort_keys=True, separators=(",", ":")).encode()


def all_steps(steps: Any) -> Iterator[Mapping[str, Any]]:
    """All steps of a list, at all depths."""
    for step in steps:
        yield step
        for inner in inner_lists(step):
            yield from all_steps(inner)


# -- reading -------------------------------------------------------------------------------------


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check a configuration file.

    :returns: its settings (``stepkinds.SETTINGS``), the tasks in their full form.
    :raises WorkflowConfigError: with all that is wrong, each with line and column.
    """
    try:
        found = read_settings(path, MAX_FILE, may_be_json=True)
    except UnreadableSettings as problem:
        raise WorkflowConfigError([str(problem)]) from problem
    return check_config(found.settings, os.fspath(path), found.text, found.parse)


def check_config(
    settings: Any,
    where: str = "configuration",
    text: str | None = None,
    parse: Callable[[str], Any] = json.loads,
) -> dict[str, Any]:
    """Check settings, and give them in full.

    :param text: what they were read from, to find lines.
    :raises WorkflowConfigError: with all that is wrong.
    """
    check = ConfigCheck()
    found = check.table("settings", settings, ())
    if isinstance(found.get("tasks"), Mapping) and not check.problems:
        check.references(found)
    if not check.problems:
        return found
    lines = []
    for path, message, offset in check.problems[:MOST_PROBLEMS]:
        line = column = 0
        if text is not None:
            line, column = positions.find(text, parse, path, offset)
        place = f"{where}:{line}:{column}" if line else where
        dotted = _dotted(path)
        lines.append(f"{place}: {dotted}: {message}" if dotted else f"{place}: {message}")
    raise WorkflowConfigError(lines)


def check_tasks(tasks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Check tasks alone, and give them in full.

    :raises WorkflowConfigError: with all that is wrong.
    """
    found: dict[str, dict[str, Any]] = check_config({"tasks": dict(tasks)}, "tasks")["tasks"]
    return found


def _dotted(path: Key) -> str:
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text
