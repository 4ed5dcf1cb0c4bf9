"""The nameserver: who offers which interface, where, and for how long.

``pycomnet.nameserver()`` is a function of the package, and ``pycomnet.nameserver`` this package:
whichever was imported last has the name. So this package can be called, too, and is that function.
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
