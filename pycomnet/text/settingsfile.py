"""Reads files of settings, in TOML or JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class UnreadableSettings(ValueError):
    """A file of settings can't be read; the message has its path.

    :ivar brief: the message without any part of the file, which may have a password.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.brief = message


class SettingsFile(NamedTuple):
    """A file of settings.

    :ivar text: its text.
    :ivar parse: parses such a text.
    """

    settings: Any
    text: str
    parse: Callable[[str], Any]


def read_settings(
    path: str | os.PathLike[str],
    most: int,
    opener: Callable[[str, int], int] | None = None,
    may_be_json: bool = False,
) -> SettingsFile:
    """Read a file of settings.

    :param most: the most bytes that it may have.
    :param opener: as for :func:`open`.
    :param may_be_json: whether it is JSON if its name ends so; otherwise it is TOML.
    :raises UnreadableSettings: it can't be read or parsed, or is too long.
    """
    try:
        with open(path, "rb", opener=opener) as file:
            data = file.read(most + 1)
    except OSError as problem:
        raise UnreadableSettings(f"can't read {path}: {problem.strerror}") from problem
    if len(data) > most:
        raise UnreadableSettings(f"{path}: it is longer than {most} bytes")
    kind, parse = "TOML", tomllib.loads
    if may_be_json and Path(path).suffix == ".json":
        kind, parse = "JSON", json.loads
    try:
        text = data.decode()
        return SettingsFile(parse(text), text, parse)
    except ValueError as problem:  # also of a number with too many digits
        raise UnreadableSettings(f"{path}: it isn't {kind}", str(problem)) from None
    except RecursionError:
        raise UnreadableSettings(f"{path}: it is nested too deeply") from None
