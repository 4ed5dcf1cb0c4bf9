"""The package list; everything else about the build is in pyproject.toml.

The list is computed here because it has to hold ``twisted.plugins`` without there being such a
package: :mod:`twisted.plugin` finds a plugin module in a directory ``twisted/plugins`` on the path
only if that directory has *no* ``__init__.py``. Automatic discovery would either miss it or take
``twisted`` for a package of ours and, in an editable install, shadow the real one.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["pycomnet", "pycomnet.*"]), "twisted.plugins"])
