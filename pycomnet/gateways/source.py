"""Makes the requests of ``remote_exec`` and ``call``, and checks that the code can run on its own.

Usually a request has source text. A function without source (a lambda, or one typed into a REPL) is
sent as compiled code to a far side that runs the same bytecode. A function of an offered module is
imported there.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import functools
import inspect
import linecache
import marshal
import os
import sys
import tokenize
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from pycomnet.errors import CodeNotSendable
from pycomnet.far.bytecode import bytecode
from pycomnet.gateways.modules import ModuleOffer

#: Builtins that only Python 2 has, which the far side may be.
_PYTHON_2 = (
    "apply basestring buffer cmp coerce execfile file intern long raw_input reduce reload unichr "
    "unicode xrange"
)
#: The builtins, without the last result of the interactive interpreter.
_BUILTINS = (frozenset(dir(builtins)) | {*_PYTHON_2.split()}) - {"_"}
#: The other names that each module has.
_MODULE_NAMES = frozenset(("__name__", "__file__", "__builtins__"))
_functions: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()


@attrs.frozen
class FarPython:
    """The properties of the far side that matter for a request.

    :ivar bytecode: its bytecode (far/bytecode.py).
    :ivar offer: the modules that it can import from here.
    """

    bytecode: str = ""
    offer: ModuleOffer | None = None


_ANY = FarPython()


def exec_request(code: object, kwargs: dict[str, Any], far: FarPython = _ANY) -> dict[str, Any]:
    """Make the request of ``remote_exec`` (docs/protocol.rst, "Remote execution").

    :param code: source text, a function whose first parameter is the channel, or a module.
    :raises CodeNotSendable: it can't run on its own; the message says why.
    """
    if isinstance(code, str):
        request: dict[str, Any] = {"source": _dedent(code), "filename": "<remote_exec>"}
    elif isinstance(code, types.ModuleType):
        request = _module(code)
    elif callable(code):
        function, args, keywords = without_partial(code)
        if args:
            raise CodeNotSendable(
                "a functools.partial for remote_exec can't have positional arguments, as the "
                "channel is the first: give them by keyword"
            )
        request = dict(_function(function, far))
        _check_signature(function)
        kwargs = {**keywords, **kwargs}
    else:
        kind = type(code).__name__
        raise CodeNotSendable(f"source text, a function or a module can be run, not {kind}")
    if kwargs:
        request["kwargs"] = kwargs
    return request


def call_request(
    function: str | Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    far: FarPython = _ANY,
    awaits: bool = False,
) -> dict[str, Any]:
    """Make the request of ``call``.

    :param function: a function, or ``"module:name"`` to be imported there.
    :param awaits: whether the caller there awaits the result of an async function.
    :raises CodeNotSendable: it can't run on its own; the message says why.
    """
    if isinstance(function, str):
        module, colon, name = function.partition(":")
        if not (module and colon and name):
            raise CodeNotSendable(f"expected 'module:function', not {function!r}")
        request: dict[str, Any] = {"import": function}
    elif callable(function):
        if isinstance(function, functools.partial):
            function, first, keywords = without_partial(function)
            args, kwargs = first + args, {**keywords, **kwargs}
        request = dict(_function(function, far, awaits))
    else:
        raise CodeNotSendable(f"a function can be called, not {type(function).__name__}")
    if args:
        request["args"] = list(args)
    if kwargs:
        request["kwargs"] = kwargs
    return request


def without_partial(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """A partial's function and its arguments; Python flattens partials of partials."""
    if isinstance(function, functools.partial):
        return function.func, function.args, function.keywords
    return function, (), {}


def _dedent(text: str) -> str:
    """Remove the common indentation; ``textwrap`` would also change strings in the text."""
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


def _check_signature(function: Any) -> None:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        return  # it is not known for functions written in C
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    ):
        name = getattr(function, "__name__", type(function).__name__)
        raise CodeNotSendable(f"function {name} must take the channel as its first parameter")


def _function(function: Any, far: FarPython, awaits: bool = False) -> dict[str, Any]:
    if far.offer is not None:
        where = far.offer.where(function)
        if where is not None:
            return {"import": where}
    if not isinstance(function, types.FunctionType):
        raise CodeNotSendable(_why_not(function))
    known = _functions.get(function)
    if known is None:
        known = _inspect(function, awaits)
        if not inspect.iscoroutinefunction(function):
            _functions[function] = known
    if "code" in known and known["bytecode"] != far.bytecode:
        raise CodeNotSendable(
            f"{_named(function)}: its source can't be found, and its compiled code runs on "
            f"{known['bytecode']} only, not on {far.bytecode or 'any other'}: define it in a file, "
            f"or send its source as text"
        )
    return known


def _named(function: types.FunctionType) -> str:
    name = function.__code__.co_name  # as in the source, whatever it was renamed to
    return "a lambda" if name == "<lambda>" else f"function {name}"


def _why_not(function: Any) -> str:
    """Why a callable can't be sent, and what to do."""
    if isinstance(function, types.MethodType):
        return (
            f"method {function.__qualname__} is bound to what can't be sent: send a plain function "
            f"that makes the object there{_or_offer(function)}"
        )
    if hasattr(function, "__wrapped__"):
        return f"{_decorated(function.__wrapped__)}{_or_offer(function)}"
    text = f"only functions written in Python can be sent, not {type(function).__name__}"
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module and name and module != "__main__" and getattr(sys.modules.get(module), name, None):
        text += f"; what is installed there is found by name: call('{module}:{name}')"
    return text


def _decorated(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return f"function {name} is decorated: send what it wraps (its __wrapped__)"


def _or_offer(function: Any) -> str:
    """A hint how to send a function's whole module, as the end of a sentence."""
    module = getattr(function, "__module__", None)
    if module is None:
        return ""
    if module == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
        return ", or put it into a module and offer that: gateway.send_modules('its_name')"
    if "<locals>" in getattr(function, "__qualname__", ""):
        return (
            ", or put it at its module's top level and offer that: "
            f"gateway.send_modules({module.partition('.')[0]!r})"
        )
    return f", or offer its module: gateway.send_modules({module.partition('.')[0]!r})"


def _inspect(function: types.FunctionType, awaits: bool) -> dict[str, Any]:
    code = function.__code__
    name = code.co_name
    if hasattr(function, "__wrapped__"):
        raise CodeNotSendable(f"{_decorated(function)}{_or_offer(function)}")
    if code.co_freevars:
        names = ", ".join(code.co_freevars)
        raise CodeNotSendable(
            f"{_named(function)} is a closure over {names}: pass it as an argument"
        )
    if code.co_flags & inspect.CO_COROUTINE and not awaits:
        raise CodeNotSendable(f"{_named(function)} is async: only plain functions can be sent")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise CodeNotSendable(
            f"{_named(function)} is a generator function, whose body would not run: "
            f"send values on the channel, or return a list"
        )
    source = None if name == "<lambda>" else _source(function)
    definition = None if source is None else _definition(source, name)
    if source is None or definition is None:
        _check_globals(function, code)
        return _as_code(function)
    line = code.co_firstlineno
    if definition.decorator_list:
        # Send the function below the decorators, as they have returned the same object.
        source, line = _below_decorators(source, line, definition)
        definition.decorator_list = []
    module = ast.Module([definition], [])
    # Annotations are not evaluated at the far side.
    flags = __future__.annotations.compiler_flag
    compiled = compile(module, code.co_filename, "exec", flags, dont_inherit=True)
    _check_globals(function, compiled)
    return {"source": source, "filename": code.co_filename, "line": line, "function": name}


def missing_globals(module: types.CodeType) -> list[str]:
    """The global names that a source's code reads, and neither sets nor finds in any Python."""
    names = _globals_read(module) - _globals_written(module) - _MODULE_NAMES
    return sorted(names - _BUILTINS)


def _check_globals(function: types.FunctionType, compiled: types.CodeType) -> None:
    read = _globals_read(compiled) - _globals_written(compiled) - _MODULE_NAMES
    missing = sorted(
        name
        for name in read
        if not _is_builtin(name, function.__globals__) and name != function.__code__.co_name
    )
    if missing:
        raise CodeNotSendable(
            f"{_named(function)} uses the global {missing[0]!r}, which is not there where it runs: "
            f"import it inside the function, pass it as an argument{_or_offer(function)}"
        )


def _as_code(function: types.FunctionType) -> dict[str, Any]:
    """The request for a function without source: for a far side that runs the same bytecode."""
    keywords = function.__kwdefaults__ or {}
    return {
        "code": marshal.dumps(function.__code__),
        "bytecode": bytecode(),
        "name": function.__code__.co_name,
        "defaults": [list(function.__defaults__ or ()), dict(keywords)],
    }


def _source(function: types.FunctionType) -> str | None:
    """Its source, from its file or from linecache, where other code may have put it."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        pass
    # inspect asks linecache for only a few of the names that are in brackets.
    lines = linecache.getlines(function.__code__.co_filename, function.__globals__)
    begin = function.__code__.co_firstlineno - 1
    if begin >= len(lines):
        return None
    try:
        return "".join(inspect.getblock(lines[begin:]))
    except (SyntaxError, IndentationError, tokenize.TokenError):
        return None


def _definition(source: str, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    text = f"if 1:\n{source}" if source[:1].isspace() else source
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return node
    return None


def _below_decorators(
    source: str, line: int, definition: ast.FunctionDef | ast.AsyncFunctionDef
) -> tuple[str, int]:
    lines = source.splitlines(keepends=True)
    above = definition.lineno - 1 - source[:1].isspace()
    return "".join(lines[above:]), line + above


def _is_builtin(name: str, module: dict[str, Any]) -> bool:
    """Whether a global name is a builtin in a module, and not the module's own."""
    if name in module:
        return hasattr(builtins, name) and module[name] is getattr(builtins, name)
    return name in _BUILTINS


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    """A module's code object and all those within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _globals_written(module: types.CodeType) -> set[str]:
    """The global names that a module's code sets, in any function."""
    return {
        instruction.argval
        for code in _all_code(module)
        for instruction in dis.get_instructions(code)
        if instruction.opname == "STORE_GLOBAL"
        or (instruction.opname == "STORE_NAME" and code is module)
    }


def _globals_read(module: types.CodeType) -> set[str]:
    """The global names that a module's code reads, in any function."""
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
        # A class reads names that it sets itself, or globals.
        read |= names - own
    return read
