"""A pytest plugin: pytest-xdist runs on pycomnet's gateways. ``pytest -p pycomnet.xdist -n 2``.

It stands in for execnet before pytest-xdist imports that: pytest loads what ``-p`` names before the
plugins that are installed. In the workers it changes nothing, and loads nothing.
"""

from __future__ import annotations

import importlib
import sys

#: The modules of execnet that users import by their names.
MODULES = ("gateway", "gateway_base", "multi", "rsync", "xspec")


def stand_in() -> None:
    """Let ``import execnet`` find :mod:`pycomnet.execnet`, from now on and in this process.

    In code that a gateway of the drop-in runs it changes nothing: ``execnet`` is there already.

    :raises RuntimeError: execnet itself has been imported, and so may be in use.
    """
    there = sys.modules.get("execnet")
    if there is not None:
        if hasattr(there, "NEAR") or there.__name__ == "pycomnet.execnet":
            return
        raise RuntimeError(
            f"execnet itself has been imported already, from {there.__file__}: put "
            "-p pycomnet.xdist on pytest's command line, or call stand_in() earlier"
        )
    drop_in = importlib.import_module("pycomnet.execnet")
    for name in MODULES:
        sys.modules[f"execnet.{name}"] = importlib.import_module(f"pycomnet.execnet.{name}")
    sys.modules["execnet"] = drop_in


stand_in()

__all__ = ["stand_in"]
