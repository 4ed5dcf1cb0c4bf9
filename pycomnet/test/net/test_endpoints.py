"""Endpoint strings: what they say, and what is said of those that are wrong."""

from __future__ import annotations

import errno
import os
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pycomnet.errors import CertificateRefused, EndpointError
from pycomnet.net import endpoints


@implementer(IHostnameResolver)
class FakeResolver:
    """Knows one name, and the numbers of that host."""

    def __init__(self, known: str, *numbers: str) -> None:
        self.known, self.numbers = known, numbers

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, *_: Any) -> Any:
        receiver.resolutionBegan(None)
        for number in self.numbers if hostName == self.known else ():
            receiver.addressResolved(IPv4Address("TCP", number, portNumber))
        receiver.resolutionComplete()
        return receiver


class FakePort:
    """A listening port that says where it listens."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def getHost(self) -> Any:
        return self.address


class ParseTests(SynchronousTestCase):
    """Reading strings."""

    def test_each_form_has_one_usual_form(self) -> None:
        """Each form has one usual form, which is its own."""
        for given, cleaned in (
            ("127.0.0.1:80", "tcp:127.0.0.1:80"),
            (" tcp:localhost:80\n", "tcp:localhost:80"),
            ("TCP:localhost:80", "tcp:localhost:80"),
            ("unix:/run/a b", "unix:/run/a b"),
            (r"unix:/c\:d", r"unix:/c\:d"),
            ("tls:h:1:trustRoots=/x=y", "tls:h:1:trustRoots=/x=y"),
            (r"tcp6:1:interface=\:\:1", r"tcp6:1:interface=\:\:1"),
            ("tcp:8080", "tcp:8080"),
            ("tcp:[::1]:80", r"tcp:\:\:1:80"),
            ("[::1]:80", r"tcp:\:\:1:80"),
            ("tls:[fe80::1%eth0]:80:timeout=5", r"tls:fe80\:\:1%eth0:80:timeout=5"),
            ("unix:/a[b]", "unix:/a[b]"),
        ):
            self.assertEqual(endpoints.clean(given), cleaned)
            self.assertEqual(endpoints.clean(cleaned), cleaned)

    def test_other_strings_are_refused_with_what_is_expected(self) -> None:
        """Anything else is an error that shows what was expected."""
        for given in ("", "  ", "tcp", "a=b:c", ":", ":80", "tcp:\x00:1"):
            problem = self.assertRaises(EndpointError, endpoints.parse, given)
            self.assertIn("tcp:HOST:PORT", str(problem))
        self.assertRaises(EndpointError, endpoints.parse, 2012)

    def test_local_endpoints_are_loopback_and_unix(self) -> None:
        """What only this machine can reach: loopback interfaces and UNIX sockets."""
        for given, local in (
            ("tcp:0:interface=127.0.0.1", True),
            (r"tcp:0:interface=\:\:1", True),
            (r"tcp6:0:interface=\:\:1", True),
            ("tls:0:interface=localhost", True),
            ("unix:/tmp/x", True),
            ("tcp:127.0.0.1:80", True),
            ("localhost:80", True),
            ("tcp:0", False),
            ("tcp:0:interface=0.0.0.0", False),
            ("tcp:0:interface=192.0.2.1", False),
            ("tcp:example.org:80", False),
        ):
            self.assertEqual(endpoints.is_local(given), local, given)

    def test_local_addresses_are_loopback_and_unix(self) -> None:
        """Of a transport's addresses, too; an IPv4 one may come in IPv6's form."""
        for address, local in (
            (IPv4Address("TCP", "127.0.0.2", 1), True),
            (IPv6Address("TCP", "::1", 1), True),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), True),
            (UNIXAddress("/tmp/x"), True),
            (IPv4Address("TCP", "192.0.2.1", 1), False),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 1), False),
            (IPv6Address("TCP", "fe80::1%eth0", 1), False),
            (None, False),
        ):
            self.assertEqual(endpoints.is_local_address(address), local, address)

    def test_tls_and_ssl_are_tls(self) -> None:
        self.assertTrue(endpoints.is_tls("tls:h:1"))
        self.assertTrue(endpoints.is_tls("ssl:h:1"))
        self.assertFalse(endpoints.is_tls("h:1"))

    def test_client_string_says_what_to_connect_to(self) -> None:
        """What to connect to: the interface, or the host that is given."""
        four = FakePort(IPv4Address("TCP", "127.0.0.1", 99))
        every = FakePort(IPv4Address("TCP", "0.0.0.0", 99))
        six = FakePort(IPv6Address("TCP", "::1", 99))
        self.assertEqual(endpoints.client_string(four, "tcp:0"), "tcp:127.0.0.1:99")
        self.assertEqual(endpoints.client_string(every, "tcp:0", "a.test"), "tcp:a.test:99")
        self.assertNotIn("0.0.0.0", endpoints.client_string(every, "tcp:0"))
        self.assertEqual(endpoints.client_string(six, "tls:0:privateKey=k"), r"tls:\:\:1:99")
        unix = FakePort(UNIXAddress("/tmp/a:b"))
        self.assertEqual(endpoints.client_string(unix, "unix:/tmp/x"), r"unix:/tmp/a\:b")
        self.assertRaises(EndpointError, endpoints.client_string, FakePort(None), "tcp:0")

    def test_address_is_described_as_an_endpoint(self) -> None:
        """A transport's address, as a string."""
        self.assertEqual(endpoints.describe_address(IPv6Address("TCP", "::1", 5)), r"tcp:\:\:1:5")
        self.assertEqual(endpoints.describe_address(UNIXAddress(None)), "unix:")


class EndpointTests(SynchronousTestCase):
    """Making Twisted's endpoints."""

    def test_twisteds_kinds_are_its_own_endpoints(self) -> None:
        """Twisted's own kinds are Twisted's own endpoints."""
        reactor = MemoryReactorClock()
        tcp = endpoints.server_endpoint(reactor, "tcp:0:interface=127.0.0.1")
        self.assertIsInstance(tcp, TCP4ServerEndpoint)
        unix = endpoints.server_endpoint(reactor, "unix:/tmp/x")
        self.assertIsInstance(unix, UNIXServerEndpoint)

    def test_backlog_is_long_unless_given(self) -> None:
        """As many as come back to what was restarted can wait, unless something else is said."""
        reactor = MemoryReactorClock()
        for text, expected in (("tcp:80", endpoints.BACKLOG), ("tcp:80:backlog=5", 5)):
            endpoints.server_endpoint(reactor, text).listen(Factory())
            self.assertEqual(reactor.tcpServers[-1][2], expected)
        endpoints.server_endpoint(reactor, "unix:/tmp/x").listen(Factory())
        self.assertEqual(reactor.unixServers[-1][2], endpoints.BACKLOG)

    def test_mistake_is_an_error_with_the_string(self) -> None:
        """Each mistake is an error that has the string and says what is wrong."""
        reactor = MemoryReactorClock()
        long_path = "unix:/" + endpoints.MAX_UNIX_PATH * "x"
        for make, given, says in (
            (endpoints.server_endpoint, "tcp:eighty", "tcp:eighty"),
            (endpoints.client_endpoint, long_path, "and this one has"),
            (endpoints.server_endpoint, long_path, "and this one has"),
            (endpoints.server_endpoint, "tcp:70000", "at most 65535 for the port, got '70000'"),
            (
                endpoints.client_endpoint,
                "tcp:127.0.0.1:70000",
                "at most 65535 for the port, got '70000'",
            ),
            (endpoints.server_endpoint, "tpc:80", "tpc"),
            (endpoints.server_endpoint, "tls:80", "privateKey=FILE"),
            (endpoints.server_endpoint, "tls:x:privateKey=k", "port"),
            (endpoints.server_endpoint, "tls:1:privateKey=/no/such.pem", "/no/such.pem"),
            (endpoints.server_endpoint, "tls:1:pirvateKey=k", "pirvateKey"),
            (endpoints.client_endpoint, "tcp:example.org:http", "port"),
            (endpoints.client_endpoint, "http://example.org:80", "expected e.g. tcp:HOST:PORT"),
            (endpoints.client_endpoint, "tcp:127.0.0.1:1:colour=red", "colour"),
            (endpoints.client_endpoint, "tls:example.org:1:trustRoots=/no/such.pem", "/no/such"),
            (endpoints.client_endpoint, "tls:example.org:1:trust=x", "trustRoots"),
            (endpoints.client_endpoint, "tls:example.org:1:timeout=soon", "timeout"),
        ):
            problem = self.assertRaises(EndpointError, make, reactor, given)
            self.assertIn(says, str(problem), given)

    def test_name_with_underscore_is_resolved_and_all_tried(self) -> None:
        """A name with an underscore is resolved like any other, and each address is tried."""
        reactor: Any = MemoryReactorClock()
        reactor.nameResolver = FakeResolver("my_names", "192.0.2.1", "192.0.2.2")
        connecting = endpoints.client_endpoint(reactor, "tcp:my_names:2012").connect(Factory())
        tried = set()
        for _ in range(2):
            host, port, factory = reactor.tcpClients[-1][:3]
            tried.add((host, port))
            factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        self.assertEqual(tried, {("192.0.2.1", 2012), ("192.0.2.2", 2012)})
        self.failureResultOf(connecting, error.ConnectionRefusedError)
        unknown = endpoints.client_endpoint(reactor, "tcp:your_names:2012").connect(Factory())
        self.failureResultOf(unknown, error.DNSLookupError)

    def test_failure_to_listen_says_where_and_why(self) -> None:
        """What keeps one from listening is an error that says where, and why."""
        from twisted.internet import reactor

        there = self.mktemp()
        os.mkdir(there)
        for given, says in (
            ("unix:/no/such/place", "there is no directory /no/such"),
            (f"unix:{there}", "in use"),
            ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
        ):
            listening = endpoints.listen(reactor, given, Factory())
            problem = self.failureResultOf(listening, EndpointError).value
            self.assertIn(f"can't listen on {given}: ", str(problem))
            self.assertIn(says, str(problem))

    def test_check_client_accepts_what_can_be_connected_to(self) -> None:
        """What could be connected to, from somewhere."""
        for given in ("h.org:1", "tls:h.org:443:trustRoots=/not/here", "unix:/a", "tor:x.onion:1"):
            endpoints.check_client(given)
        for given, says in (
            ("tcp:a b:1", "expected a host, got 'a b'"),
            ("tls:x", "at most 65535 for the port, got ''"),
            ("tcp:h:0", "nobody can connect to port 0"),
            ("tcp:h:70000", "at most 65535 for the port"),
            ("unix:", "expected unix:PATH"),
            ("unix:/" + endpoints.MAX_UNIX_PATH * "x", "and this one has"),
        ):
            problem = self.assertRaises(EndpointError, endpoints.check_client, given)
            self.assertIn(says, str(problem), given)

    def test_missing_connection_is_explained_in_words(self) -> None:
        """Why there is no connection, in words."""
        for problem, says in (
            (error.ConnectionRefusedError(), "refused"),
            (error.TimeoutError(), "timed out"),
            (error.getConnectError((errno.ENOENT, "x")), "no such socket"),
            (error.getConnectError((errno.EACCES, "x")), "permission denied"),
            (error.DNSLookupError(), "resolved"),
            (CertificateRefused("it has expired"), "it has expired"),
            (OSError("odd"), "odd"),
            (OSError(), "OSError"),
            (SSL.Error([("", "", "tls alert certificate required")]), "asks for a client"),
            (SSL.Error([("", "", "tls alert bad certificate")]), "another client certificate"),
            (SSL.Error([("", "", "tlsv1 alert unknown ca")]), "does not trust the authority"),
            (SSL.Error([("", "", "wrong version number")]), "a tcp: address"),
        ):
            self.assertIn(says, endpoints.explain(problem))

    def test_silence_of_a_server_without_tls_in_its_address_may_be_that(self) -> None:
        """A TLS server ends the connection, and says nothing that others understand."""
        for address in ("tcp:h:1", "tcp6:h:1"):
            self.assertIn("tls: address", endpoints.explain_silence(address, "it closed"))
        for address in ("tls:h:1", "unix:/x"):
            self.assertEqual(endpoints.explain_silence(address, "it closed"), "it closed")
