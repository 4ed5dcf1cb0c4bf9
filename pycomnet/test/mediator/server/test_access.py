"""Who is let in: hosts, origins, tokens and tickets."""

from __future__ import annotations

import os
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from zope.interface import implementer

from pycomnet.auth.tokens import IBearerToken, TokenChecker
from pycomnet.errors import EndpointError
from pycomnet.mediator.server.access import (
    MAX_TICKETS,
    TICKET_TIME,
    Access,
    Names,
    Realm,
    split_host,
)
from pycomnet.mediator.server.model import HttpError, UserLimits
from pycomnet.mediator.server.service import MediatorConfiguration, names_of
from pycomnet.tap.http_exec import Options

TOKEN = "a-token-of-the-right-form"


class FakeRequest:
    """A request's headers and arguments."""

    def __init__(self, args: dict[bytes, list[bytes]] | None = None, **headers: str) -> None:
        named = {"host": "localhost:2013", "authorization": f"Bearer {TOKEN}", **headers}
        self.requestHeaders = Headers(
            {name.replace("_", "-"): [value] for name, value in named.items() if value}
        )
        self.args = args or {}

    def getClientAddress(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)


class AccessCase(SynchronousTestCase):
    """An access with one token."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.denied = 0
        self.access = self.made()

    def made(self, **options: Any) -> Access:
        def denied() -> None:
            self.denied += 1

        portal = Portal(Realm(UserLimits()), [TokenChecker.of_one(TOKEN, "me")])
        return Access(portal, self.clock, denied=denied, **options)

    def login(self, request: FakeRequest, *args: Any, access: Access | None = None) -> Any:
        coroutine = (access or self.access).login(request, *args)  # type: ignore[arg-type]
        return self.successResultOf(defer.Deferred.fromCoroutine(coroutine))

    def refused(self, status: int, code: str, request: FakeRequest, *args: Any, **kwargs: Any):
        access = kwargs.get("access") or self.access
        coroutine = access.login(request, *args)
        problem = self.failureResultOf(defer.Deferred.fromCoroutine(coroutine), HttpError).value
        self.assertEqual((problem.status, problem.code), (status, code), str(problem))
        self.assertNotIn(TOKEN, str(problem))


@implementer(ICredentialsChecker)
class Slow:
    """An operator's own checker, which asks somebody."""

    credentialInterfaces = (IBearerToken,)

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, defer.Deferred[Any]]] = []

    def requestAvatarId(self, credentials: Any) -> defer.Deferred[Any]:
        answer: defer.Deferred[Any] = defer.Deferred()
        self.asked.append((credentials.token, answer))
        return answer


class Checkers(AccessCase):
    """Checkers that an operator plugs in (``--auth``)."""

    def test_own_checker_says_who_somebody_is(self) -> None:
        """It says who somebody is, when it knows, with the limits of that name; or that none is."""
        checker = Slow()
        limits = UserLimits(processes=1)
        portal = Portal(Realm(UserLimits(), {"ann": limits}), [checker])
        access = Access(portal, self.clock)
        request: Any = FakeRequest()
        coming, refused = (
            defer.Deferred.fromCoroutine(access.login(request, None)) for _ in range(2)
        )
        self.assertNoResult(coming)
        self.assertEqual([token for token, _ in checker.asked], [TOKEN.encode()] * 2)
        checker.asked[0][1].callback(b"ann")
        user: Any = self.successResultOf(coming)
        self.assertEqual((user.name, user.limits), ("ann", limits))
        checker.asked[1][1].errback(UnauthorizedLogin())
        self.assertEqual(self.failureResultOf(refused, HttpError).value.status, 401)

    def test_auth_option_takes_checkers_of_bearer_tokens(self) -> None:
        """``--auth`` takes those that know bearer tokens."""
        options = Options()
        self.assertTrue(options.supportsInterface(IBearerToken))
        self.assertFalse(options.supportsInterface(IUsernamePassword))
        self.assertIn("auth=", options.longOpt)

    def test_only_one_checker_of_tokens(self) -> None:
        """A portal would leave the others out: it is a mistake on the command line."""
        path = self.mktemp()
        with open(path, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(f"[alice]\ntoken = {TOKEN}\n")
        for auths, args in ((1, ["--tokens", path]), (2, [])):
            options = Options()
            options["credCheckers"] = [Slow() for _ in range(auths)]
            with self.assertRaisesRegex(UsageError, "one of them checks the tokens"):
                options.parseOptions(args)
        options = Options()
        options["credCheckers"] = [Slow()]
        options.parseOptions([])
        self.assertEqual(len(options.configuration.checkers), 1)


class Tokens(AccessCase):
    """Bearer tokens."""

    def test_token_lets_in_under_any_spelling_of_its_kind(self) -> None:
        """The token, under any spelling of its kind."""
        self.assertEqual(self.login(FakeRequest()).name, "me")
        self.assertEqual(self.login(FakeRequest(authorization=f"bearer  {TOKEN}")).name, "me")
        self.assertEqual(self.denied, 0)

    def test_anything_but_the_token_is_refused(self) -> None:
        """Anything else."""
        for given in ("", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x"):
            self.refused(401, "token", FakeRequest(authorization=given))
        twice = FakeRequest()
        twice.requestHeaders.addRawHeader("authorization", f"Bearer {TOKEN}")
        self.refused(401, "token", twice)
        self.assertEqual(self.denied, 7)

    def test_ticket_is_for_its_path_once_and_not_for_long(self) -> None:
        """A ticket stands for the token: for its path, once, and not for long."""
        me = self.login(FakeRequest())

        def using(ticket: str) -> FakeRequest:
            return FakeRequest({b"ticket": [ticket.encode()]}, authorization="")

        ticket = self.access.ticket(me, "/ws")
        self.refused(401, "token", using(ticket))  # where none is taken
        self.assertIs(self.login(using(ticket), "/ws"), me)
        self.refused(401, "ticket", using(ticket), "/ws")
        self.refused(401, "ticket", using(self.access.ticket(me, "/ws")), "/exec/x/ws")
        late = self.access.ticket(me, "/ws")
        self.clock.advance(TICKET_TIME)
        self.refused(401, "ticket", using(late), "/ws")
        withdrawn = self.access.ticket(me, "/ws")
        self.access.withdraw({"somebody"})
        self.assertIs(self.login(using(self.access.ticket(me, "/ws")), "/ws"), me)
        self.access.withdraw({me.name})
        self.refused(401, "ticket", using(withdrawn), "/ws")
        for _ in range(MAX_TICKETS):
            self.access.ticket(me, "/ws")
        problem = self.assertRaises(HttpError, self.access.ticket, me, "/ws")
        self.assertEqual(problem.status, 429)
        self.clock.advance(TICKET_TIME)
        self.access.ticket(me, "/ws")


class Sources(AccessCase):
    """Where a request comes from and what it is for."""

    def test_only_own_names_are_hosts(self) -> None:
        """Only the server's own names."""
        for host in ("localhost", "127.0.0.1:80", "[::1]:2013", "LOCALHOST.:1"):
            self.login(FakeRequest(host=host))
        for host in ("evil.example", "localhost.evil.example"):
            self.refused(403, "host", FakeRequest(host=host))
        for host in ("", "a b", "localhost:99999x", "\xa0localhost", "local\0host"):
            self.refused(400, "host", FakeRequest(host=host))

    def test_only_own_and_allowed_pages_are_origins(self) -> None:
        """Its own pages, those that it was told of, and no others."""
        self.login(FakeRequest(origin="http://localhost:2013", sec_fetch_site="same-origin"))
        for origin in ("http://localhost:1", "https://evil.example", "null", "file://"):
            self.refused(403, "origin", FakeRequest(origin=origin))
        for site in ("cross-site", "same-site"):
            self.refused(403, "origin", FakeRequest(sec_fetch_site=site))
        told = self.made(origins=["https://ops.example"])
        request = FakeRequest(origin="https://ops.example", sec_fetch_site="cross-site")
        self.login(request, access=told)
        self.refused(403, "origin", FakeRequest(origin="https://evil.example"), access=told)

    def test_names_follow_from_where_it_listens(self) -> None:
        """What a server is called, by where it listens."""
        local = names_of(MediatorConfiguration())
        self.assertIn("localhost", local)
        self.assertNotIn("192.0.2.1", local)
        wide = names_of(MediatorConfiguration("tcp:1", insecure=True, hosts=("*.Example.com",)))
        for name in ("192.0.2.1", "2001:db8::1", "a.example.com"):
            self.assertIn(name, wide)
        for other in ("example.com", "evil.example", None):
            self.assertNotIn(other, wide)
        self.assertIn("x", Names({"x"}))

    def test_host_is_split_from_its_port(self) -> None:
        """A header's name, without its port."""
        self.assertEqual(split_host("[::1]:80"), "::1")
        self.assertEqual(split_host("Host:80"), "host")
        for text in ("", "a/b", "u@h", "[::1", ":80", "a:b:c"):
            self.assertIsNone(split_host(text))

    def test_without_tls_only_loopback_is_listened_on(self) -> None:
        """Without TLS it listens for this machine alone, unless told so in so many words."""
        for listen in ("tcp:1", "tcp:1:interface=0.0.0.0", "tcp:1:interface=192.0.2.1"):
            self.assertRaises(EndpointError, MediatorConfiguration(listen).check)
            MediatorConfiguration(listen, insecure=True).check()
        for listen in ("tcp:1:interface=127.0.0.1", "unix:/run/x", "tls:1:privateKey=k"):
            MediatorConfiguration(listen).check()
