"""Stores of runs, by the word before the colon: ``sqlite:PATH``, ``postgresql://HOST/DATABASE``,
``memory:``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from pycomnet.ext.workflow.errors import RunStoreFailed

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore

#: The word -> a module and a function that makes a store of what follows the colon, and a reactor.
SCHEMES = {
    "memory": ("pycomnet.ext.workflow.stores.sqlite", "make_memory_store"),
    "postgresql": ("pycomnet.ext.workflow.stores.postgresql", "make_postgresql_store"),
    "sqlite": ("pycomnet.ext.workflow.stores.sqlite", "make_sqlite_store"),
}


def make_run_store(description: str, reactor: IReactorTime) -> IRunStore:
    """Make a store; it is not opened.

    :raises RunStoreFailed: there is no such kind of store, or it needs something else.
    """
    scheme, colon, rest = description.partition(":")
    if not colon or scheme not in SCHEMES:
        # What follows may have a password.
        got = f"{scheme}:" if "//" in rest else description
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise RunStoreFailed(f"expected a store, one of {known} got {got!r:.100}")
    module, function = SCHEMES[scheme]
    try:
        found = import_module(module)
    except ModuleNotFoundError as missing:
        text = f"{scheme}: needs {missing.name}: pip install 'pycomnet[{scheme}]'"
        raise RunStoreFailed(text) from None
    except ImportError as problem:  # psycopg without libpq
        raise RunStoreFailed(f"{scheme}: {' '.join(str(problem).split()):.500}") from None
    made: IRunStore = getattr(found, function)(rest, reactor)
    return made


__all__ = ["SCHEMES", "make_run_store"]
