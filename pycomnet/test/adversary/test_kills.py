"""Each daemon is killed with -9 while it is at work: what it had started is gone, and a new one in
its place works."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import ALL, CALC, WITH_TOKENS, ready, start
from pycomnet.test.processes import children, still_there
from pycomnet.test.system.daemons import Daemons


def count(channel):
    number = 0
    while True:
        channel.send(number)
        number += 1


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found = set()
    for child in children(pid):
        found |= {child} | descendants(child)
    return found


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_killed_daemon_fails_clients_and_restarts_on_its_files(
    running: Daemons, kind: str
) -> None:
    """The clients have an error, not a wait; the token file and the socket do for the next one."""
    from twisted.internet import reactor

    options = ("--store", "sqlite:names") if kind == "nameserver" else ()
    listen = f"unix:{running.directory}/s" if kind == "factory" else ""
    victim = ready(start(running, kind, *options, listen=listen))
    token = victim.token
    held: dict[str, Any] = {}
    if kind in WITH_TOKENS:
        group = pycomnet.Group(reactor)
        gateway = await victim.gateway(group)
        channel = gateway.remote_exec(count)
        for number in range(1000):
            assert await channel.receive() == number
        below = descendants(victim.pid)
        assert below, "nothing runs"
        victim.daemon.signal(signal.SIGKILL)
        assert await victim.daemon.ended() == -signal.SIGKILL
        if kind != "http-exec":  # which waits for the mediator to be there again
            with pytest.raises((pycomnet.PycomnetError, EOFError)):
                while True:
                    await channel.receive().addTimeout(120, reactor)
        assert still_there(below) == [], "what it had started lives"
        await group.terminate(0)
    else:
        async with pycomnet.Context(reactor, timeout=120) as context:
            if kind == "nameserver":
                names = context.at(victim.where, NAMESERVER)
                wanted = {"interfaces": ["x"], "address": "tcp:h:1", "ttl": 600}
                asked = []
                for number in range(300):
                    one = names.invoke("register", {"service": f"s{number}", **wanted})
                    one.addCallbacks(lambda lease, n=number: held.update({f"s{n}": lease}), bool)
                    asked.append(one)
                await asked[20]
            else:
                calc = await context.connect(victim.where, CALC)
                asked = [calc.invoke("add", {"a": 1, "b": number}) for number in range(1000)]
                for one in asked:
                    one.addErrback(bool)
            victim.daemon.signal(signal.SIGKILL)
            assert await victim.daemon.ended() == -signal.SIGKILL
    again = ready(start(running, kind, *options, listen=listen))
    assert again.token == token
    await again.serves()
    if kind == "nameserver":
        assert held
        async with pycomnet.Context(reactor, timeout=120) as context:
            names = context.at(again.where, NAMESERVER)
            for service, lease in held.items():
                found = await names.invoke("locate", {"interface": "x", "service": service})
                assert found["fence"] == lease["fence"], "what was acknowledged is torn"
    assert "Traceback" not in again.daemon.said
