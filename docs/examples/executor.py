"""Work for whichever gateway is free: a concurrent.futures.Executor."""

from concurrent.futures import as_completed

from pycomnet.blocking import GatewayExecutor, Group


def is_prime(number):
    return number > 1 and all(number % n for n in range(2, int(number**0.5) + 1))


with Group() as group:
    group.makegateways(["popen", "popen"])  # or ssh=..., or http=...

    with GatewayExecutor(group) as executor:
        numbers = range(100)
        found = executor.map(is_prime, numbers)
        primes = [n for n, yes in zip(numbers, found, strict=True) if yes]
        assert primes[:5] == [2, 3, 5, 7, 11] and len(primes) == 25

        futures = [executor.submit("math:factorial", n) for n in range(5)]
        assert sorted(f.result() for f in as_completed(futures)) == [1, 1, 2, 6, 24]
