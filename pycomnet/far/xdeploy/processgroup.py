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
    before the rest of the group is killed, and killing and collecting exclude each other. If
    somebody else collects it (who waits for any child; or the system, if this process ignores
    SIGCHLD), the number is not used any more, and what the program has left is not killed.

    :param argv: the program and its arguments.
    :param options: further arguments of :class:`subprocess.Popen`.
    :raises OSError: it can't be started.
    """

    def __init__(self, argv, **options):
        self._lock = threading.Lock()
        # Who waits. Only one does at a time: to the next, the number may be that of another child.
        self._waiting = threading.Lock()
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
        with self._waiting:
            while self.process.returncode is None:
                if CAN_WATCH:
                    self._watch()
                elif not self._look():
                    self._pause.wait(LOOK)
        return self.process.returncode

    def _watch(self):
        """Wait for the program's end, and collect it."""
        ours = True
        try:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            ours = False
        with self._lock:
            if ours:
                self._kill()  # the program has ended: it is the rest that this kills
            self.process.wait()

    def _look(self):
        """Collect the program's end, if it has ended; return whether that is so."""
        with self._lock:
            if self.process.poll() is None:
                return False
            self._kill()
            return True
