"""Slow clients: a hello, and a request of HTTP, that never come to their end."""

from __future__ import annotations

import time

import pytest_twisted

from pycomnet.test.adversary.kit import (
    MB,
    ON_THE_WIRE,
    Victim,
    closing,
    hello_of,
    in_thread,
    is_closed,
    withstands,
)

#: Drips at each daemon; less than what may be strangers there at a time.
DRIPS = 40
#: Seconds within which each daemon gives up one that does not come to the end of its hello.
PATIENCE = 120


@pytest_twisted.ensureDeferred
async def test_dripping_hello_ends_in_time_and_others_are_served(
    victims: dict[str, Victim],
) -> None:
    """A hello in single bytes ends with its time, at all daemons at once; the others are served
    meanwhile. Whoever says more does not have more time."""
    drips = {kind: [victims[kind].connect() for _ in range(DRIPS)] for kind in ON_THE_WIRE}
    with closing([one for found in drips.values() for one in found]):

        def drip(number: int) -> dict[str, int]:
            """Send each another byte; how many are still connected."""
            left = {}
            for kind, found in drips.items():
                data = hello_of(victims[kind])[:-1]
                for one in found:
                    one.setblocking(True)
                    try:
                        one.sendall(data[number % len(data) : number % len(data) + 1])
                    except OSError:
                        continue
                left[kind] = sum(not is_closed(one) for one in found)
            return left

        begun = time.monotonic()
        number = 0
        while any((left := await in_thread(drip, number)).values()):
            assert time.monotonic() - begun < PATIENCE, f"still connected: {left}"
            number += 1
            if number == 1:
                assert left == dict.fromkeys(ON_THE_WIRE, DRIPS)
                for kind in ON_THE_WIRE:
                    await victims[kind].serves()
            await in_thread(time.sleep, 0.25)
    for kind in ON_THE_WIRE:
        await victims[kind].serves()


@pytest_twisted.ensureDeferred
async def test_dripping_requests_cost_little_and_others_are_served(
    victims: dict[str, Victim],
) -> None:
    """Heads, and bodies that are JSON, that come in single bytes, by the hundred: the others are
    served, and each takes a few kilobytes. (When they are given up is in test_site.py.)"""
    victim = victims["http-exec"]
    token = victim.token.decode()
    head = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    json = head.replace("GET /", "POST /popen") + "Content-Length: 60000\r\n\r\n"
    upload = head.replace("GET /", "POST /exec/x?offset=0") + "Transfer-Encoding: chunked\r\n\r\n"
    drips = [(victim.connect(), text.encode()) for text in (head, json, upload) * 40]

    def drip(number: int) -> None:
        for one, data in drips:
            one.setblocking(True)
            try:
                one.sendall(data[number : number + 1] or b" ")
            except OSError:
                continue

    async with withstands(victim, memory=12 * MB, processor=8):
        with closing([one for one, _ in drips]):
            for number in range(300):
                await in_thread(drip, number)
                if number % 100 == 0:
                    await victim.serves()
