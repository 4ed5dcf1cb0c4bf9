"""Errors with which calls fail before they are sent, or without an answer."""

from __future__ import annotations

from typing import TypeVar

from pycomnet.errors import PycomnetError

AnError = TypeVar("AnError", bound=PycomnetError)


def of_a_call(problem: AnError) -> AnError:
    """Note of an error that a call of this process fails with it, and return it. If a method has
    made that call, its own caller is told that the error is nested."""
    problem.of_call = True
    return problem
