"""The supervisor: a small parent that reliably ends its worker and all that the worker started.

It is the process that the transport started. It forks the worker, which has the connection, and
then only waits: for the worker's end, whose status becomes its own; and for the near side's end,
which a hang-up of the connection shows without a read. It has one thread and runs none of the
user's code. So neither a loop in C that holds the interpreter lock nor a swallowed
KeyboardInterrupt can keep it from killing.
"""

import errno
import os
import select
import sys
import time

try:
    import _signal as signal
except ImportError:
    import signal

#: Seconds that the worker has to end by itself once the near side is gone: a little more than the
#: worker gives the user's code (far/worker.py).
WORKER_GRACE = 2.5
#: Seconds between SIGTERM and SIGKILL for processes that the worker started.
REST_GRACE = 1.0
#: The limit on the rounds, 10 ms apart, in which it kills what is left.
KILL_ROUNDS = 50
#: the time in seconds by a monotonic clock, if this Python has one
now = getattr(time, "monotonic", time.time)


def supervised(fd, near=None, write_buffer=None):
    """Fork: the child returns from this; the parent supervises it and never returns.

    :param fd: the connection, whose hang-up tells of the near side's end.
    :param near: the near side's process id, if it is on this machine: a process that it forked may
        still hold the connection when the near side has ended.
    :param write_buffer: the worker's :class:`~.writebuffer.WriteBuffer`; the supervisor writes what
        the worker leaves in it.
    """
    death_pipe, end = os.pipe()  # first, so that the worker's descriptors have no gaps
    near_fds = guarded(near)
    become_subreaper()  # before the worker can start anything
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for each in [end] + near_fds:
            os.close(each)
        die_with(death_pipe)
        return
    try:
        os.close(death_pipe)
        watch(pid, fd, near_fds, None if write_buffer is None else write_buffer.last_words)
    finally:
        os._exit(1)


def guarded(near):
    """Fork: the child returns from this as the supervisor; the parent guards it.

    A supervisor that is killed leaves processes that have a session of their own. The near side
    above it would not get them as children; this parent gets them, and ends them. If the parent
    ends, the supervisor acts as if the near side had ended.

    :param near: as for :func:`supervised`.
    :returns: descriptors that can be read when the near side, or the parent, has ended.
    """
    become_subreaper()  # before the forks: they share the memory of what it imports
    me = os.getpid()
    # In a container, an id that is not the parent's may be another process's.
    near_fds = [open_process(near)] if near == os.getppid() else []
    pid = os.fork()
    if pid == 0:
        os.setsid()
        near_fds.append(open_process(me))
        if os.getppid() != me:
            os._exit(1)  # the parent was killed before
        return [each for each in near_fds if each is not None]
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.closerange(3, 64)  # the connection is the worker's: its end must be seen
        signal.signal(signal.SIGTERM, lambda number, frame: _kill([pid], signal.SIGTERM))
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        status = _wait_for(pid)
        rest = descendants(os.getpid())
        if rest:
            end_all(rest, REST_GRACE)
    finally:
        _end_as(status)


def _wait_for(pid):
    """Wait for one child among others; return its status."""
    while True:
        try:
            found, status = os.waitpid(-1, 0)
        except OSError as error:
            if error.errno == errno.EINTR:
                continue
            return 0
        if found == pid:
            return status


def end_all(rest, grace):
    """End processes and the orphans that they leave: with SIGTERM, after ``grace`` with SIGKILL.

    Each gets SIGTERM once, also one that is found later: a list of descendants may lack some while
    others end.
    """
    told = set()
    end = now() + grace
    rounds = 0
    while rest and rounds < KILL_ROUNDS:
        if now() < end:
            _kill(rest - told, signal.SIGTERM)
            told |= rest
        else:
            _kill(rest, signal.SIGKILL)
            rounds += 1
        time.sleep(0.01)
        reap_all()
        rest = descendants(os.getpid())


def watch(pid, fd, near_fds, last_words):
    """Supervise a worker that was just forked, and end with its status.

    :param near_fds: descriptors that can be read when the near side has ended.
    :param last_words: called when the worker has ended, to write what it left; or None.
    """
    status = 1
    try:
        supervisor = Supervisor(pid, fd, near_fds)
        status = supervisor.run(last_words)
        if supervisor.hurry and os.WIFSIGNALED(status):
            status = signal.SIGTERM  # this process was told to end, so the worker was killed
    finally:
        _end_as(status)


def die_with(death_pipe):
    """Let the system kill this process and its group when the other end of a pipe is closed.

    The supervisor holds the other end and never writes to it, so it is closed when the supervisor
    was killed. This uses signal-driven I/O: a thread that reads the pipe would not run while C code
    holds the interpreter lock.
    """
    try:
        import fcntl

        if hasattr(fcntl, "F_SETSIG"):
            fcntl.fcntl(death_pipe, fcntl.F_SETSIG, signal.SIGKILL)
        # Elsewhere the signal is SIGIO, whose default is to end the process.
        fcntl.fcntl(death_pipe, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(death_pipe, fcntl.F_SETFL, fcntl.fcntl(death_pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([death_pipe], [], [], 0)[0]:
            os._exit(1)  # the other end was closed before
    except (ImportError, AttributeError, OSError, IOError):
        pass  # then only the near side's end ends this process


class Supervisor(object):
    """Watches one worker.

    :param pid: the worker's.
    :param fd: the connection.
    :param near_fds: as for :func:`watch`.
    """

    def __init__(self, pid, fd, near_fds=()):
        self.pid = pid
        self.fd = fd
        self.near_fds = near_fds
        self.hurry = False
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            set_nonblocking(end)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._terminate)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _terminate(self, number, frame):
        self.hurry = True

    def run(self, last_words=None):
        """Wait for the worker's end; return the status that ``waitpid`` gave."""
        status = self._reap()
        if status is None:
            become_subreaper()  # while the worker starts
            status = self._wait(None, True)
        if status is None and not self.hurry:
            status = self._wait(WORKER_GRACE, False)
        family = descendants(os.getpid())
        if status is None:
            _kill([self.pid], signal.SIGKILL)
            status = self._wait(None, False, deaf=True)
        if last_words is not None:
            last_words()
        self._end_rest(family)
        return status

    def _end_rest(self, family):
        """End the processes that the worker started and left."""
        rest = (family | descendants(os.getpid())) - set([self.pid])
        _kill_group(self.pid, signal.SIGTERM)
        if not rest and not _group_lives(self.pid):
            return
        _kill(rest, signal.SIGTERM)
        told = rest
        end = now() + (0 if self.hurry else REST_GRACE)
        while now() < end:
            reap_all()
            rest = set(pid for pid in rest | descendants(os.getpid()) if _lives(pid))
            if not rest and not _group_lives(self.pid):
                return
            _kill(rest - told, signal.SIGTERM)  # as in end_all
            told = told | rest
            time.sleep(0.02)
        # Repeat until there is none: one may have started another just before it was killed.
        for _ in range(KILL_ROUNDS):
            _kill_group(self.pid, signal.SIGKILL)
            _kill(rest, signal.SIGKILL)
            time.sleep(0.01)
            reap_all()
            rest = descendants(os.getpid())
            if not rest:
                return

    def _wait(self, timeout, watch, deaf=False):
        """Wait for the worker's end, and if ``watch`` for the near side's.

        :param deaf: SIGTERM does not end the wait.
        :returns: the worker's status; None if something else has ended the wait.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if watch:
            poll.register(self.fd, 0)
            for near_fd in self.near_fds:
                poll.register(near_fd, select.POLLIN)
        end = None if timeout is None else now() + timeout
        while True:
            status = self._reap()
            if status is not None:
                return status
            if self.hurry and not deaf:
                return None
            left = None if end is None else max(0, end - now())
            try:
                ready = poll.poll(None if left is None else int(left * 1000) + 1)
            except (OSError, select.error):
                continue  # Python 2: interrupted by the signal
            for fd, _ in ready:
                if fd != self._wake:
                    return self._reap()
                os.read(self._wake, 512)
            if not ready and left == 0:
                return None

    def _reap(self):
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except OSError:
            return 0
        return status if pid else None


def reap_all():
    """Reap all children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass


def open_process(pid):
    """A descriptor that can be read when the process has ended; None if there can be none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError, TypeError):
        return None


def set_blocking(fd, blocking):
    """Make reads and writes of a descriptor blocking, or non-blocking.

    This is a property of the open file, not of the descriptor: duplicates share it.
    """
    if hasattr(os, "set_blocking"):
        os.set_blocking(fd, blocking)
    else:
        import fcntl

        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK
        fcntl.fcntl(fd, fcntl.F_SETFL, flags if blocking else flags | os.O_NONBLOCK)


def set_nonblocking(fd):
    """Make reads and writes of a descriptor non-blocking."""
    set_blocking(fd, False)


#: The function that makes a process a subreaper, once it has been looked for; or empty.
_subreaper = []


def prepare_subreaper():
    """Import in advance what :func:`become_subreaper` needs."""
    if _subreaper or not sys.platform.startswith("linux"):
        return
    arguments = (36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        # The core of ctypes: the rest takes ten times as long to import.
        from _ctypes import call_function, dlopen, dlsym

        prctl = dlsym(dlopen(None, 0), "prctl")
        _subreaper.append(lambda: call_function(prctl, arguments))
    except Exception:
        try:
            import ctypes

            function = ctypes.CDLL(None).prctl
            _subreaper.append(lambda: function(*arguments))
        except Exception:
            pass  # then only processes in the worker's session are found


def become_subreaper():
    """Make orphaned descendants children of this process, so that it finds them (Linux)."""
    prepare_subreaper()
    for call in _subreaper:
        call()


def children():
    """The process ids of this single-threaded process's children, from /proc."""
    try:
        with open("/proc/self/task/%d/children" % os.getpid(), "rb") as file:
            return set(int(pid) for pid in file.read().split())
    except (IOError, OSError):
        return set()


def descendants(pid):
    """The process ids of all descendants of a process, from /proc.

    If it finds none, there is none. If it finds some, it may miss others while processes end: ask
    again then.
    """
    children_of = _children_of
    if not os.path.exists("/proc/self/task/%d/children" % os.getpid()):
        children_of = _all_children()
    found = set()
    todo = [pid]
    while todo:
        for child in children_of(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def _children_of(pid):
    """The children of a process: of each of its threads."""
    found = []
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, thread), "rb") as file:
                found += [int(number) for number in file.read().split()]
    except (IOError, OSError):
        pass  # it has ended: its children have another parent now
    return found


def _all_children():
    """As :func:`_children_of` for a /proc without lists of children: read each process's parent."""
    found = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        names = []
    for name in names:
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (IOError, OSError, IndexError, ValueError):
                continue
            found.setdefault(parent, []).append(int(name))
    return lambda pid: found.get(pid, ())


def _kill(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def _kill_group(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def _group_lives(pid):
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


def _lives(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _end_as(status):
    """End this process as the worker ended: with the same exit status, or by the same signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        except Exception:
            pass
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))
