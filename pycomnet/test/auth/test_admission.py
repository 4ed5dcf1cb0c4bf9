"""Who may come in, and where it may be listened."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.auth import tokens
from pycomnet.auth.admission import (
    Admission,
    NotAdmitted,
    check_exposure,
    listen_on,
    peer_credentials,
    prepare_directory,
    wants_certificates,
)
from pycomnet.errors import EndpointError, PycomnetError

TOKEN = "t" * 40


class UnixTransport(StringTransport):
    """One end of a real pair of unix sockets."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(peerAddress=UNIXAddress(None))
        self.socket = end


class Admitting(SynchronousTestCase):
    """Tokens and peer credentials."""

    def setUp(self) -> None:
        self.one, self.two = socket.socketpair()
        self.addCleanup(self.one.close)
        self.addCleanup(self.two.close)
        self.checker = tokens.TokenChecker.of_one(TOKEN, "alice")
        self.tcp = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))

    def test_right_token_is_admitted_others_are_told(self) -> None:
        """The right token lets in; a wrong one and none do not, and say what is needed."""
        admission = Admission(self.checker)
        self.assertEqual(admission.admit(self.tcp, TOKEN.encode()), "alice")
        with self.assertRaisesRegex(NotAdmitted, "nobody here has such a token") as caught:
            admission.admit(self.tcp, b"wrong" * 8)
        self.assertNotIn("wrong", str(caught.exception))
        with self.assertRaisesRegex(NotAdmitted, "a token is needed"):
            admission.admit(self.tcp, None)
        with self.assertRaisesRegex(NotAdmitted, "or a certificate"):
            Admission(self.checker, certificates=True).admit(self.tcp, None)

    def test_service_has_a_token_file_only_where_needed(self) -> None:
        """A token is for where neither the system nor a certificate says who somebody is."""
        state = self.mktemp()
        self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": state})
        self.patch(tokens.default_token_path, "__defaults__", (os.environ,))
        unix, asking = "unix:/run/a", "tls:1:privateKey=k:clientCAs=ca"
        for listen, certificates in (((unix,), False), ((asking,), True), ((unix, asking), True)):
            found = Admission.of("a", listen)
            self.assertEqual(
                (found.checker, found.token_path, found.certificates), (None, None, certificates)
            )
        self.assertFalse(os.path.exists(state))
        for listen in (("tcp:1",), ("tls:1:privateKey=k",), (unix, "tcp:1"), (asking, "tcp:1")):
            found = Admission.of("a", listen)
            self.assertEqual(str(found.token_path), f"{state}/pycomnet/a.token")
            token = tokens.load_token(str(found.token_path))
            self.assertEqual(found.admit(self.tcp, token.encode()), "default")

    def test_named_token_file_counts_on_unix_too(self) -> None:
        """A file that is named counts, on a unix socket as well; its home directory is meant."""
        home = os.path.abspath(self.mktemp())
        self.patch(os, "environ", {**os.environ, "HOME": home})
        found = Admission.of("a", ("unix:/run/a",), token_file="~/b.token")
        self.assertEqual(str(found.token_path), f"{home}/b.token")
        self.assertEqual(
            found.admit(self.tcp, tokens.load_token(f"{home}/b.token").encode()), "default"
        )
        several = f"{home}/tokens"
        with open(several, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(f"[alice]\ntoken = {TOKEN}\n")
        found = Admission.of("a", ("tcp:1",), tokens=several)
        self.assertEqual(found.admit(self.tcp, TOKEN.encode()), "alice")
        self.assertIsNone(found.token_path)

    def test_tcp_without_checker_admits_nobody(self) -> None:
        """Without a checker nothing that comes over TCP is let in."""
        with self.assertRaises(NotAdmitted):
            Admission().admit(self.tcp, TOKEN.encode())

    def test_unix_peer_is_admitted_by_its_user_id(self) -> None:
        """On a unix socket the system says who it is; another user needs a token."""
        transport = UnixTransport(self.one)
        found = peer_credentials(transport)
        assert found is not None
        self.assertEqual((found.pid, found.uid), (os.getpid(), os.geteuid()))
        self.assertEqual(Admission().admit(transport, None), f"uid {os.geteuid()}")
        others = Admission(self.checker, uids={os.geteuid() + 1})
        with self.assertRaises(NotAdmitted):
            others.admit(transport, None)
        self.assertEqual(others.admit(transport, TOKEN.encode()), "alice")
        self.assertIsNone(peer_credentials(self.tcp))

    def test_exposed_listener_without_tls_is_refused(self) -> None:
        """Where others can listen there must be TLS."""
        for listen in ("tcp:1:interface=127.0.0.1", "unix:/x", "tls:1:privateKey=k"):
            check_exposure(listen)
        check_exposure("tcp:1", insecure=True)
        for listen in ("tcp:1", "tcp:1:interface=0.0.0.0"):
            with self.assertRaisesRegex(EndpointError, "has no TLS"):
                check_exposure(listen)

    def test_only_listeners_with_client_cas_check_certificates(self) -> None:
        """Only a listener that asks for certificates has checked them."""
        self.assertTrue(wants_certificates("tls:1:privateKey=k:clientCAs=ca"))
        self.assertFalse(wants_certificates("tls:1:privateKey=k"))
        self.assertFalse(wants_certificates("tcp:1:clientCAs=ca"))


class Listening(SynchronousTestCase):
    """Where a unix socket may be."""

    def test_socket_directory_others_may_write_is_refused(self) -> None:
        """It is made for this user alone; one that others can write to is refused."""
        path = f"{self.mktemp()}/deep/sock"
        prepare_directory(path)
        self.assertEqual(os.stat(os.path.dirname(path)).st_mode & 0o777, 0o700)
        os.chmod(os.path.dirname(path), 0o777)
        with self.assertRaisesRegex(PycomnetError, "writable by other users"):
            prepare_directory(path)

    def test_directory_that_is_another_users_link_is_refused(self) -> None:
        """A directory that is another user's link is refused, wherever it leads now."""
        here = os.path.abspath(self.mktemp())
        os.mkdir(here, 0o700)
        link = f"{here}.link"
        os.symlink(here, link)
        prepare_directory(f"{link}/sock")
        real = os.geteuid()
        if real:
            self.patch(os, "geteuid", lambda: real + 1)
        else:  # root's is good for all
            os.lchown(link, 65534, 65534)
        with self.assertRaisesRegex(PycomnetError, "belongs to another user"):
            prepare_directory(f"{link}/sock")

    def test_stale_lock_is_removed(self) -> None:
        """A killed one's lock is removed also when its number is a living process's by now."""
        path = f"{tempfile.mkdtemp()}/sock"
        self.addCleanup(shutil.rmtree, os.path.dirname(path))
        for left in (False, True):
            if left:  # nobody listens on it any more
                with socket.socket(socket.AF_UNIX) as bound:
                    bound.bind(path)
            os.symlink(str(os.getppid()), f"{path}.lock")
            self.successResultOf(listen_on(MemoryReactorClock(), f"unix:{path}", None))
            self.assertEqual(os.listdir(os.path.dirname(path)), [])

    def test_lock_of_one_that_listens_stays(self) -> None:
        path = f"{tempfile.mkdtemp()}/sock"
        self.addCleanup(shutil.rmtree, os.path.dirname(path))
        os.symlink(str(os.getppid()), f"{path}.lock")
        with socket.socket(socket.AF_UNIX) as listens:
            listens.bind(path)
            listens.listen()
            self.successResultOf(listen_on(MemoryReactorClock(), f"unix:{path}", None))
            self.assertTrue(os.path.lexists(f"{path}.lock"))

    def test_unix_socket_is_this_users_alone(self) -> None:
        reactor = MemoryReactorClock()
        path = f"{self.mktemp()}/sock"
        self.successResultOf(listen_on(reactor, f"unix:{path}", None))
        self.assertEqual(reactor.unixServers[0][0::3], (path, 0o600))
        self.successResultOf(listen_on(reactor, f"unix:{path}:mode=660", None))
        self.assertEqual(reactor.unixServers[1][3], 0o660)
