"""Requirements: read, checked and in one form, so that equal ones are known to be equal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pycomnet.errors import PycomnetError

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

    :ivar lines: requirements in one form (PEP 508), sorted, each once.
    """

    lines: tuple[str, ...]

    @classmethod
    def of(cls, given: str | Iterable[str]) -> Requirements:
        """Read requirements.

        :param given: text with a requirement on each line, with comments as in a file for pip; or
            several requirements.
        :raises InvalidRequirements: a line is none; the message says which.
        """
        if isinstance(given, str):
            given = given.replace("\\\n", " ").splitlines()
        lines = set()
        for number, line in enumerate(given, 1):
            if not isinstance(line, str):
                raise InvalidRequirements(f"a requirement is text, not {line!r}")
            text = re.sub(r"(^|\s)#.*", "", line).strip()
            if text:
                lines.add(_normal(text, number))
        return cls(tuple(sorted(lines)))

    @property
    def key(self) -> str:
        """Identifies them."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    @property
    def fixed(self) -> bool:
        """Whether what they resolve to may be kept: none is a file or directory, which change."""
        return not any(" @ file:" in line for line in self.lines)

    def __str__(self) -> str:
        return ", ".join(self.lines) or "nothing"


def _normal(text: str, number: int) -> str:
    if text.startswith("-"):
        raise InvalidRequirements(
            f"line {number} of the requirements is an option of pip, {text!r}; expected only "
            "requirements, such as 'requests>=2'; an index is given as index="
        )
    try:
        found = Requirement(text)
    except InvalidRequirement as problem:
        hint = ""
        if "/" in text or text.startswith("."):
            hint = "; a project of this machine is given as install= (--install)"
        raise InvalidRequirements(
            f"line {number} of the requirements is {text!r}, and not a requirement such as "
            f"'requests>=2': {str(problem).splitlines()[0]}{hint}"
        ) from None
    found.name = canonicalize_name(found.name)
    found.extras = {canonicalize_name(extra) for extra in found.extras}
    return str(found)


__all__ = ["InvalidRequirements", "Requirements", "check_name"]
