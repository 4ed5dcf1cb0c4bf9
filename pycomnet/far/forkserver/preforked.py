"""A worker that the fork server has forked before it is asked for.

Most of what a fork takes is the memory that the child copies as it begins, and that can be done
while nobody waits for it. A fork server that was asked for gateways twice will be asked again, so
from then on it keeps one pre-forked worker. That is as every other worker, but that what it shall
be comes on its own standard input, before its connection does.
"""

import os
import struct

from ...wire.values import PureCodec

#: Seconds after which one that was not asked for is ended.
IDLE = 20.0
#: What of a request is the worker's own business.
FOR_WORKER = ("config", "update", "unset", "cwd", "umask")
_LENGTH = struct.Struct("!I")


class PreforkedWorker(object):
    """A pre-forked worker, as the fork server has it.

    :param fds: where its standard input is written to, where its output and its standard error are
        read from.
    :param until: when it is ended, by the loop's clock.
    :param ended: called when it has ended before anybody asked for it.
    """

    def __init__(self, pid, fds, until, ended):
        self.pid = pid
        self.fds = fds
        self.until = until
        self._ended = ended

    def end(self):
        """Have it end: its connection is over."""
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)

    def reaped(self, number):
        """It has ended: nobody asked for it, or somebody killed it."""
        if self.fds:
            self.end()
            self._ended()


def job_message(request):
    """What a pre-forked worker is sent to become what was asked for."""
    payload = PureCodec().encode(dict((k, request[k]) for k in FOR_WORKER if k in request))
    return _LENGTH.pack(len(payload)) + payload


def wait_for_job(fd):
    """In the worker: what it is asked to be. It ends when nobody asks."""
    size = _LENGTH.unpack(_read(fd, _LENGTH.size))[0]
    return PureCodec().decode(_read(fd, size))


def wait_for_more():
    """What was too long for the command line, from standard input."""
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
    """In the worker: do once what it will do at first, to have copied the memory for it.

    A worker is made and gets a request, which it compiles; nothing is written or read.
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
