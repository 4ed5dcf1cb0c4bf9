"""Logs what blocks the reactor: why a service disappears because its lease was not renewed."""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.text.logs import Logger

#: Seconds between beats of the reactor, and between checks of it.
BEAT = 0.5
#: Seconds that a beat may be late before it is logged.
LATE = 1.0
#: Packages that are not blamed for what they call.
_OURS = ("twisted", "pycomnet")


class BlockWatch:
    """Checks, in a thread of its own, whether the reactor still turns.

    :param methods: returns the name of each method's code.
    :param urgent: seconds after which a block is logged while it lasts.
    :param clock: the time; for tests.
    :param frames: what each thread does; for tests.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        methods: Callable[[], Mapping[CodeType, str]],
        urgent: float,
        clock: Callable[[], float] = time.monotonic,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,  # noqa: SLF001 - it is documented
    ) -> None:
        self._reactor = reactor
        self._methods = methods
        self._urgent = urgent
        self._clock = clock
        self._frames = frames
        self._thread = 0
        self._last = 0.0
        self._blamed = ""
        self._told = False
        self._call: Any = None
        self._ended = threading.Event()

    def start(self, thread: bool = True) -> None:
        """Begin; in the reactor's thread.

        :param thread: whether to start the thread; without it, the caller calls :meth:`look`.
        """
        self._thread = threading.get_ident()
        self._last = self._clock()
        self._call = self._reactor.callLater(BEAT, self._beat)
        if thread:
            threading.Thread(target=self._watch, name="pycomnet-blocked", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _beat(self) -> None:
        now = self._clock()
        late = now - self._last - BEAT
        if late >= LATE:
            self.log.warn(
                "reactor blocked for {seconds:.1f} s in {where}",
                seconds=late,
                where=self._blamed or "code that held the interpreter's lock",
            )
        self._last = now
        self._blamed = ""
        self._told = False
        self._call = self._reactor.callLater(BEAT, self._beat)

    def _watch(self) -> None:
        while not self._ended.wait(BEAT):
            self.look()

    def look(self) -> None:
        """Check whether the reactor still turns, and if not, find out what blocks it."""
        late = self._clock() - self._last - BEAT
        frame = self._frames().get(self._thread)
        if late < LATE - BEAT or frame is None:
            return
        # Find the method already now: at the next check the blocking may be over.
        self._blamed = blame(frame, self._methods())
        if late >= self._urgent and not self._told:
            self._told = True
            self.log.warn(
                "reactor blocked for {seconds:.1f} s so far in {where}: leases are not renewed; "
                "methods that block need thread=True",
                seconds=late,
                where=self._blamed,
            )


def blame(frame: FrameType, methods: Mapping[CodeType, str]) -> str:
    """What a thread does: the method, and its current line.

    :param frame: its innermost one.
    """
    place = name = ""
    current: FrameType | None = frame
    while current is not None:
        code = current.f_code
        module = str(current.f_globals.get("__name__", ""))
        found = methods.get(code)
        if found is not None or module.partition(".")[0] not in _OURS:
            place = place or f"{code.co_filename}:{current.f_lineno}"
            name = found or name or f"{module}.{code.co_name}"
        if found is not None:
            break
        current = current.f_back
    if not name:
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{name} ({place})"


def codes(methods: Mapping[str, Mapping[str, Callable[..., Any]]]) -> dict[CodeType, str]:
    """The code of each method.

    :param methods: interface -> name -> function.
    """
    found: dict[CodeType, str] = {}
    for interface, named in list(methods.items()):
        for name, function in list(named.items()):
            code = getattr(inspect.unwrap(function), "__code__", None)
            if isinstance(code, CodeType):
                found[code] = f"{interface}.{name}"
    return found
