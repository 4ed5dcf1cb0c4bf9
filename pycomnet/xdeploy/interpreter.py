"""The far side's interpreter: the wheels that it can use, and the values of its markers."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from packaging import tags as packaging_tags
from packaging.markers import default_environment
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from pycomnet.text.printable import visible

#: The older names of some manylinux platforms (PEP 600).
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
#: The first glibc for which there are manylinux platforms.
FIRST_GLIBC = {"x86_64": 5, "i686": 5}
OTHER_FIRST_GLIBC = 17


#: The highest number that a part of a version may be: there is a tag for each older version.
MAX_NUMBER = 99
#: The most characters of a text among the facts.
MAX_TEXT = 4096


@attrs.frozen
class FarInterpreter:
    """An interpreter, as its far side describes it (far/xdeploy/interpreter.py).

    :ivar implementation: ``cpython``, ``pypy``.
    :ivar version: major, minor and micro version.
    :ivar suffix: the end of its extension modules' names.
    :ivar platform: its platform, as :func:`sysconfig.get_platform` has it.
    :ivar libc: the C library's name and version; empty if they are not known.
    :ivar mac: macOS's version and architecture; empty elsewhere.
    :ivar narrow: whether its pointers have 32 bits.
    :ivar markers: the values of environment markers.
    :ivar executable: its path there.
    """

    implementation: str
    version: tuple[int, int, int]
    suffix: str
    platform: str
    libc: tuple[str, str]
    mac: tuple[str, str]
    narrow: bool
    free_threaded: bool
    debug: bool
    markers: dict[str, str] = attrs.field(hash=False)
    executable: str = ""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> FarInterpreter:
        """Read the facts that a far side has sent.

        :raises KeyError, ValueError: they are not the facts of an interpreter. They are checked, as
            the number of tags follows from them.
        """
        _check(facts)
        return cls(
            implementation=facts["implementation"],
            version=tuple(facts["version"]),
            suffix=facts["suffix"],
            platform=facts["platform"],
            libc=tuple(facts["libc"]),
            mac=tuple(facts["mac"]),
            narrow=facts["narrow"],
            free_threaded=facts["free_threaded"],
            debug=facts["debug"],
            markers=dict(facts["markers"]),
            executable=facts["executable"],
        )

    @property
    def python_version(self) -> str:
        """Its version, ``3.11.2``."""
        return ".".join(str(part) for part in self.version)

    def __str__(self) -> str:
        name = self.markers.get("platform_python_implementation", self.implementation)
        return visible(f"{name[:100]} {self.python_version} on {self.platform[:100]}")

    @property
    def key(self) -> str:
        """Identifies what can be resolved for it: a hash of its tags and markers."""
        # The kernel's version changes often, and hardly a requirement depends on it.
        markers = {
            name: value
            for name, value in self.markers.items()
            if name not in ("platform_release", "platform_version")
        }
        facts = [self.tag_texts(), sorted(markers.items())]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def tag_texts(self) -> list[str]:
        """Its tags as text, the best first."""
        return [str(tag) for tag in tags_of(self)]

    def supports_wheel(self, filename: str) -> bool:
        """Whether it can use a wheel of this name."""
        return not parse_wheel_filename(filename)[3].isdisjoint(tags_of(self))

    def supports_wheel_built_here(self, filename: str) -> bool:
        """Whether it can use a wheel that was built here.

        ``linux_x86_64`` does not say which C library it needs, so a wheel with extension modules is
        used only where that is not older.
        """
        if not self.supports_wheel(filename):
            return False
        platforms = {tag.platform for tag in parse_wheel_filename(filename)[3]}
        if "any" in platforms or not any(name.startswith("linux_") for name in platforms):
            return True
        own = own_interpreter()
        if not self.libc[0]:
            return False
        return self.libc[0] == own.libc[0] and _numbers(own.libc[1]) <= _numbers(self.libc[1])

    def is_like_this_one(self) -> bool:
        """Whether pip can resolve for it as for the interpreter that runs this program."""
        mine, its = default_environment(), self.markers
        same = all(
            its.get(name) == value
            for name, value in mine.items()
            if name not in ("platform_release", "platform_version", "extra")
        )
        return same and set(tags_of(self)) == set(packaging_tags.sys_tags())


def _check(facts: dict[str, Any]) -> None:
    """Check the facts of a far side, which may be hostile.

    :raises KeyError, ValueError: what is wrong.
    """
    version, libc, mac, markers = (facts[key] for key in ("version", "libc", "mac", "markers"))
    texts = [facts[key] for key in ("implementation", "suffix", "platform", "executable")]
    if not all(isinstance(each, (list, tuple)) for each in (version, libc, mac)):
        raise ValueError("expected lists")
    if not isinstance(markers, dict) or not markers.keys() <= default_environment().keys():
        raise ValueError("expected markers")
    texts += [*libc, *mac, *markers.values()]
    if not all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts):
        raise ValueError("expected short texts")
    flags = [facts[key] for key in ("narrow", "free_threaded", "debug")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise ValueError("expected flags")
    if not all(type(part) is int for part in version):
        raise ValueError("expected numbers")
    if (len(version), len(libc), len(mac)) != (3, 2, 2):
        raise ValueError("expected three numbers and two texts each")
    numbers = [*version, *_numbers(libc[1])[:2], *_numbers(mac[0])[:2]]
    if not all(0 <= number <= MAX_NUMBER for number in numbers):
        raise ValueError("no such version")


@functools.cache
def own_interpreter() -> FarInterpreter:
    """The interpreter that runs this program."""
    from pycomnet.far.xdeploy import interpreter

    ask: Callable[[], dict[str, Any]] = interpreter.facts
    return FarInterpreter.of(ask())


@functools.lru_cache(maxsize=64)
def tags_of(interpreter: FarInterpreter) -> tuple[Tag, ...]:
    """The tags of wheels that an interpreter can use, the best first."""
    platforms = list(_platforms(interpreter))
    version = interpreter.version[:2]
    digits = "".join(str(part) for part in version)
    if interpreter.implementation == "cpython":
        own = packaging_tags.cpython_tags(version, _cpython_abis(interpreter), platforms)
        name = f"cp{digits}"
    else:
        prefix = {"pypy": "pp"}.get(interpreter.implementation, interpreter.implementation)
        name = f"{prefix}{digits}"
        own = packaging_tags.generic_tags(name, _other_abis(interpreter), platforms)
        if prefix == "pp":
            name = "pp3"
    found = [*own, *packaging_tags.compatible_tags(version, name, platforms)]
    if interpreter.free_threaded:
        # Older releases of packaging find the stable ABI there, too: such a module crashes.
        found = [tag for tag in found if tag.abi != "abi3"]
    return tuple(dict.fromkeys(found))


def _cpython_abis(interpreter: FarInterpreter) -> list[str]:
    digits = "".join(str(part) for part in interpreter.version[:2])
    threads = "t" if interpreter.free_threaded and interpreter.version >= (3, 13) else ""
    debug = "d" if interpreter.debug else ""
    malloc = "m" if interpreter.version < (3, 8) else ""
    abis = [f"cp{digits}{threads}{debug}{malloc}"]
    if debug and interpreter.version >= (3, 8):
        abis.append(f"cp{digits}{threads}")  # debug builds load extension modules of others
    return abis


def _other_abis(interpreter: FarInterpreter) -> list[str]:
    # .pypy39-pp73-x86_64-linux-gnu.so
    parts = interpreter.suffix.split(".")
    soabi = parts[1] if len(parts) > 2 else ""
    if soabi.startswith("pypy"):
        soabi = "-".join(soabi.split("-")[:2])
    return [_normal(soabi)] if soabi else []


def _normal(text: str) -> str:
    return re.sub(r"[-. ]", "_", text)


def _platforms(interpreter: FarInterpreter) -> Iterator[str]:
    """The platforms of wheels, the best first."""
    platform = _normal(interpreter.platform)
    if platform.startswith("macosx_") and interpreter.mac[0]:
        version = _numbers(interpreter.mac[0])
        arch = interpreter.mac[1]
        if interpreter.narrow:
            arch = {"x86_64": "i386"}.get(arch, "ppc")
        yield from packaging_tags.mac_platforms((version[0], version[1]), arch)
        return
    if not platform.startswith("linux_"):
        yield platform
        return
    arch = platform.removeprefix("linux_")
    if interpreter.narrow:
        arch = {"x86_64": "i686", "aarch64": "armv8l"}.get(arch, arch)
    archs = {"armv8l": ["armv8l", "armv7l"]}.get(arch, [arch])
    yield from (f"linux_{each}" for each in archs)
    name, version_text = interpreter.libc
    if name and version_text:
        major, minor = _numbers(version_text)[:2]
        if name == "glibc":
            yield from _manylinux(archs, minor)
        else:
            for each in archs:
                yield from (f"musllinux_{major}_{n}_{each}" for n in range(minor, -1, -1))


def _manylinux(archs: list[str], minor: int) -> Iterator[str]:
    for arch in archs:
        first = FIRST_GLIBC.get(arch, OTHER_FIRST_GLIBC)
        for number in range(minor, first - 1, -1):
            yield f"manylinux_2_{number}_{arch}"
            if number in LEGACY:
                yield f"{LEGACY[number]}_{arch}"


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part) for part in re.findall(r"\d+", text)[:3])
    return found if len(found) > 1 else (*found, 0, 0)[:2]
