"""Runs pip for another interpreter: ``python pipfor.py FACTS COMMAND ...``.

FACTS is a file with JSON: ``tags``, ``markers`` and ``version`` of the interpreter; or ``-``, for
the one that runs pip. pip's own options for another interpreter choose tags, but leave the markers
as they are here, and refuse all sdists (docs/architecture/xdeploy.rst). It runs alone, in a process
of its own, and imports nothing of this package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: The exit status if there is no pip, or one that this can't be done with.
NO_PIP = 79


def replace(facts: dict[str, Any]) -> None:
    """Let pip take another interpreter for its own.

    :raises ImportError, AttributeError: this pip is made differently.
    """
    # Before what imports them by name.
    import pip._internal.utils.compatibility_tags as compatibility
    import pip._vendor.packaging.markers as markers
    from pip._vendor.packaging.tags import Tag

    tags = [Tag(*text.split("-", 2)) for text in facts["tags"]]
    version = tuple(facts["version"])
    known = markers.default_environment
    known()
    compatibility.get_supported  # noqa: B018 - it has to be there
    compatibility.get_supported = lambda *args, **kwargs: list(tags)
    markers.default_environment = lambda: dict(facts["markers"])

    from pip._internal.models.target_python import TargetPython
    from pip._internal.resolution.resolvelib.candidates import RequiresPythonCandidate

    _with_version(TargetPython, version)
    _with_version(RequiresPythonCandidate, version)


def _with_version(kind: Any, version: tuple[int, ...]) -> None:
    """Make a class's parameter ``py_version_info`` default to this version."""
    import functools
    import inspect

    original = kind.__init__
    if "py_version_info" not in inspect.signature(original).parameters:
        raise AttributeError(f"{kind.__name__} has no py_version_info")

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        if bound.arguments.get("py_version_info") is None:
            bound.arguments["py_version_info"] = version
        original(*bound.args, **bound.kwargs)

    kind.__init__ = init


def main(argv: list[str]) -> int:
    """Run pip; return its exit status."""
    try:
        import pip
    except ImportError:
        print(f"{sys.executable} has no pip: install it there", file=sys.stderr)
        return NO_PIP
    if argv[0] != "-":
        try:
            replace(json.loads(Path(argv[0]).read_text(encoding="utf-8")))
        except (ImportError, AttributeError) as problem:
            print(
                f"pip {pip.__version__} can't resolve for another interpreter ({problem}): "
                "install another version of pip, from 23.1 on",
                file=sys.stderr,
            )
            return NO_PIP
    from pip._internal.cli.main import main as run

    return run(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
