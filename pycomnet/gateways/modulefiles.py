"""What a module's spec leads to: its kind, its source, the modules in it, and its data files.

Nothing is imported here, and no path may lead out of the directories that were offered.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import pkgutil
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from pycomnet.errors import PycomnetError
from pycomnet.far.modules import MODULE, NAMESPACE, PACKAGE, UNSENDABLE

#: The most bytes of a module's source or of a data file: each is read in one piece.
MAX_FILE = 67108864
#: The most names in a reply about a directory.
MAX_NAMES = 65536
#: The suffixes of Python's source files.
SOURCES = tuple(importlib.machinery.SOURCE_SUFFIXES)


class ModuleRefused(PycomnetError):
    """A far side requested something that was not offered, or does not exist."""


def find_within(name: str, directories: list[str]) -> ModuleSpec | None:
    """Find a module in one of some directories."""
    # By its last name only: for its full name the package would have to be imported here.
    spec = importlib.machinery.PathFinder.find_spec(name, directories)
    return None if spec is None else _frozen(spec)


def _frozen(spec: ModuleSpec) -> ModuleSpec:
    """Fix its locations: those of a namespace package change with ``sys.path``."""
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations = list(spec.submodule_search_locations)
    return spec


def check_within(path: str, roots: Iterable[str], name: str) -> None:
    """Refuse a path that a symbolic link leads out of the roots.

    :raises ModuleRefused: it does.
    """
    real = os.path.realpath(path)
    for root in roots:
        root = os.path.realpath(root)
        if real == root or real.startswith(root.rstrip(os.sep) + os.sep):
            return
    raise ModuleRefused(f"{name[:200]} leads out of what was offered")


def kind_of(spec: ModuleSpec) -> int:
    """Its kind at a far side: a module, a package, a namespace, or nothing that can be sent."""
    if spec.submodule_search_locations is not None and spec.origin is None:
        return NAMESPACE
    if spec.origin is None or not spec.origin.endswith(SOURCES):
        return UNSENDABLE
    return MODULE if spec.submodule_search_locations is None else PACKAGE


def entry_of(name: str, spec: ModuleSpec) -> list[Any]:
    """A module in the reply about a package: its name, kind, location, and its source's hash."""
    kind = kind_of(spec)
    if kind == NAMESPACE:
        return [name, kind, next(iter(spec.submodule_search_locations or ()), ""), b""]
    source = source_of(spec)
    if source is None:
        return [name, UNSENDABLE, spec.origin or name, b""]
    return [name, kind, spec.origin, hashlib.sha256(source).digest()]


def source_of(spec: ModuleSpec) -> bytes | None:
    """The source; None if there is none, or if it is longer than :data:`MAX_FILE`."""
    if kind_of(spec) in (NAMESPACE, UNSENDABLE) or spec.origin is None:
        return None
    get_data = getattr(spec.loader, "get_data", None)
    if get_data is None:
        return None
    try:
        if os.path.exists(spec.origin) and os.path.getsize(spec.origin) > MAX_FILE:
            return None
        data: bytes = get_data(spec.origin)
    except OSError:
        return None
    return data


def parts_of(spec: ModuleSpec) -> list[str]:
    """The names of the modules that are directly in a package."""
    locations = list(spec.submodule_search_locations or ())
    names = {found.name for found in pkgutil.iter_modules(locations)}
    for location in locations:
        try:
            with os.scandir(location) as entries:
                names |= {entry.name for entry in entries if entry.is_dir()}
        except OSError:
            continue  # a zip file
    names.discard("__pycache__")
    return sorted(name for name in names if name.isidentifier())


def read_file(path: str) -> bytes:
    """The contents of a data file, which may be in a zip file.

    :raises ModuleRefused: it is not a file, is too long, or can't be read.
    """
    try:
        if os.path.isfile(path):
            if os.path.getsize(path) > MAX_FILE:
                raise ModuleRefused(f"{os.path.basename(path)!r} is longer than {MAX_FILE} bytes")
            return Path(path).read_bytes()
        if not os.path.lexists(path):
            return _read_from_zip(path)
    except OSError as problem:
        raise ModuleRefused(f"{os.path.basename(path)!r}: {problem.strerror}") from None
    raise ModuleRefused(f"{os.path.basename(path)!r} is no file")


def _read_from_zip(path: str) -> bytes:
    archive = path
    while archive != os.path.dirname(archive):
        archive = os.path.dirname(archive)
        if os.path.isfile(archive):
            importer: Any = pkgutil.get_importer(archive)
            data: bytes = importer.get_data(path)
            return data
    raise ModuleRefused(f"there is no file {os.path.basename(path)!r}")


def names_in(path: str) -> list[list[Any]]:
    """The names in a directory, each with whether it is a directory.

    :raises ModuleRefused: it can't be read.
    """
    try:
        with os.scandir(path) as entries:
            found = [[entry.name, entry.is_dir()] for entry in entries]
    except OSError as problem:
        raise ModuleRefused(f"{os.path.basename(path)!r}: {problem.strerror}") from None
    return sorted(found)[:MAX_NAMES]
