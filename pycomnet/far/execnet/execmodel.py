"""``execmodel``: execnet's users take threads, locks and queues from it.

Modules are imported when they are first used: most code at a gateway needs none of them, and
importing them takes longer than the rest of this package.
"""

import os
import time

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: The models of execnet that there are here.
KNOWN = ("thread", "main_thread_only")


class ExecModel(object):
    """Threads, and what goes with them.

    :ivar backend: ``thread`` or ``main_thread_only``: how ``remote_exec`` runs code.
    """

    sleep = staticmethod(time.sleep)

    def __init__(self, backend):
        self.backend = backend

    def __repr__(self):
        return "<ExecModel %r>" % self.backend

    @property
    def queue(self):
        """The module."""
        if str is bytes:
            import Queue as queue
        else:
            import queue
        return queue

    @property
    def subprocess(self):
        """The module."""
        import subprocess

        return subprocess

    @property
    def socket(self):
        """The module."""
        import socket

        return socket

    @property
    def RLock(self):
        """``threading.RLock``: makes locks that a thread may take several times."""
        import threading

        return threading.RLock

    #: as in execnet, a thread may take this one several times, too
    Lock = RLock

    @property
    def Event(self):
        """The class."""
        import threading

        return threading.Event

    def get_ident(self):
        """The number of this thread."""
        return get_ident()

    def start(self, func, args=()):
        """Call a function in a new thread."""
        import threading

        thread = threading.Thread(target=func, args=tuple(args))
        thread.daemon = True
        thread.start()

    def fdopen(self, fd, mode, bufsize=1, closefd=True):
        """A file object for a descriptor."""
        if str is bytes:
            return os.fdopen(fd, mode, bufsize)
        return os.fdopen(fd, mode, bufsize, encoding="utf-8", closefd=closefd)


def get_execmodel(backend):
    """The model of this name.

    :raises ValueError: there is none.
    """
    if isinstance(backend, ExecModel):
        return backend
    if backend not in KNOWN:
        raise ValueError(
            "no execmodel %r here: use 'thread', or 'main_thread_only'; there are no greenlets"
            % (backend,)
        )
    return ExecModel(backend)
