"""The benchmarks fit the package: only some of them run in CI."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).resolve().parents[1]
BENCHMARKS = PACKAGE.parent / "benchmarks"


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each name of the package that a file imports: its module, and the name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pycomnet":
            yield from ((node.module or "", alias.name) for alias in node.names)


def exists(module: str, name: str) -> bool:
    """Whether a module can be imported and has a name, or a submodule of that name."""
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        importlib.import_module(f"{module}.{name}")
    except ImportError:
        return False
    return True


@skipUnless(BENCHMARKS.is_dir(), "only in a checkout")
class AblationTests(SynchronousTestCase):
    """``ablation.py`` switches shortcuts off by changes of the package's source."""

    def test_each_change_fits_the_source(self) -> None:
        """The text that a change replaces is there exactly once."""
        self.patch(sys, "path", [str(BENCHMARKS), *sys.path])
        shortcuts = importlib.import_module("ablation").SHORTCUTS
        changes = [change for shortcut in shortcuts for change in shortcut.changes]
        self.assertGreater(len(changes), 10)
        for change in changes:
            source = PACKAGE.joinpath(change.path).read_text(encoding="utf-8")
            self.assertEqual(source.count(change.old), 1, change)


@skipUnless(BENCHMARKS.is_dir(), "only in a checkout")
class ImportTests(SynchronousTestCase):
    """What the benchmarks import."""

    def test_each_name_exists(self) -> None:
        """A module or function that is renamed is renamed in the benchmarks, too."""
        found = [
            (path.name, module, name)
            for path in sorted(BENCHMARKS.rglob("*.py"))
            for module, name in imported(path)
        ]
        self.assertGreater(len(found), 100)
        self.assertEqual([one for one in found if not exists(*one[1:])], [])
