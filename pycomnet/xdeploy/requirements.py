"""Requirements: read, checked and in one form, so that equal ones are known to be equal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pycomnet.errors import PycomnetError

#: pip's option with the hash of a file that may be taken for a requirement.
_HASH = re.compile(r"\s--hash(?:=|\s+)(\S+)")
#: A hash of a kind that pip takes.
_HASH_VALUE = re.compile(
    r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}", re.ASCII | re.IGNORECASE
)
#: What an environment may be called: it becomes a file's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class InvalidRequirements(PycomnetError, ValueError):
    """The requirements or the name of an environment can't be read; the message says which part."""


def check_name(name: object) -> str:
    """Check an environment's name.

    :raises InvalidRequirements: it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequirements(
            f"an environment's name is 1 to 100 letters, digits, dots, dashes and underscores, and "
            f"begins with a letter or digit; not {name!r}"
        )
    return name


@attrs.frozen
class Requirements:
    """What is wanted in an environment.

    :ivar lines: requirements in one form (PEP 508), sorted, each once; with the hashes of the files
        that may be taken, as pip's option ``--hash``.
    :ivar constraints: likewise: which versions may be taken of what is needed, without being wanted
        themselves.
    """

    lines: tuple[str, ...]
    constraints: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str | Iterable[str], constraints: str | Iterable[str] = ()) -> Requirements:
        """Read requirements.

        :param given: text with a requirement on each line, with comments and continued lines as in
            a file for pip; or several such lines.
        :param constraints: likewise.
        :raises InvalidRequirements: a line is none; the message says which.
        """
        limits = _read(constraints, "constraints")
        for line in limits:
            if Requirement(_HASH.sub("", line)).extras:
                raise InvalidRequirements(
                    f"the constraint {line!r} has extras: it says which version is taken, and not "
                    "what is wanted"
                )
        return cls(_read(given, "requirements"), limits)

    @property
    def hashed(self) -> bool:
        """Whether there are hashes: then pip takes nothing that has none."""
        return any(_HASH.search(line) for line in (*self.lines, *self.constraints))

    @property
    def key(self) -> str:
        """Identifies them."""
        limits = [f"-c {line}" for line in self.constraints]
        return hashlib.sha256("\n".join([*self.lines, *limits]).encode()).hexdigest()

    @property
    def fixed(self) -> bool:
        """Whether what they resolve to may be kept: none is a file or directory, which change."""
        return not any(map(_is_file, (*self.lines, *self.constraints)))

    def __str__(self) -> str:
        return ", ".join(_HASH.sub("", line) for line in self.lines) or "nothing"


def _is_file(line: str) -> bool:
    """Whether a requirement is a file or directory of this machine, also as ``git+file:``."""
    scheme = (Requirement(_HASH.sub("", line)).url or "").partition(":")[0].lower()
    return scheme.rpartition("+")[2] == "file"


def _read(given: str | Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(given, str):
        given = given.splitlines()
    return tuple(sorted({_normal(text, number, what) for number, text in _joined(given) if text}))


def _joined(given: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The lines without comments, continued ones joined: the number of the first, and the text."""
    begun = ""
    first = None
    for number, line in enumerate(given, 1):
        if not isinstance(line, str):
            raise InvalidRequirements(f"a requirement is text, not {line!r}")
        first = first or number
        text = re.sub(r"(^|\s)#.*", "", line)
        if text.endswith("\\"):
            begun += text[:-1] + " "
            continue
        yield first, (begun + text).strip()
        begun, first = "", None
    if first is not None:
        yield first, begun.strip()


def _normal(text: str, number: int, what: str) -> str:
    if text.startswith("-"):
        hint = "an index is given as index="
        if text.startswith(("-c", "--constraint")):
            hint = "constraints are given as constraints= (-c)"
        if text.startswith(("-e", "--editable")):
            hint = "a project of this machine is given as install= (--install)"
        raise InvalidRequirements(
            f"line {number} of the {what} is an option of pip, {text!r}; expected only "
            f"requirements, such as 'requests>=2'; {hint}"
        )
    hashes = sorted({found.lower() for found in _HASH.findall(text)})
    for each in hashes:
        if not _HASH_VALUE.fullmatch(each):
            raise InvalidRequirements(
                f"line {number} of the {what} has the hash {each!r}; expected sha256:, "
                "sha384: or sha512: and all of its hexadecimal digits"
            )
    text = _HASH.sub("", text)
    try:
        found = Requirement(text)
    except InvalidRequirement as problem:
        hint = ""
        if "/" in text or text.startswith("."):
            hint = "; a project of this machine is given as install= (--install)"
        raise InvalidRequirements(
            f"line {number} of the {what} is {text!r}, and not a requirement such as "
            f"'requests>=2': {str(problem).splitlines()[0]}{hint}"
        ) from None
    found.name = canonicalize_name(found.name)
    found.extras = {canonicalize_name(extra) for extra in found.extras}
    return " ".join([str(found), *(f"--hash={each}" for each in hashes)])
