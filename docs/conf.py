"""Sphinx configuration. The build needs no network; run it with ``-W``."""

from __future__ import annotations

import os
import shutil
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
        shown: list[nodes.Node] = []
        if "caption" in self.options:
            shown.append(nodes.paragraph("", self.options["caption"]))
        source = "\n".join(self.content)
        shown.append(nodes.literal_block(source, source, language="none"))
        return shown


def setup(app: Any) -> None:
    """Called by Sphinx."""
    if not _draws:
        app.add_directive("graphviz", UndrawnGraph)
