"""Passing descriptors: with the bytes they belong to, known by what they are, and none is left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.unix import Server
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pycomnet.net import eager
from pycomnet.net.descriptors import (
    LOOK_AGAIN,
    TAKE_TIME,
    ReceivedDescriptors,
    identity,
    passes_descriptors,
    send_descriptors,
)
from pycomnet.test.kit import MemoryTransport


@implementer(IFileDescriptorReceiver)
class Receiver(Protocol):
    """Notes what comes, in the order in which it does."""

    def __init__(self, reactor: Any) -> None:
        self.came: list[Any] = []
        self.received = ReceivedDescriptors(reactor)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.received.add(descriptor)
        self.came.append(identity(descriptor))

    def dataReceived(self, data: bytes) -> None:
        self.came.append(data)


def said(came: list[Any]) -> bytes:
    """The bytes of what has come."""
    return b"".join(each for each in came if type(each) is bytes)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@contextmanager
def pipes() -> Iterator[list[int]]:
    """Two ends of each of two pipes; what is open of them is closed afterwards."""
    fds = [*os.pipe(), *os.pipe()]
    try:
        yield fds
    finally:
        for fd in fds:
            if is_open(fd):
                os.close(fd)


class Passing(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(False)
            self.addCleanup(one.close)
        self.receiver = Receiver(self.reactor)
        reactor: Any = self.reactor
        self.sender = Server(ours, Protocol(), None, None, 0, reactor)
        self.there = Server(theirs, self.receiver, None, None, 0, reactor)
        self.receiver.makeConnection(self.there)
        self.addCleanup(self.receiver.received.close)
        self.write = eager.writer(self.sender)

    def read(self) -> None:
        """Read all that has come."""
        for _ in range(100):
            self.there.doRead()

    def test_descriptors_come_before_the_last_of_their_bytes(self) -> None:
        """They come before the last of what was written with them, and are closed here."""
        with pipes() as fds:
            given = [identity(fds[1]), identity(fds[2])]
            self.write([b"before"])
            send_descriptors(self.sender, (fds[1], fds[2]), lambda: self.write([b"these"]))
            self.write([b"after"])
            self.sender.doWrite()
            self.assertEqual([is_open(fd) for fd in fds], [True, False, False, True])
            self.read()
            came = self.receiver.came
            self.assertEqual(said(came), b"beforetheseafter")
            self.assertEqual([each for each in came if type(each) is tuple], given)
            whole = next(n for n in range(len(came)) if len(said(came[: n + 1])) >= 11)
            self.assertLessEqual(set(given), set(came[:whole]))
            taken = self.receiver.received.take(given[1], given[0])
            assert taken is not None
            self.assertFalse(any(map(os.get_inheritable, taken)))
            os.write(fds[3], b"x")
            self.assertEqual(os.read(taken[0], 2), b"x")
            for fd in taken:
                os.close(fd)

    def test_descriptors_wait_for_a_full_socket(self) -> None:
        """When the socket is full they are kept until they are sent, or nobody is there."""
        with pipes() as fds:
            size = 0
            while True:
                try:
                    size += self.sender.socket.send(bytes(65536))
                except BlockingIOError:
                    break
            send_descriptors(self.sender, (fds[0],), lambda: self.write([b"these"]))
            self.assertTrue(is_open(fds[0]))
            self.read()
            self.sender.doWrite()
            self.assertTrue(is_open(fds[0]))
            self.reactor.advance(LOOK_AGAIN)
            self.assertFalse(is_open(fds[0]))
            self.read()
            self.assertEqual(said(self.receiver.came)[size:], b"these")
            self.receiver.received.close()

    def test_descriptors_that_cannot_be_sent_are_closed(self) -> None:
        """They are closed when they can't be sent any more."""
        with pipes() as fds:
            self.sender.connected = 0
            self.patch(self.sender, "sendFileDescriptor", lambda fd: None)
            send_descriptors(self.sender, (fds[0], fds[2]), lambda: None)
            self.assertEqual([is_open(fd) for fd in fds], [False, True, False, True])

    def test_none_is_taken_when_one_is_missing(self) -> None:
        """Of several of which one did not come none is taken, and none is left open."""
        received = ReceivedDescriptors(self.reactor)
        with pipes() as fds:
            copy = os.dup(fds[0])
            other = os.dup(fds[2])
            received.add(copy)
            received.add(other)
            self.assertIsNone(received.take(identity(fds[0]), (0, 0)))
            self.assertFalse(is_open(copy))
            self.assertTrue(is_open(other))
            received.close()
            self.assertFalse(is_open(other))
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_descriptors_not_taken_are_closed_after_a_while(self) -> None:
        """What nobody takes is closed after a while; what was taken is not."""
        received = ReceivedDescriptors(self.reactor)
        with pipes() as fds:
            kept, left = os.dup(fds[0]), os.dup(fds[2])
            received.add(kept)
            received.add(left)
            self.assertEqual(received.take(identity(kept)), (kept,))
            self.reactor.advance(TAKE_TIME)
            self.assertEqual([is_open(fd) for fd in (kept, left)], [True, False])
            self.assertIsNone(received.take(identity(fds[2])))
            os.close(kept)

    def test_only_plain_unix_sockets_pass_descriptors(self) -> None:
        self.assertTrue(passes_descriptors(self.sender))
        self.assertFalse(passes_descriptors(MemoryTransport()))
        self.assertFalse(passes_descriptors(None))
