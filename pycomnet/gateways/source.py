"""What ``remote_exec`` and ``call`` send: source text, with what it needs to run on its own."""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import functools
import inspect
import os
import tokenize
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from pycomnet.errors import CodeNotSendable

#: Builtins that only Python 2 has, which the far side may be.
_PYTHON_2 = (
    "apply basestring buffer cmp coerce execfile file intern long raw_input reduce reload unichr "
    "unicode xrange"
)
#: Builtins, but for the interactive interpreter's last result.
_BUILTINS = (frozenset(dir(builtins)) | {*_PYTHON_2.split()}) - {"_"}
#: What else any module has.
_MODULE_NAMES = frozenset(("__name__", "__file__", "__builtins__"))
_functions: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
_lambda_message = "a lambda's source can't be sent: use a def"


def exec_request(code: object, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The request of ``remote_exec`` (docs/protocol.rst, "Remote execution").

    :param code: source text, a function whose first parameter is the channel, or a module.
    :raises CodeNotSendable: it can't run on its own; the message says why.
    """
    if isinstance(code, str):
        request: dict[str, Any] = {"source": _dedent(code), "filename": "<remote_exec>"}
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


def _dedent(text: str) -> str:
    """Remove what all lines are indented by; ``textwrap`` would change strings within as well."""
    lines = text.split("\n")
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    margin = len(os.path.commonprefix(indents))  # noqa: RUF071 - of characters
    if not margin:
        return text
    return "\n".join(line[margin:] for line in lines)


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
    code = function.__code__
    name = code.co_name  # as in the source, whatever it was renamed to
    if hasattr(function, "__wrapped__"):
        raise CodeNotSendable(f"function {name} is decorated: send what it wraps")
    if name == "<lambda>":
        raise CodeNotSendable(_lambda_message)
    if inspect.isgeneratorfunction(function):
        raise CodeNotSendable(
            f"function {name} is a generator function, whose body would not run: "
            f"send values on the channel, or return a list"
        )
    if code.co_freevars:
        names = ", ".join(code.co_freevars)
        raise CodeNotSendable(f"function {name} is a closure over {names}: pass it as an argument")
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        raise CodeNotSendable(f"function {name}: its source can't be found") from None
    module = ast.Module([_definition(source, name)], [])
    # Annotations are not evaluated at the far side.
    flags = __future__.annotations.compiler_flag
    compiled = compile(module, code.co_filename, "exec", flags, dont_inherit=True)
    read = _globals_read(compiled) - _globals_written(compiled) - _MODULE_NAMES
    missing = sorted(name for name in read if not _is_builtin(name, function.__globals__))
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
    raise CodeNotSendable(f"function {name}: its source can't be found alone")


def _is_builtin(name: str, module: dict[str, Any]) -> bool:
    """Whether a global name is a builtin in a module, and not something of the module's own."""
    if name in module:
        return hasattr(builtins, name) and module[name] is getattr(builtins, name)
    return name in _BUILTINS


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """A module's code and all that is within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _globals_written(module: types.CodeType) -> set[str]:
    """The global names that a module's code sets, in whatever function."""
    return {
        instruction.argval
        for code in _all_code(module)
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_GLOBAL"
        or (instruction.opname == "STORE_NAME" and code is module)
    }


def _globals_read(module: types.CodeType) -> set[str]:
    """The global names that a module's code reads, in whatever function."""
    read = set()
    for code in _all_code(module):
        own = set()
        names = set()
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
                read.add(instruction.argval)
            elif instruction.opname == "LOAD_NAME":
                names.add(instruction.argval)
            elif instruction.opname == "STORE_NAME":
                own.add(instruction.argval)
            elif instruction.opname == "SETUP_ANNOTATIONS":
                own.add("__annotations__")
        # A class's names are those that it sets itself, or globals.
        read |= names - own
    return read
