"""See that an installed wheel has its twistd plugins, and Twisted still has its own.

And that it has what type checkers read: each stub of the checkout, and ``py.typed``.

PREFIX/bin/python .ci/wheel_plugins.py PREFIX
"""

import sys
from pathlib import Path

import twisted.plugin

import twisted
import twisted.plugins.pycomnet_plugins

for module in (twisted, twisted.plugins.pycomnet_plugins):
    assert module.__file__.startswith(sys.argv[1] + "/"), module.__file__
found = twisted.plugin.getCache(twisted.plugins)
assert "pycomnet_plugins" in found, sorted(found)
assert "twisted_reactors" in found, "our wheel hides the plugins of Twisted"
print("plugins found:", len(found))
checkout = Path(__file__).resolve().parent.parent / "pycomnet"
installed = Path(twisted.plugins.pycomnet_plugins.__file__).parents[2] / "pycomnet"
typed = ["py.typed", *(str(path.relative_to(checkout)) for path in checkout.rglob("*.pyi"))]
missing = [name for name in typed if not (installed / name).is_file()]
assert len(typed) > 1 and not missing, missing
print("stubs found:", len(typed) - 1)
