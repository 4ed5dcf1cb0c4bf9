"""Sphinx configuration. The build needs no network; run it with ``-W``."""

from importlib.metadata import version as distribution_version

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
