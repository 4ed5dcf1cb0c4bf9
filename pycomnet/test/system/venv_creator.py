"""A program for tests: makes an environment from several gateways at once, and prints the results.

``venv_creator.py INDEX DIRECTORY REQUIREMENTS NUMBER``
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import defer, task

import pycomnet
from pycomnet import xdeploy


async def main(reactor: Any, index: str, directory: str, requirements: str, number: str) -> None:
    """Make it with so many gateways."""
    async with pycomnet.Group(reactor) as group:
        gateways = await group.makegateways(["popen"] * int(number))
        made: list[xdeploy.Venv] = await defer.gatherResults(
            [
                xdeploy.create_venv(gateway, "work", requirements, index=index, directory=directory)
                for gateway in gateways
            ]
        )
    print(json.dumps([{"made": each.made, "identity": each.identity} for each in made]), flush=True)


if __name__ == "__main__":
    task.react(lambda reactor: defer.ensureDeferred(main(reactor, *sys.argv[1:])))
