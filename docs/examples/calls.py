"""Run a function there, get its result here."""

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

import pycomnet


def is_prime(number):
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")

        # A function's source is sent; what has been sent once is kept compiled there.
        assert await gateway.call(is_prime, 1_000_003)

        # What is installed there is called by its name.
        assert await gateway.call("os.path:basename", "/usr/share/dict") == "dict"

        # Calls may be under way together: each is a channel of its own.
        numbers = range(90, 100)
        primes = await gatherResults([gateway.call(is_prime, number) for number in numbers])
        assert [number for number, prime in zip(numbers, primes, strict=True) if prime] == [97]


react(main)
