"""The classes that the drop-in shares with its far side in this process.

In a process that is itself a far side of the drop-in, ``execnet`` is the far side's package, and
code catches the exceptions of that package. So the near side's package uses the same classes.
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
    """Register a class as a subclass of the far side's class of channels, if there is one."""
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
