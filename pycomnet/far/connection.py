"""The connection at the far side: blocking I/O, done by the threads that wait for it.

A thread that waits in ``receive`` becomes the *reader*: it reads the connection itself, so that a
round trip costs no switch of threads. There is one reader at a time. Other threads that wait are
woken when the reader has a value for them, or stops reading. A background thread, the *reader
thread*, reads while no other thread does: so pings are answered, and new requests start, while the
user's code computes. It stops reading as soon as another thread wants to read.
"""

import errno
import os
import time

from ..wire.mux import (
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_FAILED,
    EV_GOAWAY,
    EV_OPENED,
    EV_RUN,
    LocalError,
    Mux,
    Stream,
)
from ..wire.values import InvalidValue, PureCodec
from .batcher import Batcher, may_batch
from .busypoll import BusyWait, poll_of
from .held import HeldChannel
from .live import Live
from .path import own_imports
from .writebuffer import HEAD, SIZE, UNBATCHED

try:
    from _thread import allocate_lock, start_new_thread
except ImportError:  # Python 2
    from thread import allocate_lock, start_new_thread

#: Seconds after which the reader thread checks again whether another thread reads. New requests
#: wait at most this long when the code that was reading does something else.
READER_INTERVAL = 0.01
#: Bytes that are read at a time: usually, and when there is much (a processor's cache holds it).
READ_SMALL = 65536
READ_LARGE = 262144
#: Importing ormsgpack takes longer than starting Python (20 to 40 ms: it imports dataclasses), so
#: the pure codec is used first. ormsgpack is imported after so much work: each value counts one,
#: and one for each 8 bytes but those of long bytes. That is a thousand small dicts, each of which
#: it encodes 2 us faster, or 7,000 numbers, each of which it encodes half a microsecond faster.
FAST_CODEC_AFTER = 7000
#: The most pieces of one gathering write: no system's limit is lower.
MAX_PIECES = 512
#: seconds by a monotonic clock, if this Python has one
now = getattr(time, "monotonic", time.time)


def timed_acquire(lock, timeout):
    """Acquire a lock within a time in seconds (None: for ever); whether that worked."""
    if timeout is None:
        return lock.acquire()
    if timeout <= 0:
        return lock.acquire(False)
    try:
        return lock.acquire(True, timeout)
    except TypeError:  # Python 2 has no timeout
        end = now() + timeout
        while not lock.acquire(False):
            if now() > end:
                return False
            time.sleep(0.001)
        return True


def _must_wait(error):
    """Whether a read or write failed that will work later.

    O_NONBLOCK belongs to the open file: any process that has it may set that, at any time.
    """
    return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def _identity(fd):
    """The device and inode of a descriptor; None if it is closed."""
    try:
        found = os.fstat(fd)
    except (OSError, AttributeError):
        return None
    return found.st_dev, found.st_ino


class FileIO(object):
    """Reads and writes file descriptors.

    :param read_fd: the descriptor to read from; blocking.
    :param write_fd: the descriptor to write to; it may be the same.
    :param busy: whether a reader that waits polls before it sleeps.
    """

    def __init__(self, read_fd, write_fd, busy=True):
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._size = READ_SMALL
        self._wait = BusyWait(poll_of(read_fd) if busy else None)
        self._writev = getattr(os, "writev", None)
        self._known = [_identity(fd) for fd in (read_fd, write_fd)]

    def is_replaced(self):
        """Whether what is written would go elsewhere. Checked after the user's code has run."""
        return _identity(self.write_fd) != self._known[1]

    def is_taken(self):
        """Whether other code has closed a descriptor. It may be something else's by now."""
        if self.read_fd < 0:
            return False  # it was closed here
        return self._known != [_identity(fd) for fd in (self.read_fd, self.write_fd)]

    def close(self):
        """Close both. Later writes fail."""
        fds = set((self.read_fd, self.write_fd)) - set([-1])
        self.read_fd = self.write_fd = -1
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                pass  # other code did

    def wait(self, timeout):
        """Whether there is something to read within a time in seconds."""
        with own_imports:
            import select

        return bool(select.select([self.read_fd], [], [], timeout)[0])

    def read(self, busy=False):
        """Some bytes, at least one; empty at the end.

        :param busy: whether to poll before sleeping, as user code waits for them.
        """
        size = self._size
        if busy:
            self._wait.poll()
        while True:
            try:
                data = os.read(self.read_fd, size)
                break
            except OSError as error:
                if not _must_wait(error):
                    return b""  # a reset is an end, too
                self.wait(None)
        if busy:
            self._wait.came()
        # A large buffer is worth its allocation only while there is much to read.
        self._size = READ_LARGE if len(data) == size else READ_SMALL
        return data

    def write_one(self, data):
        """Write all of some bytes."""
        done = 0
        while done != len(data):
            data = data[done:] if done else data
            try:
                done = os.write(self.write_fd, data)
            except OSError as error:
                done = self._wait_to_write(error)

    def _wait_to_write(self, error):
        """Wait, if a write failed because another process made the file non-blocking; 0."""
        if not _must_wait(error):
            raise error
        import select

        select.select([], [self.write_fd], [])
        return 0

    def write(self, parts):
        """Write all of a list of bytes and memoryviews."""
        if len(parts) > 1 and (self._writev is None or len(parts) > MAX_PIECES):
            parts = [b"".join(parts)]
        if len(parts) == 1:
            self.write_one(parts[0])
            return
        size = 0
        for part in parts:
            size += len(part)
        try:
            done = self._writev(self.write_fd, parts)
        except OSError as error:
            done = self._wait_to_write(error)
        if done != size:
            self.write_one(b"".join(parts)[done:])


class FarConnection(Live):
    """One connection and its threads.

    :param io: reads and writes, as :class:`FileIO` does.
    :param channel_class: called for each stream: ``channel_class(link, stream)``.
    :param opened: called with each channel that the peer opens; the caller holds the lock.
    :param lost: called once, when the connection is over; the caller holds no lock.
    :param write_buffer: an :class:`~.writebuffer.WriteBuffer`, or None to write each value at once.
    """

    def __init__(self, io, channel_class, opened, lost, info, limits=None, write_buffer=None):
        self.io = io
        self.write_buffer = write_buffer
        #: how many more short values are written one by one before any is collected
        self.unbatched = UNBATCHED
        #: the :class:`~.batcher.Batcher` that now uses the write buffer alone
        self.batcher = None
        self._may_batch = may_batch()
        if write_buffer is not None:
            write_buffer.flush_late(self._flush_late)
        self.mux = Mux(False, limits, info)
        self._codec = PureCodec(channel_class, self._dump_channel, self._load_channel)
        self._work_done = 0
        #: guards the state of the mux and of the channels
        self.lock = allocate_lock()
        #: held by the thread that writes; acquired before ``lock``
        self.write_lock = allocate_lock()
        self.closed = False
        #: True if it is over because code that runs here has closed its descriptor
        self.is_taken = False
        #: True in a child that the user's code forked
        self.forked = False
        #: what the reader calls after it has processed the bytes that it read
        self.turning = None
        #: the reason why it is over, as a sentence
        self.reason = "the connection is closed"
        #: makes the channels that are opened from now on
        self.channel_class = channel_class
        self._opened = opened
        self._lost = lost
        self._unaccepted = []
        #: streams of channels that nothing refers to any more, still to be closed
        self._dropped = []
        #: held by the reader: the thread that reads at the moment
        self._reading = allocate_lock()
        self._waiting = []
        self._turns = 0
        self._reading_wanted = False
        self._reader_waiter = allocate_lock()
        self._reader_waiter.acquire()
        self._reader_sleeps = False

    def start(self):
        """Send the hello, and start the reader thread."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        self.flush()
        start_new_thread(self._reader_thread, ())

    def _forked(self):
        """In a child that the user's code forked: the connection is its parent's."""
        self.lock = allocate_lock()
        self.write_lock = allocate_lock()
        self.forked = self.closed = True
        if self.batcher is not None:
            self.batcher.abandon()
            self.batcher = None
        self.reason = "the connection is the parent process's"
        self.io.close()
        for stream in list(self.mux.streams.values()):
            if stream.app is not None:
                stream.app.connection_lost(self.reason)

    # -- values ----------------------------------------------------------------------------------

    def encode(self, value):
        """Encode a value. Replaced by the fast codec's method once that pays off."""
        payload = self._codec.encode(value)
        self._worked(value, payload)
        return payload

    def decode(self, payload):
        """Decode a value; replaced as :meth:`encode` is."""
        value = self._codec.decode(payload)
        self._worked(value, payload)
        return value

    def decode_run(self, payloads):
        """Decode several payloads together, or None; replaced as :meth:`encode` is."""
        return None

    def _worked(self, value, payload):
        parts = value if type(value) is list and 64 * len(value) < len(payload) else (value,)
        size = len(payload) - sum([len(each) for each in parts if type(each) is bytes])
        self._work_done += 1 + size // 8
        if self._work_done > FAST_CODEC_AFTER:
            with own_imports:
                from ..wire.codec import make_codec

                codec = make_codec(self.channel_class, self._dump_channel, self._load_channel)
                codec.decode(codec.encode({}))  # its first use imports more
            self._codec = codec
            self.encode = codec.encode
            self.decode = codec.decode
            self.decode_run = codec.decode_run

    # -- channels --------------------------------------------------------------------------------

    def open(self, purpose, first=None, raw=False):
        """Open a channel to the near side."""
        with self.write_lock:
            with self.lock:
                if self.closed:
                    raise EOFError(self.reason)
                self.settle()
                stream = self.mux.open(purpose, first, raw)
                stream.app = channel = self.channel_class(self, stream)
            self.flush_locked()
        return channel

    def _dump_channel(self, channel):
        if channel.link is not self:
            raise ValueError("a channel of another connection")
        if channel.over is not None:
            raise ValueError("a closed channel")
        return channel.stream.id

    def _load_channel(self, id):
        stream = self.mux.streams.get(id)
        if stream is not None:
            channel = stream.app
            if not channel.accepted:
                self.hold(channel)
            elif type(channel) is HeldChannel:
                channel = channel.channel() or self._past(stream)
            return channel
        for channel in self._unaccepted:
            if channel.stream.id == id:
                self._unaccepted.remove(channel)
                return channel
        if not self.mux.was_opened(id):
            raise ValueError("channel %d was never opened" % id)
        stream = Stream(id, "channel", False, False, 0, 0)
        stream.sending = stream.receiving = False
        return self._past(stream)

    def _past(self, stream):
        """A closed channel, for one that was over or dropped before a value with it arrived."""
        channel = self.channel_class(self, stream)
        channel.over = EOFError("channel %d was closed here before it came" % stream.id)
        return channel

    def hold(self, channel):
        """Give a channel to the user's code. It is closed when nothing there refers to it."""
        channel.accepted = True
        stream = channel.stream
        if stream.app is channel:
            stream.app = HeldChannel(channel)

    def dropped(self, stream):
        """Nothing refers to the channel of this stream. Called in any thread, with any locks."""
        if self.closed or stream.id not in self.mux.streams:
            return
        self._dropped.append(stream)
        if len(self._dropped) == 1:
            try:
                start_new_thread(self._close_dropped, ())
            except Exception:
                pass  # this process is ending

    def _close_dropped(self):
        with self.write_lock:
            with self.lock:
                self.settle()
                dropped, self._dropped = self._dropped, []
                if self.closed:
                    return
                for stream in dropped:
                    self.mux.close(stream)
            self.flush_locked()

    # -- writing ---------------------------------------------------------------------------------

    def flush(self):
        """Write what the mux has."""
        with self.write_lock:
            self.flush_locked()

    def flush_locked(self):
        """As :meth:`flush`. The caller holds :attr:`write_lock`."""
        scheduler = self.mux.scheduler
        while True:
            with self.lock:
                self.settle()
                parts = scheduler.parts_to_send()
                sent = scheduler.sent
                if sent:
                    scheduler.sent = []
            if not parts:
                return
            self.write_parts(parts)
            for token in sent:
                token.done(True)

    def write_value(self, channel, frame):
        """Write the frame of a short value: now, or soon, together with others that follow.

        The caller holds :attr:`write_lock`, has called :meth:`settle`, and has the frame from the
        mux.
        """
        write_buffer = self.write_buffer
        if write_buffer is None:
            self.io.write_one(frame)
            return
        if self.unbatched and write_buffer.end == HEAD:
            self.unbatched -= 1
            self.io.write_one(frame)
        elif not write_buffer.put(frame):
            self.io.write_one(frame)
        else:
            write_buffer.wake()
            if not self._may_batch or self.mux.scheduler.fragment < SIZE:
                return  # unsafe, or a value could be too long for a frame
            with self.lock:
                if channel.stream.raw:
                    self.batcher = Batcher(channel, write_buffer, bytes)
                else:
                    self.batcher = Batcher(channel, write_buffer, self.encode, self._codec.packing)

    def settle(self):
        """Stop collecting values. The caller holds both locks.

        :raises RuntimeError: a signal handler calls this, and has interrupted code that is sending.
        """
        if self.batcher is not None:
            self.batcher.stop()
            self.batcher = None

    def _flush_buffer(self):
        self.unbatched = UNBATCHED
        with self.lock:
            self.settle()
        try:
            self.write_buffer.flush()
        except BaseException as error:
            self.write_failed(error)

    def _flush_late(self):
        with self.write_lock:
            if not self.closed:
                self._flush_buffer()
            delay = self.write_buffer.rest()
            self.unbatched = 0 if delay else UNBATCHED
        return None if self.closed else delay

    def write_parts(self, parts):
        """Write frames of the mux. The caller holds :attr:`write_lock`."""
        if self.write_buffer is not None and self.write_buffer.end != HEAD:
            self._flush_buffer()
        try:
            self.io.write(parts)
        except BaseException as error:
            self.write_failed(error)

    def write_failed(self, error):
        """Writing raised an exception: the connection is over."""
        if isinstance(error, OSError):
            self._over("can't write to the near side: %s" % error)
            return
        # A signal handler raised it within a frame: it is unknown how much was written.
        self._over("interrupted while writing a frame")
        raise error

    def read_failed(self, error):
        """Reading raised an exception. It is unknown what was read: the connection is over."""
        self._over("interrupted while reading a frame")
        raise error

    # -- reading ---------------------------------------------------------------------------------

    def wait(self, done, waiters=None, timeout=None):
        """Block until ``done()``. Read the connection, if no other thread does.

        :param waiters: a list for this thread's waiter, which the reader wakes for something new.
        :param timeout: seconds, or None.
        :returns: False if the time was over first.
        """
        end = None if timeout is None else now() + timeout
        reading = self._reading
        if self.write_buffer is not None:
            if self.write_buffer.end != HEAD and not done():
                with self.write_lock:
                    self._flush_buffer()
            self.unbatched = UNBATCHED
        try:
            while not done():
                if end is not None:
                    timeout = end - now()
                    if timeout <= 0:
                        return False
                if reading.acquire(False):
                    try:
                        while not done():
                            if end is not None:
                                timeout = end - now()
                                if timeout <= 0 or not self.io.wait(timeout):
                                    return done()
                            self._read(True)
                    finally:
                        reading.release()
                        self._turns += 1
                        if self._reader_sleeps:
                            self._reader_sleeps = False
                            self.wake_waiter(self._reader_waiter)
                else:
                    self._wait_to_be_woken(done, waiters, timeout)
            return True
        finally:
            # A thread that stops reading wakes another one that waits, to read on.
            if self._waiting and not reading.locked():
                self._wake_waiter()

    def _wait_to_be_woken(self, done, waiters, timeout):
        """Wait, as a waiter, until the reader has something or stops reading."""
        waiter = allocate_lock()
        waiter.acquire()
        self._reading_wanted = True
        self._waiting.append(waiter)
        if waiters is not None:
            waiters.append(waiter)
        try:
            # Checked again now that the waiter is in the lists: nothing is missed in between.
            if not done() and self._reading.locked():
                timed_acquire(waiter, timeout)
        finally:
            for where in (self._waiting, waiters):
                try:
                    if where is not None:
                        where.remove(waiter)
                except ValueError:
                    pass

    def _wake_waiter(self):
        """Wake the thread that has waited longest, so that it reads."""
        try:
            self.wake_waiter(self._waiting[0])
        except IndexError:
            pass

    @staticmethod
    def wake_waiter(waiter):
        """Wake a thread that waits."""
        try:
            waiter.release()
        except Exception:  # it was woken already: thread.error, RuntimeError
            pass

    def _reader_thread(self):
        seen = -1
        while not self.closed:
            if self._reading.acquire(False):
                self._reading_wanted = False
                try:
                    while not self._reading_wanted and not self.closed:
                        self._read()
                finally:
                    self._reading.release()
                if self._waiting:
                    self._wake_waiter()
            elif seen == self._turns:
                # One thread has been reading all the time. It wakes this one when it stops.
                self._reader_sleeps = True
                if self._reading.locked():
                    self._reader_waiter.acquire()
                elif self._reader_sleeps:
                    self._reader_sleeps = False
                else:
                    self._reader_waiter.acquire()
            seen = self._turns
            timed_acquire(self._reader_waiter, READER_INTERVAL)

    def _read(self, busy=False):
        """Read once, and process what arrived. Only the reader calls this."""
        data = self.io.read(busy)
        if not data:
            if data is None:
                return  # of a far side that lingers: it was not for the multiplexer
            self._over("the near side closed the connection")
            return
        mux = self.mux
        calls = None
        with self.lock:
            if self.closed:
                return
            for event in mux.receive_data(data):
                kind = event[0]
                if kind == EV_DATA:
                    channel = event[1].app
                    if channel is not None:
                        channel.arrived(event[2], event[3])
                elif kind == EV_RUN:
                    channel = event[1].app
                    if channel is not None:
                        channel.run_arrived(event[2], event[3])
                else:
                    calls = calls or []
                    self._event(kind, event, calls)
            write = mux.has_data()
        if write:
            self.flush()
        if calls:
            for call, argument in calls:
                call(argument)
        if self.turning is not None:
            turn, self.turning = self.turning, None
            turn()

    def _event(self, kind, event, calls):
        if kind == EV_OPENED:
            stream = event[1]
            stream.app = channel = self.channel_class(self, stream)
            self._opened(channel)
        elif kind == EV_END:
            event[1].app.peer_ended()
        elif kind == EV_CLOSED:
            channel = event[1].app
            try:
                channel.peer_closed(event[2], event[3])
            except InvalidValue as error:
                calls.append((self.violated, error))
            if not channel.accepted and channel.items:
                self._unaccepted.append(channel)
                del self._unaccepted[:-64]
        elif kind == EV_GOAWAY:
            calls.append((self._over, "the near side said goodbye: %s %s" % event[1:]))
        elif kind == EV_FAILED:
            calls.append((self._over, "the near side broke the protocol: %s" % event[1]))

    def violated(self, error):
        """The near side sent bytes that are no value: tell it so, and end the connection."""
        with self.lock:
            self.mux.goaway("value", str(error))
        self.flush()
        self._over("the near side broke the protocol: value: %s" % error)

    def lose_io(self):
        """Other code has closed the connection's descriptor."""
        self._over("the connection's descriptor is another's")

    def _over(self, reason):
        """The connection is over: wake every thread that waits for it."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            if self.io.is_taken():
                self.is_taken = True
                reason = "the code here closed the connection's descriptor"
            self.reason = reason
            for stream in list(self.mux.streams.values()):
                if stream.app is not None:
                    stream.app.connection_lost(reason)
        for waiter in list(self._waiting):
            self.wake_waiter(waiter)
        self.wake_waiter(self._reader_waiter)
        self._lost()


__all__ = ["FileIO", "FarConnection", "LocalError"]
