"""What the tests of access control share: users, a service with rules, and a server for it."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer

from pycomnet.auth.principal import Principal
from pycomnet.ext import access
from pycomnet.ext.access.checkers import Login
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import ServiceCase

SHOP = "org.example.shop"


class Table(access.Checker):
    """A checker with its users in a dict: name -> password and roles. Tests change it.

    :ivar checked: the names that were checked.
    """

    credentialInterfaces = (IUsernamePassword,)
    changes = True

    def __init__(self, **users: tuple[str, str]) -> None:
        self.users = users
        self._seen = dict(users)
        self.checked: list[str] = []
        self.expires: float | None = None
        self.problem: Exception | None = None

    def check(self, credentials: Any) -> Login:
        if self.problem is not None:
            raise self.problem
        name = credentials.username.decode()
        self.checked.append(name)
        self.refresh()  # as those do that have files
        found = self.users.get(name)
        if found is None or found[0].encode() != credentials.password:
            raise UnauthorizedLogin("no")
        return Login(Principal(name, frozenset(found[1].split()), "password"), found, self.expires)

    def refresh(self) -> None:
        if self.users != self._seen:
            self._seen = dict(self.users)
            self.version += 1

    def holds(self, login: Login) -> bool:
        return bool(self.users.get(login.user.name) == login.stamp)


def make_shop(checker: Any) -> type[Service]:
    """A service whose rules go by a checker."""

    @access.auth(checker)
    @interface(SHOP, stateful=True)
    class Shop(Service):
        """Sells."""

        def __init__(self) -> None:
            self.ran: list[str] = []
            self.streaming: list[defer.Deferred[Any]] = []

        @method(idempotent=True)
        def buy(self, request: Any) -> str | None:
            """Buy what there is."""
            self.ran.append("buy")
            return None if request.user is None else str(request.user.name)

        @access.auth(checker, roles="clerk", allow="boss")
        @method()
        def stock(self, request: Any) -> list[str]:
            self.ran.append("stock")
            return sorted(request.user.roles)

        @access.public
        @method()
        def hours(self, request: Any) -> str:
            self.ran.append("hours")
            return "9 to 5"

        @access.rule(lambda call: call.size < 200)
        @method()
        def note(self, request: Any) -> int:
            self.ran.append("note")
            return len(request.args)

        @method(stream=True)
        async def news(self, request: Any) -> Any:
            yield "first"
            waiting: defer.Deferred[Any] = defer.Deferred()
            self.streaming.append(waiting)
            yield await waiting

        @method()
        def basket(self, request: Any) -> list[str]:
            request.session[request.args] = 1
            return sorted(request.session)

    return Shop


class AccessCase(ServiceCase):
    """A test with a server that has a shop, whose users are in a :class:`Table`."""

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        self.table = Table(
            alice=("a password", ""), bob=("b password", "clerk reader"), boss=("c password", "")
        )
        self.control = self.make_control()
        server = ServiceServer(self.network, threads=self.network, access=self.control)
        self.shop: Any = make_shop(self.table)()
        self.successResultOf(server.add(self.shop))
        return server

    def make_control(self, **options: Any) -> access.AccessControl:
        """The server's access control."""
        return access.AccessControl(
            self.network, threads=self.network, clock=self.network.seconds, **options
        )

    def context_of(self, user: str | None = None, password: str | None = None) -> Context:
        """A context with a user's credentials; by default with the right password."""
        if user is None:
            return Context(self.network)
        found = self.table.users[user][0] if password is None else password
        return Context(self.network, credentials=access.Password(user, found))

    def shop_for(self, user: str | None = None, password: str | None = None) -> Any:
        """The shop, as a user calls it."""
        return self.context_of(user, password).at(self.address, SHOP)


class Foreign(InMemoryUsernamePasswordDatabaseDontUse):
    """A checker of twisted.cred's own."""
