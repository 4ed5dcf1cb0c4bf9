"""The supervisor of a place: forks its workers, starts what is further on, and carries their bytes.

One process for all gateways of a place (this machine, an ssh host) and an interpreter. It has one
thread, runs none of the user's code, and waits for everything at once: for its near side, for the
workers' pipes and ends, and for the supervisors of places that are reached from here. What it is
asked for comes on the channels of its connection (docs/protocol.rst, "Places").
"""

import os
import select
import sys
import time

from ..wire.frames import RESULT
from .importer import MARKER
from .peer import CLOSED, READ_SMALL, Nobody, Peer, Waiting, grow, splice, would_block
from .supervisor import become_subreaper, children, open_process, set_nonblocking

try:
    import _signal as signal
except ImportError:
    import signal

#: How much of a process's output is read at a time while there is that much.
READ_BULK = 262144
#: How often the loop looks whether something has come before it sleeps; as in spin.py.
SPINS = 20
MAX_SKIPPED = 255
#: The exit status of one that can't do its work here, as nothing can be forked.
NO_FORK = 78
#: Pieces of a process's standard error that are read at its end: what a pipe holds.
STDERR_READS = 16
#: Bytes that a shell's profile may print before us, and how much of it is shown.
MAX_NOISE = 1048576
SHOWN_NOISE = 1000


class InChild(BaseException):
    """Raised in a forked child, to leave whatever its parent was doing."""


class Loop(object):
    """Waits for descriptors, and calls whoever watches them."""

    def __init__(self):
        self.peers = []
        self.now = getattr(time, "monotonic", time.time)
        self._poll = select.poll()
        self._calls = {}
        self._yield = getattr(os, "sched_yield", lambda: None)
        self._misses = self._skipped = 0

    def watch(self, fd, events, call):
        """Call ``call(events)`` when these happen to a descriptor; no events: not any more."""
        if events:
            self._calls[fd] = call
            self._poll.register(fd, events)
        elif self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _spin(self):
        """Look for what may come at once: being woken takes longer than answering does."""
        if self._skipped:
            self._skipped -= 1
            return None
        poll = self._poll.poll
        for _ in range(SPINS):
            ready = poll(0)
            if ready:
                self._misses = 0
                return ready
            self._yield()
        self._misses = min(2 * self._misses + 1, MAX_SKIPPED)
        self._skipped = self._misses
        return None

    def turn(self, timeout):
        """Wait for something to happen, at most so many seconds, and deal with it."""
        try:
            ready = self._spin() or self._poll.poll(
                None if timeout is None else int(timeout * 1000) + 1
            )
        except (OSError, select.error):
            return  # Python 2: interrupted by a signal
        for fd, events in ready:
            call = self._calls.get(fd)
            if call is not None:
                call(events)
        for peer in list(self.peers):
            mux = peer.mux
            if mux._out or mux._ready or mux.sent:
                peer.flush()


class Pipes(object):
    """A process's standard input and output, on a raw channel.

    :param first: what the process gets before that.
    :param marker: what its output has to begin with, after whatever noise; or None.
    :param began: called with the noise once it has.
    """

    def __init__(self, loop, peer, stream, write_fd, read_fd, first=b"", marker=None, began=None):
        self._loop = loop
        self._peer = peer
        self._stream = stream
        self._write_fd = write_fd
        self._read_fd = read_fd
        self._marker = marker
        self._began = began
        self.noise = b""
        self._size = READ_SMALL
        self._grown = False
        self._out = []
        self._closing = False
        set_nonblocking(write_fd)
        set_nonblocking(read_fd)
        loop.watch(read_fd, select.POLLIN, self._readable)
        if first:
            self.data(first, 0)

    def data(self, payload, cost):
        """Bytes for its standard input."""
        if self._write_fd < 0:
            self._peer.mux.consumed(self._stream, cost)
            return
        if not self._out:
            done = self._write(payload)
            if done == len(payload):
                if cost:
                    self._peer.mux.consumed(self._stream, cost)
                return
            payload = payload[done:]
            self._loop.watch(self._write_fd, select.POLLOUT, self._writable)
            if not self._grown:
                self._grown = True
                grow(self._write_fd)
        self._out.append((payload, cost))

    def _write(self, payload):
        try:
            return os.write(self._write_fd, payload)
        except OSError as error:
            # It takes no more: what it said before is still read.
            return 0 if would_block(error) else len(payload)

    def _writable(self, events):
        while self._out:
            payload, cost = self._out[0]
            done = self._write(payload)
            if done < len(payload):
                self._out[0] = (payload[done:], cost)
                return
            del self._out[0]
            if cost:
                self._peer.mux.consumed(self._stream, cost)
        self._loop.watch(self._write_fd, 0, None)
        if self._closing:
            self._close_input()

    def _readable(self, events):
        try:
            data = os.read(self._read_fd, self._size)
        except OSError as error:
            if would_block(error):
                return
            data = b""
        if len(data) == READ_SMALL and self._size == READ_SMALL:
            self._size = READ_BULK
            grow(self._read_fd)
        if not data:
            self._close_output()
            if not self._peer.closed:
                self._peer.mux.close(self._stream)
            return
        if self._marker is not None:
            data = self._after_marker(data)
            if not data:
                return
        if self._peer.closed or not self._stream.sending:
            return
        if not self._peer.send(self._stream, data, self._read_on):
            self._loop.watch(self._read_fd, 0, None)

    def _after_marker(self, data):
        data = self.noise + data
        before, found, after = data.partition(self._marker)
        if not found:
            self.noise = data[-MAX_NOISE:]
            return b""
        self.noise = before
        self._marker = None
        if self._began is not None:
            self._began()
        return after

    def _read_on(self):
        if self._read_fd >= 0:
            self._loop.watch(self._read_fd, select.POLLIN, self._readable)

    def ended(self):
        """There is no more for its standard input."""
        self._closing = True
        if not self._out:
            self._close_input()

    def closed(self, kind, payload):
        """Nobody is there for it any more."""
        self._close_output()
        self.ended()

    def _close_input(self):
        if self._write_fd >= 0:
            self._loop.watch(self._write_fd, 0, None)
            os.close(self._write_fd)
            self._write_fd = -1

    def _close_output(self):
        if self._read_fd >= 0:
            self._loop.watch(self._read_fd, 0, None)
            os.close(self._read_fd)
            self._read_fd = -1


class Child(object):
    """A process that was started for one gateway: its standard error and its end.

    :param stream: the ``start`` channel that asked for it.
    :param stderr: the descriptor that its standard error is read from, or None.
    """

    def __init__(self, hub, peer, stream, pid, stderr):
        self._hub = hub
        self._peer = peer
        self._stream = stream
        self.pid = pid
        self._stderr = stderr
        self.ended_with = None
        stream.app = self
        peer.mux.want(stream)
        hub.children[pid] = self
        if stderr is not None:
            set_nonblocking(stderr)
            hub.loop.watch(stderr, select.POLLIN, self._readable)
        self._send({"pid": pid})

    def _send(self, value, token=None):
        if self._peer.closed or not self._stream.sending:
            return True
        return self._peer.mux.send(self._stream, self._peer.codec.encode(value), token)

    def _readable(self, events):
        self._read_stderr()

    def _read_stderr(self, last=False):
        try:
            data = os.read(self._stderr, READ_SMALL)
        except OSError as error:
            if would_block(error):
                return False
            data = b""
        if not data:
            self._close_stderr()
            return False
        if not self._send(bytearray(data), self._read_on) and not last:
            self._hub.loop.watch(self._stderr, 0, None)
        return True

    def _read_on(self):
        if self._stderr is not None:
            self._hub.loop.watch(self._stderr, select.POLLIN, self._readable)

    def _close_stderr(self):
        if self._stderr is not None:
            self._hub.loop.watch(self._stderr, 0, None)
            os.close(self._stderr)
            self._stderr = None

    def data(self, payload, cost):
        """A signal for it."""
        self._peer.mux.consumed(self._stream, cost)
        self._peer.mux.want(self._stream)
        number = self._peer.codec.decode(payload)
        if isinstance(number, int):
            kill_group(self.pid, number)

    def ended(self):
        """Nobody will send it a signal."""

    def closed(self, kind, payload):
        """Nobody asks for it any more."""
        if self.ended_with is None:
            kill_group(self.pid, signal.SIGTERM)

    def reaped(self, status):
        """It has ended, in the way that ``waitpid`` gave."""
        number = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.ended_with = number
        if self._stderr is not None:
            for _ in range(STDERR_READS):
                if not self._read_stderr(True):
                    break
            self._close_stderr()
        self.tell_end(number)

    def tell_end(self, number):
        """Say so."""
        if not self._peer.closed and self._stream.sending:
            self._peer.mux.close(self._stream, RESULT, self._peer.codec.encode({"status": number}))


class Booted(Child):
    """A process that is an interpreter of its own, started for one gateway."""

    def __init__(self, hub, peer, stream, pid, stderr, pipes):
        self.pipes = pipes
        Child.__init__(self, hub, peer, stream, pid, stderr)

    def tell_end(self, number):
        """Say so, and what it printed instead of beginning."""
        if self.pipes._marker is not None and self.pipes.noise:
            self._send({"noise": self.pipes.noise[-SHOWN_NOISE:]})
        Child.tell_end(self, number)


class Hop(object):
    """The supervisor of a place that is reached from here.

    :param argv: what is started to reach it.
    :param config: what it is told.
    """

    def __init__(self, hub, key, argv, config):
        self._hub = hub
        self._key = key
        self._name = argv[0]
        self.peer = None
        self.ended_with = None
        #: what waits for it: functions that are called with None, or with why it can't be reached
        self._waiters = []
        self._lines = b""
        self._noise = b""
        self._gone = None
        self.pid, self._write_fd, self._read_fd, self._stderr = hub.spawn(argv, None)
        hub.children[self.pid] = self
        set_nonblocking(self._write_fd)
        set_nonblocking(self._read_fd)
        set_nonblocking(self._stderr)
        from .package import letter

        self._letter = letter(config)
        self._silence = config.get("hub", {}).get("silence")
        hub.loop.watch(self._write_fd, select.POLLOUT, self._writable)
        hub.loop.watch(self._read_fd, select.POLLIN, self._readable)
        hub.loop.watch(self._stderr, select.POLLIN, self._read_stderr)

    def when_ready(self, call):
        """Call this with None once it can be asked, or with an error's text."""
        if self._gone is not None:
            call(self._gone)
        elif self.peer is not None and self.peer.ready is None:
            call(None)
        else:
            self._waiters.append(call)

    def _tell(self, error):
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call(error)

    def _writable(self, events):
        try:
            self._letter = self._letter[os.write(self._write_fd, self._letter) :]
        except OSError as error:
            if would_block(error):
                return
            self._letter = b""  # its end says more
        if not self._letter:
            self._hub.loop.watch(self._write_fd, 0, None)

    def _readable(self, events):
        try:
            data = os.read(self._read_fd, READ_SMALL)
        except OSError as error:
            if would_block(error):
                return
            data = b""
        if not data:
            self._hub.loop.watch(self._read_fd, 0, None)
            return  # its end comes, too
        self._noise += data
        _, found, after = self._noise.partition(MARKER)
        if not found:
            if len(self._noise) > MAX_NOISE:
                kill_group(self.pid, signal.SIGKILL)
            return
        self._noise = b""
        loop = self._hub.loop
        loop.watch(self._read_fd, 0, None)
        loop.watch(self._write_fd, 0, None)
        opened = self._hub.refuse
        self.peer = Peer(loop, self._read_fd, self._write_fd, True, {}, opened, self._lost)
        self.peer.silence = self._silence
        self.peer.when_ready(lambda: self._tell(None))
        if after:
            self.peer.receive(after)

    def _read_stderr(self, events):
        try:
            data = os.read(self._stderr, READ_SMALL)
        except OSError as error:
            if would_block(error):
                return
            data = b""
        if not data:
            self._hub.loop.watch(self._stderr, 0, None)
            return
        self._lines = (self._lines + data)[-4 * SHOWN_NOISE :]

    def _lost(self, reason):
        """The connection is over, and so is about to be the process, whose end says more."""
        if reason != CLOSED:
            self._lines += ("\n%s: %s" % (self._name, reason)).encode("utf-8", "replace")
            kill_group(self.pid, signal.SIGKILL)
        if self._hub.hops.get(self._key) is self:
            del self._hub.hops[self._key]

    def _over(self, reason):
        self._gone = self._words(reason)
        if self._hub.hops.get(self._key) is self:
            del self._hub.hops[self._key]
        self._tell(self._gone)
        if self.peer is not None:
            self.peer.over(self._gone)
            self.peer.tell(self._gone)

    def _words(self, reason):
        text = reason
        for what, data in (("it printed", self._noise), ("it said", self._lines)):
            if data.strip():
                shown = data[-SHOWN_NOISE:].decode("utf-8", "replace").strip()
                text += "; %s:\n%s" % (what, shown)
        return text

    def reaped(self, status):
        """Its process has ended."""
        number = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.ended_with = number
        self._read_stderr(0)
        if number < 0:
            how = "was killed by signal %d" % -number
        else:
            how = "exited with status %d" % number
        self._over("%s %s" % (self._name, how))
        self._hub.loop.watch(self._stderr, 0, None)
        os.close(self._stderr)
        if self.peer is None:
            for fd in (self._write_fd, self._read_fd):
                self._hub.loop.watch(fd, 0, None)
                os.close(fd)


class Hub(object):
    """The supervisor of one place.

    :param read_fd: where its near side is heard.
    :param write_fd: where that hears it.
    :param config: ``near`` (the near side's process id, when it is on this machine), ``door`` (a
        descriptor that others come through), ``silence`` (seconds after which a near side that says
        nothing is given up), ``most`` (how many processes it may have at a time).
    """

    def __init__(self, read_fd, write_fd, config):
        self.loop = Loop()
        self.children = {}
        self.hops = {}
        self.job = None
        self._silence = config.get("silence")
        self._most = config.get("most")
        self._pings = 0
        self._preloaded = False
        self._killing = False
        self._wake, wake = os.pipe()
        self._fds = [self._wake, wake, read_fd, write_fd]
        for fd in self._fds:
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
        self._door = None
        self._passed = {}
        if config.get("door") is not None:
            import _socket  # the whole of socket takes time to import

            self._door = _socket.socket(fileno=config["door"])
        info = {
            "hub": 1,
            "pid": os.getpid(),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "executable": sys.executable or "",
        }
        self.upstream = Peer(self.loop, read_fd, write_fd, False, info, self._opened, self._over)
        self.upstream.silence = config.get("silence")
        self.upstream.flush()

    def run(self):
        """Work until the near side is gone, and then return None; or in a forked child: its job."""
        try:
            while not self.upstream.closed:
                self.loop.turn(self._check_silence())
        except InChild:
            return self.job
        return None

    def _over(self, reason):
        if not self.upstream.closed:
            self.upstream.over(reason)

    def _check_silence(self):
        """Whom to ask for a sign of life; the seconds until somebody has to be asked again."""
        waits = [peer.check_silence() for peer in list(self.loop.peers)]
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
                self.children.pop(pid).reaped(status)
                killed = killed or os.WIFSIGNALED(status)
        self._end_strays(killed)

    def _end_strays(self, killed):
        """End what a supervisor that was killed itself has left: the system gives it to this one.

        Each is seen to end, and what it has started is then here as well, so this goes on until
        there is none.

        :param killed: whether a child was killed: it may have been such a supervisor.
        """
        strays = children() - set(self.children)
        self._killing = bool(strays) and (killed or self._killing)
        for pid in strays:
            try:
                if self._killing:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                pass

    # -- what the near side asks for -------------------------------------------------------------

    def refuse(self, peer, stream):
        """A supervisor further on asks for nothing."""
        Nobody(peer, stream)
        peer.fail(stream, "purpose", "there is nothing to open here")

    def _opened(self, peer, stream):
        if stream.purpose == "channel" and stream.raw:
            Waiting(peer, stream)
        elif stream.purpose == "start" and not stream.raw:
            Asked(self, peer, stream)
            peer.mux.want(stream)
        else:
            Nobody(peer, stream)
            peer.fail(stream, "purpose", "unknown purpose %r" % str(stream.purpose))

    def start(self, peer, stream, request):
        """Do what the first value on a ``start`` channel says."""
        path = request.get("path")
        io = request.get("io")
        if self._most is not None and len(self.children) >= self._most:
            if io is not None:
                Nobody(peer, io)
                peer.fail(io, "limit", "limit")
            peer.fail(stream, "limit", "no more than %d processes are allowed there" % self._most)
        elif path:
            self._forward(peer, stream, io, request)
        elif request.get("argv"):
            self._boot(peer, stream, io, request)
        else:
            self._fork_worker(peer, stream, io, request)

    def _forward(self, peer, stream, io, request):
        first, rest = request["path"][0], request["path"][1:]
        key = tuple(first["argv"])
        hop = self.hops.get(key)
        if hop is None:
            hop = self.hops[key] = Hop(self, key, first["argv"], first["config"])
        control = Waiting(peer, stream)

        def ready(error):
            if error is not None:
                Nobody(peer, io)
                peer.fail(io, "hop", error)
                Nobody(peer, stream)
                peer.fail(stream, "hop", error)
                return
            if control._last is not None:  # it was given up in the meantime
                Nobody(peer, stream)
                return
            further = hop.peer
            onto = further.mux.open("channel", None, True)
            payload = further.codec.encode(dict(request, path=rest, io=onto))
            told = further.mux.open("start", payload)
            splice(peer, io, further, onto)
            splice(peer, stream, further, told)

        hop.when_ready(ready)

    def _boot(self, peer, stream, io, request):
        from .package import letter

        pid, write_fd, read_fd, stderr = self.spawn(request["argv"], request.get("env"))
        pipes = Pipes(self.loop, peer, io, write_fd, read_fd, letter(request["config"]), MARKER)
        child = Booted(self, peer, stream, pid, stderr, pipes)
        pipes._began = lambda: child._send({"began": True})
        io.app.give(pipes)

    def _fork_worker(self, peer, stream, io, request):
        number = request.get("door")
        if number is not None:
            stdin, stdout, stderr = self._come_in(number)
            ours = None
        else:
            stdin, write_fd = os.pipe()
            read_fd, stdout = os.pipe()
            err_fd, stderr = os.pipe()
            ours = (write_fd, read_fd, err_fd)
        self.job = {
            "config": dict(request["config"], near=os.getpid(), fork=True),
            "env": request.get("env"),
            "update": request.get("update"),
            "cwd": request.get("cwd"),
        }
        pid = self._fork((stdin, stdout, stderr))
        if ours is None:
            Child(self, peer, stream, pid, None)
        else:
            io.app.give(Pipes(self.loop, peer, io, write_fd, read_fd))
            Child(self, peer, stream, pid, err_fd)
        if not self._preloaded:
            self._preloaded = True
            preload()

    def _come_in(self, number):
        """The descriptors that came through the door under this number."""
        import _socket
        import array

        while number not in self._passed:
            size = _socket.CMSG_LEN(12)
            data, ancillary, _, _ = self._door.recvmsg(4, size)
            if not data:
                raise EOFError("the door is closed")
            found = array.array("i")
            for _, _, payload in ancillary:
                found.frombytes(payload)
            self._passed[int.from_bytes(data, "big")] = tuple(found)
        return self._passed.pop(number)

    # -- processes -------------------------------------------------------------------------------

    def _fork(self, fds):
        """Fork, with these as the child's standard descriptors; closed in the parent.

        :raises InChild: in the child.
        """
        pid = os.fork()
        if pid == 0:
            become_child(fds)
            raise InChild()
        for fd in fds:
            os.close(fd)
        return pid

    def spawn(self, argv, env):
        """Start a program.

        :param env: variables to set.
        :returns: its process id, and where its standard input is written to, its output and its
            standard error are read from.
        """
        stdin, write_fd = os.pipe()
        read_fd, stdout = os.pipe()
        err_fd, stderr = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                become_child((stdin, stdout, stderr))
                os.environ.update(env or {})
                try:
                    os.execvp(argv[0], argv)
                except OSError as error:
                    text = "can't start %r: %s\n" % (str(argv[0]), error)
                    os.write(2, text.encode("utf-8", "replace"))
            finally:
                os._exit(127)
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        return pid, write_fd, read_fd, err_fd


class Asked(object):
    """On a ``start`` channel whose first value is still to come."""

    def __init__(self, hub, peer, stream):
        self._hub = hub
        self._peer = peer
        self._stream = stream
        stream.app = self

    def data(self, payload, cost):
        """What is asked for."""
        peer, stream = self._peer, self._stream
        peer.mux.consumed(stream, cost)
        Nobody(peer, stream)
        try:
            request = peer.codec.decode(payload)
            self._hub.start(peer, stream, request)
        except Exception as error:
            # Out of processes or descriptors, or a request that makes no sense.
            peer.fail(stream, "start", "%s: %s" % (type(error).__name__, error))

    def ended(self):
        """It is not asked for anything."""
        self._peer.mux.close(self._stream)

    def closed(self, kind, payload):
        """Likewise."""


def become_child(fds):
    """In a child just forked: have these standard descriptors, and nothing else of the parent's."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                if signal.getsignal(number) not in (signal.SIG_DFL, None):
                    signal.signal(number, signal.SIG_DFL)
            except (ValueError, OSError, RuntimeError):
                pass
    os.setsid()
    # Out of the way first: one of them may have the number that another shall get.
    moved = []
    for fd in fds:
        while fd < 3:
            fd = os.dup(fd)
        moved.append(fd)
    for number, fd in enumerate(moved):
        os.dup2(fd, number)
    try:
        most = max(int(name) for name in os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        most = 4096
    os.closerange(3, most + 1)


def settle(job):
    """In a forked child: be as an interpreter that has just been started; return its config."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGPIPE", "SIGXFSZ"):  # as Python does
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if job["env"] is not None:
        for name in list(os.environ):
            if name not in job["env"]:
                del os.environ[name]
        os.environ.update(job["env"])
    os.environ.update(job["update"] or {})
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if job["cwd"] is not None:
        os.chdir(job["cwd"])
    return job["config"]


def preload():
    """Import what workers need, before the next is forked."""
    import gc

    for name in ("ctypes", "threading", "traceback", "linecache"):
        try:
            __import__(name)
        except Exception:
            pass
    become_subreaper()
    if hasattr(gc, "freeze"):
        gc.collect()
        gc.freeze()


def kill_group(pid, number):
    """Send a signal to a process and its group."""
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def serve(config):
    """Be the supervisor of this place.

    :param config: as for :class:`Hub`, under ``hub``.
    :returns: in each child that is forked, the config that it shall go on with; here never.
    """
    if not hasattr(os, "fork"):
        sys.stderr.write("pycomnet: this Python can't fork: it needs //fork=no\n")
        os._exit(NO_FORK)
    from .main import take_stdio

    hub = Hub(*(take_stdio() + (config["hub"],)))
    job = hub.run()
    if job is None:
        os._exit(0)
    return settle(job)
