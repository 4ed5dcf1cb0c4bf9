"""Services as objects: their methods are attributes, their arguments keywords.

::

    from pycomnet.ext.proxy import locate, proxy

    calc = await locate("org.example.calc")
    total = await calc.add(a=1, b=2)

:mod:`pycomnet.blocking.ext.proxy` has the same without Deferreds.
"""

from __future__ import annotations

from pycomnet.ext.proxy.batches import BatchedCall, CallBatch
from pycomnet.ext.proxy.errors import InterfaceDiffers, NoSuchMethod
from pycomnet.ext.proxy.methods import ProxyCall, ProxyMethod
from pycomnet.ext.proxy.proxies import Proxy, locate, proxy

__all__ = [
    "CallBatch",
    "BatchedCall",
    "InterfaceDiffers",
    "NoSuchMethod",
    "Proxy",
    "ProxyCall",
    "ProxyMethod",
    "locate",
    "proxy",
]
