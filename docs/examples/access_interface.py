"""Only users of a password file call an interface."""

import os
import tempfile
from typing import Any

from twisted.internet.task import react

import pycomnet
from pycomnet.ext import access
from pycomnet.ext.access.passwordedit import set_password

PASSWD = os.path.join(tempfile.mkdtemp(), "passwd")  # /etc/pycomnet/passwd, say
set_password(PASSWD, "alice", "a secret")  # pycomnet passwd FILE alice


@access.auth(access.PasswordFile(PASSWD))
@pycomnet.interface("org.example.mine")
class MyInterface(pycomnet.Service):
    """For users."""

    @pycomnet.method("whoami")
    def whoami(self, request: Any) -> list[str]:
        return [request.user.name, request.user.how]


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    await server.add(MyInterface())
    address = await server.listen("tcp:0:interface=127.0.0.1")

    def ask() -> str:  # or a Deferred
        return "a secret"

    credentials = access.Password("alice", ask)
    async with pycomnet.Context(reactor, credentials=credentials) as context:
        mine = await context.connect(address, "org.example.mine")
        assert await mine.invoke("whoami") == ["alice", "password"]

    async with pycomnet.Context(reactor) as context:  # nobody
        mine = await context.connect(address, "org.example.mine")
        try:
            await mine.invoke("whoami")
        except access.Unauthenticated as problem:
            assert problem.reason == "missing"
            print(problem)
    await server.close()


react(main)
