"""Generates the API without Deferreds from the Deferred API.

A call runs in the reactor's thread while the calling thread waits for its outcome. Arguments and
results are converted: an object of one API becomes the corresponding object of the other.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.blocking.docstrings import blocking_docstring
from pycomnet.blocking.waiting import ENDINGS, wait_for
from pycomnet.channels.callbacks import caller
from pycomnet.far.live import Live

#: The Deferred API's class -> the blocking one.
_classes: dict[type, type] = {}
#: Names of arguments that are callbacks: they are called in a thread, not in the reactor's.
_CALLBACKS = frozenset(("callback", "errback", "finished", "output", "progress"))
TIMEOUT = inspect.Parameter(
    "timeout", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="float | None"
)
_DEFERRED = re.compile(r"(?:defer\.)?Deferred\[(.*)\]")


def blocking_classes() -> dict[type, type]:
    """Class of the Deferred API -> blocking class."""
    return dict(_classes)


def to_blocking_api(value: Any) -> Any:
    """Convert a result: objects of the Deferred API become blocking objects."""
    return _replaced(value, _blocking_form)


def to_deferred_api(value: Any) -> Any:
    """Convert an argument: blocking objects become objects of the Deferred API."""
    return _replaced(value, _deferred_form)


def _blocking_form(value: Any) -> Any:
    kind = _classes.get(type(value))
    if kind is None:
        return value
    wrapper: Any = object.__new__(kind)
    wrapper._wrapped = value  # noqa: SLF001 - this is its own module
    wrapper._era = forks.era  # noqa: SLF001
    return wrapper


def _deferred_form(value: Any) -> Any:
    if not isinstance(value, Blocking):
        return value
    value._check()  # noqa: SLF001
    return value._wrapped  # noqa: SLF001


#: The containers that may hold objects of either API.
_HOLDERS = frozenset((list, tuple, dict, set, frozenset))


def _replaced(value: Any, form: Callable[[Any], Any]) -> Any:
    """A value with the objects in it converted; the value itself if there are none.

    It does not recurse: a value may nest deeper than the interpreter's stack, or hold itself.
    """
    if type(value) not in _HOLDERS:
        return form(value)
    seen = {id(value)}
    left = [value]
    while left:
        holder = left.pop()
        for item in _items(holder):
            if type(item) not in _HOLDERS:
                if form(item) is not item:
                    return _rebuilt(value, form)
            elif id(item) not in seen:
                seen.add(id(item))
                left.append(item)
    return value


def _items(holder: Any) -> Iterator[Any]:
    if type(holder) is dict:
        yield from holder.keys()
        yield from holder.values()
    else:
        yield from holder


def _rebuilt(value: Any, form: Callable[[Any], Any]) -> Any:
    #: id -> new list or dict: created before its content, which may include itself
    made: dict[int, Any] = {}

    def build(holder: Any) -> Generator[Any, Any, Any]:
        kind = type(holder)
        new: Any = {} if kind is dict else []
        if kind in (dict, list):
            made[id(holder)] = new
        if kind is dict:
            for key, item in holder.items():
                key = yield key
                new[key] = yield item
            return new
        for item in holder:
            new.append((yield item))
        return new if kind is list else kind(new)

    stack = [build(value)]
    result: Any = None
    while stack:
        try:
            item = stack[-1].send(result)
        except StopIteration as done:
            stack.pop()
            result = done.value
            continue
        result = None
        if type(item) not in _HOLDERS:
            result = form(item)
        elif id(item) in made:
            result = made[id(item)]
        else:
            stack.append(build(item))
    return result


def in_pool_thread(
    callback: Callable[[Any], Any], core: object = None
) -> Callable[[Any], Deferred[Any]]:
    """Wrap a callback so that it runs in a thread of the pool; what it raises is passed on.

    :param core: the channel's core, if it is a callback of a channel.
    """

    def called(value: Any) -> Any:
        caller.set(core)
        try:
            return callback(value)
        finally:
            caller.set(None)

    @functools.wraps(callback)
    def call(value: Any) -> Deferred[Any]:
        value = value if isinstance(value, Failure) else to_blocking_api(value)
        return deferToThread(called, value)

    return call


class Blocking(Live):
    """Wraps an object of the Deferred API for threads other than the reactor's."""

    __slots__ = ("__weakref__", "_era", "_wrapped")

    _wrapped: Any
    #: the process that made it: :data:`pycomnet.forks.era` at that time
    _era: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        made._era = forks.era
        return made

    def _check(self) -> None:
        """Raise if the parent process made it."""
        if self._era != forks.era:
            raise forks.used(repr(self))

    def __repr__(self) -> str:
        return repr(self._wrapped)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocking) and other._wrapped is self._wrapped

    def __hash__(self) -> int:
        return hash(self._wrapped)

    if TYPE_CHECKING:
        # A type checker does not see the generated methods.
        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Any: ...
        def __len__(self) -> int: ...
        def __contains__(self, item: object) -> bool: ...


def _method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters
    own_timeout = "timeout" in parameters
    callbacks = [p for p in parameters if p in _CALLBACKS]

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._era != forks.era:
            if name in ENDINGS:
                return None
            self._check()
        timeout = None if own_timeout else kwargs.pop("timeout", None)
        args, kwargs = to_deferred_api(args), to_deferred_api(kwargs)
        if callbacks:
            bound = inspect.signature(function).bind(self._wrapped, *args, **kwargs)
            for key in callbacks:
                if bound.arguments.get(key) is not None:
                    core = getattr(self._wrapped, "core", None)
                    bound.arguments[key] = in_pool_thread(bound.arguments[key], core)
            args, kwargs = bound.args[1:], bound.kwargs
        return to_blocking_api(
            wait_for(lambda: function(self._wrapped, *args, **kwargs), timeout, name)
        )

    # `help` and `inspect.signature` show the blocking form.
    made: Any = call
    waits = not name.startswith("__")
    made.__signature__ = signature_without_deferreds(function, waits)
    made.__doc__ = blocking_docstring(function.__doc__, waits and not own_timeout)
    return call


def with_timeout(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters with ``timeout`` added at a valid position."""
    place = len(parameters)
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        place -= 1
    return [*parameters[:place], TIMEOUT, *parameters[place:]]


def signature_without_deferreds(
    function: Callable[..., Any], waits: bool = True
) -> inspect.Signature:
    """A function's signature here: it returns what a Deferred would fire with.

    :param waits: whether it takes a timeout.
    """
    signature = inspect.signature(function)
    result = _DEFERRED.fullmatch(str(signature.return_annotation))
    returns = signature.return_annotation if result is None else result[1]
    parameters = list(signature.parameters.values())
    if waits and "timeout" not in signature.parameters:
        parameters = with_timeout(parameters)
    return signature.replace(parameters=parameters, return_annotation=returns)


def _property(name: str, source: Any) -> property:
    def get(self: Any) -> Any:
        return to_blocking_api(getattr(self._wrapped, name))

    return property(get, doc=getattr(source, "__doc__", None))


def wraps_class(
    cls: type, attributes: tuple[str, ...] = (), leave_out: frozenset[str] = frozenset()
) -> Callable[[type], type]:
    """Give a class the public methods of a class of the Deferred API, without Deferreds.

    :param attributes: the names of its instances' attributes.
    :param leave_out: the names of methods for other classes of the package.
    """

    def fill(target: type) -> type:
        for name, value in inspect.getmembers(cls):
            special = name in ("__len__", "__getitem__", "__contains__")
            hidden = (name.startswith("_") and not special) or name in leave_out
            if hidden or name in target.__dict__:
                continue
            if inspect.isfunction(value):
                setattr(target, name, _method(name, value))
            elif isinstance(value, property):
                setattr(target, name, _property(name, value))
        for name in attributes:
            setattr(target, name, _property(name, None))
        target.__doc__ = cls.__doc__
        _classes[cls] = target
        return target

    return fill


__all__ = [
    "Blocking",
    "blocking_classes",
    "in_pool_thread",
    "signature_without_deferreds",
    "to_blocking_api",
    "to_deferred_api",
    "with_timeout",
    "wraps_class",
]
