"""From the name of a module to the services that it defines."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from pycomnet.errors import ServiceNotLoaded
from pycomnet.services.interface import Service


def load(name: str, options: Mapping[str, Any] | None = None) -> list[Service]:
    """Make the services that a name stands for.

    :param name: ``MODULE`` for each service class that this module itself defines, or
        ``MODULE:NAME`` for the class, the instance, or the function that makes one, of that name.
    :param options: keyword arguments that the classes, or the function, are called with.
    :raises ServiceNotLoaded: it can't be imported, there is no service, or making it failed.
    """
    module_name, colon, attribute = name.partition(":")
    module = _import(module_name)
    if not colon:
        classes = _classes(module)
        if not classes:
            raise ServiceNotLoaded(
                f"module {module_name!r} defines no service: no subclass of pycomnet.Service with "
                f"an interface"
            )
        return [_make(f"{module_name}:{cls.__name__}", cls, options) for cls in classes]
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ServiceNotLoaded(
                f"module {module_name!r} has no {attribute!r}; its services are: "
                f"{', '.join(cls.__name__ for cls in _classes(module)) or 'none'}"
            )
        target = getattr(target, part)
    return [_make(name, target, options)]


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        hint = name.removesuffix(".py").replace("/", ".").strip(".")
        raise ServiceNotLoaded(f"{name!r} is a file; name the module: {hint}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ServiceNotLoaded(f"{name!r} is no module's name; expected MODULE or MODULE:NAME")
    try:
        return import_module(name)
    except Exception as problem:
        if isinstance(problem, ModuleNotFoundError) and _is_part(problem.name, name):
            raise ServiceNotLoaded(
                f"there is no module {problem.name!r} in: "
                f"{', '.join(path or '.' for path in sys.path)}"
            ) from None
        raise ServiceNotLoaded(f"can't import module {name!r}:\n{_brief(problem)}") from problem
    except SystemExit as problem:
        raise ServiceNotLoaded(f"module {name!r} exits when it is imported") from problem


def _is_part(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(f"{missing}."))


def _brief(problem: BaseException) -> str:
    """A traceback without what the import system and this module add to it."""
    frames = problem.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename.startswith("<frozen importlib")
        or frames.tb_frame.f_globals.get("__name__") in (__name__, "importlib")
    ):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(problem), problem, frames)).rstrip()


def _classes(module: ModuleType) -> list[type[Service]]:
    """The service classes that a module defines itself, in the order in which it does.

    Where one of them is the base of another, which has all of its interfaces, it is left out: the
    other is what it was made for.
    """
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Service)
        and value.interfaces
        and value.__module__ == module.__name__
    ]
    return [
        cls
        for cls in found
        if not any(other is not cls and issubclass(other, cls) for other in found)
    ]


def _make(name: str, target: Any, options: Mapping[str, Any] | None) -> Service:
    made = target
    if not isinstance(target, Service):
        if not callable(target):
            raise ServiceNotLoaded(f"{name} is no service, but a {type(target).__name__}")
        try:
            made = target(**(options or {}))
        except (Exception, SystemExit) as problem:
            raise ServiceNotLoaded(f"can't make {name}:\n{_brief(problem)}") from problem
    elif options:
        raise ServiceNotLoaded(f"{name} is a service that is made already; it takes no options")
    if not isinstance(made, Service):
        raise ServiceNotLoaded(f"{name} gives no service, but a {type(made).__name__}")
    if not made.interfaces:
        raise ServiceNotLoaded(f"{name} has no interface: decorate its class with @interface(...)")
    return made
