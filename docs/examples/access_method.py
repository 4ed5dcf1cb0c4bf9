"""Only users of a password file call one method, and only some of them another."""

import os
import tempfile
from typing import Any

from twisted.internet.task import react

import pycomnet
from pycomnet.ext import access
from pycomnet.ext.access.passwordedit import set_password

DIRECTORY = tempfile.mkdtemp()
PASSWD = os.path.join(DIRECTORY, "passwd")
GROUPS = os.path.join(DIRECTORY, "groups")
for name in ("alice", "bob"):
    set_password(PASSWD, name, f"{name}'s secret")
with open(GROUPS, "w") as file:
    file.write("clerk: bob\n")
USERS = access.PasswordFile(PASSWD, groups=GROUPS)


@pycomnet.interface("org.example.shop")
class Shop:  # it becomes a pycomnet.Service
    @pycomnet.method("price")
    def price(self, request: Any) -> int:
        return 10

    @access.auth(access.PasswordFile(PASSWD, groups=GROUPS))
    @pycomnet.method("buy")
    def buy(self, request: Any) -> str:
        return f"sold to {request.user.name}"

    @access.rule(lambda call: call.size < 1000)
    @access.auth(USERS, roles="clerk", allow="root")
    @pycomnet.method("restock")
    def restock(self, request: Any) -> str:
        return "thanks"


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    await server.add(Shop())
    address = await server.listen("tcp:0:interface=127.0.0.1")
    found = {}
    for name in ("alice", "bob"):
        credentials = access.Password(name, f"{name}'s secret")
        async with pycomnet.Context(reactor, credentials=credentials) as context:
            shop = await context.connect(address)
            assert await shop.invoke("price") == 10
            assert await shop.invoke("buy") == f"sold to {name}"
            found[name] = list((await shop.introspect())["org.example.shop"]["methods"])
            try:
                assert await shop.invoke("restock") == "thanks"
            except access.Forbidden as problem:
                assert (name, problem.role) == ("alice", "clerk")
                print(problem)
    assert set(found["bob"]) - set(found["alice"]) == {"restock"}
    await server.close()


react(main)
