"""The write buffer: frames are collected, written together, and not lost with their worker."""

from __future__ import annotations

import fcntl
import os
import socket
import threading

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import writebuffer as module
from pycomnet.far.writebuffer import (
    HEAD,
    PIECE,
    SIZE,
    WriteBuffer,
    new_memory,
)

ROOM = SIZE - HEAD


class OutboxCase(SynchronousTestCase):
    """A test with a write buffer that writes to a pipe."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()
        self.addCleanup(lambda: os.close(self.reading))
        self.addCleanup(lambda: self.writing < 0 or os.close(self.writing))
        os.set_blocking(self.reading, False)
        memory = new_memory()
        assert memory is not None
        self.write_buffer = WriteBuffer(self.writing, memory)

    def written(self) -> bytes:
        """What can be read from the pipe."""
        try:
            return os.read(self.reading, 1 << 20)
        except BlockingIOError:
            return b""

    def fill_pipe(self) -> None:
        """Leave no room in the pipe."""
        os.set_blocking(self.writing, False)
        for piece in (bytes(4096), b"0"):
            try:
                while True:
                    os.write(self.writing, piece)
            except BlockingIOError:
                pass
        os.set_blocking(self.writing, True)


class Collecting(OutboxCase):
    """What is put in comes out, in order, when it is flushed or there is no room."""

    def test_flush_writes_everything_once(self) -> None:
        """Nothing is written before, everything then, and nothing twice."""
        self.assertTrue(self.write_buffer.put(b"one,"))
        self.assertTrue(self.write_buffer.put(b"two"))
        self.assertEqual(self.written(), b"")
        self.write_buffer.flush()
        self.assertEqual(self.written(), b"one,two")
        self.write_buffer.flush()
        self.assertEqual(self.written(), b"")

    def test_value_without_room_has_the_rest_written_first(self) -> None:
        """What has no room any more has what was collected before it written first."""
        first, second = b"a" * (ROOM - 10), b"b" * 11
        self.assertTrue(self.write_buffer.put(first))
        self.assertTrue(self.write_buffer.put(second))
        self.assertEqual(self.written(), first)
        self.write_buffer.flush()
        self.assertEqual(self.written(), second)

    def test_last_byte_of_the_room_is_used(self) -> None:
        self.assertTrue(self.write_buffer.put(b"a" * ROOM))
        self.assertEqual(self.written(), b"")
        self.write_buffer.last_words()
        self.assertEqual(self.written(), b"a" * ROOM)

    def test_frame_over_the_room_is_left_to_its_owner(self) -> None:
        """A frame that it has no room for at all is its owner's to write, after the others."""
        self.write_buffer.put(b"before")
        self.assertFalse(self.write_buffer.put(bytes(ROOM + 1)))
        self.assertEqual(self.written(), b"before")


class Pieces(OutboxCase):
    """A pipe that has room takes everything at once; another takes pieces that it does not cut."""

    def flush(self) -> list[int]:
        """Where each write ended: what is claimed is given to the system as a whole."""
        claimed = []
        head = self.write_buffer.head

        class Head:
            def __setitem__(self, number: int, value: int) -> None:
                head[number] = value
                if number and value != HEAD:
                    claimed.append(value)

        self.write_buffer.head = Head()  # type: ignore[assignment]
        self.write_buffer.flush()
        self.write_buffer.head = head
        return claimed

    def test_empty_pipe_takes_one_write(self) -> None:
        data = os.urandom(ROOM)
        self.write_buffer.put(data)
        self.assertEqual(self.flush(), [SIZE])
        self.assertEqual(self.written(), data)

    def test_pipe_in_use_takes_a_page_at_a_time(self) -> None:
        data = os.urandom(ROOM)
        os.write(self.writing, b"x")
        self.write_buffer.put(data)
        self.assertEqual(self.flush(), list(range(HEAD + PIECE, SIZE + 1, PIECE)))
        self.assertEqual(self.written(), b"x" + data)

    def test_small_pipe_takes_pieces(self) -> None:
        """A pipe that could not take it all."""
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, 4096)
        data = os.urandom(PIECE + 10)
        taken: list[bytes] = []
        os.set_blocking(self.reading, True)

        def take() -> None:
            while sum(map(len, taken)) < len(data):
                taken.append(os.read(self.reading, 1 << 20))

        thread = threading.Thread(target=take)
        thread.start()
        self.write_buffer.put(data)
        self.assertEqual(self.flush(), [HEAD + PIECE, HEAD + len(data)])
        thread.join(60)
        self.assertEqual(b"".join(taken), data)

    def test_socket_takes_a_page_at_a_time(self) -> None:
        """What is no pipe can't say how much it takes."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        memory = new_memory()
        assert memory is not None
        self.write_buffer = WriteBuffer(far.fileno(), memory)
        self.write_buffer.put(bytes(ROOM))
        self.assertEqual(len(self.flush()), ROOM // PIECE)
        self.assertEqual(len(near.recv(ROOM, socket.MSG_WAITALL)), ROOM)


class LastWords(OutboxCase):
    """What the supervisor writes when the worker has died."""

    def test_last_words_are_what_a_killed_child_left(self) -> None:
        """What was collected and not written, of a child that was killed."""
        pid = os.fork()
        if pid == 0:
            self.write_buffer.put(b"written,")
            self.write_buffer.flush()
            self.write_buffer.put(b"left,")
            self.write_buffer.put(b"left, too")
            os.kill(os.getpid(), 9)
        os.waitpid(pid, 0)
        self.assertEqual(self.written(), b"written,")
        self.write_buffer.last_words()
        self.assertEqual(self.written(), b"left,left, too")

    def test_last_words_without_rest_write_nothing(self) -> None:
        """Nothing is written where nothing is left."""
        self.write_buffer.last_words()
        self.write_buffer.put(b"x")
        self.write_buffer.flush()
        self.written()
        self.write_buffer.last_words()
        self.assertEqual(self.written(), b"")

    def test_last_words_begin_after_what_was_being_written(self) -> None:
        """What a worker was writing when it died is not written again; what follows it is."""
        data = os.urandom(3 * PIECE)
        self.write_buffer.put(data)
        self.write_buffer.head[1] = HEAD + PIECE
        self.write_buffer.last_words()
        self.assertEqual(self.written(), data[PIECE:])
        self.write_buffer.head[1] = self.write_buffer.end
        self.write_buffer.last_words()
        self.assertEqual(self.written(), b"")

    def test_last_words_do_not_wait_for_a_full_pipe(self) -> None:
        """A near side that takes nothing is not waited for without end."""
        self.patch(module, "LAST_WORDS", 0.01)
        self.write_buffer.put(b"x" * 100)
        self.fill_pipe()
        self.write_buffer.last_words()
        while data := self.written():
            self.assertNotIn(b"x", data)

    def test_last_words_to_nobody_are_no_error(self) -> None:
        """It is no error when the near side is gone."""
        os.close(self.reading)
        self.write_buffer.put(b"x")
        self.write_buffer.last_words()
        self.reading = os.open(os.devnull, os.O_RDONLY)


class Late(OutboxCase):
    """The thread that writes what nobody has written."""

    def test_without_threads_all_is_written_at_once(self) -> None:
        """Where no thread can be had, what is collected is written at once, and later ones, too."""

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        self.write_buffer.flush_late(lambda: 0)
        self.patch(module, "start_new_thread", refuse)
        for text in (b"first", b"second"):
            self.write_buffer.put(text)
            self.write_buffer.wake()
            self.assertEqual(self.written(), text)

    def test_late_writer_flushes_each_time_it_is_woken(self) -> None:
        """It asks for a flush once nothing is written any more, each time that it is woken."""
        flushed = threading.Semaphore(0)
        lock = threading.Lock()
        done: list[bool] = []

        def flush() -> float | None:
            with lock:
                self.write_buffer.flush()
                self.write_buffer.rest()
                flushed.release()
            return None if done else 0

        self.write_buffer.flush_late(flush)
        os.set_blocking(self.reading, True)
        for text in (b"first", b"second", b"last"):
            with lock:
                if text == b"last":
                    done.append(True)
                self.write_buffer.put(text)
                self.write_buffer.wake()
                self.write_buffer.wake()  # it is awake
            self.assertTrue(flushed.acquire(timeout=60))
            self.assertEqual(os.read(self.reading, 100), text)

    def test_late_writer_looks_again_without_being_woken(self) -> None:
        """While values follow each other it is told to look again, and needs nobody to wake it."""
        looks: list[bytes] = []
        ended = threading.Event()

        def flush() -> float | None:
            self.write_buffer.flush()
            looks.append(os.read(self.reading, 100))
            if len(looks) == 2:
                ended.set()
                return None
            self.write_buffer.put(b"second")
            return 0.001

        self.write_buffer.flush_late(flush)
        os.set_blocking(self.reading, True)
        self.write_buffer.put(b"first")
        self.write_buffer.wake()
        self.assertTrue(ended.wait(60))
        self.assertEqual(looks, [b"first", b"second"])
