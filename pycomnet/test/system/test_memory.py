"""Nothing piles up: what nobody receives is not sent, and what is over leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pycomnet.test.system.nearby import near

SCRIPT = str(Path(__file__).with_name("memory_side.py"))
#: As many as the issue asks for take some minutes: PYCOMNET_TEST_LONG asks for them.
GATEWAYS = 1000 if os.environ.get("PYCOMNET_TEST_LONG") else 200
CHANNELS = 10_000
TOTAL = 300_000_000
LIMIT = 8_000_000


def measured(*argv: str) -> Any:
    """What a scenario measured."""
    with near(SCRIPT, *argv) as program:
        found = program.line(600)
        status, _, stderr = program.ended()
    assert (status, stderr) == (0, "")
    return found


@pytest.mark.parametrize("how", ["receive", "callback", "print"])
def test_near_side_does_not_grow_with_untaken_values(how: str) -> None:
    """Far code that sends 300 MB waits while nobody takes them; the near side does not grow."""
    found = measured("far_to_near", how)
    assert found["stood_at"] <= 2
    assert found["grown"] < LIMIT
    assert found["total"] == TOTAL


def test_far_side_does_not_grow_with_untaken_values() -> None:
    """So does the near side, and the far side does not grow."""
    found = measured("near_to_far", "receive")
    assert found["stood_at"] <= 2
    assert found["grown"] < LIMIT
    assert found["near_grown"] < LIMIT
    assert found["total"] == TOTAL


def steady(rounds: list[dict[str, int]], key: str, most: int) -> None:
    """Fail if a number grows by more than this from the third round to the last."""
    values = [one[key] for one in rounds]
    assert min(values[-3:]) - max(values[2:4]) <= most, values


def constant(rounds: list[dict[str, int]], key: str) -> None:
    """Fail if a number is not the same after each round."""
    values = [one[key] for one in rounds]
    assert len(set(values)) == 1, values


def test_ended_gateways_leave_nothing_in_the_near_process() -> None:
    """Gateways that are made and ended, in all ways, leave nothing in the near process."""
    found = measured("gateways", str(GATEWAYS))
    rounds = found["rounds"]
    for key in ("descriptors", "children", "readers"):
        assert max(one[key] for one in rounds) <= rounds[0][key], rounds
    assert rounds[-1]["children"] == 1, "the supervisor that the next would be forked from"
    assert found["left"] == 0
    assert rounds[-1]["calls"] <= 2
    steady(rounds, "objects", 50)
    steady(rounds, "memory", 500_000)


def test_closed_channels_leave_nothing_at_either_end() -> None:
    """10,000 channels that are opened and closed leave nothing behind at either end."""
    rounds = measured("channels", str(CHANNELS))["rounds"]
    constant(rounds, "near_channels")
    constant(rounds, "far_channels")
    assert rounds[-1]["far_channels"] <= 1
    steady(rounds, "objects", 50)
    steady(rounds, "far_objects", 50)
    steady(rounds, "memory", 500_000)
    steady(rounds, "far_memory", 500_000)
