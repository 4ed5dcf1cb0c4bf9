"""Drawings of tasks, in the languages of mermaid and of Graphviz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pycomnet.errors import InvalidArguments
from pycomnet.ext.workflow.definition import Definition

#: State of a step -> its colour.
COLOURS = {
    "begun": "#8ecae6",
    "waiting": "#ffd166",
    "retrying": "#f4a261",
    "done": "#95d5b2",
    "failed": "#ef8a8a",
}


def draw(definition: Definition, states: Mapping[str, str], language: str = "mermaid") -> str:
    """A drawing of a task.

    :param states: path -> the state of a run's step.
    :raises InvalidArguments: there is no such language.
    """
    if language not in ("mermaid", "dot"):
        raise InvalidArguments(f"a graph is 'mermaid' or 'dot', not {language!r}")
    graph = _Graph(definition, states)
    graph.draw()
    return graph.mermaid() if language == "mermaid" else graph.dot()


class _Graph:
    """Nodes and edges of a task."""

    def __init__(self, definition: Definition, states: Mapping[str, str]) -> None:
        self._definition = definition
        self._states = states
        #: each with its label and its step's state
        self.nodes: list[tuple[str, str | None]] = []
        #: each from, to, label
        self.edges: list[tuple[int, int, str]] = []

    def draw(self) -> None:
        start = self._node("start", None)
        ends = self._sequence(self._definition.main["steps"], "", [(start, "")])
        end = self._node("end", None)
        self._join(ends, end)

    def _node(self, label: str, state: str | None) -> int:
        self.nodes.append((label, state))
        return len(self.nodes) - 1

    def _join(self, ends: list[tuple[int, str]], node: int) -> None:
        self.edges.extend((end, node, label) for end, label in ends)

    def _sequence(
        self, steps: Any, prefix: str, ends: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        for step in steps:
            ends = self._step(step, prefix + step["name"], ends)
        return ends

    def _step(
        self, step: Mapping[str, Any], path: str, ends: list[tuple[int, str]]
    ) -> list[tuple[int, str]]:
        node = self._node(_label(step), self._states.get(path))
        self._join(ends, node)
        kind = step["kind"]
        after = [(node, "")]
        if kind == "parallel":
            branches = step["parallel"]
            items = branches.items() if isinstance(branches, Mapping) else enumerate(branches)
            after = [
                end
                for name, steps in items
                for end in self._sequence(steps, f"{path}/{name}/", [(node, str(name))])
            ]
        elif kind == "map":
            after = self._sequence(step["map"], f"{path}[0]/", [(node, "each")])
        elif kind == "choice":
            after = []
            for index, choice in enumerate(step["choice"]):
                begin = [(node, choice["when"])]
                after += self._sequence(choice["then"], f"{path}/{index}/", begin)
            after += self._sequence(
                step.get("default", ()), f"{path}/default/", [(node, "default")]
            )
        elif kind == "task":
            steps = self._definition.tasks[step["task"]]["steps"]
            after = self._sequence(steps, f"{path}/", [(node, "")])
        elif kind == "fail":
            after = []
        for index, catch in enumerate(step.get("catch", ())):
            begin = [(node, f"on {', '.join(catch['errors'])}")]
            after += self._sequence(catch["then"], f"{path}!{index}/", begin)
        return after

    def mermaid(self) -> str:
        lines = ["flowchart TD"]
        for number, (label, _) in enumerate(self.nodes):
            lines.append(f'  n{number}["{_escaped(label)}"]')
        for begin, end, label in self.edges:
            arrow = f'-->|"{_escaped(label)}"|' if label else "-->"
            lines.append(f"  n{begin} {arrow} n{end}")
        for number, (_, state) in enumerate(self.nodes):
            if state is not None:
                lines.append(f"  style n{number} fill:{COLOURS.get(state, '#dddddd')}")
        return "\n".join(lines) + "\n"

    def dot(self) -> str:
        lines = ["digraph {", "  node [shape=box, style=filled, fillcolor=white];"]
        for number, (label, state) in enumerate(self.nodes):
            colour = f', fillcolor="{COLOURS.get(state, "#dddddd")}"' if state else ""
            lines.append(f"  n{number} [label={_quoted(label)}{colour}];")
        for begin, end, label in self.edges:
            text = f" [label={_quoted(label)}]" if label else ""
            lines.append(f"  n{begin} -> n{end}{text};")
        return "\n".join([*lines, "}"]) + "\n"


def _label(step: Mapping[str, Any]) -> str:
    kind, name = step["kind"], step["name"]
    words: dict[str, Callable[[], str]] = {
        "call": lambda: f"{step['interface']}.{step.get('method', '')}".rstrip("."),
        "wait": lambda: f"wait {step['wait']}",
        "until": lambda: f"until {step['until']}",
        "signal": lambda: f"signal {step['signal']}",
        "task": lambda: f"task {step['task']}",
        "fail": lambda: f"fail {step['fail']['code']}",
    }
    text = words[kind]() if kind in words else str(kind)
    return text if name.isdigit() else f"{name}: {text}"


def _escaped(text: str) -> str:
    """A text within quotes of mermaid, which has no escapes but entities."""
    found = text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return found.replace(">", "&gt;").replace("\n", " ")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
