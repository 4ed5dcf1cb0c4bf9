"""The errors of steps: which a ``catch`` handles, and after which a call is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

#: Codes of errors after which a call may have run, or not: also those of a result that can't be
#: sent, received or kept.
UNKNOWN = frozenset(
    {
        "unknown",
        "interrupted",
        "deadline",
        "cancelled",
        "result",
        "memory",
        "attachment",
        "attachment-limit",
        "key-conflict",
    }
)
#: Codes of errors by which a call was surely not run; an earlier attempt may have run.
NOT_RUN = frozenset(
    {
        "interface",
        "method",
        "arguments",
        "overloaded",
        "leaving",
        "once-memory",
        "workflow-file-lost",
        "skipped",
        "unreachable",
        "not-found",
        "unauthenticated",
        "forbidden",
    }
)
#: The code of a step that was in flight when the workflow service died.
UNKNOWN_CODE = "unknown"
#: Defaults for the settings that a ``retry`` omits.
ATTEMPTS, DELAY, BACKOFF, LONGEST, JITTER = 3, 1.0, 2.0, 60.0, 0.1


@attrs.frozen
class StepFailure:
    """A step, or a list of steps, has failed.

    :ivar error: the error's map: ``code``, ``type`` and ``message``.
    :ivar path: the step that has failed.
    """

    error: dict[str, Any]
    path: str = ""


def failure_of(code: str, message: str) -> dict[str, Any]:
    """The map of an error that the workflow service itself raises."""
    return {"code": code, "type": "", "message": message}


def matches(errors: Iterable[str], error: Mapping[str, Any]) -> bool:
    """Whether an error is one of these: codes, types with or without their module, or ``*``."""
    kind = str(error.get("type", ""))
    names = {error.get("code"), kind, kind.rpartition(".")[2]} - {""}
    return any(one == "*" or one in names for one in errors)


def catches(clauses: Sequence[Mapping[str, Any]], error: Mapping[str, Any]) -> int | None:
    """The index of the first clause that handles an error; None if there is none."""
    for index, clause in enumerate(clauses):
        if matches(clause["errors"], error):
            return index
    return None


def may_have_run(error: Mapping[str, Any] | None) -> bool:
    """Whether a call with this error may have had its effect. It has none if it was not sent, or if
    the method itself has failed."""
    return error is not None and str(error.get("code")) in UNKNOWN and error.get("ran") is not False


def was_not_run(error: Mapping[str, Any]) -> bool:
    """Whether a call with this error was surely not run."""
    ran = error.get("ran")
    return ran is False or (str(error.get("code")) in NOT_RUN and not ran)


def retry_at(
    retry: Mapping[str, Any] | None,
    error: Mapping[str, Any],
    attempts: int,
    now: float,
    safe: bool,
    random: Callable[[], float],
) -> float | None:
    """When a failed call is tried again; None if it is not.

    Without ``errors``, a call that may have run is tried again only if it may run twice.

    :param attempts: how often it was tried.
    :param safe: whether it may run twice.
    :param random: gives numbers from 0 to 1.
    """
    if retry is None or attempts >= retry.get("attempts", ATTEMPTS):
        return None
    errors = retry.get("errors")
    if errors is not None:
        named = matches([one for one in errors if one != "*"], error)
        if not named and not ("*" in errors and (safe or not may_have_run(error))):
            return None
    elif may_have_run(error) and not safe:
        return None
    growth = float(retry.get("backoff", BACKOFF)) ** min(attempts - 1, 100)
    delay = min(retry.get("delay", DELAY) * growth, retry.get("max_delay", LONGEST))
    return float(now + delay * (1 + retry.get("jitter", JITTER) * (random() - 0.5)))
