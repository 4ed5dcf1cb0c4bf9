"""``execmodel``: what execnet's users take threads, locks and queues from."""

import os
import threading
import time

try:
    import queue
except ImportError:  # Python 2
    import Queue as queue

#: The names that execnet knows, and what they are here.
KNOWN = ("thread", "main_thread_only")


class ExecModel(object):
    """Threads, and what goes with them.

    :ivar backend: ``thread`` or ``main_thread_only``: how ``remote_exec`` runs code.
    """

    queue = queue
    #: a thread may take it several times, as with execnet
    Lock = staticmethod(threading.RLock)
    RLock = staticmethod(threading.RLock)
    Event = staticmethod(threading.Event)
    sleep = staticmethod(time.sleep)

    def __init__(self, backend):
        self.backend = backend

    def __repr__(self):
        return "<ExecModel %r>" % self.backend

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

    def get_ident(self):
        """The number of this thread."""
        return threading.current_thread().ident

    def start(self, func, args=()):
        """Call a function in a new thread."""
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
