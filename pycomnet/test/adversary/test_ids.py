"""One user's ids with another's token: at the mediator, at the factory, at the nameserver."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import (
    Http,
    Victim,
    ready,
    start,
    start_all,
    withstands,
)
from pycomnet.test.processes import children
from pycomnet.test.system.daemons import Daemons

ALICE, MALLORY = "alice" * 8, "mallory" * 8
CAT = '{"python": "sh -c \\"exec cat\\"", "linger": 60}'
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class User:
    """One who has a token for the mediator."""

    def __init__(self, victim: Victim, token: str) -> None:
        self.http = Http(victim.connect())
        self._token = token

    def ask(self, method: str, path: str, *headers: str, body: str = "") -> tuple[int, Any]:
        """The status, and what the answer's JSON says."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"Authorization: Bearer {self._token}", f"Content-Length: {len(body)}", *headers]
        self.http.send("\r\n".join([*lines, "", body]).encode())
        status = self.http.status()
        text = self.http.body()
        return status, json.loads(text) if text else None


@pytest.fixture
def mediator(running: Daemons) -> Victim:
    """A mediator that two users have tokens for, and a log of what happened."""
    tokens = running.directory / "tokens.ini"
    tokens.touch(0o600)
    tokens.write_text(f"[alice]\ntoken = {ALICE}\n[mallory]\ntoken = {MALLORY}\nprocesses = 1\n")
    daemon = running.start(
        *("pycomnet-http-exec", "--listen", "tcp:0:interface=127.0.0.1"),
        *("--tokens", str(tokens), "--audit-log", str(running.directory / "audit")),
    )
    return ready(Victim("http-exec", daemon, ""))


def test_anothers_subprocess_is_as_if_not_there(mediator: Victim, running: Daemons) -> None:
    """Whatever is asked of another's subprocess, the answer is that there is none, exactly as for
    an id that nobody has; it goes on, and the log has nothing of it."""
    alice, mallory = User(mediator, ALICE), User(mediator, MALLORY)
    status, made = alice.ask("POST", "/popen", "Idempotency-Key: k1", body=CAT)
    assert status == 201
    pid = made["pid"]
    other = "".join("A" if letter != "A" else "B" for letter in pid)
    for method, path, headers in (
        ("GET", "/exec/{}", ()),
        ("GET", "/exec/{}?offset=0&wait=0&max=1", ()),
        ("GET", "/exec/{}/stderr", ()),
        ("GET", "/exec/{}/status", ()),
        ("POST", "/exec/{}?offset=0", ()),
        ("POST", "/exec/{}?end=1", ()),
        ("POST", "/exec/{}?received=0", ()),
        ("DELETE", "/exec/{}?signal=KILL", ()),
        ("DELETE", "/exec/{}", ()),
        ("GET", "/exec/{}/ws", UPGRADE),
    ):
        answers = [mallory.ask(method, path.format(name), *headers) for name in (pid, other)]
        assert [status for status, _ in answers] == [404, 404], (method, path, answers)
        first, second = (
            json.dumps(value).replace(pid, "").replace(other, "") for _, value in answers
        )
        assert first == second, "the answer says whether there is one"
    # An idempotency key is its user's own: mallory's gets another subprocess, not alice's.
    status, theirs = mallory.ask("POST", "/popen", "Idempotency-Key: k1", body=CAT)
    assert status == 201 and theirs["pid"] != pid
    assert [one["pid"] for one in mallory.ask("GET", "/")[1]["processes"]] == [theirs["pid"]]
    # Nor does one limit hold for another, or can be gone round by naming another.
    assert mallory.ask("POST", "/popen", body=CAT)[0] == 429
    assert alice.ask("POST", "/popen", body=CAT)[0] == 201
    assert alice.ask("POST", f"/exec/{pid}", body="still here")[1] == {"received": 10}
    assert len(children(mediator.pid)) == 3
    audit = [json.loads(line) for line in (running.directory / "audit").read_text().splitlines()]
    assert [line["user"] for line in audit if line["event"] == "start"] == [
        "alice",
        "mallory",
        "alice",
    ]
    assert not [line for line in audit if line["event"] == "end"]


def test_ticket_is_for_one_path_and_user_once(mediator: Victim) -> None:
    """A ticket is for one path, of its maker's, once; and nobody else's subprocess."""
    alice, mallory = User(mediator, ALICE), User(mediator, MALLORY)
    pid = alice.ask("POST", "/popen", body=CAT)[1]["pid"]
    path = f"/exec/{pid}/ws"

    def ticket(user: User, path: str) -> str:
        status, value = user.ask("POST", "/tickets", body=json.dumps({"path": path}))
        assert status == 201, value
        return str(value["ticket"])

    def opened(path: str, ticket: str) -> int:
        http = Http(mediator.connect())
        lines = [f"GET {path}?ticket={ticket} HTTP/1.1", "Host: localhost", *UPGRADE, "", ""]
        http.send("\r\n".join(lines).encode())
        status = http.status()
        http.close()
        return status

    assert opened(path, ticket(mallory, path)) == 404
    assert opened(path, ticket(alice, "/ws")) == 401
    assert opened("/ws", ticket(alice, path)) == 401
    wrong: Any
    for wrong in (f"/exec/{pid}/status", f"/exec/{pid}", "/popen", "", None, [path], {}):
        assert alice.ask("POST", "/tickets", body=json.dumps({"path": wrong}))[0] == 400
    good = ticket(alice, path)
    assert [opened(path, good), opened(path, good)] == [101, 401]
    for wrong in ("", "x", "%00", "%ff%fe", "A" * 8000):
        assert opened(path, wrong) == 401, wrong


def test_no_spelling_of_a_path_leads_elsewhere(mediator: Victim) -> None:
    """No way of writing a path leads elsewhere than it says."""
    mallory = User(mediator, MALLORY)
    for path in (
        "/exec/",
        "/exec/..",
        "/exec/../ws",
        "/exec/%2e%2e/ws",
        "//exec//ws",
        "/exec/%00/ws",
        "/exec/%ff/status",
        "/exec/" + "a" * 8000,
        "/page/../../etc/passwd",
        "/page/%2e%2e%2f%2e%2e%2fetc/passwd",
    ):
        assert mallory.ask("GET", path)[0] == 404, path


@pytest_twisted.ensureDeferred
async def test_anothers_factory_gateway_cannot_be_resumed(running: Daemons) -> None:
    """What a program uses at the factory another can't resume, nor take the name of."""
    from twisted.internet import reactor

    victim = ready(start(running, "factory"))
    async with pycomnet.Group(reactor) as alice, pycomnet.Group(reactor) as mallory:
        gateway = await victim.gateway(alice, "//id=mine//linger=60")
        for options in ("//id=mine//linger=60//resume=yes", "//id=mine//linger=60"):
            with pytest.raises(pycomnet.GatewayNotStarted, match=r"in use|already"):
                await victim.gateway(mallory, options)
        assert await gateway.remote_exec("channel.send(1)").receive() == 1


@pytest_twisted.ensureDeferred
async def test_lease_without_its_secret_changes_nothing(running: Daemons) -> None:
    """Who knows a lease, but not its secret, changes nothing; and it takes as long as any."""
    from twisted.internet import reactor

    victim = start_all(running, "nameserver")["nameserver"]
    async with (
        pycomnet.Context(reactor, timeout=120) as alice,
        pycomnet.Context(reactor, timeout=120) as mallory,
        withstands(victim),
    ):
        wanted = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1", "ttl": 60}
        held = await alice.at(victim.where, NAMESERVER).invoke("register", wanted)
        names = mallory.at(victim.where, NAMESERVER)
        for secret in ("", "x", held["secret"][:-1], held["secret"] + "x", "\ud800" * 40, None, 7):
            for method in ("renew", "unregister"):
                with pytest.raises(pycomnet.PycomnetError):
                    await names.invoke(method, {"lease": held["lease"], "secret": secret})
        for lease in (0, -1, 1 << 63, 1 << 200, "", None, [held["lease"]]):
            with pytest.raises(pycomnet.PycomnetError):
                await names.invoke("renew", {"lease": lease, "secret": held["secret"]})
        with pytest.raises(pycomnet.PycomnetError):
            await names.invoke("register", {**wanted, "address": "tcp:evil:1"})
        found = await names.invoke("locate", {"interface": "x"})
        assert found["address"] == "tcp:h:1"
        shown = await names.invoke("list_services")
        assert held["secret"] not in repr((found, shown)), "a secret was told"
    assert held["secret"] not in victim.daemon.said
