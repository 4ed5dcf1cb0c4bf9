"""pycomnet: environments and gateways in them."""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Any

import measure
import venvs
from measure import Amounts
from places import Clock
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

import pycomnet
from pycomnet import xdeploy

Figures = dict[str, float]
CREATORS = 16


async def there(group: Any, place: Path, amounts: Amounts) -> Figures:
    gateway = await group.makegateway("popen")
    root = str(place / "root")
    made = await xdeploy.create_venv(gateway, "work", "", directory=root)
    plain, ours = [], []
    for number in range(venvs.times(amounts) * 2):
        # Each an interpreter of its own, as the first of each program is.
        clock = Clock()
        alone = await group.makegateway("popen//fork=no", python=made.python)
        plain.append(clock.ms())
        await alone.exit()
        begin = await group.makegateway("popen//fork=no")
        if number % 2:  # where its modules are there already, and where they are not
            await xdeploy.list(begin, directory=root)
        clock = Clock()
        inside = await xdeploy.create_venv_gateway(begin, "work", "", directory=root)
        ours.append(clock.ms())
        await inside.exit()
        await begin.exit()
    found = statistics.median(ours)
    return {"there": found / statistics.median(plain), "there_ms": found}


async def empty(group: Any, place: Path, amounts: Amounts) -> Figures:
    found, inside = [], []
    for number in range(venvs.times(amounts)):
        gateway = await group.makegateway("popen//fork=no")
        root = str(place / str(number))
        clock = Clock()
        await xdeploy.create_venv(gateway, "work", "", directory=root)
        found.append(clock.ms())
        other = await group.makegateway("popen//fork=no")
        clock = Clock()
        await xdeploy.create_venv_gateway(other, "work", "", directory=f"{root}-inside")
        inside.append(clock.ms())
    return {"empty": statistics.median(found), "empty_inside": statistics.median(inside)}


async def cached(group: Any, place: Path, amounts: Amounts) -> Figures:
    wheels = venvs.make_wheels(place, amounts)
    names = venvs.names(amounts)
    here, new, plain = [], [], []
    gateway = await group.makegateway("popen")
    await xdeploy.create_venv(gateway, "first", names, index=wheels, directory=f"{place}/first")
    for number in range(venvs.times(amounts)):
        root = f"{place}/root{number}"
        clock = Clock()
        await xdeploy.create_venv(gateway, "work", names, index=wheels, directory=root)
        new.append(clock.ms())
        os.rename(f"{root}/environments", f"{root}/gone")
        clock = Clock()
        made = await xdeploy.create_venv(gateway, "work", names, index=wheels, directory=root)
        here.append(clock.ms())
        assert made.made
        options = {"index": wheels, "directory": f"{root}-plain", "compile": False}
        clock = Clock()
        await xdeploy.create_venv(gateway, "work", names, **options)
        plain.append(clock.ms())
    return {
        "cached": statistics.median(here),
        "new_host": statistics.median(new),
        "new_host_plain": statistics.median(plain),
    }


async def creators(group: Any, place: Path, amounts: Amounts) -> Figures:
    wheels = venvs.make_wheels(place, amounts)
    names = venvs.names(amounts)
    count = 2 if venvs.small(amounts) else CREATORS
    gateways = await group.makegateways(["popen"] * count)
    one, many = [], []
    for number in range(venvs.times(amounts)):
        for chosen, found in ((gateways[:1], one), (gateways, many)):
            options = {"index": wheels, "directory": f"{place}/{number}-{len(chosen)}"}
            clock = Clock()
            made = await gatherResults(
                [xdeploy.create_venv(each, "work", names, **options) for each in chosen]
            )
            found.append(clock.ms())
            assert sum(each.made for each in made) == 1
    took = statistics.median(many)
    return {"creators": took / statistics.median(one), "creators_ms": took}


def run(job: str, amounts: Amounts) -> Figures:
    jobs = {"there": there, "empty": empty, "cached": cached, "creators": creators}
    figures: Figures = {}

    async def main(reactor: Any) -> None:
        await deferLater(reactor, 0)  # the reactor runs from here on
        with venvs.place() as place:
            async with pycomnet.Group(reactor) as group:
                figures.update(await jobs[job](group, place, amounts))

    measure.run_reactor(main)
    return figures


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    measure.answer(run)
