"""The kinds of steps, and the fields of each: one table, for the checks and the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

#: The most items of a ``map``, and the most steps of a list.
MOST_ITEMS = 10_000
MOST_STEPS = 1_000
#: The most steps of a run, in all rounds.
MOST_RECORDS = 100_000
#: The longest time, in seconds: ten years.
LONGEST = 10 * 366 * 86_400.0


@attrs.frozen
class Field:
    """A key of a table.

    :ivar type: what its value is, as ``checking.ConfigCheck`` knows it.
    :ivar words: what it means.
    :ivar least: the least number.
    :ivar most: the largest number.
    """

    type: str
    words: str
    required: bool = False
    least: float = 0
    most: float = LONGEST


#: The fields that each step may have.
COMMON: Mapping[str, Field] = {
    "name": Field("name", "its name in expressions (steps.NAME); by default its number, from 1"),
    "retry": Field("retry", "when and how often it is tried again"),
    "timeout": Field("seconds", "seconds for it, or for one attempt of a call"),
    "catch": Field("catches", "what is done instead when it fails"),
    "compensate": Field("steps", "steps that undo it, if the run fails later"),
}
#: The kind of a step -> the keys that it may have beside those. The first is what it is known by.
KINDS: Mapping[str, Mapping[str, Field]] = {
    "call": {
        "interface": Field("text", "the interface that is called", True),
        "method": Field("text", "its method: by default that of the task's name, or its only one"),
        "args": Field("any", "the arguments; by default the result of the step before"),
        "service": Field("text", "the name of the service, where not any one will do"),
        "tags": Field("texts", "tags that the service has to have"),
        "idempotent": Field("bool", "whether it may run twice; by default the service declares it"),
        "files": Field("bool", "whether the blocks of binary data of its result are kept"),
        "attach": Field("texts", "earlier steps whose kept blocks are sent with the call"),
    },
    "parallel": {
        "parallel": Field("branches", "lists of steps, by name or in a list", True),
    },
    "map": {
        "map": Field("steps", "the steps for each item", True),
        "over": Field("expression", "a list; by default the result of the step before"),
        "concurrency": Field("int", "how many items at a time", least=1, most=MOST_ITEMS),
        "tolerate": Field("int", "how many items may fail", least=0, most=MOST_ITEMS),
    },
    "choice": {
        "choice": Field(
            "choices", "conditions with steps, of which the first that holds counts", True
        ),
        "default": Field("steps", "the steps where none holds"),
    },
    "wait": {
        "wait": Field("duration", "seconds, or an expression", True),
    },
    "until": {
        "until": Field("moment", "a time as ISO 8601 with its zone, or an expression", True),
    },
    "signal": {
        "signal": Field("text", "the name of the signal that is waited for", True),
    },
    "task": {
        "task": Field("text", "another task, which is run in its place", True),
        "args": Field("any", "its input; by default the result of the step before"),
    },
    "fail": {
        "fail": Field("failure", "the error that the run ends with", True),
    },
    "value": {
        "value": Field("any", "a value that is made of others", True),
    },
}
RETRY: Mapping[str, Field] = {
    "attempts": Field("int", "how often it is tried in all", least=1, most=10_000),
    "delay": Field("seconds", "seconds before the second attempt"),
    "backoff": Field("number", "by what the delay grows each time", least=1, most=100),
    "max_delay": Field("seconds", "the longest delay"),
    "jitter": Field("number", "the part of a delay that is random", most=1),
    "errors": Field(
        "texts", "codes or types of errors; by default those after which nothing ran twice"
    ),
}
CATCH: Mapping[str, Field] = {
    "errors": Field("texts", "codes or types of errors, '*' for all", True),
    "then": Field("steps", "the steps that are run instead; they know 'error'", True),
}
CHOICE: Mapping[str, Field] = {
    "when": Field("expression", "the condition", True),
    "then": Field("steps", "the steps", True),
}
FAIL: Mapping[str, Field] = {
    "code": Field("text", "the error's code", True),
    "message": Field("template", "the error's message"),
}
TASK: Mapping[str, Field] = {
    "steps": Field("steps", "the steps", True),
    "deadline": Field("seconds", "seconds for the whole run"),
    "durable": Field("bool", "whether runs survive the service; by default they do"),
    "doc": Field("text", "what it is for"),
    "run": Field("texts", "the users, or @roles, who may run it; by default all who may call"),
    "see": Field("texts", "who may see and steer all its runs; by default those, each their own"),
}
SCHEDULE: Mapping[str, Field] = {
    "task": Field("text", "the task that is started", True),
    "cron": Field("cron", "when: minute, hour, day of month, month, day of week", True),
    "zone": Field("zone", "the time zone; by default UTC"),
    "args": Field("plain", "its input"),
    "missed": Field("missed", "after an outage: 'skip' what was missed (default), 'last' or 'all'"),
}
SETTINGS: Mapping[str, Field] = {
    "tasks": Field("tasks", "the tasks, by name", True),
    "schedules": Field("schedules", "tasks that are started by the clock"),
    "name": Field("text", "the name to register"),
    "listen": Field("texts", "endpoints to listen on"),
    "nameserver": Field("text", "the nameserver's address"),
    "advertise": Field("text", "the address that clients connect to"),
    "insecure": Field("bool", "whether other machines may call without a rule and without TLS"),
    "store": Field("text", "where runs are kept: sqlite:PATH, postgresql://... or memory:"),
    "keep": Field("seconds", "seconds for which runs are kept that have ended"),
    "files": Field("text", "a directory for blocks of binary data; by default SQLITE-PATH.files"),
    "files_limit": Field("int", "the most bytes of these blocks in all", least=1, most=1 << 60),
    "passwords": Field("text", "a file of users, who have to log in"),
    "status": Field("text", "an endpoint for the status page and the metrics"),
}
TABLES: Mapping[str, Mapping[str, Field]] = {
    "retry": RETRY,
    "catch": CATCH,
    "choice": CHOICE,
    "failure": FAIL,
    "task": TASK,
    "schedule": SCHEDULE,
    "settings": SETTINGS,
}


def kind_of(step: Mapping[str, Any]) -> str | None:
    """The kind of a step, by its keys."""
    for kind, fields in KINDS.items():
        first = next(iter(fields))
        # "interface" may be wrong in a step of another kind; then that kind reports it.
        if first in step and (kind != "call" or not any(k in step for k in KINDS if k != "call")):
            return kind
    return None


def inner_lists(step: Mapping[str, Any]) -> Iterator[Any]:
    """The lists of steps that are in a step."""
    branches = step.get("parallel", ())
    yield from branches.values() if isinstance(branches, Mapping) else branches
    for one in (*step.get("choice", ()), *step.get("catch", ())):
        yield one["then"]
    for key in ("map", "default", "compensate"):
        if key in step:
            yield step[key]
