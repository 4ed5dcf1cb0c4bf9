"""What ``remote_exec`` and ``call`` send: source text, with what it needs to run on its own."""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
import textwrap
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from pycomnet.errors import CodeNotSendable

#: Names that exist in any module.
_KNOWN = frozenset(dir(builtins)) | {"__name__", "__file__", "__builtins__"}
_functions: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
_lambda_message = "a lambda's source can't be sent: use a def"


def exec_request(code: object, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The request of ``remote_exec`` (docs/protocol.rst, "Remote execution").

    :param code: source text, a function whose first parameter is the channel, or a module.
    :raises CodeNotSendable: it can't run on its own; the message says why.
    """
    if isinstance(code, str):
        request: dict[str, Any] = {"source": textwrap.dedent(code), "filename": "<remote_exec>"}
    elif isinstance(code, types.ModuleType):
        request = _module(code)
    elif callable(code):
        request = dict(_function(code))
        _check_signature(code, request["function"])
    else:
        kind = type(code).__name__
        raise CodeNotSendable(f"source text, a function or a module can be run, not {kind}")
    if kwargs:
        request["kwargs"] = kwargs
    return request


def call_request(
    function: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The request of ``call``.

    :param function: a function, or ``"module:name"`` to be imported there.
    :raises CodeNotSendable: it can't run on its own; the message says why.
    """
    if isinstance(function, str):
        module, colon, name = function.partition(":")
        if not (module and colon and name):
            raise CodeNotSendable(f"expected 'module:function', not {function!r}")
        request: dict[str, Any] = {"import": function}
    elif callable(function):
        request = dict(_function(function))
    else:
        raise CodeNotSendable(f"a function can be called, not {type(function).__name__}")
    if args:
        request["args"] = list(args)
    if kwargs:
        request["kwargs"] = kwargs
    return request


def _module(module: types.ModuleType) -> dict[str, Any]:
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        raise CodeNotSendable(f"module {module.__name__}: its source can't be found") from None
    return {"source": source, "filename": getattr(module, "__file__", None) or module.__name__}


def _check_signature(function: Any, name: str) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    ):
        raise CodeNotSendable(f"function {name} must take the channel as its first parameter")


def _function(function: Any) -> dict[str, Any]:
    if isinstance(function, functools.partial):
        raise CodeNotSendable("a functools.partial can't be sent: send its function and arguments")
    if isinstance(function, types.MethodType):
        raise CodeNotSendable(f"method {function.__qualname__}: only plain functions can be sent")
    if not isinstance(function, types.FunctionType):
        kind = type(function).__name__
        raise CodeNotSendable(f"only functions written in Python can be sent, not {kind}")
    known = _functions.get(function)
    if known is None:
        _functions[function] = known = _inspect(function)
    return known


def _inspect(function: types.FunctionType) -> dict[str, Any]:
    name = function.__name__
    if hasattr(function, "__wrapped__"):
        raise CodeNotSendable(f"function {name} is decorated: send what it wraps")
    code = function.__code__
    if name == "<lambda>":
        raise CodeNotSendable(_lambda_message)
    if code.co_freevars:
        names = ", ".join(code.co_freevars)
        raise CodeNotSendable(f"function {name} is a closure over {names}: pass it as an argument")
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        raise CodeNotSendable(f"function {name}: its source can't be found") from None
    definition = _definition(source, name)
    missing = sorted(set(_globals(code)) - _KNOWN)
    missing += [used for used in _defaults(definition) if used not in _KNOWN]
    if missing:
        raise CodeNotSendable(
            f"function {name} uses the global {missing[0]!r}, which is not there where it runs: "
            f"import it inside the function or pass it as an argument"
        )
    return {
        "source": source,
        "filename": code.co_filename,
        "line": code.co_firstlineno,
        "function": name,
    }


def _definition(source: str, name: str) -> ast.FunctionDef:
    text = f"if 1:\n{source}" if source[:1].isspace() else source
    try:
        tree = ast.parse(text)
    except SyntaxError:
        raise CodeNotSendable(f"function {name}: its source can't be found alone") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name:
            raise CodeNotSendable(f"function {name} is async: only plain functions can be sent")
        if isinstance(node, ast.FunctionDef) and node.name == name:
            if node.decorator_list:
                raise CodeNotSendable(f"function {name} is decorated: send what it wraps")
            return node
    raise CodeNotSendable(_lambda_message)


def _globals(code: types.CodeType) -> Iterator[str]:
    """The global names that a function's code reads, those of functions within it too."""
    stored = set()
    loaded = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded.append(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "STORE_NAME"):
            stored.add(instruction.argval)
    yield from (name for name in loaded if name not in stored)
    in_class = {"__module__", "__qualname__"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from (n for n in _globals(constant) if n not in stored and n not in in_class)


def _defaults(definition: ast.FunctionDef) -> Iterator[str]:
    """The names that the defaults of the parameters read."""
    arguments = definition.args
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            for node in ast.walk(default):
                if isinstance(node, ast.Name):
                    yield node.id
