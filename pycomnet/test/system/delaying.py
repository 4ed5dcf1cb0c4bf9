"""A proxy on a long line: bytes arrive later, and it counts how often somebody waits for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.protocols import portforward

#: Seconds between two looks whether both ends wait, and how many in turn have to find that.
LOOK, LOOKS = 0.02, 3


class _Half:
    """Half of a proxied connection."""

    peer: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.proxy().carry(self, self.peer, data)

    def proxy(self) -> DelayProxy:
        raise NotImplementedError


class _Client(_Half, portforward.ProxyClient):
    def proxy(self) -> DelayProxy:
        made: DelayProxy = self.peer.factory
        return made


class _ClientFactory(portforward.ProxyClientFactory):
    protocol = _Client


class _Server(_Half, portforward.ProxyServer):
    clientProtocolFactory = _ClientFactory
    factory: Any

    def proxy(self) -> DelayProxy:
        made: DelayProxy = self.factory
        return made


class DelayProxy(portforward.ProxyFactory):
    """Forwards one connection to a port of this machine, as a line that is slower than both ends.

    What an end sends arrives only when neither end does anything any more, however busy the machine
    is. Each end has a clock of its own. What it sends is stamped with its time plus one, and the
    other end's clock is set to that stamp, if it is behind, when it arrives. So a clock says how
    many times in turn one end has waited for the other.

    :param waiting: whether both ends wait for something.
    :ivar turns: the later one of the clocks.
    """

    protocol = _Server
    noisy = False

    def __init__(self, port: int, waiting: Callable[[], bool], reactor: Any) -> None:
        super().__init__("127.0.0.1", port)
        self._waiting = waiting
        self._reactor = reactor
        self._clocks: dict[Any, int] = {}
        self._carried: list[tuple[Any, bytes, int]] = []
        self._looks = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    @property
    def turns(self) -> int:
        return max(self._clocks.values(), default=0)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way, and both ends wait."""
        return not self._carried and self._looks >= LOOKS

    def carry(self, sender: Any, receiver: Any, data: bytes) -> None:
        """Some bytes came from an end."""
        self._carried.append((receiver, data, self._clocks.setdefault(sender, 0) + 1))
        self._looks = 0

    def _look(self) -> None:
        self._looks = self._looks + 1 if self._waiting() else 0
        if self._looks < LOOKS or not self._carried:
            return
        arriving, self._carried, self._looks = self._carried, [], 0
        for receiver, data, stamp in arriving:
            self._clocks[receiver] = max(self._clocks.get(receiver, 0), stamp)
            receiver.transport.write(data)

    def start_again(self) -> None:
        """Set both clocks to zero; nothing is on its way."""
        self._clocks = dict.fromkeys(self._clocks, 0)

    async def listen(self) -> Any:
        """Listen on a free port, which is returned."""
        self._looking.start(LOOK)
        return await TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1").listen(self)

    def stop(self) -> None:
        """Carry nothing any more."""
        self._looking.stop()


def all_wait(pid: int) -> bool:
    """Whether a process, what it has started, and the other threads of this one wait for something.

    A thread that waits for a processor or for a disk is busy.
    """
    here = threading.get_native_id()
    for process in (os.getpid(), *_family(pid)):
        for thread in Path(f"/proc/{process}/task").glob("*"):
            found = _state(thread)
            if found and found[0] not in "SZX" and int(thread.name) != here:
                return False
    return True


def _state(path: Path) -> list[str]:
    """The state and the parent of a process or thread; empty if it has just ended."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _family(pid: int) -> set[int]:
    """A process and those that it has started, and they in turn."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if found := _state(path):
            children.setdefault(int(found[1]), []).append(int(path.name))
    family, left = set(), [pid]
    while left:
        family.add(one := left.pop())
        left += children.get(one, ())
    return family
