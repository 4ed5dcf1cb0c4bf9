"""execnet's API on pycomnet: change ``import execnet`` to ``from pycomnet import execnet``.

The names and their meanings are those of execnet 2.1. The gateways are pycomnet's: their far sides
end when this program does, whatever they run, and need nothing installed. docs/howto/from-execnet
says what differs, and what there is to gain.

Every module with state is imported at once: tools such as pytest's ``pytester`` remove modules that
are imported later from ``sys.modules``, so these are imported again.
"""

from pycomnet.execnet import gateway, gateway_base, multi, rsync, xspec
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.errors import (
    DataFormatError,
    DumpError,
    HostNotFound,
    LoadError,
    RemoteError,
    TimeoutError,
)
from pycomnet.execnet.gateway import Gateway
from pycomnet.execnet.gateway_base import dump, dumps, load, loads
from pycomnet.execnet.multi import Group, MultiChannel, default_group, makegateway, set_execmodel
from pycomnet.execnet.rsync import RSync
from pycomnet.execnet.xspec import XSpec
from pycomnet.net import _twisted

_twisted.load_reactor_without_tls()

#: The release of execnet whose API this is.
__version__ = "2.1.2"

__all__ = [
    "Channel",
    "DataFormatError",
    "DumpError",
    "Gateway",
    "Group",
    "HostNotFound",
    "LoadError",
    "MultiChannel",
    "RSync",
    "RemoteError",
    "TimeoutError",
    "XSpec",
    "__version__",
    "default_group",
    "dump",
    "dumps",
    "gateway",
    "gateway_base",
    "load",
    "loads",
    "makegateway",
    "multi",
    "rsync",
    "set_execmodel",
    "xspec",
]
