"""Modules that a far side may import from here: the offer, and the replies to its requests.

A far side gets only what it was offered (docs/protocol.rst, "Modules"): a requested name is looked
up within the offer, and never imported here.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import sys
from collections import deque
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pycomnet.errors import ChannelClosed, CodeNotSendable, ConnectionLost, PycomnetError
from pycomnet.far.modules import UNSENDABLE
from pycomnet.gateways.modulefiles import (
    SOURCES,
    ModuleRefused,
    check_within,
    entry_of,
    find_within,
    kind_of,
    names_in,
    parts_of,
    read_file,
    source_of,
)
from pycomnet.text.logs import Logger

log = Logger()

#: The most bytes of further sources in one reply: few enough for a slow line.
MAX_SOURCES = 262144
#: The far name of a program without a name of its own: a zip file or directory that is run.
PROGRAM = "__program__"


@attrs.frozen
class OfferedRoot:
    """A top-level name that is offered.

    :ivar spec: where it is.
    :ivar named: whether it was named, and not found in a directory.
    :ivar own: whether it is a package of :mod:`pycomnet.far`, whose list is sent with the offer.
    """

    spec: ModuleSpec
    named: bool = True
    own: bool = False


@attrs.frozen
class ModuleOffer:
    """The modules that are offered to far sides.

    :ivar roots: name -> root.
    :ivar last: names that a far side uses only if it has no such module of its own.
    :ivar main: the far name of ``__main__``, if that is offered.
    """

    roots: dict[str, OfferedRoot]
    last: frozenset[str] = frozenset()
    main: str | None = None

    @classmethod
    def of(cls, modules: Iterable[str | os.PathLike[str]]) -> ModuleOffer:
        """Make an offer of modules, packages and directories.

        :param modules: names, or directories: a ``Path``, or text with a separator in it.
        :raises CodeNotSendable: one does not exist, or can't be offered.
        """
        if isinstance(modules, str | os.PathLike):
            modules = [modules]
        offer = cls({})
        for each in modules:
            if isinstance(each, str) and not _is_path(each):
                offer = offer.and_also(_by_name(each))
            else:
                offer = offer.and_also(_directory(os.fspath(each)))
        return offer

    @classmethod
    @functools.cache
    def far_package(cls, name: str, package: ModuleType) -> ModuleOffer:
        """Offer a package of :mod:`pycomnet.far` under a name of its own.

        It is the same offer each time, so a fork server uses its compiled code again.

        :param name: its top-level name at the far side.
        """
        file = package.__file__
        assert file is not None
        spec = importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=[os.path.dirname(file)]
        )
        assert spec is not None
        return cls({name: OfferedRoot(spec, named=False, own=True)})

    def and_also(self, other: ModuleOffer) -> ModuleOffer:
        """The union of both; ``other`` wins where they differ."""
        return ModuleOffer(
            {**self.roots, **other.roots},
            (self.last - other.roots.keys()) | other.last,
            other.main or self.main,
        )

    def as_map(self, known: ModuleOffer, unless: str | None = None) -> dict[str, Any]:
        """Its form on the wire.

        Of this package's own packages it has the lists of modules, so that the far side does not
        have to ask for them, which takes a round trip.

        :param known: the earlier offers to the far side.
        """
        offered: dict[str, Any] = {
            "first": [name for name in self.roots if name not in self.last],
            "last": sorted(self.last),
        }
        lists = {
            name: self._list(name)
            for name, root in self.roots.items()
            if root.own and known.roots.get(name) is not root
        }
        if lists:
            offered["lists"] = lists
        return {**offered, "unless": unless} if unless else offered

    # -- functions that are imported there -------------------------------------------------------

    def where(self, value: Any) -> str | None:
        """``module:name`` by which the far side can import a function or another value, or None.

        :param value: a callable: a function, a class, a method of a class or of an object that is a
            global of a module.
        """
        path = getattr(value, "__qualname__", None)
        if path is not None:
            module = self._name_there(getattr(value, "__module__", None))
            if module and _found(value.__module__, path, value):
                return f"{module}:{path}"
        holder = getattr(value, "__self__", None)
        if holder is not None and not isinstance(holder, ModuleType):
            of_holder = self.where(holder)
            name = getattr(value, "__name__", "")
            return f"{of_holder}.{name}" if of_holder and name.isidentifier() else None
        return self._global(value) if path is None else None

    def _name_there(self, module: str | None) -> str | None:
        if module == "__main__":
            return self.main
        if module is None:
            return None
        top = module.partition(".")[0]
        root = self.roots.get(top)
        if root is None or not (root.named or _is_same(sys.modules.get(top), root.spec)):
            return None
        return module

    def _global(self, value: Any) -> str | None:
        """As :meth:`where`, for an object without a name: a global of an offered module."""
        for module_name, module in list(sys.modules.items()):
            there = self._name_there(module_name)
            if there is not None and isinstance(module, ModuleType):
                for name, found in list(vars(module).items()):
                    if found is value:
                        return f"{there}:{name}"
        return None

    # -- replies ---------------------------------------------------------------------------------

    def answer(self, request: Any) -> Any:
        """The reply to a far side's request (docs/protocol.rst, "Modules").

        :raises ModuleRefused: it is refused; the far side gets the reason.
        """
        match request:
            case {"list": str(name)}:
                return self._list(name)
            case {"source": [*names]}:
                return self._sources(names)
            case {"data": [str(package), str(path)]}:
                return read_file(self._file(package, path))
            case {"names": [str(package), str(path)]}:
                return names_in(self._file(package, path))
        raise ModuleRefused("not a valid request for a module")

    def _find(self, fullname: str) -> ModuleSpec | None:
        """Find a module, if it is offered and exists."""
        parts = fullname.split(".")
        if not all(part.isidentifier() for part in parts):
            raise ModuleRefused(f"{fullname[:200]!r} is no module's name")
        root = self.roots.get(parts[0])
        if root is None:
            raise ModuleRefused(
                f"the module {fullname[:200]} was not offered: gateway.send_modules({parts[0]!r})"
            )
        spec: ModuleSpec | None = root.spec
        for at in range(1, len(parts)):
            if spec is None or spec.submodule_search_locations is None:
                return None
            within = list(spec.submodule_search_locations)
            spec = find_within(parts[at], within)
            if spec is not None and spec.origin is not None and spec.has_location:
                check_within(spec.origin, within, fullname)
            elif spec is not None:
                for location in spec.submodule_search_locations or ():
                    check_within(location, within, fullname)
        return spec

    def _list(self, name: str) -> list[Any]:
        spec = self._find(name)
        if spec is None:
            return []
        entries = [entry_of(name, spec)]
        for part in parts_of(spec):
            try:
                found = self._find(f"{name}.{part}")
            except ModuleRefused:
                continue  # a link out of the package
            if found is not None:
                entries.append(entry_of(f"{name}.{part}", found))
        return entries

    def _sources(self, names: list[Any]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        size = 0
        for name in names:
            spec = self._find(name) if isinstance(name, str) else None
            source = None if spec is None else source_of(spec)
            if source is None:
                if not found:
                    raise ModuleRefused(f"there is no source of {str(name)[:200]}")
                continue
            size += len(source)
            if found and size > MAX_SOURCES:
                break
            found[name] = source
        return found

    def _file(self, package: str, path: str) -> str:
        """The path of a file or directory of a package."""
        spec = self._find(package)
        parts = path.split("/") if path else []
        if any(part in ("", ".", "..") or set(part) & set("\\\0") for part in parts) or (
            parts and os.path.isabs(path)
        ):
            raise ModuleRefused(f"{path[:200]!r} is no path within the package {package}")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleRefused(f"{package} is no package")
        named = self.roots[package.partition(".")[0]].named
        if spec.origin is None and not named:
            raise ModuleRefused(f"{package} has no __init__.py: the data in it is not offered")
        within = list(spec.submodule_search_locations)
        for location in within:
            whole = os.path.join(location, *parts)
            if os.path.lexists(whole):
                check_within(whole, within, path)
                return whole
        if within and not os.path.isdir(within[0]):
            return os.path.join(within[0], *parts)  # in a zip file, perhaps
        raise ModuleRefused(f"the package {package} has no file {path[:200]!r}")


class ModuleSource:
    """Answers one far side's requests, each on a channel that the far side opens.

    It answers one request at a time, and begins the next when the transport has the previous reply.
    So even if a far side requests much and reads slowly, only one reply is in memory here.
    """

    def __init__(self) -> None:
        self.offer = ModuleOffer({})
        self._waiting: deque[Any] = deque()
        self._busy = False

    def accept(self, core: Any) -> None:
        """Accept a channel with a request."""
        self._waiting.append(core)
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._reply_to_all())

    async def _reply_to_all(self) -> None:
        while self._waiting:
            core = self._waiting.popleft()
            answered = core.receive().addCallback(self._reply, core)
            await answered.addErrback(_refuse, core).addErrback(_log_failure)
        self._busy = False

    def _reply(self, request: Any, core: Any) -> Any:
        sent = core.send(core.connection.encode(self.offer.answer(request)))
        core.close()
        return sent


def _refuse(failure: Failure, core: Any) -> Failure | None:
    if failure.check(ChannelClosed, ConnectionLost):
        return None  # nobody waits for the reply
    problem: Any = failure.value
    if isinstance(problem, PycomnetError | OSError):
        core.close(problem)
        return None
    core.close(ModuleRefused(f"it can't be read: {type(problem).__name__}: {problem}"))
    return failure


def _log_failure(failure: Failure) -> None:
    log.failure("a far side's request for a module has failed", failure)


# -- what is offered ------------------------------------------------------------------------------


def _is_path(text: str) -> bool:
    return os.sep in text or "/" in text or text in (".", "..")


def _by_name(name: str) -> ModuleOffer:
    if name == "__main__":
        return _main()
    if not name.isidentifier():
        hint = f": offer {name.partition('.')[0]!r}" if "." in name else ""
        raise CodeNotSendable(
            f"expected the name of a top-level module, or a directory, not {name!r}{hint}"
        )
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as problem:
        raise CodeNotSendable(f"module {name}: it can't be found: {problem}") from None
    if spec is None:
        raise CodeNotSendable(f"module {name}: there is none of that name here")
    if not spec.submodule_search_locations and source_of(spec) is None:
        raise CodeNotSendable(f"module {name} has no Python source, so it can't be sent")
    if spec.submodule_search_locations is not None and spec.origin is None:
        # A copy: the module that is imported here keeps its own list.
        places = list(spec.submodule_search_locations)
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = places
    return ModuleOffer({name: OfferedRoot(spec)})


def _main() -> ModuleOffer:
    """The offer of the program itself, which is imported there by its file's name."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name == "__main__":  # the __main__.py of a zip file or directory
        _check_guard(source_of(spec))
        return ModuleOffer({PROGRAM: OfferedRoot(_as_program(spec))}, main=PROGRAM)
    filename = getattr(main, "__file__", None)
    if spec is not None and spec.name:  # python -m
        name = spec.name.removesuffix(".__main__")
        top = _by_name(name.partition(".")[0])
        _check_guard(source_of(spec))
        return attrs.evolve(top, main=spec.name)
    if not filename or not os.path.isfile(filename):
        raise CodeNotSendable(
            "__main__ has no file here, so it can't be sent: put what is needed into a module"
        )
    name = Path(filename).stem
    if not name.isidentifier():
        raise CodeNotSendable(f"__main__ can't be imported there: {name!r} is no module's name")
    found = importlib.util.spec_from_file_location(name, os.path.abspath(filename))
    if found is None:
        raise CodeNotSendable(f"__main__ can't be sent: {filename!r} is no Python source")
    _check_guard(source_of(found))
    return ModuleOffer({name: OfferedRoot(found)}, main=name)


def _as_program(spec: ModuleSpec) -> ModuleSpec:
    return ModuleSpec(PROGRAM, spec.loader, origin=spec.origin)


def _check_guard(source: bytes | None) -> None:
    """Refuse an unguarded program: imported there, it would start gateways in turn."""
    if source is None:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.If) and any(
            isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
        ):
            return
    raise CodeNotSendable(
        "__main__ is imported where its functions run, and would do there what it does here: put "
        'what it does under: if __name__ == "__main__":'
    )


def _directory(path: str) -> ModuleOffer:
    path = os.path.realpath(path)
    if not os.path.isdir(path):
        raise CodeNotSendable(f"modules are offered by name or directory; {path!r} is none")
    roots: dict[str, OfferedRoot] = {}
    last = set()
    try:
        names = sorted(os.listdir(path))
    except OSError as problem:
        raise CodeNotSendable(f"the directory {path!r} can't be read: {problem}") from None
    for file_name in names:
        name = file_name.removesuffix(".py")
        whole = os.path.join(path, file_name)
        if not name.isidentifier() or name in roots or name == "__pycache__":
            continue
        if not file_name.endswith(SOURCES) and not os.path.isdir(whole):
            continue
        spec = find_within(name, [path])
        if spec is None:
            continue
        if spec.submodule_search_locations is not None and spec.origin is None:
            last.add(name)
        elif not (spec.origin and kind_of(spec) != UNSENDABLE):
            continue
        try:
            for where in [spec.origin] if spec.origin else spec.submodule_search_locations or ():
                check_within(where, [path], name)
        except ModuleRefused:
            continue
        roots[name] = OfferedRoot(spec, named=False)
    main = sys.modules["__main__"]
    filename = getattr(main, "__file__", None)
    own = None
    found = roots.pop("__main__", None)  # a far side has one of its own
    if filename and os.path.dirname(os.path.realpath(filename)) == path:
        own = Path(filename).stem
        if own == "__main__" and found is not None:
            own = PROGRAM
            roots[own] = OfferedRoot(_as_program(found.spec), named=False)
        try:
            _check_guard(source_of(roots[own].spec) if own in roots else None)
        except CodeNotSendable:
            own = None
    return ModuleOffer(roots, frozenset(last), own if own in roots else None)


def _is_same(module: Any, spec: ModuleSpec) -> bool:
    """Whether a module that is imported here is the offered module."""
    file = getattr(module, "__file__", None)
    if file is None or spec.origin is None:
        return spec.origin is None and file is None
    return bool(os.path.realpath(file) == os.path.realpath(spec.origin))


def _found(module: str, path: str, value: Any) -> bool:
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        if not name.isidentifier() or (found := getattr(found, name, None)) is None:
            return False
    return found is value or (hasattr(value, "__self__") and bool(found == value))


__all__ = ["ModuleRefused", "ModuleSource", "ModuleOffer"]
