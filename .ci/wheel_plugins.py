"""See that an installed wheel has its twistd plugins, and Twisted still has its own.

PREFIX/bin/python .ci/wheel_plugins.py PREFIX
"""

import sys

import twisted.plugin

import twisted
import twisted.plugins.pycomnet_plugins

for module in (twisted, twisted.plugins.pycomnet_plugins):
    assert module.__file__.startswith(sys.argv[1] + "/"), module.__file__
found = twisted.plugin.getCache(twisted.plugins)
assert "pycomnet_plugins" in found, sorted(found)
assert "twisted_reactors" in found, "our wheel hides the plugins of Twisted"
print("plugins found:", len(found))
