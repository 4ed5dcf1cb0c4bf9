"""A program for tests: environments without Deferreds; prints what it sees as JSON.

``venv_blocking.py INDEX DIRECTORY PROJECT``
"""

from __future__ import annotations

import json
import sys

from pycomnet.blocking import Group, xdeploy


def main(index: str, directory: str, project: str) -> None:
    """Make one, install the project, list, remove and prune."""
    stages: list[str] = []

    def show(step: xdeploy.VenvProgress) -> None:
        stages.append(step.stage)

    with Group() as group:
        gateway = group.makegateway("popen")
        inside = xdeploy.create_venv_gateway(
            gateway,
            "work",
            "alpha",
            index=index,
            directory=directory,
            progress=show,
            timeout=300,
        )
        prefix = inside.remote_exec("import sys; channel.send(sys.prefix)").receive()
        xdeploy.SetupFile(project).sdist_remote_install(inside)
        listed = [(each.name, each.packages) for each in xdeploy.list(gateway, directory=directory)]
        inside.exit()
        removed = xdeploy.remove(gateway, "work", directory=directory)
        pruned = xdeploy.prune(gateway, directory=directory).environments
    print(
        json.dumps(
            {
                "prefix": prefix,
                "stages": stages,
                "listed": listed,
                "removed": removed,
                "pruned": pruned,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
