"""Users whom the transport proves: by their certificate, or by the process that they run."""

from __future__ import annotations

import pwd
from typing import Any

import trustme
from cryptography import x509
from twisted.cred.error import UnauthorizedLogin

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access import Certificates, PeerUsers
from pycomnet.ext.access.messages import PeerProcess, ShownCertificate
from pycomnet.ext.access.transportidentities import names_of, overflow_uid
from pycomnet.test.ext.access.test_passwords import FileCase, looks


class CertificateTests(FileCase):
    """Names of certificates."""

    authority = trustme.CA()

    def certificate(self, *names: str, common_name: str | None = None) -> Any:
        """A certificate with these names."""
        issued = self.authority.issue_cert(*names, common_name=common_name)
        return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())

    def login(self, checker: Certificates, certificate: Any) -> Any:
        """The login with a certificate."""
        return checker.check(ShownCertificate(certificate))

    def test_mapping_of_another_form_is_refused(self) -> None:
        """Users and their names the other way round, and roles that are one text."""
        for users, groups in (
            ({"bob": ["b.example.org"]}, None),
            ({"b.example.org": ""}, None),
            (None, {"bob": "clerk"}),
            (None, {"bob": [1]}),
            (None, {"bob": None}),
        ):
            with self.assertRaisesRegex(AccessConfigError, "expected a"):
                Certificates(users, groups=groups)  # type: ignore[arg-type]

    def test_roles_may_be_any_iterable(self) -> None:
        """Also one that can be iterated once."""
        checker = Certificates(groups={"calc": (role for role in ("clerk", "buyer"))})
        certificate = self.certificate("calc.example.org", common_name="calc")
        self.assertEqual(self.login(checker, certificate).user.roles, {"clerk", "buyer"})

    def test_common_name_or_first_name_is_the_user(self) -> None:
        """Until the certificate ends."""
        certificate = self.certificate("calc.example.org", common_name="calc")
        self.assertEqual(names_of(certificate)[0], "calc")
        login = self.login(Certificates(), certificate)
        self.assertEqual((login.user.name, login.user.how), ("calc", "certificate"))
        self.assertEqual(login.expires, certificate.not_valid_after_utc.timestamp())
        without = self.certificate("a.example.org", "b.example.org")
        self.assertEqual(self.login(Certificates(), without).user.name, "a.example.org")

    def test_any_of_its_names_may_be_a_users(self) -> None:
        """Where users are listed; nobody else gets in."""
        checker = Certificates({"b.example.org": "bob"}, groups={"bob": ["clerk"]})
        login = self.login(checker, self.certificate("a.example.org", "b.example.org"))
        self.assertEqual((login.user.name, login.user.roles), ("bob", {"clerk"}))
        self.assertRaises(UnauthorizedLogin, self.login, checker, self.certificate("a.example.org"))

    def test_users_may_be_in_files(self) -> None:
        """Which are read again when they change."""
        users = self.file("users", "bob: b.example.org c.example.org\n")
        checker = Certificates(users, groups=self.file("groups", "clerk: bob\n"))
        login = self.login(checker, self.certificate("b.example.org"))
        self.assertEqual((login.user.name, login.user.roles), ("bob", {"clerk"}))
        self.file("groups", "boss: bob\n")
        self.assertTrue(looks(checker))
        self.assertFalse(checker.holds(login))
        login = self.login(checker, self.certificate("c.example.org"))
        self.assertTrue(checker.holds(login))
        self.file("users", "bob: b.example.org\n")
        self.assertTrue(looks(checker))
        self.assertFalse(checker.holds(login))
        twice = Certificates(self.file("twice", "bob: x\nalice: x\n"))
        self.assertIn("of bob, too", str(self.assertRaises(AccessConfigError, twice.open)))

    def test_name_in_a_file_may_have_colons(self) -> None:
        """A file of users is no group(5): the other name would be a user."""
        checker = Certificates(self.file("users", "alice: urn:svc:bob spiffe://td/x 2001:db8::1\n"))
        for name, user in (("urn:svc:bob", "alice"), ("2001:db8::1", "alice"), ("bob", None)):
            certificate = self.certificate("c.example.org", common_name=name)
            if user is None:
                self.assertRaises(UnauthorizedLogin, self.login, checker, certificate)
            else:
                self.assertEqual(self.login(checker, certificate).user.name, user)


class PeerTests(FileCase):
    """Users of this machine."""

    def test_user_of_the_process_is_the_machines(self) -> None:
        """With their groups there as roles."""
        me = next(one for one in pwd.getpwall() if one.pw_uid not in (0, overflow_uid()))
        login = PeerUsers().check(PeerProcess(me.pw_uid, me.pw_gid))
        self.assertEqual((login.user.name, login.user.how), (me.pw_name, "peer"))
        self.assertTrue(login.user.roles)

    def test_nobody_is_a_user_by_accident(self) -> None:
        """Neither root, as which forwarders run, nor whom the system does not know here."""
        for uid in (0, overflow_uid(), 60123):
            self.assertRaises(UnauthorizedLogin, PeerUsers().check, PeerProcess(uid, 0))
        listed = PeerUsers({"nobody": "x", overflow_uid(): "x"})
        self.assertRaises(UnauthorizedLogin, listed.check, PeerProcess(overflow_uid(), 0))

    def test_listed_users_are_found_by_name_or_number(self) -> None:
        """Nobody else gets in."""
        checker = PeerUsers({0: "admin", "60123": "guest"}, groups={"admin": ["all"]})
        login = checker.check(PeerProcess(0, 0))
        self.assertEqual((login.user.name, login.user.roles), ("admin", {"all"}))
        self.assertEqual(checker.check(PeerProcess(60123, 0)).user.name, "guest")
        self.assertRaises(UnauthorizedLogin, checker.check, PeerProcess(60124, 0))
        by_name = PeerUsers({"root": "admin"})
        self.assertEqual(by_name.check(PeerProcess(0, 0)).user.name, "admin")
