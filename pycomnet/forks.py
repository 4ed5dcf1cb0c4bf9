"""Disables a program's objects in the processes that it forks.

Connections, and the reactor that serves them, go on in the process that made them. A forked child
has copies of both. If it used them, it would read the parent's data and change what the parent's
reactor watches. So in the child each object is notified before any other code runs there, and from
then on refuses to be used. None of this code runs in a process that is not a child.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

from pycomnet.errors import UsedAfterFork


class Inherited(Protocol):
    """An object of the parent that a child must not use."""

    def forked(self) -> None:
        """This is a child's copy: call nothing back, and write nothing."""


#: The number of forks between the program that was started and this process.
era = 0
_watched: weakref.WeakSet[Inherited] = weakref.WeakSet()
_calls: list[Callable[[], None]] = []
#: Objects that are never freed in a child: freeing the parent's coroutines would unwind them.
_kept: list[object] = []


def watch(item: Inherited) -> None:
    """Notify this object in a child, if it still exists then."""
    _watched.add(item)


def call_in_child(function: Callable[[], None]) -> None:
    """Call a function in each child, before the watched objects are notified."""
    _calls.append(function)


def keep(item: object) -> None:
    """In a child: never free this."""
    _kept.append(item)


def runs(reactor: object) -> bool:
    """Whether a reactor was running when this process was forked.

    One that was not may be meant for the child: a daemon makes its services before it forks.
    """
    return bool(getattr(reactor, "running", False))


def used(what: str) -> UsedAfterFork:
    """The error for using the parent's object in a child."""
    return UsedAfterFork(
        f"{what} belongs to the process that this one was forked from, and goes on there: make a "
        "new Group or Context here"
    )


def _in_child() -> None:
    global era
    era += 1
    for function in _calls:
        function()
    for item in list(_watched):
        try:
            item.forked()
        except Exception:
            sys.excepthook(*sys.exc_info())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
