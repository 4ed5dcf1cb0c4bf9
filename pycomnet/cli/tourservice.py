"""The service of ``pycomnet demo``, which twistd runs."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import deferLater

import pycomnet


@pycomnet.interface("org.pycom.tour")
class Tour(pycomnet.Service):
    @pycomnet.method(idempotent=True)
    async def pid_after(self, request: Any) -> int:
        from twisted.internet import reactor

        await deferLater(reactor, request.args)
        return os.getpid()
