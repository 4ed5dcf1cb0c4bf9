"""The thread of the reactor of :mod:`pycomnet.blocking`, and its lifetime.

It is a daemon thread that an atexit function stops. Python runs atexit functions when all
non-daemon threads have ended, the last registered first. So these threads, and the atexit functions
that were registered after the import of this module, can use gateways until they end.

A forked child has no such thread. If it uses the API, it gets a thread and a reactor of its own:
the inherited reactor shares its epoll with the parent.

If the program runs the reactor itself, or with crochet, that reactor is used, and the program ends
it.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import warnings
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import crochet
from twisted.internet import main
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.process import reapAllProcesses
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, STDLibLogObserver, globalLogBeginner
from twisted.python import threadable
from zope.interface import implementer

from pycomnet import forks
from pycomnet.net import _twisted
from pycomnet.net.clock import use_monotonic_clock

#: Seconds between checks for ended processes that ``spawnProcess`` started: only the main thread
#: gets SIGCHLD.
REAP_INTERVAL = 0.1
#: How many threads of the reactor's pool are started at once, on Pythons that can't start threads
#: after the end of the main thread.
THREADS_AT_END = 10
_REACTOR = "twisted.internet.reactor"


@implementer(ILogObserver)
class _LogThread:
    """Passes Twisted's log on to :mod:`logging`, whose handlers may block, in a thread."""

    def __init__(self) -> None:
        self._observer = STDLibLogObserver("twisted")
        self._queue: SimpleQueue[LogEvent | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, event: LogEvent) -> None:
        self._queue.put(event)

    def start(self) -> None:
        if self._thread is not None:
            return  # the reactor's thread could not be started the last time
        thread = threading.Thread(target=self._run, name="pycomnet-log", daemon=True)
        thread.start()
        self._thread = thread

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            with contextlib.suppress(Exception):
                self._observer(event)

    def stop(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def forked(self) -> None:
        """In a child: drop the queue, which the parent logs."""
        self._queue = SimpleQueue()
        self._thread = None


class ReactorThread:
    """The reactor that blocking calls use; there is one in a process.

    :ivar reactor: the reactor, once :meth:`start` has been called.
    :ivar stopped: whether it has stopped, for good.
    :ivar when_stopped: called when it has.
    """

    def __init__(self) -> None:
        self.reactor: Any = None
        self.stopped = False
        self.when_stopped: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._log: _LogThread | None = None
        #: whether the global reactor is one that a parent process runs, or may run
        self._inherited = False
        #: whether crochet was told that it does not run the reactor; it can be told only once
        self._claimed = False

    def start(self) -> Any:
        """Start the reactor if necessary, and return it."""
        if self.reactor is None:
            with self._lock:
                if self.reactor is None:
                    self.reactor = self._start()
        return self.reactor

    def _start(self) -> Any:
        if self._inherited:
            reactor = _replace_reactor()
            ours = True
        else:
            _twisted.load_reactor_without_tls()
            from twisted.internet import reactor

            ours = not reactor.running and (self._claimed or _not_by_crochet())
            self._claimed = ours
        triggers: Any = reactor
        if not ours:
            triggers.callFromThread(triggers.addSystemEventTrigger, "after", "shutdown", self._over)
            return reactor
        use_monotonic_clock(reactor)
        triggers.addSystemEventTrigger("after", "shutdown", self._over)
        self._begin_log()
        if sys.version_info[:2] == (3, 12):
            triggers.getThreadPool().adjustPoolsize(THREADS_AT_END, THREADS_AT_END)
        thread = threading.Thread(target=self._run, args=(reactor,), name="pycomnet", daemon=True)
        thread.start()
        self._thread = thread
        _at_end(self.stop)
        return reactor

    def _begin_log(self) -> None:
        if self._log is not None:
            self._log.start()
            return
        self._log = _LogThread()
        self._log.start()
        # Twisted's log also takes over warnings; that is the program's decision, so undo it.
        shown = warnings.showwarning
        globalLogBeginner.beginLoggingTo([self._log], redirectStandardIO=False)
        warnings.showwarning = shown

    def _run(self, reactor: ReactorBase) -> None:
        reaping = LoopingCall(reapAllProcesses)
        reaping.clock = reactor
        reactor.callWhenRunning(reaping.start, REAP_INTERVAL, False)
        try:
            reactor.run(installSignalHandlers=False)
        finally:
            threadable.ioThread = None  # a thread that is made later may get the same number

    def _over(self) -> None:
        self.stopped = True
        for call in self.when_stopped:
            call()

    def stop(self) -> None:
        """Stop it, if it is this process's own; return when all its objects have ended."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(Exception):
            self.reactor.callFromThread(self.reactor.stop)
        thread.join()
        if self._log is not None:
            self._log.stop()

    def in_it(self) -> bool:
        """Whether this is the reactor's own thread."""
        return threadable.isInIOThread() and not self.stopped

    def forked(self) -> None:
        """In a child: leave the parent's reactor alone."""
        self._lock = threading.Lock()
        inherited: Any = sys.modules.get(_REACTOR)
        used, self.reactor = self.reactor, None
        self._thread = None
        self.stopped = False
        if self._log is not None:
            self._log.forked()
        if inherited is None or (used is None and not forks.runs(inherited)):
            return  # a daemon that will run the reactor in this child
        self._inherited = True
        threadable.ioThread = None
        forks.keep(inherited)
        if used is not None:
            _close_copies(inherited)


def _not_by_crochet() -> bool:
    """Whether crochet does not run the reactor; if so, it will not do so later."""
    try:
        crochet.no_setup()
    except RuntimeError:
        return False
    return True


def _replace_reactor() -> Any:
    """Replace the reactor that this child inherited with a new one of the same kind."""
    inherited: Any = sys.modules.pop(_REACTOR)
    reactor = type(inherited)()
    main.installReactor(reactor)
    return reactor


def _close_copies(reactor: IReactorFDSet) -> None:
    """Close this child's copies of the sockets on which the parent's reactor listens.

    Otherwise clients could connect when the parent is gone, and wait for ever. Connections close
    their copies themselves. The reactor is not told: it would remove them from the epoll that it
    shares with the parent.
    """
    _twisted.silence_waker(reactor)
    readers: list[Any] = reactor.getReaders()
    for reader in readers:
        with contextlib.suppress(Exception):
            reader.socket.close()


def _at_end(stop: Callable[[], None]) -> None:
    """Call ``stop`` at the end of a child of multiprocessing, where atexit does not run.

    In some versions it does run, but without what was registered before the fork.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, stop, exitpriority=0)
        atexit.register(stop)


thread = ReactorThread()
atexit.register(thread.stop)
forks.call_in_child(thread.forked)

__all__ = ["ReactorThread", "thread"]
