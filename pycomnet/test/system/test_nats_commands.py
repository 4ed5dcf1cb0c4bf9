"""``pycomnet pub`` and ``pycomnet sub`` through NATS, with Debian's nats-server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from pycomnet.errors import ChannelClosed
from pycomnet.ext.pubsub import subscriber
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import COMMAND, PATIENCE, environment
from pycomnet.test.system.natsserver import PROGRAM, NatsServerProcess, nats_server
from pycomnet.test.system.test_nats import Publishing, take, within

pytestmark = needs(PROGRAM)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServerProcess]:
    """A server that lets ``me``, with the password ``right``, publish and get ``a.>`` alone."""
    config = tmp_path / "nats.conf"
    config.write_text(
        "authorization: {users: [{user: me, password: right, permissions: "
        '{subscribe: ["a.>", "_INBOX.>"], publish: ["a.>", "$JS.>"]}}]}'
    )
    with nats_server(tmp_path, "-c", str(config)) as found:
        yield found


async def run(*args: str, text: str = "", **env: str) -> tuple[int, str]:
    """Run a command, while this process's reactor goes on; its status and all that it prints."""
    from twisted.internet.threads import deferToThread

    def ran() -> tuple[int, str]:
        done = subprocess.run(
            # No nameserver is asked.
            [*COMMAND, *args, "--nameserver", "tcp:127.0.0.1:1"],
            env=environment(**env),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout

    found: tuple[int, str] = await deferToThread(ran)
    return found


@pytest_twisted.ensureDeferred
async def test_values_and_lines_are_published(nats: NatsServerProcess, context: Any) -> None:
    """Without another publisher: with the subject and the key that were given, in their order, and
    all of them when the command has ended."""
    name = "org.example.command"
    one = subscriber(name, ["eu.*"], context=context, via=nats.address)
    await within(one.when_subscribed())
    pub = ("pub", "--via", nats.address, name, "--subject", "eu.created")
    assert await run(*pub, '{"id": 7}', "plain text", "--about", "k") == (0, "")
    events = [await within(one.receive_event()) for _ in range(2)]
    assert [(one.value, one.subject, one.key) for one in events] == [
        ({"id": 7}, "eu.created", "k"),
        ("plain text", "eu.created", "k"),
    ]
    lines = "".join(f"{number}\n" for number in range(3000))
    assert await run(*pub, text=lines) == (0, "")
    assert await take(one, 3000) == list(range(3000))  # the second one is another publisher
    await one.close()


@pytest_twisted.ensureDeferred
async def test_what_is_published_is_kept_where_the_interface_keeps_events(
    nats: NatsServerProcess, context: Any
) -> None:
    """Each event is stored, so that whoever comes later has it. The command is a publisher that
    goes: it ends nobody's iteration, and keeps nobody's from ending with the publishers that stay.
    """
    name = "org.example.kept.command"
    pub = ("pub", "--via", nats.address, name)
    async with Publishing(name, nats.address, history=100) as topic:
        await topic.publish("first")
        there = subscriber(name, since="1h", context=context, via=nats.address)
        assert await take(there, 1) == ["first"]
        assert await run(*pub, "1", "2") == (0, "")
        assert await take(there, 2) == [1, 2]
        status, out = await run(
            *("sub", "--via", nats.address, name, "--last", "3", "-n", "3", "--json")
        )
        assert status == 0
        found = [json.loads(line) for line in out.splitlines()]
        assert [(one["value"], one["sequence"]) for one in found] == [("first", 1), (1, 1), (2, 2)]
        late = subscriber(name, since="1h", context=context, via=nats.address)
        assert await take(late, 3) == ["first", 1, 2]
        topic.end()
        for one in (there, late):
            with pytest.raises(ChannelClosed):
                await within(one.receive())


@pytest_twisted.ensureDeferred
async def test_credentials_of_the_options_are_for_nats(guarded: NatsServerProcess) -> None:
    """The user's password comes from the environment; the wrong one is refused, as is nobody."""
    pub = ("pub", "--via", guarded.address, "a.b", "1")
    assert await run(*pub, "--user", "me", PYCOMNET_PASSWORD="right") == (0, "")
    for more, env in (
        (("--user", "me"), {"PYCOMNET_PASSWORD": "wrong"}),
        ((), {}),
    ):
        for command in (pub, ("sub", "--via", guarded.address, "a.b")):
            status, out = await run(*command, *more, **env)
            assert (status, "Authorization Violation" in out) == (1, True), out


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kept", [False, True])
async def test_what_the_server_refuses_is_the_commands_error(
    guarded: NatsServerProcess, kept: bool
) -> None:
    """An event under a subject that this user may not publish to: status 1 and the server's words,
    with a stream as without."""
    from twisted.internet import reactor

    from pycomnet.ext.pubsub.nats.natsnames import NatsNames
    from pycomnet.nats import JetStream, connect

    address = guarded.address.replace("//", "//me:right@")
    if kept:
        client = await connect(address, reactor)
        names = NatsNames("b.c")
        await JetStream(client).ensure_stream(
            {"name": names.stream, "subjects": [names.everything], "storage": "memory"}
        )
        await client.close()
    status, out = await within_command("pub", "--via", address, "b.c", "1", "2")
    assert status == 1, out
    assert "Permissions Violation for Publish" in out


async def within_command(*args: str) -> tuple[int, str]:
    """Run a command that is to end long before it would give up waiting."""
    from twisted.internet import defer, reactor

    running = defer.Deferred.fromCoroutine(run(*args, "--timeout", str(2 * PATIENCE)))
    return await running.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_no_server_and_a_wrong_command_line(nats: NatsServerProcess) -> None:
    """A clear error each."""
    status, out = await run("pub", "--via", "nats://127.0.0.1:1", "a.b", "1")
    assert (status, "nats://127.0.0.1:1" in out) == (1, True), out
    for args, word in (
        (("pub", "a.b", "--subject", "x", "1"), "--via"),
        (("pub", "--via", nats.address, "--service", "s", "a.b", "1"), "--service"),
        (("sub", "--via", nats.address, "--address", "tcp:a:1", "a.b"), "--address"),
    ):
        status, out = await run(*args)
        assert (status, word in out) == (2, True), out
    status, out = await run("pub", "--via", nats.address, "a.b", "--subject", "x..y", "1")
    assert (status, "subject" in out) == (1, True), out
    status, out = await run("pub", "--via", "http://x", "a.b", "1")
    assert (status, "nats://HOST:PORT" in out) == (1, True), out
