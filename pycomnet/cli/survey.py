"""The demo's real work: several gateways read the modules of the standard library."""

from __future__ import annotations

import sysconfig
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from rich.box import ASCII2, HEAVY_HEAD, Box
from rich.table import Table

from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.pool.scheduler import all_of

#: Directories that are not part of the library, or hold its tests.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


def survey_module(path: str) -> dict[str, Any]:
    """At the far side: count what is in a module."""
    import ast
    import tokenize

    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text, path)
    except (SyntaxError, UnicodeError) as error:
        return {"problem": f"{type(error).__name__}: {error}"}
    functions: list[tuple[int, str]] = []
    imports: set[str] = set()
    classes = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.append(((node.end_lineno or 0) - node.lineno + 1, node.name))
        elif isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.Import):
            imports.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module)
    return {
        "lines": text.count("\n"),
        "functions": len(functions),
        "classes": classes,
        "longest": sorted(functions)[-5:],
        "imports": imports,
    }


async def survey(gateways: list[Gateway], paths: list[str]) -> dict[str, Any]:
    """Survey all modules. Each gateway takes the next one when it is done with one."""
    found = {}
    left = iter(paths)

    async def work(gateway: Gateway) -> None:
        for path in left:
            found[path] = await gateway.call(survey_module, path)

    await all_of([work(gateway) for gateway in gateways])
    return found


def library_modules() -> list[str]:
    """The paths of the standard library's modules, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(
        str(path)
        for path in root.rglob("*.py")
        if LEFT_OUT.isdisjoint(path.relative_to(root).parts)
    )


@attrs.frozen
class Findings:
    """The totals of the survey.

    :ivar modules: how many modules could be parsed.
    :ivar problems: path -> why the module could not be parsed.
    :ivar longest: (lines, function, module) of the longest functions.
    :ivar imported: (module, how many modules import it) of the most imported modules.
    """

    modules: int
    problems: dict[str, str]
    lines: int
    functions: int
    classes: int
    longest: list[tuple[int, str, str]]
    imported: list[tuple[str, int]]

    @classmethod
    def of(cls, found: dict[str, Any], most: int = 5) -> Findings:
        """Sum up what :func:`survey` found."""
        good = {path: facts for path, facts in found.items() if "problem" not in facts}
        longest = [
            (lines, name, module_name(path))
            for path, facts in good.items()
            for lines, name in facts["longest"]
        ]
        imported = Counter(name for facts in good.values() for name in facts["imports"])
        return cls(
            modules=len(good),
            problems={p: facts["problem"] for p, facts in found.items() if "problem" in facts},
            lines=sum(facts["lines"] for facts in good.values()),
            functions=sum(facts["functions"] for facts in good.values()),
            classes=sum(facts["classes"] for facts in good.values()),
            longest=sorted(longest, reverse=True)[:most],
            imported=sorted(imported.items(), key=lambda pair: (-pair[1], pair[0]))[:most],
        )

    def tables(self, plain: bool) -> Iterable[Table]:
        """The totals as tables to print.

        :param plain: whether to draw them in ASCII.
        """
        box: Box = ASCII2 if plain else HEAVY_HEAD
        sums = Table(title="The standard library", show_header=False, box=box)
        sums.add_column(style="bold")
        sums.add_column(justify="right")
        for name in ("modules", "lines", "functions", "classes"):
            sums.add_row(name, f"{getattr(self, name):,}")
        if self.problems:
            sums.add_row("not parsed", str(len(self.problems)))
        yield sums
        functions = Table("function", "module", title="Its longest functions", box=box)
        functions.add_column("lines", justify="right")
        for lines, name, module in self.longest:
            functions.add_row(name, module, str(lines))
        yield functions
        imports = Table("module", title="What it imports most", box=box)
        imports.add_column("by modules", justify="right")
        for module, count in self.imported:
            imports.add_row(module, str(count))
        yield imports


def module_name(path: str) -> str:
    """A module's dotted name in the library."""
    parts = Path(path).relative_to(sysconfig.get_path("stdlib")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
