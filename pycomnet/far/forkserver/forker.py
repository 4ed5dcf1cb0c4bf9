"""The part of the fork server that forks workers.

Workers that are requested in one turn of the loop are forked one right after the other. Each page
of memory that this process writes to between two forks has to be copied, as a child shares it.
"""

import os
import stat

from .forking import Before, import_more
from .forwarding import Waiting
from .preforked import IDLE, PreforkedWorker, job_message
from .processes import Pipes, Taken, WorkerProcess

#: Seconds of idleness after which it does slow work in advance for later workers.
QUIET = 0.02


def passed_socket(number):
    """The near side's descriptor-passing socket, or None if this process can't receive descriptors.

    Python 2 can't. And the program that started this one may have closed it, as sudo does.

    :param number: its descriptor, or None.
    """
    if number is None:
        return None
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None  # by now it is a descriptor of this process's own
    except OSError:
        return None
    import _socket  # socket itself takes long to import

    if hasattr(_socket.socket, "recvmsg"):
        return _socket.socket(fileno=number)
    os.close(number)
    return None


class InChild(BaseException):
    """Raised in a forked child, to leave what its parent was doing.

    :ivar job: what the child has to do.
    """

    def __init__(self, job):
        BaseException.__init__(self)
        self.job = job


class Wanted(object):
    """A worker that was requested and has not been started yet."""

    def __init__(self, peer, stream, io, request):
        self.peer = peer
        self.start = Waiting(peer, stream)
        self.stream = stream
        self.io = io
        self.request = request
        self.first = b""
        #: its descriptors, and this process's ends of them in the same order, if it has any
        self.fds = self.ours = None
        self.pid = None
        self.error = None


class Forker(object):
    """Forks workers for a fork server.

    :param fork_server: the fork server.
    :param most: the most processes at a time, or None.
    :param descriptor_socket: the descriptor-passing socket of the near side, or None.
    """

    def __init__(self, fork_server, most, descriptor_socket):
        self._fork_server = fork_server
        self._most = most
        self.before = Before()
        self._wanted = []
        #: how many were forked; the pre-forked worker
        self._forked = 0
        self.preforked = None
        self._imported = False
        self._descriptor_socket = descriptor_socket
        self._passed = {}

    def is_full(self):
        """Whether it has the most processes that it may have."""
        if self._most is None:
            return False
        return (
            len(self._fork_server.children) - (self.preforked is not None) + len(self._wanted)
            >= self._most
        )

    def want(self, peer, stream, io, request):
        """Request a worker: it is forked at the end of this turn."""
        if not self._wanted:
            self._fork_server.loop.soon(self._fork_wanted)
        self._wanted.append(Wanted(peer, stream, io, request))

    def _want_again(self, one, held, closing):
        """Replace a pre-forked worker that died when it was taken, with the next or a new one."""
        one.start = Waiting(one.peer, one.stream)
        io = Waiting(one.peer, one.io)
        for payload, cost in held:
            io.data(payload, cost)
        if closing:
            io.ended()
        one.first = b""
        one.fds = one.ours = one.pid = None
        if not self._wanted:
            self._fork_server.loop.soon(self._fork_wanted)
        self._wanted.append(one)

    def _fork_wanted(self):
        wanted, self._wanted = self._wanted, []
        for step in (self._equip, self._have_forked, self._begin):
            for one in wanted:
                if one.error is None:
                    try:
                        step(one)
                    except Exception as error:
                        one.error = error
        for one in wanted:
            if one.error is not None:
                self._fork_server.start_failed(one.peer, one.stream, one.error)

    def _equip(self, one):
        number = one.request.get("descriptors")
        if number is not None:
            one.ours = ()
            one.fds = self._take_descriptors(number)
        elif not getattr(one.io, "raw", False):
            raise ValueError("its connection needs a raw channel")
        elif self.preforked is not None:
            preforked, self.preforked = self.preforked, None
            one.pid, one.ours = preforked.pid, preforked.fds
            one.first = job_message(one.request)
        else:
            one.fds, one.ours = self.before.standard_pipes()

    def _have_forked(self, one):
        if one.fds is not None:
            one.pid = self._fork(one.fds, one.ours, one.request)

    def _fork(self, fds, ours, request):
        """Fork a worker; return its process id.

        :param ours: the other ends of its descriptors, which are closed if the fork fails.
        """
        try:
            pid, job = self.before.fork(fds, request)
        except Exception:
            for fd in ours:
                os.close(fd)
            raise
        if pid is None:
            raise InChild(job)
        return pid

    def _begin(self, one):
        fork_server, peer = self._fork_server, one.peer
        if one.ours:
            write_fd, read_fd, err_fd = one.ours
            pipes = Pipes(fork_server.loop, peer, one.io, write_fd, read_fd, one.first)
            if one.first:
                pipes.held = []  # until the worker is known to be alive
            one.io.app.give(pipes)
        else:
            err_fd = None
        if one.first:
            instead = lambda held, closing: self._want_again(one, held, closing)  # noqa: E731
            child = Taken(fork_server, peer, one.stream, one.pid, err_fd, pipes, instead)
        else:
            child = WorkerProcess(fork_server, peer, one.stream, one.pid, err_fd)
        one.start.give(child)
        self._forked += 1
        if one.ours and self._forked > 1:
            fork_server.loop.when_idle(self._prefork)
        else:
            self._import_later()

    def _import_later(self):
        if not self._imported:
            self._fork_server.loop.when_idle(self._import, QUIET)

    def _import(self):
        self._imported = True
        import_more()

    def _prefork(self):
        """Fork a worker in advance: after two requests for gateways there will be more."""
        if self.preforked is not None or self.is_full():
            return
        try:
            fds, ours = self.before.standard_pipes()
            pid = self._fork(fds, ours, None)
        except OSError:
            return  # the next request gets the error
        preforked = PreforkedWorker(
            pid, ours, self._fork_server.loop.now() + IDLE, self._preforked_ended
        )
        self.preforked = self._fork_server.children[pid] = preforked
        self._import_later()

    def _preforked_ended(self):
        self.preforked = None

    def check_time(self):
        """End a pre-forked worker that is not needed; return the seconds until then, or None."""
        preforked = self.preforked
        if preforked is None:
            return None
        left = preforked.until - self._fork_server.loop.now()
        if left > 0:
            return left
        self.preforked = None
        preforked.end()
        return None

    def _take_descriptors(self, number):
        """The descriptors that the near side has passed with this number."""
        import _socket
        import array

        while number not in self._passed:
            size = _socket.CMSG_LEN(12)
            data, ancillary, _, _ = self._descriptor_socket.recvmsg(4, size)
            if not data:
                raise EOFError("the descriptor socket is closed")
            found = array.array("i")
            for _, _, payload in ancillary:
                found.frombytes(payload)
            self.before.opened(found)
            self._passed[int.from_bytes(data, "big")] = tuple(found)
        return self._passed.pop(number)
