"""Run Python somewhere else, and have its pieces find and call each other.

The names below are loaded when they are first used: importing this package loads no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pycomnet.channel import Channel as Channel
    from pycomnet.errors import CertificateRefused as CertificateRefused
    from pycomnet.errors import ChannelClosed as ChannelClosed
    from pycomnet.errors import CodeNotSendable as CodeNotSendable
    from pycomnet.errors import ConnectionLost as ConnectionLost
    from pycomnet.errors import EndpointError as EndpointError
    from pycomnet.errors import GatewayDied as GatewayDied
    from pycomnet.errors import GatewayNotStarted as GatewayNotStarted
    from pycomnet.errors import ProtocolViolation as ProtocolViolation
    from pycomnet.errors import PycomnetError as PycomnetError
    from pycomnet.errors import RemoteError as RemoteError
    from pycomnet.errors import SpecError as SpecError
    from pycomnet.errors import TokenError as TokenError
    from pycomnet.gateways.gateway import Gateway as Gateway
    from pycomnet.gateways.group import Group as Group
    from pycomnet.gateways.output import Output as Output
    from pycomnet.gateways.spec import Spec as Spec
    from pycomnet.multichannel import MultiChannel as MultiChannel
    from pycomnet.wire.values import ValueNotSendable as ValueNotSendable

_WHERE = {
    "CertificateRefused": "pycomnet.errors",
    "Channel": "pycomnet.channel",
    "ChannelClosed": "pycomnet.errors",
    "CodeNotSendable": "pycomnet.errors",
    "ConnectionLost": "pycomnet.errors",
    "EndpointError": "pycomnet.errors",
    "Gateway": "pycomnet.gateways.gateway",
    "GatewayDied": "pycomnet.errors",
    "GatewayNotStarted": "pycomnet.errors",
    "Group": "pycomnet.gateways.group",
    "MultiChannel": "pycomnet.multichannel",
    "Output": "pycomnet.gateways.output",
    "ProtocolViolation": "pycomnet.errors",
    "PycomnetError": "pycomnet.errors",
    "RemoteError": "pycomnet.errors",
    "Spec": "pycomnet.gateways.spec",
    "SpecError": "pycomnet.errors",
    "TokenError": "pycomnet.errors",
    "ValueNotSendable": "pycomnet.wire.values",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    try:
        value = getattr(import_module(_WHERE[name]), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
