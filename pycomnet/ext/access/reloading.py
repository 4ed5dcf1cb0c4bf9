"""A checker whose users are in files: they are read again when they change."""

from __future__ import annotations

from typing import TypeVar

from pycomnet.auth.reloadedfiles import ReloadedFiles
from pycomnet.errors import AccessConfigError, TokenError
from pycomnet.ext.access.checkers import Checker

T = TypeVar("T")


class FileChecker(ReloadedFiles[T], Checker):
    """Reads files when a server begins to use it, and again when they have changed."""

    changes = True

    def _read(self) -> None:
        try:
            super()._read()
        except TokenError as problem:
            raise AccessConfigError(str(problem)) from None
