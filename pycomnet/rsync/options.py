"""The options of a run, checked once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import attrs

from pycomnet.errors import PycomnetError
from pycomnet.far.rsync.patterns import Filter, translate

#: A path as users give it.
AnyPath = str | bytes | os.PathLike[str]
#: What is done with a symbolic link: its text is kept; what it points to is copied; it is skipped;
#: it is an error.
LinkPolicy = Literal["keep", "copy", "skip", "error"]


class SyncError(PycomnetError):
    """A run that could not begin, or did not do all that it was asked to do."""


def rules_of(
    exclude: Iterable[str | bytes], include: Iterable[str | bytes]
) -> list[tuple[bool, bytes, bool]]:
    """The rules of a filter: first what is included all the same, then what is excluded.

    :raises ValueError: a pattern is not valid.
    """
    rules = []
    for takes, patterns, name in ((True, include, "include"), (False, exclude, "exclude")):
        if isinstance(patterns, str | bytes):
            raise TypeError(f"{name}: expected a list of patterns, not {patterns!r}")
        for pattern in patterns:
            rules += [(takes, *found) for found in translate(os.fsencode(pattern))]
    return rules


@attrs.frozen(kw_only=True, slots=False)
class SyncOptions:
    """The options of a run.

    :ivar rules: whether what matches takes part, a regular expression, and whether it is for
        directories only.
    :ivar takes_path: a function of the user's: path -> whether it takes part.
    :ivar links: what is done with links; ``outside`` with those that lead out of the tree, or
        nowhere.
    """

    rules: list[tuple[bool, bytes, bool]] = attrs.field(factory=list)
    takes_path: Callable[[str], bool] | None = None
    delete: bool = False
    dry_run: bool = False
    checksum: bool = False
    links: LinkPolicy = "keep"
    outside: LinkPolicy = "keep"
    hard_links: bool = False
    owners: bool = False
    compress: bool | None = None

    @functools.cached_property
    def filter(self) -> Filter | None:
        """The rules as a filter; None if there are none."""
        return Filter(self.rules) if self.rules else None

    @property
    def takes(self) -> Callable[[bytes], bool] | None:
        """The user's function, for paths on the wire; None if there is none."""
        function = self.takes_path
        return None if function is None else lambda path: function(os.fsdecode(path))


def make_options(
    *,
    exclude: Iterable[str | bytes] = (),
    include: Iterable[str | bytes] = (),
    links: LinkPolicy = "keep",
    outside: LinkPolicy | None = None,
    **rest: Any,
) -> SyncOptions:
    """Check the arguments of a run.

    :raises ValueError: one is not valid.
    """
    for name, value in (("links", links), ("outside", outside or links)):
        if value not in get_args(LinkPolicy):
            raise ValueError(f"{name}: expected keep, copy, skip or error, not {value!r}")
    return SyncOptions(
        rules=rules_of(exclude, include), links=links, outside=outside or links, **rest
    )
