"""Proxies: objects whose methods are those of a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.ext.proxy.batches import CallBatch
from pycomnet.ext.proxy.errors import NoSuchMethod
from pycomnet.ext.proxy.methods import NOT_GIVEN, CallOptions, ProxyMethod
from pycomnet.ext.proxy.proxiedservice import Callers, ProxiedService
from pycomnet.ext.proxy.signatures import OWN, InterfaceSignature, is_attribute
from pycomnet.services import default
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.client.instances import addresses_of
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.client.remoteservice import DEFAULT, RemoteService
from pycomnet.services.interface import Service
from pycomnet.text.printable import visible_line
from pycomnet.text.similar import suggestion
from pycomnet.wire.kinds import register_type

T = TypeVar("T")

#: The name of proxies on the wire: as registered types they arrive as what they are.
WIRE_NAME = "org.pycom.proxy"


class Proxy:
    """A service as an object: its methods are the service's.

    ``proxy.add(a=1, b=2)`` calls the method ``add``. ``proxy["name"]`` is a method of any name:
    one of Python's keywords, with dots or hyphens, with an underscore at its beginning, or the name
    of an attribute that every proxy has: ``with_``, ``batch`` and ``record``.

    What Python or a tool does with any object (``repr``, ``==``, ``hash``, ``dir``, ``copy``, a
    look for special attributes) calls nothing. A proxy is pickled, copied and sent as what it
    stands for: an interface, and an address or a nameserver.

    :ivar record: the nameserver's record of the service, if the proxy came from a nameserver's
        ``locate``; else None.
    """

    __iter__: None = None  # or the interpreter would try proxy[0]
    __contains__: None = None

    def __init__(
        self, proxied: ProxiedService, options: CallOptions | None = None, record: Any = None
    ) -> None:
        self._proxied = proxied
        self._options = options or CallOptions()
        self.record = record
        proxied.call_when_described(self._forget_methods)

    # -- methods ---------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Methods that were used before are in the instance's dict, and are found without this.
        if not is_attribute(name):
            raise AttributeError(
                f"a proxy has no attribute {name!r}; a method of that name is proxy[{name!r}]"
            )
        description = self._proxied.description
        if description is not None and description.methods and name not in description.methods:
            raise NoSuchMethod(_no_method(description, name, repr(self._proxied)))
        method = self[name]
        if method.is_known:
            self.__dict__[name] = method
        return method

    def __getitem__(self, name: str) -> ProxyMethod:
        if not isinstance(name, str):
            raise TypeError(f"a method's name is a str, not {type(name).__name__}")
        method = ProxyMethod(self._proxied, name, self._options)
        description, service = self._proxied.description, self._proxied.service
        if description is not None and service is not None:
            known = description.methods.get(name)
            if known is not None:
                method.describe(known, service)
        return method

    def _forget_methods(self) -> None:
        """The service has described itself, perhaps in another way than before."""
        for name, value in list(self.__dict__.items()):
            if isinstance(value, ProxyMethod):
                self.__dict__.pop(name, None)

    def with_(
        self,
        *,
        timeout: float | None = DEFAULT,
        binary: bool | None = None,
        attachments: Sequence[Any] | None = None,
        args: Any = NOT_GIVEN,
    ) -> Proxy:
        """A proxy of the same service whose calls have options; the others are as here.

        :param timeout: seconds for each call; None for no limit.
        :param binary: calls fire with (result, files).
        :param attachments: blocks of binary data to send, each a :class:`~pycomnet.Binary`.
        :param args: the structured arguments as a whole, for a method that takes no map of them.
        """
        mine = self._options
        options = CallOptions(
            mine.timeout if timeout is DEFAULT else timeout,
            mine.binary if binary is None else binary,
            mine.attachments if attachments is None else tuple(attachments),
            mine.args if args is NOT_GIVEN else args,
        )
        return Proxy(self._proxied, options, self.record)

    def batch(self, stop_at_error: bool = False) -> CallBatch:
        """Calls that go in one request: ``async with proxy.batch() as calls: ...``.

        :param stop_at_error: make one call after the other, and none after one that fails.
        """
        return CallBatch(self._proxied, self._options, stop_at_error)

    # -- what is done with any object ------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Proxy of {self._proxied!r}>"

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *OWN, *filter(is_attribute, names_of(self))})

    def _ipython_key_completions_(self) -> list[str]:
        return names_of(self)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Proxy:
            return NotImplemented
        return self._proxied.key == other._proxied.key and self._options == other._options

    def __hash__(self) -> int:
        return hash(self._proxied.key)

    def __copy__(self) -> Proxy:
        return Proxy(self._proxied, self._options, self.record)

    def __deepcopy__(self, memo: object) -> Proxy:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return from_reference, (reference_of(self).as_list(),)


class Documentation:
    """The ``__doc__`` of a class whose instances have documentation of their own.

    :param cls: the class, with its docstring.
    :param text: an instance -> its documentation, or None if it is not known.
    """

    def __init__(self, cls: type, text: Callable[[Any], str | None]) -> None:
        self._of_class = cls.__doc__
        self._text = text

    def __get__(self, instance: Any, owner: type) -> str | None:
        if instance is None:
            return self._of_class
        return self._text(instance) or self._of_class


def documentation_of(proxy: Proxy) -> str | None:
    """The text that ``help`` shows for a proxy: the service's description, once it is known."""
    description = proxied_service(proxy).description
    return None if description is None else description.help()


def _no_method(description: InterfaceSignature, name: str, where: str) -> str:
    near = suggestion(name, description.methods)
    return f"the service {where} has no method {visible_line(name)!r}{near}"


def proxied_service(proxy: Proxy) -> ProxiedService:
    """What a proxy is for."""
    return proxy._proxied  # noqa: SLF001 - its names are its service's


def names_of(proxy: Proxy) -> list[str]:
    """The names of all its methods that are known."""
    description = proxied_service(proxy).description
    return [] if description is None else list(description.methods)


def options_of(proxy: Proxy) -> CallOptions:
    """The options of a proxy's calls."""
    return proxy._options  # noqa: SLF001


def reference_of(proxy: Proxy) -> ServiceReference:
    """What a proxy stands for.

    :raises ValueError: its service is not known yet.
    """
    found = proxied_service(proxy).reference
    if found is None:
        raise ValueError(f"{proxy!r} can't be pickled or sent yet: wait for its service first")
    return found


Proxy.__doc__ = Documentation(Proxy, documentation_of)  # type: ignore[assignment]


# -- making them -----------------------------------------------------------------------------------


@overload
def proxy(
    service: Any, *, interface: type[Service] | None = None, context: Context | None = None
) -> Proxy: ...
@overload
def proxy(service: Any, *, interface: Callable[..., T], context: Context | None = None) -> T: ...
def proxy(service: Any, *, interface: Any = None, context: Context | None = None) -> Any:
    """A proxy of a service. It calls nothing before its first use.

    :param service: a :class:`~pycomnet.RemoteService`, or a Deferred of one; or a proxy.
    :param interface: what the client was written for: a ``typing.Protocol``, which a type checker
        takes for the proxy's type, or the service's own class. If the service differs, the first
        call fails with :class:`InterfaceDiffers`, which says in what.
    :param context: what it calls with, in place of the service's own context. Proxies that arrived
        from another process call without credentials until they get a context.
    """
    if interface is not None and not isinstance(interface, type):
        raise TypeError(f"interface: a Protocol or the service's class, not {interface!r}")
    options, record = None, None
    if isinstance(service, Proxy):
        proxied, options, record = proxied_service(service), options_of(service), service.record
        if context is None and (interface is None or interface is proxied.expected):
            return Proxy(proxied, options, record)
        if context is not None:
            service = context.refers_to(reference_of(service))
        else:
            service = proxied.service or proxied.reach()
    elif context is not None:
        if not isinstance(service, RemoteService):
            raise TypeError("context: give it with a service or a proxy")
        service = context.refers_to(service.reference)
    if not isinstance(service, (RemoteService, defer.Deferred)):
        raise TypeError(
            f"proxy: expected what pycomnet.locate, connect or nameserver gives, "
            f"not {type(service).__name__}"
        )
    return Proxy(ProxiedService(service, interface, CALLERS), options, record)


@deferred
async def locate(
    interface: str, service: str | None = None, *, context: Context | None = None
) -> Proxy:
    """A proxy of any instance of a service that the nameserver knows.

    :param interface: the interface's name.
    :param service: the service's name, to find only this service.
    :param context: by default, the default context.
    :returns: fires with it, as :meth:`pycomnet.Context.locate`.
    """
    found = await (context or default.default_context()).locate(interface, service)
    made: Proxy = proxy(found)
    return made


def _located(service: RemoteService, args: Any, timeout: float | None) -> defer.Deferred[Any]:
    """Call a nameserver's ``locate``; its result is a proxy."""
    return defer.Deferred.fromCoroutine(_locate(service, args, timeout))


async def _locate(nameserver: RemoteService, args: Any, timeout: float | None) -> Proxy:
    wanted = args if isinstance(args, dict) else {}
    interface, service, tags = (wanted.get(key) for key in ("interface", "service", "tags"))
    if interface == NAMESERVER and service is None:
        # It has no registration of itself.
        reference = nameserver.reference
        address = reference.address or reference.nameserver
        return _made(nameserver, {"interfaces": [NAMESERVER], "address": address})
    record = await nameserver.invoke("locate", args, timeout)
    found = record["interfaces"]
    if interface is None and len(found) == 1:
        interface = found[0]
    context = nameserver.context
    asked = nameserver.reference.address
    if asked is not None:
        context = context.asking(asked)
    if interface is None:  # one of several: each call's error demands that it is named
        return _made(context.at(addresses_of(record)[0], None), record)
    named = record["service"] if service is not None or tags else None
    return _made(await context.locate(interface, named), record)


def _made(service: RemoteService, record: Any) -> Proxy:
    return Proxy(ProxiedService(service, None, CALLERS), None, record)


#: The methods whose results become proxies.
CALLERS: Callers = {(NAMESERVER, "locate"): _located}


def from_reference(value: Any) -> Proxy:
    """The proxy of a reference, which came from another process or from a file.

    It calls without this process's credentials, as the address is another's choice; ``proxy(it,
    context=...)`` calls with those of a context.
    """
    reference = ServiceReference.from_list(value)
    return Proxy(ProxiedService(partial(_guest, reference), None, CALLERS, reference))


def _guest(reference: ServiceReference) -> RemoteService:
    return default.guest_context().refers_to(reference)


def _dump(sent: Proxy) -> list[str | None]:
    return reference_of(sent).as_list()


register_type(Proxy, WIRE_NAME, _dump, from_reference)
