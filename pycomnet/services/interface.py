"""To write services: ``interface``, ``method`` and ``Service``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from pycomnet.errors import InvalidArguments

if TYPE_CHECKING:
    from pycomnet.services.server.accessgate import Caller

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

#: Whether a caller may know of a method of an interface.
Sees = Callable[[str, str], bool]

#: The interface of every server that describes what runs there.
INTROSPECTION = "org.pycom.introspection"
#: The types that a declaration may name, beside None; any other text is for people only.
_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bytes": (bytes,),
    "list": (list, tuple),
    "dict": (dict,),
}


@attrs.frozen
class Method:
    """A method that can be called, as it was declared.

    :ivar attribute: the name of the function in its class.
    """

    name: str
    attribute: str
    doc: str
    idempotent: bool = False
    thread: bool = False
    stream: bool = False
    args: Mapping[str, Any] | None = None
    results: Any = None
    attachments: int | None = None
    once: bool = False
    #: argument -> its allowed types, and whether it is optional; and the arguments that are not
    _kinds: dict[str, tuple[tuple[type, ...] | None, bool]] = attrs.field(init=False, eq=False)
    _required: tuple[str, ...] = attrs.field(init=False, eq=False)

    @_kinds.default
    def _find_kinds(self) -> dict[str, tuple[tuple[type, ...] | None, bool]]:
        declared = (self.args or {}).items()
        return {name: (_types(kind), _is_optional(kind)) for name, kind in declared}

    @_required.default
    def _find_required(self) -> tuple[str, ...]:
        return tuple(name for name, (_, optional) in self._kinds.items() if not optional)

    def describe(self) -> dict[str, Any]:
        """Its description in the result of ``introspect``."""
        return {
            "doc": self.doc,
            "idempotent": self.idempotent,
            **({"once": True} if self.once else {}),
            "stream": self.stream,
            "args": None if self.args is None else {k: _words(v) for k, v in self.args.items()},
            "results": None if self.results is None else _words(self.results),
            "attachments": self.attachments,
        }

    def check(self, args: object) -> None:
        """Check arguments against the declaration.

        :raises InvalidArguments: one is missing, unknown, or of another type.
        """
        if self.args is None:
            return
        if args is None:
            args = {}
        if not isinstance(args, dict):
            given = type(args).__name__
            raise InvalidArguments(f"{self.name}: the arguments are a dict, not {given}")
        kinds = self._kinds
        for name, value in args.items():
            found = kinds.get(name)
            if found is None:
                known = ", ".join(kinds) or "none"
                raise InvalidArguments(f"{self.name}: no argument {name!r}; there are: {known}")
            types, optional = found
            if types is None or type(value) in types or (optional and value is None):
                continue
            if not isinstance(value, types) or (
                isinstance(value, bool) and bool not in types and object not in types
            ):
                kind = _words(self.args[name])
                raise InvalidArguments(
                    f"{self.name}: {name!r} is {kind}, not {type(value).__name__}"
                )
        for name in self._required:
            if name not in args:
                raise InvalidArguments(f"{self.name}: the argument {name!r} is missing")

    def are_valid(self, several: list[Any]) -> bool:
        """A quick check of the arguments of several calls that all have all arguments, for the row
        "1,000 such calls in a batch".

        :returns: True if they are valid; False if :meth:`check` has to decide on each.
        """
        if self.args is None:
            return True
        kinds = self._kinds
        if set(map(type, several)) != {dict} or set(map(len, several)) != {len(kinds)}:
            return False
        try:
            return all(
                types is None or set(map(type, map(itemgetter(name), several))).issubset(types)
                for name, (types, _) in kinds.items()
            )
        except KeyError:
            return False


def _is_optional(kind: object) -> bool:
    return isinstance(kind, str) and kind.endswith("?")


def _types(kind: object) -> tuple[type, ...] | None:
    if isinstance(kind, str):
        return _TYPES.get(kind.removesuffix("?"))
    if isinstance(kind, type):
        return _TYPES.get(kind.__name__, (kind,))
    if isinstance(kind, tuple):
        found: list[type] = []
        for one in kind:
            found += _types(one) or ()
        return tuple(found) or None
    return None


def _words(kind: object) -> Any:
    """A declaration as what can be sent and read."""
    if isinstance(kind, type):
        return kind.__name__
    if isinstance(kind, tuple):
        return " or ".join(str(_words(one)) for one in kind)
    if isinstance(kind, Mapping):
        return {str(key): _words(value) for key, value in kind.items()}
    return kind if isinstance(kind, str) else str(kind)


@attrs.frozen
class Interface:
    """A named set of methods."""

    name: str
    doc: str
    stateful: bool
    methods: Mapping[str, Method]

    def describe(self, sees: Sees | None = None) -> dict[str, Any]:
        """Its description in the result of ``introspect``.

        :param sees: whether the caller may know of a method of an interface; None: of all.
        """
        return {
            "doc": self.doc,
            "stateful": self.stateful,
            "methods": {
                name: method.describe()
                for name, method in self.methods.items()
                if sees is None or sees(self.name, name)
            },
        }

    def announce(self, sees: Sees | None = None) -> dict[str, Any]:
        """The interface's part of a server's hello.

        :param sees: as for :meth:`describe`.
        """
        seen = [
            (name, method)
            for name, method in self.methods.items()
            if sees is None or sees(self.name, name)
        ]
        found: dict[str, Any] = {
            "idempotent": [name for name, method in seen if method.idempotent],
            "stateful": self.stateful,
        }
        once = [name for name, method in seen if method.once]
        if once:
            found["once"] = once
        return found


def method(
    name: str | None = None,
    *,
    idempotent: bool = False,
    thread: bool = False,
    stream: bool = False,
    args: Mapping[str, Any] | None = None,
    results: Any = None,
    attachments: int | None = None,
    once: bool = False,
) -> Callable[[F], F]:
    """Make a method callable from other processes. It gets a request, and returns or raises.

    :param name: the name that callers use; by default the function's own name.
    :param idempotent: running it twice has the same effect as once. A call is then repeated
        automatically if the connection breaks before its result has come.
    :param thread: it blocks, so it runs in a thread of the server's own.
    :param stream: it is a generator, an async generator, or returns an iterable, and each value is
        sent to the caller as it comes.
    :param args: the arguments, by name: a type, a tuple of types, or a word for people; ``"int?"``
        is an int that may be left out. They are checked before the method is called. By default,
        any value is accepted.
    :param results: a description of what it returns, for ``introspect``.
    :param attachments: the limit on the blocks of binary data of a call; the server's limit by
        default.
    :param once: a call that comes again, by its key (``request.key``), is answered from what the
        server has kept of the first one, or waits for that. Then the method runs to its end,
        whether its caller is there or not. If it raises, it has had no effect: it is run again.
    """
    if once and stream:
        raise TypeError(
            "a stream is not answered from what was kept: once and stream exclude one another"
        )

    def mark(function: F) -> F:
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"a method is a function, not {function!r}")
        declared = Method(
            name or function.__name__,
            function.__name__,
            inspect.getdoc(function) or "",
            idempotent,
            thread,
            stream,
            None if args is None else dict(args),
            results,
            attachments,
            once,
        )
        function.__pycomnet_method__ = declared  # type: ignore[attr-defined]
        return function

    if callable(name):
        raise TypeError("write @method(), with the parentheses")
    return mark


def interface(name: str, *, stateful: bool = False) -> Callable[[C], C]:
    """Declare the interface of a class.

    The class is a subclass of :class:`Service`. Another class becomes one: its name then stands for
    a subclass of it and of :class:`Service`.

    The interface has the methods that the class and its bases mark with :func:`method`. A subclass
    may declare an interface of another name, with more methods; it then offers both.

    :param name: as a reversed domain name, ``org.example.calc``.
    :param stateful: each client has a session here: ``request.session``.
    """
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 255:
        raise TypeError('write @interface("org.example.name")')

    def mark(cls: C) -> C:
        if not issubclass(cls, Service):
            cls = _as_service(cls)
        methods: dict[str, Method] = {}
        for attribute, value in inspect.getmembers(cls):
            found = getattr(value, "__pycomnet_method__", None)
            if isinstance(found, Method):
                if found.name in methods:
                    raise TypeError(f"{cls.__qualname__}: two methods are called {found.name!r}")
                methods[found.name] = attrs.evolve(found, attribute=attribute)
        doc = inspect.getdoc(cls) or ""
        if doc == inspect.getdoc(Service):
            doc = ""  # inherited: it says nothing of this interface
        declared = Interface(name, doc, stateful, methods)
        inherited = cls.__dict__.get("interfaces", getattr(cls, "interfaces", {}))
        offering: Any = cls
        offering.interfaces = {**inherited, name: declared}
        return cls

    return mark


def _as_service(cls: Any) -> Any:
    """Add :class:`Service` to the bases of a class that is not a subclass of it."""
    if not isinstance(cls, type):
        raise TypeError(f"an interface is declared of a class, not of {cls!r}")
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls, Service), names)


class Service:
    """The base class of services.

    Decorate a subclass with :func:`interface`, and its methods with :func:`method`. A method gets a
    :class:`~pycomnet.Request`, and returns a value or a Deferred, or raises; it may be an
    ``async def``. Every interface also has the method ``introspect``.

    :cvar interfaces: its interfaces by their names.
    """

    interfaces: Mapping[str, Interface] = {}

    def started(self, server: Any) -> Any:
        """Called when the service is added to a server, which waits for a Deferred before it
        serves."""

    def stopped(self) -> Any:
        """Called when the server ends, which waits for a Deferred."""

    @method("introspect", idempotent=True)
    def introspect(self, request: Any) -> dict[str, Any]:
        """What this service offers: its interfaces, their methods, and their documentation."""
        return describe(self, caller=request.connection.caller)


def describe(*services: Service, caller: Caller | None = None) -> dict[str, Any]:
    """The interfaces of services by name: ``doc``, ``stateful`` and ``methods``; these have
    ``doc``, ``idempotent``, ``stream``, ``args``, ``results`` and ``attachments``.

    :param caller: only what this caller may call; None: all.
    """
    sees = None if caller is None else caller.sees
    return {
        name: declared.describe(sees)
        for service in services
        for name, declared in service.interfaces.items()
        if sees is None or any(sees(name, method) for method in declared.methods)
    }
