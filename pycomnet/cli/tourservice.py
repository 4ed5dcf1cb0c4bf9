"""The services of ``pycomnet demo``, which twistd runs."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

from twisted.internet.task import deferLater

import pycomnet
from pycomnet.ext.pubsub import publisher


@pycomnet.interface("org.pycom.tour")
class Tour(pycomnet.Service):
    @pycomnet.method(idempotent=True)
    async def pid_after(self, request: Any) -> int:
        from twisted.internet import reactor

        await deferLater(reactor, request.args)
        return os.getpid()


@publisher("org.pycom.tour.ticks", history=100)
def ticks() -> Iterator[int]:
    for number in itertools.count(1):
        yield number
        time.sleep(0.02)
