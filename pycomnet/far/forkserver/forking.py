"""Forks a worker from the fork server, and sets up the child.

The parent does before the fork what is the same for all workers, and imports what they need. Each
page of memory that a child writes to is copied, and that is most of a fork's cost. The child forks
once more and becomes the worker's own supervisor (supervisor.py).
"""

import os
import sys
import time

from ..execute import warm_up
from ..supervisor import die_with, open_process, prepare_subreaper, watch
from ..writebuffer import WriteBuffer, new_memory
from .preforked import rehearse, wait_for_job

try:
    import _signal as signal
except ImportError:
    import signal

#: A worker's descriptors: its connection, and the pipe that tells that its supervisor was killed.
READ_FD, WRITE_FD, DEATH_PIPE = 3, 4, 5
#: How much memory the C library keeps for reuse; as connection.KEPT_MEMORY.
KEPT_MEMORY = 8388608


class Before(object):
    """The state from before the first fork.

    Create it when the fork server has its signal handlers; report further descriptors with
    :meth:`opened`.
    """

    def __init__(self):
        self._highest = highest_descriptor()
        self._signals = changed_signals()
        import_needed()

    def standard_pipes(self):
        """Make pipes for a process: standard input, output and error, and the ends that stay here.

        :returns: its three descriptors, and this process's in the same order.
        """
        fds = []
        try:
            for _ in range(3):
                fds += os.pipe()
        except OSError:  # no more descriptors are allowed
            for fd in fds:
                os.close(fd)
            raise
        stdin, write_fd, read_fd, stdout, err_fd, stderr = fds
        theirs, ours = (stdin, stdout, stderr), (write_fd, read_fd, err_fd)
        self.opened(theirs + ours)
        return theirs, ours

    def opened(self, fds):
        """Report descriptors that the fork server has opened."""
        self._highest = max(self._highest, max(fds))

    def fork(self, fds, job=None):
        """Fork a worker.

        :param fds: its standard input, output and error. The first two become its connection. They
            are closed in this process.
        :param job: the request; None: the worker waits for one (preforked.py).
        :returns: the supervisor's process id and None. In the worker None and the request, whose
            ``update`` and ``unset`` have been applied and which has the write buffer's ``memory``;
            the worker has those descriptors and no others.
        """
        memory = new_memory()
        near = os.getpid()
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                for fd in fds:
                    os.close(fd)
                if memory is not None:
                    memory.close()
        if pid:
            return pid, None
        error_fd = fds[2]
        try:
            death_pipe = self._fork_again(fds, memory, near)
            self._keep(fds + (death_pipe,))
            error_fd = 2
            die_with(DEATH_PIPE)
            self._settle()
            if job is None:
                rehearse(READ_FD, WRITE_FD)
                job = wait_for_job(READ_FD)
            _change_environment(job)
            job["memory"] = memory
            return None, job
        except BaseException as error:
            # The child must not go on as the fork server.
            try:
                message = "pycomnet: can't fork: %s: %s\n" % (type(error).__name__, error)
                os.write(error_fd, message.encode("utf-8", "replace"))
            finally:
                os._exit(2)

    def _fork_again(self, fds, memory, near):
        signal.set_wakeup_fd(-1)
        os.setsid()
        death_pipe, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(end)  # it may be above the range that is closed otherwise
            os.setsid()
            return death_pipe
        try:
            os.close(death_pipe)
            self._keep(fds + (end,))
            last_words = None
            if memory is not None:
                last_words = lambda: WriteBuffer(WRITE_FD, memory).last_words()  # noqa: E731
            # In a container, an id that is not the parent's may be another process's.
            near_fd = open_process(near) if near == os.getppid() else None
            watch(pid, READ_FD, () if near_fd is None else (near_fd,), last_words)
        finally:
            os._exit(1)

    def _keep(self, fds):
        """Keep the connection, standard error and one end of the death pipe; close all others."""
        read_fd, write_fd, error_fd, death_pipe = fds
        moved = []
        for fd in (read_fd, write_fd, death_pipe):
            while fd <= DEATH_PIPE:
                fd = os.dup(fd)  # another descriptor needs its number
            moved.append(fd)
        # Standard input is empty already. The standard output of C code and child processes goes to
        # standard error.
        os.dup2(error_fd, 2)
        os.dup2(2, 1)
        for number, fd in zip((READ_FD, WRITE_FD, DEATH_PIPE), moved):
            if sys.version_info < (3,):
                os.dup2(fd, number)
            else:
                os.dup2(fd, number, False)
        os.closerange(DEATH_PIPE + 1, max([self._highest] + moved) + 1)

    def _settle(self):
        """Reset signal handlers and random numbers, as in a fresh interpreter."""
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in ("SIGPIPE", "SIGXFSZ"):  # as Python does
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if "random" in sys.modules:
            sys.modules["random"].seed()


def _change_environment(job):
    update, unset = job.get("update") or {}, job.get("unset") or ()
    for name in unset:
        os.environ.pop(name, None)
    os.environ.update(update)
    if ("TZ" in update or "TZ" in unset) and hasattr(time, "tzset"):
        time.tzset()  # the C library has read it, when this module was loaded


def highest_descriptor():
    """An upper bound of the open descriptors of this process."""
    try:
        return max(int(name) for name in os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        return 4096


def changed_signals():
    """The signals with non-default handlers."""
    return [number for number in range(1, signal.NSIG) if _is_changed(number)]


def _is_changed(number):
    if number in (signal.SIGKILL, signal.SIGSTOP):
        return False
    try:
        return signal.getsignal(number) not in (signal.SIG_DFL, None)
    except (ValueError, OSError, RuntimeError):
        return False


def import_needed():
    """Import what each worker needs; this takes a millisecond."""
    bytearray(KEPT_MEMORY)  # from now on large blocks are reused: see connection.keep_memory
    for name in ("mmap", "fcntl", "__future__"):
        try:
            __import__(name)
        except ImportError:
            pass
    warm_up()
    prepare_subreaper()


def import_given(imports):
    """Import the modules that the near side's workers need, before the first is forked.

    :param imports: ``names`` of modules, and the near side's ``path``, on which they are found. The
        near side is on this machine, and has this interpreter. What can't be imported is left to
        the workers, where the error is seen.
    """
    import gc

    before, sys.path[:] = sys.path[:], imports["path"]
    collects = gc.isenabled()  # not if the user's sitecustomize says so
    gc.disable()  # there is little to find, and much to look through again and again
    try:
        for name in imports["names"]:
            try:
                __import__(name)
            except Exception:
                pass
    finally:
        sys.path[:] = before
        if collects:
            gc.enable()
    freeze()


def freeze():
    """Let no garbage collection look at what there is: it would copy the memory in each child."""
    import gc

    if hasattr(gc, "freeze"):
        gc.collect()
        gc.freeze()


def import_more():
    """Import what workers need for errors and threads, before the next is forked.

    Not ``threading`` itself, only what that imports: the work that it does in each child after a
    fork makes up a fifth of the memory that a fork copies.
    """
    for name in ("functools", "_weakrefset", "traceback", "linecache"):
        try:
            __import__(name)
        except Exception:
            pass
    freeze()
