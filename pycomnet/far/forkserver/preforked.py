"""A worker that the fork server forks before it is requested.

Most of a fork's cost is the memory that the child copies when it starts, and it can do that while
nobody waits for it. A fork server that was asked for two gateways will be asked for more, so from
then on it keeps one pre-forked worker. That is like any other worker, except that its request comes
on its standard input, before the bytes of its connection.
"""

import os
import struct

from ...wire.values import PureCodec

#: Seconds after which an unused one is ended.
IDLE = 20.0
#: The keys of a request that the worker needs.
FOR_WORKER = ("config", "update", "unset", "cwd", "umask")
_LENGTH = struct.Struct("!I")


class PreforkedWorker(object):
    """A pre-forked worker, as the fork server sees it.

    :param fds: this process's ends of its standard input, output and error.
    :param until: when it is ended, by the loop's clock.
    :param ended: called if it ends before it is used.
    """

    def __init__(self, pid, fds, until, ended):
        self.pid = pid
        self.fds = fds
        self.until = until
        self._ended = ended

    def end(self):
        """End it: close its connection."""
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)

    def reaped(self, number):
        """It has ended unused, or was killed."""
        if self.fds:
            self.end()
            self._ended()


def job_message(request):
    """The message that gives a pre-forked worker its request."""
    payload = PureCodec().encode(dict((k, request[k]) for k in FOR_WORKER if k in request))
    return _LENGTH.pack(len(payload)) + payload


def wait_for_job(fd):
    """In the worker: read its request; end the process if none comes."""
    size = _LENGTH.unpack(_read(fd, _LENGTH.size))[0]
    return PureCodec().decode(_read(fd, size))


def wait_for_more():
    """Read from standard input what was too long for the command line."""
    from ..importer import read

    return PureCodec().decode(read(_LENGTH.unpack(read(_LENGTH.size))[0]))


def _read(fd, size):
    data = b""
    while len(data) < size:
        try:
            piece = os.read(fd, size - len(data))
        except OSError:
            piece = b""
        if not piece:
            os._exit(0)
        data += piece
    return data


def rehearse(read_fd, write_fd):
    """In the worker: do its first steps once in advance, so that the memory for them is copied.

    It creates a far side and gives it a request, which that compiles; nothing is written or read.
    """
    from ...wire.mux import Mux
    from ..connection import FileIO
    from ..worker import FarSide

    worker = FarSide(FileIO(read_fd, write_fd), {"id": ""})
    link = worker.link
    near = Mux(True, None, {})
    request = {"source": "def rehearsed(channel):\n    pass\n", "function": "rehearsed"}
    _pass_on(link.mux, near)
    _pass_on(near, link.mux)
    near.open("exec", link.encode(request))
    _pass_on(near, link.mux)
    exec(compile(request["source"], "<rehearsal>", "exec", 0, True), {})


def _pass_on(mux, other):
    other.receive_data(b"".join([bytes(part) for part in mux.parts_to_send()]))
