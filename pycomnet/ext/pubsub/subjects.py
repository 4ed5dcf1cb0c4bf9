"""Subjects, and the patterns that match them. docs/protocol.rst has the rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from pycomnet.ext.pubsub.errors import InvalidSubject

T = TypeVar("T")

#: The most characters and parts of a subject or a pattern.
MAX_LENGTH = 255
MAX_PARTS = 32
#: The most patterns of a subscription, and parts of all of them together.
MAX_PATTERNS = 64
MAX_ALL_PARTS = 256
#: So many parts of patterns count as a subscription where these are limited: each takes memory.
PARTS_EACH = 8
#: Matches every subject.
ALL = ">"
_PART = re.compile(r"[^\s.*>]+")


def check_subject(subject: Any) -> str:
    """Check a subject; an empty one means that the event has no subject.

    :raises InvalidSubject: it is not valid.
    """
    if isinstance(subject, str) and len(subject) <= MAX_LENGTH:
        if not subject:
            return subject
        parts = subject.split(".")
        if len(parts) <= MAX_PARTS and all(_is_part(part) for part in parts):
            return subject
    raise InvalidSubject(
        f"expected a subject: parts with dots between them, such as 'eu.created', at most "
        f"{MAX_LENGTH} characters, no spaces, '*' or '>'; got {_shown(subject)}"
    )


def check_pattern(pattern: Any) -> str:
    """Check a pattern.

    :raises InvalidSubject: it is not valid.
    """
    if isinstance(pattern, str) and 0 < len(pattern) <= MAX_LENGTH:
        parts = pattern.split(".")
        before = parts[:-1] if parts[-1] == ALL else parts
        if len(parts) <= MAX_PARTS and all(part == "*" or _is_part(part) for part in before):
            return pattern
    raise InvalidSubject(
        f"expected a pattern: a subject in which '*' stands for one part, and '>' at the end for "
        f"all further parts, such as 'eu.*' or 'eu.>'; got {_shown(pattern)}"
    )


def check_patterns(patterns: Any) -> tuple[str, ...]:
    """Check the patterns of a subscription; None means all subjects.

    :raises InvalidSubject: a pattern is not valid, or there are too many.
    """
    if patterns is None:
        return (ALL,)
    if isinstance(patterns, str):
        patterns = (patterns,)
    if not isinstance(patterns, (list, tuple)) or not patterns:
        raise InvalidSubject(f"expected a list of patterns, not {_shown(patterns)}")
    if len(patterns) > MAX_PATTERNS:
        raise InvalidSubject(f"{len(patterns)} patterns; the limit is {MAX_PATTERNS}")
    found = tuple(dict.fromkeys(check_pattern(pattern) for pattern in patterns))
    parts = sum(pattern.count(".") + 1 for pattern in found)
    if parts > MAX_ALL_PARTS:
        raise InvalidSubject(f"patterns with {parts} parts together; the limit is {MAX_ALL_PARTS}")
    return (ALL,) if ALL in found else found


def _is_part(part: str) -> bool:
    return part.isprintable() and _PART.fullmatch(part) is not None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern matches a subject."""
    return pattern == ALL or (bool(subject) and covers(pattern, subject))


def covers(allowed: str, wanted: str) -> bool:
    """Whether one pattern matches all that another one matches."""
    if allowed == ALL:
        return True
    return _covers(allowed.split("."), wanted.split("."))


def _covers(have: list[str], want: list[str]) -> bool:
    for place, part in enumerate(have):
        if place >= len(want):
            return False
        if part == ALL:
            return True
        if want[place] == ALL or (part != "*" and part != want[place]):
            return False
    return len(have) == len(want)


class Patterns:
    """The patterns of a subscription, split up for matching.

    :ivar all: whether they match every subject.
    :ivar cost: the time that :meth:`match` takes, as a multiple of its time without wildcards.
    :ivar weight: how many subscriptions they count as.
    """

    __slots__ = ("all", "_exact", "_wild", "cost", "texts", "weight")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self.all = ALL in self.texts
        self._exact = frozenset(text for text in self.texts if not is_wild(text))
        self._wild = [text.split(".") for text in self.texts if is_wild(text)]
        self.cost = 1 if self.all else 1 + len(self._wild)
        parts = sum(text.count(".") + 1 for text in self.texts)
        self.weight = -(-parts // PARTS_EACH)

    def match(self, subject: str) -> bool:
        """Whether the subscription wants events of a subject."""
        if self.all or subject in self._exact:
            return True
        if not (subject and self._wild):
            return False
        parts = subject.split(".")
        return any(_covers(pattern, parts) for pattern in self._wild)


class SubjectIndex(Generic[T]):
    """Finds the recipients of a subject without matching each recipient's patterns.

    It is a tree of the patterns' parts (a trie). A lookup visits the nodes whose parts match the
    beginning of the subject.
    """

    __slots__ = ("_all", "_root")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._all: dict[T, None] = {}

    def add(self, patterns: Iterable[str], recipient: T) -> None:
        """Add a recipient of the subjects that these patterns match."""
        for pattern in patterns:
            if pattern == ALL:
                self._all[recipient] = None
                continue
            node = self._root
            for part in pattern.split("."):
                node = node.parts.setdefault(part, _Node())
            node.recipients[recipient] = None

    def remove(self, patterns: Iterable[str], recipient: T) -> None:
        """Remove a recipient, which was added with these patterns."""
        for pattern in patterns:
            if pattern == ALL:
                self._all.pop(recipient, None)
                continue
            path = [self._root]
            parts = pattern.split(".")
            for part in parts:
                node = path[-1].parts.get(part)
                if node is None:
                    break
                path.append(node)
            else:
                path[-1].recipients.pop(recipient, None)
                for part in reversed(parts):
                    if path[-1].recipients or path[-1].parts:
                        break
                    path.pop()
                    del path[-1].parts[part]

    def is_empty(self) -> bool:
        """Whether there is no recipient."""
        return not (self._all or self._root.parts)

    def find(self, subject: str) -> tuple[T, ...]:
        """The recipients of a subject, each once."""
        found = dict(self._all)
        nodes = [self._root] if subject else []
        for part in subject.split("."):
            following = []
            for node in nodes:
                parts = node.parts
                if not parts:
                    continue
                rest = parts.get(ALL)
                if rest is not None:
                    found.update(rest.recipients)
                for name in (part, "*"):
                    one = parts.get(name)
                    if one is not None:
                        following.append(one)
            nodes = following
            if not nodes:
                break
        for node in nodes:
            found.update(node.recipients)
        return tuple(found)


class _Node(Generic[T]):
    __slots__ = ("parts", "recipients")

    def __init__(self) -> None:
        self.parts: dict[str, _Node[T]] = {}
        self.recipients: dict[T, None] = {}


def is_wild(pattern: str) -> bool:
    """Whether a pattern matches more than one subject."""
    return "*" in pattern or ALL in pattern


#: The patterns of most subscriptions.
EVERYTHING = Patterns((ALL,))


def patterns_of(given: Any) -> Patterns:
    """The patterns of a subscription, checked.

    :raises InvalidSubject: as :func:`check_patterns`.
    """
    texts = check_patterns(given)
    return EVERYTHING if texts == EVERYTHING.texts else Patterns(texts)
