"""The package ``execnet`` at the far side of the drop-in's gateways; sent when a gateway is made.

Standard library only, in the common subset of Python 2.7 and 3. execnet's names for the side that
starts gateways are taken from the near side's package, if that is installed where this runs.
"""

from . import execmodel, gateway_base
from .dumpformat import DataFormatError, DumpError, LoadError, dump, dumps, load, loads
from .gateway_base import TimeoutError

# gateway_base.begin sets RemoteError and Channel.

#: Names for the side that starts gateways.
NEAR = frozenset(
    ("Gateway", "Group", "HostNotFound", "MultiChannel", "RSync", "XSpec", "default_group")
    + ("makegateway", "set_execmodel", "gateway", "multi", "xspec", "rsync", "__version__")
)


def __getattr__(name):
    if name not in NEAR:
        raise AttributeError("module 'execnet' has no attribute %r" % name)
    import importlib

    try:
        near = importlib.import_module(gateway_base.near)
    except ImportError as error:
        raise AttributeError(
            "execnet.%s: code that runs at a gateway needs pycomnet installed there to start "
            "further gateways (%s)" % (name, error)
        )
    return getattr(near, name)


__all__ = [
    "DataFormatError",
    "DumpError",
    "LoadError",
    "TimeoutError",
    "dump",
    "dumps",
    "execmodel",
    "gateway_base",
    "load",
    "loads",
]
