"""Makes the task of a ``remote_exec`` from text, a function or a module, as execnet does."""

from __future__ import annotations

import inspect
import linecache
import textwrap
import types
from typing import Any

from pycomnet.errors import CodeNotSendable
from pycomnet.gateways.source import exec_request, missing_globals

#: Text, a function, a module, or any object whose ``str()`` is the text.
Source = object


def task_of(source: Source, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Make the task that ``run`` of the far side takes.

    :raises TypeError: only a function takes arguments.
    :raises ValueError: the function can't run on its own; the message says why.
    """
    if isinstance(source, types.ModuleType):
        _refuse_arguments(kwargs)
        # The module's file may have changed since it was imported.
        linecache.checkcache(source.__file__)
        try:
            text = inspect.getsource(source)
        except (OSError, TypeError):
            raise ValueError(f"can't find the source of {source!r}") from None
        return {"source": text, "filename": source.__file__ or "<remote exec>"}
    if isinstance(source, str) or not callable(source):
        _refuse_arguments(kwargs)
        return {"source": textwrap.dedent(str(source)), "filename": "<remote exec>"}
    if isinstance(source, types.MethodType):
        source = source.__func__
    task = _task_of_function(source)
    task.pop("kwargs", None)
    return task


def _refuse_arguments(kwargs: dict[str, Any]) -> None:
    if kwargs:
        raise TypeError("can't pass kwargs to non-function remote_exec")


def _task_of_function(function: Any) -> dict[str, Any]:
    if not isinstance(function, types.FunctionType):
        raise ValueError(f"text, a function or a module can be run, not {function!r}")
    if function.__name__ == "<lambda>":
        raise ValueError("can't evaluate lambda functions: write a function with a name")
    if function.__code__.co_varnames[:1] != ("channel",):
        raise ValueError("expected first function argument to be `channel`")
    try:
        task = exec_request(function, {})
    except CodeNotSendable as problem:
        raise ValueError(str(problem)) from None
    if "source" not in task:
        raise ValueError(f"can't find source file for {function!r}")
    return task


def source_of_function(function: Any) -> str:
    """A function's source, if it can run on its own.

    :raises ValueError: it can't; the message says why.
    """
    text: str = _task_of_function(function)["source"]
    return textwrap.dedent(text)


def missing_names(source: str, codeobj: types.CodeType) -> list[str]:
    """The global names that a function's source uses, and that are no builtins.

    :param codeobj: its code, for the name of its file.
    """
    return missing_globals(compile(source, codeobj.co_filename, "exec"))
