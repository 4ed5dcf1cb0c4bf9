"""What the peers that are nameservers share."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import calls
import measure
from measure import Amounts

#: job -> how many records there are
RECORDS = {"locate_1": 1, "locate_10k": 10_000, "locate_1m": 1_000_000}
#: Names that are asked for: enough that no cache has only these.
ASKED = 1_000


def count(job: str, amounts: Amounts) -> int:
    """How many records a job has."""
    return max(1, int(RECORDS[job] * amounts.records))


def interface(number: int) -> str:
    """What the service of a number offers, and nobody else."""
    return f"org.example.interface-{number:07}"


def service(number: int) -> str:
    return f"org.example.service-{number:07}"


def address(number: int) -> tuple[str, int]:
    """Host and port of a service."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 2000 + number % 50_000


def asked(records: int) -> list[int]:
    """Numbers of services to ask for, at random."""
    some = random.Random(1)
    return [some.randrange(records) for _ in range(ASKED)]


def cycle(numbers: list[int]) -> Callable[[], int]:
    """A function that gives one of them after the other, without end."""
    at = 0

    def following() -> int:
        nonlocal at
        at = at + 1 if at + 1 < len(numbers) else 0
        return numbers[at]

    return following


def program(serve: Callable[..., None], run: Callable[[str, Amounts], calls.Figures]) -> None:
    """Be the server, or the client that measures what the command line asks for."""
    calls.allow_connections()
    if sys.argv[1:2] == [calls.SERVE]:
        serve(*sys.argv[2:])
    else:
        measure.answer(run)
