"""The figures of a run as a table, as JSON and as a plot."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rows import BEST, OURS, Row

#: package -> what it is installed as, where that is another name.
DISTRIBUTIONS = {"grpc": "grpcio"}


@dataclass(frozen=True, slots=True)
class Line:
    """A row with its figures.

    :ivar runs: each peer's figures, one for each process.
    """

    row: Row
    runs: dict[str, list[float]]

    def median(self, peer: str) -> float | None:
        """The median of a peer's figures; None when it has none."""
        figures = self.runs.get(peer)
        return statistics.median(figures) if figures else None

    @property
    def against(self) -> str:
        """The peer that it is compared with."""
        if self.row.against != BEST:
            return self.row.against
        rivals = [peer for peer in self.runs if peer not in (OURS, "bare")]
        ranked = sorted(rivals, key=lambda peer: statistics.median(self.runs[peer]))
        if not ranked:
            return BEST
        return ranked[0] if self.row.better == "less" else ranked[-1]

    @property
    def factor(self) -> float | None:
        """How many times as good ours is as what it is compared with."""
        ours, other = self.median(OURS), self.median(self.against)
        return None if ours is None or other is None else self.row.factor(ours, other)

    @property
    def ratio(self) -> str:
        """What the target speaks of: so many times as good, or a share of the other's figure."""
        ours, other = self.median(OURS), self.median(self.against)
        if ours is None or other is None:
            return "-"
        target = self.row.target
        if target is not None and target.kind == "share":
            return f"{ours / other:.2f} of it"
        return f"{number(self.row.factor(ours, other))} times"

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        ours = self.median(OURS)
        return None if ours is None else self.row.reached(ours, self.median(self.against))

    def as_map(self) -> dict[str, Any]:
        """For the JSON."""
        row = self.row
        return {
            "name": row.name,
            "title": row.title,
            "unit": row.unit,
            "better": row.better,
            "against": self.against,
            "median": {peer: self.median(peer) for peer in self.runs},
            "runs": self.runs,
            "factor": self.factor,
            "target": None if row.target is None else row.target.text(row.unit),
            "reached": self.reached,
        }

    def cells(self, peers: list[str], implied: str) -> list[str]:
        """For the table.

        :param implied: what a row is compared with that does not name anything.
        """
        row = self.row
        figures = [self.median(peer) for peer in peers]
        against = "" if row.against == implied else f" {self.against}"
        return [
            row.title,
            row.unit,
            *("-" if figure is None else number(figure) for figure in figures),
            self.ratio,
            "" if row.target is None else row.target.text(row.unit) + against,
            {True: "yes", False: "NO", None: ""}[self.reached],
        ]


def number(figure: float) -> str:
    """Three digits, or all before the point."""
    if figure == 0 or not math.isfinite(figure):
        return f"{figure:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(figure))))
    return f"{figure:,.{digits}f}"


def conditions(rounds: int, packages: list[str]) -> dict[str, Any]:
    """What the figures depend on.

    :param packages: those whose versions count, besides ours and what it stands on.
    """
    import pycomnet  # here, as the script may have to put it on the path first

    versions = {"pycomnet": pycomnet.__version__}
    for name in dict.fromkeys([*packages, "twisted", "ormsgpack"]):
        if name == "pycomnet":
            continue
        try:
            versions[name] = version(DISTRIBUTIONS.get(name, name))
        except PackageNotFoundError:
            continue
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "rounds": rounds,
        "versions": versions,
    }


def caption(run: dict[str, Any]) -> str:
    """What the figures depend on, as a line."""
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    return (
        f"Medians of {run['rounds']} interleaved rounds; {run['python']}, {run['system']}, "
        f"{run['cpus']} CPUs; {versions}"
    )


@dataclass(frozen=True, slots=True)
class Table:
    """How lines are shown.

    :ivar columns: the peers, in order.
    :ivar against: what the rows are compared with that do not say something else.
    """

    columns: tuple[str, ...]
    against: str

    def _header(self, lines: list[Line]) -> tuple[list[str], list[str]]:
        peers = [peer for peer in self.columns if any(peer in line.runs for line in lines)]
        return peers, ["what", "unit", *peers, "ratio", "target", "reached"]

    def text(self, lines: list[Line], smoke: bool = False) -> str:
        """For the terminal.

        :param smoke: leave out what compares, as the figures say nothing.
        """
        peers, header = self._header(lines)
        table = [header, *(line.cells(peers, self.against) for line in lines)]
        if smoke:
            table = [cells[: 2 + len(peers)] for cells in table]
            header = table[0]
        widths = [max(len(cells[at]) for cells in table) for at in range(len(header))]
        left = {0, 1, 3 + len(peers), 4 + len(peers)}
        shown = []
        for cells in table:
            padded = (
                cell.ljust(width) if at in left else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            shown.append("  ".join(padded).rstrip())
        shown.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(shown)

    def rst(self, lines: list[Line], run: dict[str, Any]) -> str:
        """For the documentation."""
        peers, header = self._header(lines)
        shown = [f"{caption(run)}.", "", ".. list-table::", "   :header-rows: 1", ""]
        for cells in (header, *(line.cells(peers, self.against) for line in lines)):
            for at, cell in enumerate(cells):
                shown.append(f"   {' ' if at else '*'} - {cell if cell != '-' else ''}".rstrip())
        return "\n".join(shown) + "\n"

    def plot(self, lines: list[Line], path: str) -> None:
        """How many times as good as the others, and the targets, as bars on a logarithmic axis."""
        try:
            import matplotlib
        except ImportError:
            sys.exit("--plot needs matplotlib: pip install 'pycomnet[bench]'")
        matplotlib.use("Agg")
        matplotlib.rcParams["svg.hashsalt"] = "pycomnet"  # the same figures make the same file
        from matplotlib import pyplot

        shown = [
            (line, line.factor)
            for line in reversed(lines)
            if line.factor is not None and line.row.against == self.against and line.row.target
        ]
        figure, axes = pyplot.subplots(figsize=(8, 1.4 + 0.34 * len(shown)), layout="constrained")
        wanted = [_wanted(line) for line, _ in shown]
        colours = ["#b5442e" if line.reached is False else "#2f6f9f" for line, _ in shown]
        factors = [factor for _, factor in shown]
        axes.barh([line.row.title for line, _ in shown], factors, color=colours, height=0.62)
        beside = axes.get_yaxis_transform()
        for at, factor in enumerate(factors):
            axes.text(1.01, at, number(factor), transform=beside, va="center", fontsize=8)
        for at, target in enumerate(wanted):
            if target is not None:
                axes.plot([target, target], [at - 0.42, at + 0.42], color="black", linewidth=1.6)
        axes.set_xscale("log")
        axes.set_xlim(min([0.5, *factors]), max([2.0, *factors]) * 1.3)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.axvline(1, color="#888888", linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"times as good as {self.against} (black: the target; red: not reached)")
        axes.tick_params(axis="y", labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        metadata = {"Date": None} if path.endswith(".svg") else None
        figure.savefig(path, dpi=150, metadata=metadata)
        pyplot.close(figure)


def _wanted(line: Line) -> float | None:
    target = line.row.target
    if target is None:
        return None
    if target.kind == "below":  # against the other's figure, as the bars are
        other = line.median(line.against)
        return None if other is None else other / target.value
    return target.value if target.kind == "times" else 1 / target.value
