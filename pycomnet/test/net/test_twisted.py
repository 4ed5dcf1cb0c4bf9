"""What is used of Twisted's privates is there and does what it did, and all goes on without it.

Each use has a test that fails on a Twisted which has changed, and one of what is done then.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.protocol import Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web._websocket_impl import _WebSocketWireProtocol
from twisted.web.http_headers import Headers
from wsproto.connection import Connection as WSConnection
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage

import pycomnet
from pycomnet.mediator.chunks import Chunks
from pycomnet.net import _twisted


class Watch:
    """A reactor: knows who wants to write, and calls later when it is told to."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        self.removeReader = self.addReader = lambda reader: None
        self.later: list[Any] = []

    def getWriters(self) -> list[Any]:
        return list(self.writers)

    def pass_time(self) -> None:
        later, self.later = self.later, []
        for call in later:
            call()

    def callLater(self, delay: float, function: Any, *args: Any) -> None:
        self.later.append(lambda: function(*args))


class Descriptor(FileDescriptor):
    """A descriptor that takes so many bytes at a time."""

    connected = 1

    def __init__(self, takes: int = 4) -> None:
        self.watch = Watch()
        super().__init__(self.watch)  # type: ignore[arg-type]
        self.takes = takes
        self.taken = b""
        self.ended = 0

    def writeSomeData(self, data: bytes) -> int:
        self.taken += bytes(data[: self.takes])
        return min(self.takes, len(data))

    def close_write_end(self) -> None:
        self.ended += 1


class Unix(unix.Server):
    """A UNIX transport without a socket."""

    def __init__(self) -> None:
        unix._SendmsgMixin.__init__(self)  # type: ignore[no-untyped-call]
        FileDescriptor.__init__(self, Watch())  # type: ignore[arg-type]
        self.connected = 1


class BufferTests(SynchronousTestCase):
    """The write buffer."""

    def unwritten(self) -> None:
        """Some of it is there until all is written."""
        descriptor = Descriptor()
        self.assertFalse(_twisted.has_unwritten(descriptor))
        for piece in (b"abc", b"def"):
            descriptor.write(piece)
        for expected in (True, False):
            descriptor.doWrite()
            self.assertIs(_twisted.has_unwritten(descriptor), expected)
            self.assertIs(_twisted.is_congested(descriptor), expected)
        self.assertEqual(descriptor.taken, b"abcdef")

    def test_unwritten_bytes_are_seen_in_either_way(self) -> None:
        """It is seen whether there is something to write, in either way."""
        self.unwritten()
        for name in ("has_unwritten", "is_congested"):
            self.patch(_twisted, name, _twisted._waits_to_write)
        self.unwritten()

    def test_twisteds_write_buffer_is_where_it_was(self) -> None:
        """It is where it was: pieces until it is written, then one."""
        self.assertTrue(_twisted.HAS_BUFFER)
        descriptor = Descriptor()
        for piece in (b"abc", b"def"):
            descriptor.write(piece)
        self.assertEqual(list(descriptor._tempDataBuffer), [b"abc", b"def"])
        self.assertEqual(descriptor._tempDataLen, 6)
        descriptor.doWrite()
        self.assertEqual(descriptor.taken, b"abcd")
        self.assertEqual(list(descriptor._tempDataBuffer), [])
        _twisted.drop_unwritten(descriptor)
        self.assertFalse(_twisted.has_unwritten(descriptor))
        descriptor.write(b"xyz")
        descriptor.doWrite()
        self.assertEqual(descriptor.taken, b"abcdxyz")

    def test_unknown_buffer_keeps_order_and_loses_nothing(self) -> None:
        """Without it nothing is taken out of order, nor lost."""
        self.patch(_twisted, "HAS_BUFFER", False)
        descriptor = Descriptor()
        descriptor.write(b"abc")
        descriptor.write(b"def")
        _twisted.drop_unwritten(descriptor)
        descriptor.doWrite()
        descriptor.doWrite()
        self.assertEqual(descriptor.taken, b"abcdef")

    def test_unix_transports_queued_descriptors_are_seen(self) -> None:
        """Those that a UNIX transport has yet to send are in a list."""
        transport = Unix()
        queued = _twisted.queued_descriptors(transport)
        self.assertEqual(queued, [])
        transport.sendFileDescriptor(7)  # type: ignore[no-untyped-call]
        self.assertEqual(queued, [7])
        del transport._sendmsgQueue
        self.assertIsNone(_twisted.queued_descriptors(transport))


class HalfCloseTests(SynchronousTestCase):
    """Closing the end that is written to."""

    def half_closed(self, kind: Any) -> None:
        descriptor = kind()
        descriptor.write(b"abcdef")
        descriptor.loseWriteConnection()
        descriptor.doWrite()
        descriptor.watch.pass_time()
        self.assertEqual(descriptor.ended, 0)
        descriptor.doWrite()
        descriptor.watch.pass_time()
        self.assertEqual((descriptor.taken, descriptor.ended), (b"abcdef", 1))
        descriptor.write(b"more")
        self.assertFalse(_twisted.has_unwritten(descriptor))

    def test_write_end_closes_when_all_is_written(self) -> None:
        """It is closed when all is written, and takes no more; in either way."""
        self.assertTrue(_twisted.HAS_HALF_CLOSE)
        self.half_closed(_twisted.closes_write_end(type("Known", (Descriptor,), {})))
        self.patch(_twisted, "HAS_HALF_CLOSE", False)
        self.half_closed(_twisted.closes_write_end(type("Unknown", (Descriptor,), {})))

    def test_stop_taking_drops_what_is_written(self) -> None:
        """What is written is dropped; in either way."""
        self.assertTrue(hasattr(FileDescriptor, "_writeDisconnected"))
        slotted: Any = type("Other", (), {"stopWriting": lambda self: None})()
        for descriptor in (Descriptor(), slotted):
            _twisted.stop_taking(descriptor)
            descriptor.write(b"abc")
        self.assertFalse(_twisted.has_unwritten(Descriptor()))


class ReplacedTests(SynchronousTestCase):
    """Methods that stand in for a transport's, and what a reactor has."""

    def test_reactor_calls_the_replaced_read(self) -> None:
        """A reactor calls what stands in for ``doRead``, until that is over."""
        reactor = SelectReactor()  # type: ignore[no-untyped-call]
        here, there = socket.socketpair()
        for end in (here, there):
            self.addCleanup(end.close)
            end.setblocking(False)
        protocol = Protocol()
        got: list[bytes] = []
        protocol.dataReceived = got.append  # type: ignore[method-assign,assignment]
        transport = Connection(here, protocol, reactor)
        transport.connected = 1
        reactor.addReader(transport)
        calls: list[Any] = []
        own = transport.doRead
        self.assertIsNone(_twisted.replaced_read(transport))

        def read() -> Any:
            calls.append(None)
            return own()

        self.assertTrue(_twisted.replace_read(transport, read))
        self.assertIs(_twisted.replaced_read(transport), read)
        for data in (b"one", b"two"):
            there.send(data)
            reactor.doSelect(1)
            _twisted.restore_read(transport)
        self.assertEqual((got, len(calls)), ([b"one", b"two"], 1))

    def test_descriptor_writes_by_the_replaced_write(self) -> None:
        """A descriptor writes by what stands in for ``writeSomeData``."""
        descriptor = Descriptor()
        wrote: list[bytes] = []

        def write(data: bytes) -> int:
            wrote.append(bytes(data))
            return len(data)

        self.assertTrue(_twisted.replace_write(descriptor, write))
        descriptor.write(b"abc")
        descriptor.doWrite()
        self.assertEqual(wrote, [b"abc"])

    def test_irreplaceable_methods_are_left_alone(self) -> None:
        """What can't be replaced is left alone, and its user is told."""

        class Fixed:
            __slots__ = ()

            def doRead(self) -> None: ...
            def writeSomeData(self, data: bytes) -> int:
                return 0

            def seconds(self) -> float:
                return 0.0

        for replace in (_twisted.replace_read, _twisted.replace_write, _twisted.set_clock):
            self.assertFalse(replace(Fixed(), lambda *args: 1.0))  # type: ignore[operator]
        self.assertIsNone(_twisted.replaced_read(Fixed()))
        _twisted.restore_read(Fixed())

    def test_timers_go_by_the_given_clock(self) -> None:
        """Timers go by the clock that a reactor was given."""
        reactor = SelectReactor()  # type: ignore[no-untyped-call]
        now = [1000.0]
        self.assertTrue(_twisted.set_clock(reactor, lambda: now[0]))
        fired: list[Any] = []
        reactor.callLater(5, fired.append, None)
        for at, number in ((1004.0, 0), (1006.0, 1)):
            now[0] = at
            reactor.runUntilCurrent()
            self.assertEqual(len(fired), number)

    def test_epoll_is_found_in_an_epoll_reactor_alone(self) -> None:
        """An epoll reactor sleeps in an epoll; another one has none."""
        self.assertIsNone(_twisted.epoll_of(SelectReactor()))  # type: ignore[no-untyped-call]
        self.assertIsNone(_twisted.epoll_of(None))
        if not hasattr(select, "epoll"):
            self.skipTest("needs epoll")
        from twisted.internet.epollreactor import EPollReactor

        reactor = EPollReactor()  # type: ignore[no-untyped-call]
        poller = _twisted.epoll_of(reactor)
        self.assertIsInstance(poller, select.epoll)
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        self.assertIn(reactor.waker.fileno(), [r.fileno() for r in reactor.getReaders()])

    def test_silenced_reactor_is_not_woken(self) -> None:
        """A reactor without a waker is not woken, and one that never had one is left alone."""
        reactor = SelectReactor()  # type: ignore[no-untyped-call]
        self.assertIsNotNone(reactor.waker)
        _twisted.silence_waker(reactor)
        reactor.wakeUp()
        bare = object()
        _twisted.silence_waker(bare)
        self.assertFalse(hasattr(bare, "waker"))

    def test_asyncio_reactors_loop_is_recognised(self) -> None:
        """It is seen which loop an asyncio reactor runs on."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        reactor = AsyncioSelectorReactor(loop)
        self.assertTrue(_twisted.runs_on(reactor, loop))
        self.assertFalse(_twisted.runs_on(reactor, object()))
        self.assertFalse(_twisted.runs_on(object(), loop))


class Upload(http.Request):
    """A request whose body is given on as it comes."""

    pieces: list[bytes]

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        self.pieces = []
        _twisted.decode_body(self.channel, Chunks, self.pieces.append)

    def process(self) -> None:
        self.write(b"done")
        self.finish()


class HTTPTests(SynchronousTestCase):
    """Servers and clients."""

    CHUNKS = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    REQUEST = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS

    def server(self) -> tuple[Any, StringTransport]:
        channel: Any = http.HTTPChannel()
        channel.requestFactory = Upload
        channel.site = http.HTTPFactory()
        transport = StringTransport()
        channel.makeConnection(transport)
        return channel, transport

    def test_servers_chunks_come_by_our_decoder(self) -> None:
        """A server's body in chunks comes by the decoder, and its end is the request's."""
        channel, transport = self.server()
        channel.dataReceived(self.REQUEST[:-12])
        self.assertIsInstance(channel._transferDecoder, Chunks)
        [request] = channel.requests
        self.assertEqual(b"".join(request.pieces), b"abcdefg"[: len(b"".join(request.pieces))])
        channel.dataReceived(self.REQUEST[-12:])
        self.assertEqual(b"".join(request.pieces), b"abcdefg")
        self.assertIn(b"done", transport.value())

    def test_twisteds_own_decoder_is_the_fallback(self) -> None:
        """Where it can't be put in, Twisted's own takes the body apart."""
        self.patch(http, "_ChunkedTransferDecoder", object)
        self.assertIs(_twisted.chunk_decoder(), object)
        channel: Any = type("Other", (), {})()
        _twisted.decode_body(channel, Chunks, lambda data: None)
        self.assertEqual(vars(channel), {})

    def test_unreadable_request_calls_bad_request(self) -> None:
        """Twisted calls what a class has for a request that can't be read."""
        refused: list[Any] = []
        members = {"bad_request": lambda self: refused.append(self)}
        kind = _twisted.answers_bad_requests(type("Channel", (http.HTTPChannel,), members))
        channel = kind()
        channel.site = http.HTTPFactory()
        channel.makeConnection(StringTransport())
        channel.dataReceived(b"nonsense\r\n")
        self.assertEqual(refused, [channel])

    def test_clients_chunks_come_by_our_decoder(self) -> None:
        """A client's answer in chunks comes by the decoder."""
        protocol: Any = HTTP11ClientProtocol()
        _twisted.decode_answers(protocol, Chunks)
        protocol.makeConnection(StringTransport())
        headers = Headers({b"host": [b"h"]})
        answer = protocol.request(Request(b"GET", b"/", headers, None))
        self.assertEqual(protocol._parser._transferDecoders, {b"chunked": Chunks})
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        response = self.successResultOf(answer)
        got: list[bytes] = []
        body = Protocol()
        body.dataReceived = got.append  # type: ignore[method-assign,assignment]
        response.deliverBody(body)
        protocol.dataReceived(self.CHUNKS)
        self.assertEqual(b"".join(got), b"abcdefg")


class OneModule(SynchronousTestCase):
    """What is private in Twisted is used there alone."""

    def test_twisteds_privates_are_in_one_module(self) -> None:
        """No other module has one of the names."""
        names = set(re.findall(r"[.\"](_[a-z]+[A-Z]\w*|_wsconn|_poller)\b", source(_twisted)))
        self.assertIn("_tempDataBuffer", names)
        self.assertIn("_finishRequestBody", names)
        used = re.compile(rf"[.\"]({'|'.join(sorted(names))})\b")
        package = Path(pycomnet.__file__).parent
        for path in package.rglob("*.py"):
            if "test" not in path.relative_to(package).parts and path.name != "_twisted.py":
                self.assertEqual(used.findall(path.read_text(encoding="utf-8")), [], path)


def source(module: Any) -> str:
    return Path(module.__file__).read_text(encoding="utf-8")


class Messages:
    """Gets what comes by a WebSocket."""

    def textMessageReceived(self, message: str) -> None: ...

    def bytesMessageReceived(self, message: bytes) -> None: ...


class WebSocketTests(SynchronousTestCase):
    """What collects messages, and the state."""

    def wire(self) -> Any:
        return _WebSocketWireProtocol(WSConnection(ConnectionType.SERVER), print, Messages())

    def test_websocket_pieces_can_be_counted(self) -> None:
        """Where a WebSocket collects pieces they can be counted; elsewhere its user is told."""
        wire = self.wire()
        got: list[Any] = []
        collects = type("Collects", (), {"add": lambda self, data: got.append(data)})
        self.assertTrue(_twisted.bound_messages(wire, collects(), collects()))
        wire.transport = StringTransport()
        client = WSConnection(ConnectionType.CLIENT)
        pieces: list[Message[Any]] = [TextMessage("text", message_finished=False)]
        pieces.append(BytesMessage(b"bytes", message_finished=False))
        for piece in pieces:
            wire.dataReceived(client.send(piece))
            client = WSConnection(ConnectionType.CLIENT)
            wire._wsconn = WSConnection(ConnectionType.SERVER)
        self.assertEqual(got, ["text", b"bytes"])
        self.assertFalse(_twisted.bound_messages(object(), 1, 2))

    def test_websocket_state_is_wsprotos_or_open(self) -> None:
        """It is that of wsproto's connection; where that isn't known it is taken to be open."""
        wire = self.wire()
        self.assertIs(_twisted.websocket_state(wire), ConnectionState.OPEN)
        wire._wsconn.send(CloseConnection(1000))
        self.assertIs(_twisted.websocket_state(wire), ConnectionState.LOCAL_CLOSING)
        self.assertIs(_twisted.websocket_state(object()), ConnectionState.OPEN)


class LateTLS(SynchronousTestCase):
    """A reactor is loaded without TLS, which works when it is used."""

    def test_gateways_here_load_no_tls_and_what_uses_it_works(self) -> None:
        """In a new process: a popen gateway loads no TLS; then TLS works in each way there is."""
        program = Path(__file__).with_name("late_tls.py")
        done = subprocess.run(
            [sys.executable, program], capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual((done.stdout, done.returncode), ("TLS works\n", 0), done.stderr)

    def test_other_threads_find_the_modules_themselves(self) -> None:
        """With another thread, which may import them meanwhile, nothing stands in for them."""
        program = """
import sys, threading
from pycomnet.net import _twisted
over = threading.Event()
other = threading.Thread(target=over.wait)
other.start()
_twisted.load_reactor_without_tls()
over.set()
other.join()
from twisted.internet import _newtls
print(isinstance(_newtls.TLSMemoryBIOFactory, type), "twisted.internet.ssl" in sys.modules)
"""
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual((done.stdout, done.returncode), ("True True\n", 0), done.stderr)

    def test_stand_in_goes_when_something_else_is_taken_from_it(self) -> None:
        """If Twisted takes another name than the known ones, the module itself is loaded."""
        name = "colorsys"
        loaded = mock.patch.dict(sys.modules)  # another test may have loaded it
        loaded.start()
        self.addCleanup(loaded.stop)
        sys.modules.pop(name, None)
        later = sys.modules[name] = _twisted._Later(name)
        self.assertFalse(hasattr(later, "__path__"))
        self.assertIs(sys.modules[name], later)
        convert = later.rgb_to_hsv
        self.assertIsNot(sys.modules[name], later)
        self.assertIs(convert, sys.modules[name].rgb_to_hsv)
        later.leave()
        self.assertIn(name, sys.modules)

    def test_loaded_modules_are_left_alone(self) -> None:
        """Where TLS or a reactor's modules are loaded, nothing stands in for them."""
        before = {name: sys.modules[name] for name in ("twisted.internet.tcp", _twisted._TLS)}
        _twisted.load_reactor_without_tls()
        self.assertEqual(before, {name: sys.modules[name] for name in before})
