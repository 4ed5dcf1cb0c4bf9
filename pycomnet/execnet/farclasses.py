"""The far side's part of the drop-in, as this process has it.

In code that a gateway runs, ``execnet`` is the far side's package already, and its users catch its
exceptions. There the near side's package takes them from it, and raises the same.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pycomnet.far.execnet import dumpformat, execmodel, gateway_base
else:
    _package = sys.modules.get("execnet")
    if not hasattr(_package, "NEAR"):
        _package = importlib.import_module("pycomnet.far.execnet")
    dumpformat, execmodel, gateway_base = (
        importlib.import_module(f"{_package.__name__}.{name}")
        for name in ("dumpformat", "execmodel", "gateway_base")
    )

ExecModel = execmodel.ExecModel
get_execmodel = execmodel.get_execmodel
if TYPE_CHECKING:
    RemoteErrorBase = Exception
else:
    #: The base of the near side's RemoteError.
    RemoteErrorBase = gateway_base.RemoteError or Exception


def also_a_channel(cls: type) -> None:
    """Let the far side's class of channels be the class of these, too."""
    far = gateway_base.Channel
    if far is not None:
        far.register(cls)


__all__ = [
    "ExecModel",
    "RemoteErrorBase",
    "also_a_channel",
    "dumpformat",
    "gateway_base",
    "get_execmodel",
]
