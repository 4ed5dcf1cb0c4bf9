"""The worker: takes requests from the near side and runs the user's code."""

import os
import sys
import time

from ..wire.frames import ERROR, RESULT, WINDOW
from ..wire.mux import Limits
from ..wire.values import PureCodec
from .bytecode import bytecode
from .channel import FarChannel, error_payload
from .connection import FarConnection, start_new_thread
from .execute import Execution, flush_output, warm_up
from .live import Live
from .output import OutputChannel
from .path import own_imports

if str is bytes:
    # Python 2 has one lock for all imports. The reader must not wait for it: the thread that holds
    # it may be waiting for a module from the near side.
    import threading as _threading

    from . import modules as _modules
else:
    _threading = _modules = None

#: Seconds between the connection's end and the process's, whatever the user's code does. At the
#: beginning of that time the code gets a KeyboardInterrupt.
GRACE = 2.0
#: The exit status of a far side whose own code has closed the connection's descriptor.
LOST_DESCRIPTOR = 79


def interrupt_main():
    """Raise KeyboardInterrupt in the main thread."""
    try:
        import _signal as signal
    except ImportError:
        import signal
    # A real signal also interrupts a sleep or a read.
    os.kill(os.getpid(), signal.SIGINT)


class FarGateway(Live):
    """``channel.gateway`` at the far side."""

    def __init__(self, worker, id):
        self._worker = worker
        self.id = id

    def newchannel(self, raw=False):
        """A new channel, to be sent to the near side in a value.

        :param raw: whether it carries bytes instead of values.
        """
        channel = self._worker.link.open("channel", raw=raw)
        self._worker.link.hold(channel)
        return channel

    def register_type(self, cls, name, to_value, from_value):
        """Make values of a class sendable, as ``pycomnet.register_type`` does at the near side."""
        from ..wire.kinds import register_type

        register_type(cls, name, to_value, from_value)


class FarSide(Live):
    """The worker: it serves one connection.

    :param io: reads and writes, as :class:`~.connection.FileIO` does.
    :param config: ``id``, ``execmodel`` ("thread" or "main_thread_only"), ``window`` (the credit
        that each channel begins with, in bytes).
    :param write_buffer: as for :class:`~.connection.FarConnection`.
    :param halt: ends the process at once, with a status.
    :param interrupt: raises KeyboardInterrupt in the main thread.
    """

    def __init__(self, io, config, write_buffer=None, halt=os._exit, interrupt=interrupt_main):
        self._halt = halt
        self._interrupt = interrupt
        self.execmodel = config.get("execmodel") or "thread"
        limits = Limits(config.get("window") or WINDOW)
        self.link = FarConnection(
            io, FarChannel, self._opened, self._lost, self._info(), limits, write_buffer
        )
        self.link.gateway = FarGateway(self, config.get("id"))
        self._work = []
        self._main_free = True
        self._running = 0
        self._threads = 0
        #: the number of requests whose channels are not closed yet
        self._requests = 0
        #: channels that are closed when there is no request
        self._idle = []
        self._waiters = []
        #: whether the near side waits for this process's end, and no request begins any more
        self._finishing = False
        self._ended = False
        #: pipes that the factory has made for a program: opened, and not used yet
        self._prepared = None
        #: imports modules that the near side has offered; None if it has offered none
        self._finder = None

    def _info(self):
        return {
            "pid": os.getpid() if hasattr(os, "getpid") else 0,
            "python": "%d.%d.%d" % sys.version_info[:3],
            "implementation": _implementation(),
            "platform": "%s" % sys.platform,  # Jython's is not a plain str
            "executable": sys.executable or "",
            "execmodel": self.execmodel,
            "bytecode": bytecode(),
        }

    def serve(self):
        """Serve requests until the connection is over. Called in the main thread."""
        OutputChannel(self.link).install()
        try:
            self.link.start()
        except Exception:  # the limit of threads: the near side reads that on standard error
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            raise
        warm_up()  # while the near side processes the hello
        link = self.link
        try:
            while True:
                link.wait(self._wanted, self._waiters)
                if link.closed or self._finishing:
                    break
                self._run(self._work.pop(0), self._main_finished)
        except KeyboardInterrupt:
            if not (link.closed or self._finishing):
                raise
        self._exit()

    def _wanted(self):
        """Whether the main thread has something to do."""
        if self._finishing:
            return self.link.closed or self._requests == len(self._work)
        return self._work or self.link.closed

    def _run(self, request, finished):
        with self.link.lock:
            self._running += 1
        request.run(finished)
        link = self.link
        with link.lock:
            self._requests -= 1
            if self._finishing:
                self._wake()
            if self._requests or not self._idle:
                return
            self._tell_idle()
        link.flush()

    def _tell_idle(self):
        """No request runs or waits: close the channels that wait for that."""
        idle, self._idle = self._idle, []
        for channel in idle:
            if channel.stream.sending:  # the near side still waits
                self.link.mux.close(channel.stream, RESULT, self.link.encode(None))

    def _main_finished(self):
        with self.link.lock:
            self._running -= 1
            self._main_free = not self._work

    def _thread_finished(self):
        with self.link.lock:
            self._running -= 1
            self._threads -= 1

    # -- called by the link, which holds the lock ------------------------------------------------

    def _opened(self, channel):
        purpose = channel.stream.purpose
        if purpose in ("exec", "call"):
            channel.request = self._requested
            self.link.mux.demand_read(channel.stream)
        elif purpose == "channel":
            channel.accepted = False
        elif purpose == "status":
            self._status(channel)
        elif purpose == "offer":
            channel.request = self._offered
            self.link.mux.demand_read(channel.stream)
        elif purpose == "pipes":
            channel.request = self._prepare
            self.link.mux.demand_read(channel.stream)
        elif purpose == "take":
            channel.request = self._take
            self.link.mux.demand_read(channel.stream)
        elif purpose == "idle":
            self._idle.append(channel)
            if not self._requests:
                self._tell_idle()
        elif purpose == "finish":
            self._finish()
        else:
            error = {"code": "purpose", "message": "unknown purpose %r" % str(purpose)}
            self.link.mux.close(channel.stream, ERROR, error_payload(self.link, error))

    def _wake(self):
        for waiter in list(self._waiters):
            self.link.wake_waiter(waiter)

    def _finish(self):
        """The near side waits for this process's end: interrupt what runs, and let it end."""
        self._finishing = True
        if not self._main_free:
            # With the lock held: the main thread can't go on to the exit functions before it.
            self._interrupt()
        self._wake()

    def _requested(self, channel, payload):
        request = Execution(channel, payload)
        self._requests += 1
        if self._main_free or self.execmodel == "main_thread_only":
            self._main_free = False
            self._work.append(request)
            self._wake()
        else:
            threading = _threading
            if threading is None:
                with own_imports:
                    import threading
            self._threads += 1
            name = "pycomnet-%d" % channel.id
            thread = threading.Thread(target=self._run_in_thread, args=(request,), name=name)
            thread.daemon = True
            try:
                thread.start()
            except Exception as error:  # a limit of threads or of memory
                self._threads -= 1
                self._requests -= 1
                words = "the far side can't start a thread to run this: %s" % error
                problem = {"code": "remote", "type": "RuntimeError", "message": words}
                problem["formatted"] = "RuntimeError: %s\n" % words
                self.link.mux.close(channel.stream, ERROR, error_payload(self.link, problem))

    def _offered(self, channel, payload):
        link = self.link
        if self._finder is None:
            modules = _modules
            if modules is None:
                with own_imports:
                    from . import modules
            self._finder = modules.Finder(link)
        self._finder.offer(PureCodec().decode(payload))
        link.mux.close(channel.stream, RESULT, link.encode(True))

    def _prepare(self, channel, payload):
        """A factory has made pipes for a program: open them."""
        link = self.link
        if self._prepared is not None:
            self._prepared.close()
        try:
            with own_imports:
                from .lingering.io import prepare

            self._prepared = prepare(link, payload)
        except ImportError:
            pass  # on another machine, which does not get these modules
        good = self._prepared is not None
        link.mux.close(channel.stream, RESULT, link.encode(good))

    def _take(self, channel, payload):
        """The factory wants the pipes to be used, after what has arrived is processed."""
        self.link.turning = lambda: self._turn(channel)

    def _turn(self, channel):
        link = self.link
        prepared, self._prepared = self._prepared, None
        from .lingering.io import LingeringIO

        if not isinstance(link.io, LingeringIO):
            link.io = LingeringIO(link)
        link.io.turn(channel.stream, prepared)

    def _run_in_thread(self, request):
        self._run(request, self._thread_finished)

    def _status(self, channel):
        link = self.link
        status = {
            "running": self._running,
            "queued": len(self._work),
            "channels": len(link.mux.streams) - 1,
            "threads": self._threads,
            "execmodel": self.execmodel,
        }
        link.mux.close(channel.stream, RESULT, link.encode(status))

    # -- the end ---------------------------------------------------------------------------------

    def _lost(self):
        """The connection is over: interrupt the main thread, and end the process after a while."""
        if self._main_free:
            return  # the main thread notices it by itself
        start_new_thread(self._reap, ())

    def _reap(self):
        if not self._main_free:
            self._interrupt()
        time.sleep(GRACE)
        self._halt(self._end_status(1))

    def _end_status(self, status):
        """The process's exit status: this one, or the one that says why the connection is over."""
        return LOST_DESCRIPTOR if self.link.is_taken else status

    def _exit(self):
        """Run the exit functions, and end without waiting for any thread."""
        if self._ended:
            return
        self._ended = True
        start_new_thread(self._end_anyway, ())
        flush_output()
        if "atexit" in sys.modules:
            try:
                sys.modules["atexit"]._run_exitfuncs()  # noqa: SLF001 - as at any end
            except BaseException:
                pass
        self._halt(self._end_status(0))

    def _end_anyway(self):
        link = self.link
        link.wait(lambda: link.closed, self._waiters)  # the near side may give them more time
        time.sleep(GRACE)
        self._halt(self._end_status(1))


def _implementation():
    if sys.platform.startswith("java"):
        return "jython"
    implementation = getattr(sys, "implementation", None)
    return implementation.name if implementation is not None else "cpython"
