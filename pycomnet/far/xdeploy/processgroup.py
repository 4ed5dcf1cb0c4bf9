"""A program in a process group of its own, which any thread may kill at any time."""

import os
import signal
import subprocess
import threading

#: Whether a process's end can be waited for without giving its number back.
CAN_WATCH = hasattr(os, "waitid") and hasattr(os, "WNOWAIT")
#: Seconds between two looks whether it has ended, where that is not so (PyPy).
LOOK = 0.05


class ProcessGroup(object):
    """A program that was started, and what it has started.

    As soon as a process's end was collected, another one may get its number. So nobody collects it
    before the rest of the group is killed, and killing and collecting exclude each other.

    :param argv: the program and its arguments.
    :param options: further arguments of :class:`subprocess.Popen`.
    :raises OSError: it can't be started.
    """

    def __init__(self, argv, **options):
        self._lock = threading.Lock()
        self.process = subprocess.Popen(argv, start_new_session=True, **options)
        self._pause = threading.Event()

    def kill(self):
        """Kill the group, if the program's end was not collected yet."""
        with self._lock:
            if self.process.returncode is None:
                self._kill()

    def _kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left; on macOS, or nobody but a process that has ended

    def wait(self):
        """Wait for the program's end; kill what it leaves in its group.

        :returns: its status.
        """
        if CAN_WATCH:
            while self.process.returncode is None:
                try:
                    os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
                except ChildProcessError:  # another thread has collected it
                    pass
                self._collect()
        else:
            while not self._collect():
                self._pause.wait(LOOK)
        return self.process.returncode

    def _collect(self):
        """Collect the program's end, if it has ended; return whether that is so."""
        with self._lock:
            if self.process.returncode is None:
                if CAN_WATCH:
                    self._kill()  # the program has ended: it is the rest that this kills
                    self.process.wait()
                elif self.process.poll() is not None:
                    self._kill()
            return self.process.returncode is not None
