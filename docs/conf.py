"""Sphinx configuration. The build needs no network; run it with ``-W``."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from importlib.metadata import version as distribution_version
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

project = "pycomnet"
author = "The pycomnet developers"
project_copyright = author
release = distribution_version("pycomnet")
version = ".".join(release.split(".")[:2])

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["benchmarks*-table.rst", "_build"]

html_theme = "furo"
html_title = f"pycomnet {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# The pictures are drawn by Graphviz's ``dot`` as the docs are built. In CI a missing ``dot`` is a
# warning, and so an error; elsewhere the pages show the pictures' source instead.
graphviz_output_format = "svg"
_draws = shutil.which("dot") is not None or bool(os.environ.get("PYCOMNET_REQUIRE_ALL"))
if _draws:
    extensions.append("sphinx.ext.graphviz")


class UndrawnGraph(SphinxDirective):
    """Stands for the ``graphviz`` directive where there is no ``dot``: shows the source."""

    has_content = True
    option_spec = {"alt": directives.unchanged, "caption": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make a literal block of the source."""
        shown: list[nodes.Node] = []
        if "caption" in self.options:
            shown.append(nodes.paragraph("", self.options["caption"]))
        source = "\n".join(self.content)
        shown.append(nodes.literal_block(source, source, language="none"))
        return shown


def lifecycle_graph(table: Any) -> str:
    """The drawing of a lifecycle's table, for ``dot``: without events that change no state."""
    edges: dict[tuple[str, str], list[str]] = {}

    def name(one: Any) -> str:
        # The far side's code has no enums, but strings.
        return str(getattr(one, "name", one))

    for state, events in table.items():
        for event, (after, _) in events.items():
            if after is not state:
                edges.setdefault((name(state), name(after)), []).append(name(event))
    lines = [
        "digraph lifecycle {",
        "rankdir=TB; nodesep=0.4; ranksep=0.5;",
        'node [shape=box, style="rounded,filled", fillcolor="#eef3f8", color="#5b7a99",',
        'fontname="Helvetica", fontsize=11];',
        'edge [color="#5b7a99", arrowsize=0.7, fontname="Helvetica", fontsize=9];',
        *(f'{name(state)} [tooltip="{getattr(state, "value", state)}"];' for state in table),
        *(f'{a} -> {b} [label="{", ".join(names)}"];' for (a, b), names in edges.items()),
        "}",
    ]
    return "\n".join(lines)


class Lifecycle(SphinxDirective):
    """``lifecycle``: draws a table of states, ``module:NAME``, as it is in the code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make a drawing, or its source where there is no ``dot``."""
        module, _, name = self.arguments[0].partition(":")
        source = lifecycle_graph(getattr(import_module(module), name))
        if not _draws:
            return [nodes.literal_block(source, source, language="none")]
        from sphinx.ext.graphviz import graphviz

        drawing = graphviz()
        drawing["code"] = source
        drawing["options"] = {"docname": self.env.docname}
        drawing["alt"] = f"The states of {self.arguments[0]}, and the events between them"
        return [drawing]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("lifecycle", Lifecycle)
    if not _draws:
        app.add_directive("graphviz", UndrawnGraph)
