"""The fork server: forks workers, starts further fork servers, and forwards bytes.

There is one for each machine (this one, or an ssh host) and interpreter. It has one thread, runs
none of the user's code, and waits for all events at once: from its near side, from the workers'
pipes and their ends, and from the fork servers behind it. Requests come on the channels of its
connection (docs/protocol.rst, "Fork servers").
"""

import os
import select
import sys
import time

from ..connection import FileIO
from ..preamble import Preamble
from ..stdio import take_stdio
from ..supervisor import become_subreaper, children, open_process, set_nonblocking
from ..writebuffer import WriteBuffer
from .connection import ForkServerConnection
from .forker import Forker, InChild, passed_socket
from .forking import (
    READ_FD,
    WRITE_FD,
    changed_signals,
    highest_descriptor,
    import_given,
)
from .forwarding import Nobody, Waiting, splice
from .loop import Loop
from .processes import Booted, Pipes, kill_group

try:
    import _signal as signal
except ImportError:
    import signal

#: Objects that forked workers must keep: if they were freed there, they would close descriptors
#: that are the worker's own by then.
_kept = []
#: Seconds between SIGTERM and SIGKILL for processes that a killed supervisor has left.
STRAY_GRACE = 1.0
#: Seconds between one SIGKILL and the next check.
KILL_AGAIN = 0.02
#: The exit status if forking is not possible here.
NO_FORK = 78


class ForkServer(object):
    """A fork server.

    :param read_fd: where it reads from its near side.
    :param write_fd: where it writes to its near side.
    :param config: ``near`` (the near side's process id, if it is on this machine),
        ``descriptor_socket`` (the near side's descriptor-passing socket), ``silence`` (seconds
        after which a silent near side is given up), ``most`` (the most processes at a time),
        ``imports`` (as for :func:`.forking.import_given`).
    """

    def __init__(self, read_fd, write_fd, config):
        self.loop = Loop()
        self.children = {}
        self.hops = {}
        self._most = config.get("most")
        self._killing = False
        #: orphan -> when it is killed: the orphans that are being ended
        self._strays = {}
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake, read_fd, write_fd):
            set_nonblocking(fd)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        self.loop.watch(self._wake, select.POLLIN, self._reap)
        near = config.get("near")
        self._near_fd = open_process(near) if near == os.getppid() else None
        if self._near_fd is not None:
            self.loop.watch(self._near_fd, select.POLLIN, lambda events: self._over("it ended"))
        descriptors = passed_socket(config.get("descriptor_socket"))
        info = {
            "fork_server": 1,
            "pid": os.getpid(),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "executable": sys.executable or "",
            "descriptor_socket": descriptors is not None,
        }
        self.upstream = ForkServerConnection(
            self.loop, read_fd, write_fd, False, info, self._opened, self._over
        )
        self.upstream.silence = config.get("silence")
        self.upstream.flush()
        # The slow work goes here, while the near side handles the hello.
        self.forker = Forker(self, self._most, descriptors)
        if config.get("imports"):
            import_given(config["imports"])
        become_subreaper()  # the processes that a killed supervisor leaves become children of this

    def run(self):
        """Serve until the near side is gone; return None, or in a forked child its job."""
        loop = self.loop
        due = number = strays = 0
        wait = preforked = None
        try:
            while not self.upstream.closed:
                if wait is not None:
                    wait = due - loop.now()
                if (
                    number != len(loop.peers)
                    or preforked is not self.forker.preforked
                    or strays != len(self._strays)
                    or (wait is not None and wait <= 0)
                ):
                    wait = self._check_times()
                    number, preforked = len(loop.peers), self.forker.preforked
                    strays = len(self._strays)
                    due = loop.now() + (wait or 0)
                loop.turn(wait)
        except InChild as child:
            return child.job
        return None

    def _over(self, reason):
        if not self.upstream.closed:
            self.upstream.over(reason)

    def _check_times(self):
        """Send pings, end what is not needed; return the seconds until the next check."""
        waits = [peer.check_silence() for peer in list(self.loop.peers)]
        waits.append(self.forker.check_time())
        if self._strays:
            waits.append(self._end_strays())
        waits = [wait for wait in waits if wait is not None]
        return min(waits) if waits else None

    def _reap(self, events):
        try:
            os.read(self._wake, 512)
        except OSError:
            pass
        killed = False
        for pid in list(self.children):
            # What it left in its process group goes first: the number is its own till it is reaped.
            try:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    kill_group(pid, signal.SIGKILL)
            except (AttributeError, OSError):
                pass
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except OSError:
                done, status = pid, 0
            if done:
                number = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self.children.pop(pid).reaped(number)
                killed = killed or number < 0
        self._end_strays(killed)

    def _end_strays(self, killed=False):
        """End processes that a killed supervisor has left; the system made them children of this.

        When one of them ends, its own children come here as well, so this goes on until there is
        none. Each gets SIGTERM first, as it may be a supervisor, which ends its own processes; and
        SIGKILL a second later.

        :param killed: whether a child was killed, which may have been such a supervisor.
        :returns: the seconds until the next of them is killed, or None.
        """
        strays = children() - set(self.children)
        self._killing = bool(strays) and (killed or self._killing)
        if not strays:
            self._strays = {}
            return None
        now = self.loop.now()
        known, self._strays = self._strays, {}
        for pid in strays:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    continue
                if self._killing:
                    due = known.get(pid)
                    if due is None:
                        os.kill(pid, signal.SIGTERM)
                        os.kill(pid, signal.SIGCONT)
                        due = now + STRAY_GRACE
                    elif due <= now:
                        os.kill(pid, signal.SIGKILL)
                        due = now + KILL_AGAIN
                    self._strays[pid] = due
            except OSError:
                pass
        return max(0, min(self._strays.values()) - now) if self._strays else None

    def end(self):
        """The near side is gone: end the orphans, too."""
        until = self.loop.now() + 2 * STRAY_GRACE
        while self._end_strays() is not None and self.loop.now() < until:
            time.sleep(KILL_AGAIN)

    # -- what the near side asks for -------------------------------------------------------------

    def refuse(self, peer, stream):
        """Refuse a channel from an inner fork server: it may request nothing."""
        Nobody(peer, stream)
        peer.fail(stream, "purpose", "there is nothing to open here")

    def _opened(self, peer, stream):
        if stream.purpose == "channel" and stream.raw:
            Waiting(peer, stream)
        elif stream.purpose == "start" and not stream.raw:
            StartRequest(self, peer, stream)
            peer.mux.demand_read(stream)
        else:
            Nobody(peer, stream)
            peer.fail(stream, "purpose", "unknown purpose %r" % str(stream.purpose))

    def start(self, peer, stream, request):
        """Serve a request: the first value on a ``start`` channel."""
        path = request.get("path")
        io = request.get("io")
        if self.forker.is_full():
            if io is not None:
                Nobody(peer, io)
                peer.fail(io, "limit", "limit")
            peer.fail(stream, "limit", "no more than %d processes are allowed there" % self._most)
        elif path:
            self._forward(peer, stream, io, request)
        elif request.get("argv"):
            self._boot(peer, stream, io, request)
        else:
            self.forker.want(peer, stream, io, request)

    def start_failed(self, peer, stream, error):
        """Report a failed start: no more processes or descriptors, or an invalid request."""
        Nobody(peer, stream)
        peer.fail(stream, "start", "%s: %s" % (type(error).__name__, error))

    def _forward(self, peer, stream, io, request):
        first, rest = request["path"][0], request["path"][1:]
        key = tuple(first["argv"])
        hop = self.hops.get(key)
        if hop is None:
            # Imported only now: it imports what packs our source, and that takes time.
            from .hop import InnerForkServer

            hop = self.hops[key] = InnerForkServer(self, key, first["argv"], first["config"])
        control = Waiting(peer, stream)

        def ready(error):
            if error is not None:
                Nobody(peer, io)
                peer.fail(io, "hop", error)
                Nobody(peer, stream)
                peer.fail(stream, "hop", error)
                return
            if control.last is not None:  # it was given up in the meantime
                Nobody(peer, stream)
                return
            before = hop.take_preamble()
            if before and stream.sending:
                peer.mux.send(stream, peer.codec.encode(bytearray(before)))
            further = hop.peer
            onto = further.mux.open("channel", None, True)
            payload = further.codec.encode(dict(request, path=rest, io=onto))
            told = further.mux.open("start", payload)
            splice(peer, io, further, onto)
            splice(peer, stream, further, told)

        hop.when_ready(ready)

    def _boot(self, peer, stream, io, request):
        from ..package import bootstrap_message

        pid, write_fd, read_fd, stderr = self.spawn(request["argv"], request.get("env"))
        pipes = Pipes(
            self.loop, peer, io, write_fd, read_fd, bootstrap_message(request["config"]), Preamble()
        )
        Booted(self, peer, stream, pid, stderr, pipes)
        io.app.give(pipes)

    # -- processes -------------------------------------------------------------------------------

    def spawn(self, argv, env):
        """Start a program.

        :param env: variables to set.
        :returns: its process id, and this process's ends of its standard input, output and error.
        """
        fds, ours = self.forker.before.standard_pipes()
        try:
            pid = os.fork()
        except OSError:
            for fd in fds + ours:
                os.close(fd)
            raise
        if pid == 0:
            try:
                become_child(fds)
                os.environ.update(env or {})
                try:
                    os.execvp(argv[0], argv)
                except OSError as error:
                    text = "can't start %r: %s\n" % (str(argv[0]), error)
                    os.write(2, text.encode("utf-8", "replace"))
            finally:
                os._exit(127)
        for fd in fds:
            os.close(fd)
        return (pid,) + ours


class StartRequest(object):
    """On a ``start`` channel whose first value has not come yet."""

    def __init__(self, fork_server, peer, stream):
        self._fork_server = fork_server
        self._peer = peer
        self._stream = stream
        stream.app = self

    def data(self, payload, cost):
        """The request has come: serve it."""
        peer, stream = self._peer, self._stream
        peer.mux.consumed(stream, cost)
        Nobody(peer, stream)
        try:
            request = peer.codec.decode(payload)
            self._fork_server.start(peer, stream, request)
        except Exception as error:
            self._fork_server.start_failed(peer, stream, error)

    def ended(self):
        """The channel ended without a request."""
        self._peer.mux.close(self._stream)

    def closed(self, kind, payload):
        """Likewise."""


def become_child(fds):
    """In a new child: set the standard descriptors, and close all others of the parent."""
    signal.set_wakeup_fd(-1)
    for number in changed_signals():
        try:
            signal.signal(number, signal.SIG_DFL)
        except (ValueError, OSError, RuntimeError):
            pass
    os.setsid()
    # Duplicate them first: one of them may have the number that another needs.
    moved = []
    for fd in fds:
        while fd < 3:
            fd = os.dup(fd)
        moved.append(fd)
    for number, fd in enumerate(moved):
        os.dup2(fd, number)
    os.closerange(3, highest_descriptor() + 1)


def serve(config):
    """Run a fork server.

    :param config: as for :class:`ForkServer`, under ``fork_server``.
    :returns: only in forked workers: the worker's config, its connection and its write buffer.
    """
    if not hasattr(os, "fork"):
        sys.stderr.write("pycomnet: this Python can't fork: it needs //fork=no\n")
        os._exit(NO_FORK)
    fork_server = ForkServer(*(take_stdio() + (config["fork_server"],)))
    _kept.append(fork_server)
    job = fork_server.run()
    if job is None:
        fork_server.end()
        os._exit(0)
    memory = job["memory"]
    write_buffer = None if memory is None else WriteBuffer(WRITE_FD, memory)
    safe_path = config.get("safe_path")
    config = dict(job["config"], cwd=job.get("cwd"), umask=job.get("umask"), safe_path=safe_path)
    return config, FileIO(READ_FD, WRITE_FD), write_buffer
