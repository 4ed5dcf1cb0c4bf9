"""The libraries of the extra ``pycomnet[access]``: loaded when something needs them."""

from __future__ import annotations

import importlib
from typing import Any

from pycomnet.errors import AccessConfigError


def load_library(name: str, what: str) -> Any:
    """Import a library.

    :param name: the module's name.
    :param what: what needs it, for the error.
    :raises AccessConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise AccessConfigError(
            f"{what} needs {name.partition('.')[0]}, which can't be imported ({problem}): "
            "pip install 'pycomnet[access]'"
        ) from None
