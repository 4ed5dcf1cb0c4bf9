"""The nameserver: who offers which interface, where, and for how long.

The name ``pycomnet.nameserver`` belongs to this package and to a function of ``pycomnet``:
whichever was imported last has it. So this package can be called, and then does what the function
does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self) -> Any:
        from pycomnet.services.default import nameserver

        return nameserver()


sys.modules[__name__].__class__ = _CallableModule
