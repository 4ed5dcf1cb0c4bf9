"""Builds tasks in Python: the same data as in a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pycomnet.ext.workflow.definition import check_tasks

S = TypeVar("S", bound="Steps")


class Steps:
    """A list of steps; each method adds one at its end, or configures the last one.

    All return the list itself, so that they can be written one after the other.
    """

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []

    @property
    def data(self) -> list[dict[str, Any]]:
        """The steps, as a JSON file has them."""
        return self._steps

    def _add(self: S, name: str | None, **step: Any) -> S:
        self._steps.append(_given(**step, name=name))
        return self

    def _last(self) -> dict[str, Any]:
        if not self._steps:
            raise ValueError("there is no step yet to configure: add one first")
        return self._steps[-1]

    # -- steps -----------------------------------------------------------------------------------

    def call(
        self: S,
        interface: str,
        method: str | None = None,
        args: Any = None,
        *,
        name: str | None = None,
        service: str | None = None,
        tags: Sequence[str] | None = None,
        idempotent: bool | None = None,
        files: bool | None = None,
        attach: Sequence[str] | None = None,
    ) -> S:
        """Call a method.

        :param method: by default the task's name, or the interface's only one.
        :param args: by default the result of the step before.
        :param idempotent: whether it may run twice; by default the service declares it.
        :param files: whether the blocks of binary data of its result are kept.
        :param attach: names of earlier steps whose kept blocks are sent with the call.
        """
        return self._add(
            name,
            interface=interface,
            method=method,
            args=args,
            service=service,
            tags=_listed(tags),
            idempotent=idempotent,
            files=files,
            attach=_listed(attach),
        )

    def parallel(self: S, *branches: Steps, name: str | None = None, **named: Steps) -> S:
        """Run several lists of steps at the same time.

        :param branches: then the result is a list; or ``named`` ones, then it is a dict.
        """
        if bool(branches) == bool(named):
            raise ValueError("parallel: branches in a list, or named ones")
        data: Any = [one.data for one in branches]
        if named:
            data = {key: one.data for key, one in named.items()}
        return self._add(name, parallel=data)

    def map(
        self: S,
        steps: Steps,
        over: str | None = None,
        *,
        concurrency: int | None = None,
        tolerate: int | None = None,
        name: str | None = None,
    ) -> S:
        """Run steps for each item of a list: by default of the result before."""
        return self._add(
            name, map=steps.data, over=over, concurrency=concurrency, tolerate=tolerate
        )

    def choice(
        self: S,
        *choices: tuple[str, Steps],
        default: Steps | None = None,
        name: str | None = None,
    ) -> S:
        """Run the steps of the first condition that holds."""
        data = [{"when": when, "then": then.data} for when, then in choices]
        return self._add(name, choice=data, default=None if default is None else default.data)

    def wait(self: S, seconds: float | str, *, name: str | None = None) -> S:
        """Wait for some seconds."""
        return self._add(name, wait=seconds)

    def until(self: S, time: float | str, *, name: str | None = None) -> S:
        """Wait until a time: ISO 8601 with its zone."""
        return self._add(name, until=time)

    def signal(self: S, signal: str, *, name: str | None = None) -> S:
        """Wait for a signal from outside; what it brings is the result."""
        return self._add(name, signal=signal)

    def task(self: S, task: str, args: Any = None, *, name: str | None = None) -> S:
        """Run another task in this place."""
        return self._add(name, task=task, args=args)

    def fail(self: S, code: str, message: str | None = None, *, name: str | None = None) -> S:
        """End with an error."""
        return self._add(name, fail=_given(code=code, message=message))

    def value(self: S, value: Any, *, name: str | None = None) -> S:
        """Compute a value from others."""
        self._add(name)
        self._steps[-1]["value"] = value  # also None
        return self

    # -- settings of the last step ---------------------------------------------------------------

    def retry(
        self: S,
        attempts: int | None = None,
        *,
        delay: float | None = None,
        backoff: float | None = None,
        max_delay: float | None = None,
        jitter: float | None = None,
        errors: Sequence[str] | None = None,
    ) -> S:
        """Try the last step, a call, again when it fails."""
        self._last()["retry"] = _given(
            attempts=attempts,
            delay=delay,
            backoff=backoff,
            max_delay=max_delay,
            jitter=jitter,
            errors=_listed(errors),
        )
        return self

    def timeout(self: S, seconds: float) -> S:
        """Seconds for the last step."""
        self._last()["timeout"] = seconds
        return self

    def catch(self: S, *errors: str, then: Steps) -> S:
        """The steps that run when the last step fails with one of these errors."""
        self._last().setdefault("catch", []).append(
            {"errors": list(errors) or ["*"], "then": then.data}
        )
        return self

    def compensate(self: S, steps: Steps) -> S:
        """Steps that undo the last step."""
        self._last()["compensate"] = steps.data
        return self


class Task(Steps):
    """A task.

    :param name: the task's name.
    :param deadline: seconds for a run.
    :param durable: whether runs survive the service.
    :param doc: what it is for.
    :param run: users or ``@roles`` who may run it.
    :param see: who may see and steer all its runs.
    """

    def __init__(
        self,
        name: str,
        *,
        deadline: float | None = None,
        durable: bool | None = None,
        doc: str | None = None,
        run: Sequence[str] | None = None,
        see: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._said = _given(
            deadline=deadline, durable=durable, doc=doc, run=_listed(run), see=_listed(see)
        )

    def __repr__(self) -> str:
        return f"<Task {self.name}, {len(self.data)} steps>"

    def as_dict(self) -> dict[str, Any]:
        """The task as a JSON file has it."""
        return {**self._said, "steps": self.data}

    def check(self, *others: Task) -> dict[str, dict[str, Any]]:
        """Check it, together with tasks that it uses.

        :returns: the tasks by name, in full: what :class:`WorkflowService` takes.
        :raises WorkflowConfigError: with all that is wrong.
        """
        tasks: Mapping[str, Any] = {one.name: one.as_dict() for one in (self, *others)}
        return check_tasks(tasks)


def _given(**values: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def _listed(texts: Sequence[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)
