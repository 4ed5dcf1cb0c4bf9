"""What a build requires beside its ``pyproject.toml``: ``python buildrequires.py PROJECT RESULT``.

It asks the project's backend, with the hook ``get_requires_for_build_wheel`` (PEP 517), in an
environment of what the ``pyproject.toml`` requires, and writes a list as JSON to the file RESULT.
It runs alone, in a process of its own, and imports nothing of this package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def requires(project: str) -> list[str]:
    """What the backend of a project asks for."""
    from build import ProjectBuilder
    from build.env import DefaultIsolatedEnv

    with DefaultIsolatedEnv() as env:
        builder = ProjectBuilder.from_isolated_env(env, project)
        env.install(builder.build_system_requires)
        return sorted(builder.get_requires_for_build("wheel"))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(requires(sys.argv[1])), encoding="utf-8")
