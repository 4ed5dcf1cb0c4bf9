"""Runs Python code in other processes and on other machines; services find and call each other.

The public names are loaded when they are first used: importing this package loads no reactor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel as Channel
    from pycomnet.channels.multichannel import MultiChannel as MultiChannel
    from pycomnet.errors import AttachmentFailed as AttachmentFailed
    from pycomnet.errors import AttachmentTooLarge as AttachmentTooLarge
    from pycomnet.errors import CallInterrupted as CallInterrupted
    from pycomnet.errors import CallSkipped as CallSkipped
    from pycomnet.errors import CertificateRefused as CertificateRefused
    from pycomnet.errors import ChannelClosed as ChannelClosed
    from pycomnet.errors import CodeNotSendable as CodeNotSendable
    from pycomnet.errors import ConnectionLost as ConnectionLost
    from pycomnet.errors import DeadlineExceeded as DeadlineExceeded
    from pycomnet.errors import EndpointError as EndpointError
    from pycomnet.errors import FactoryUnreachable as FactoryUnreachable
    from pycomnet.errors import GatewayDied as GatewayDied
    from pycomnet.errors import GatewayNotStarted as GatewayNotStarted
    from pycomnet.errors import GatewaysNotStarted as GatewaysNotStarted
    from pycomnet.errors import InvalidArguments as InvalidArguments
    from pycomnet.errors import InvalidRegistration as InvalidRegistration
    from pycomnet.errors import LeaseLost as LeaseLost
    from pycomnet.errors import NameserverFull as NameserverFull
    from pycomnet.errors import NameserverStale as NameserverStale
    from pycomnet.errors import NotLeaseOwner as NotLeaseOwner
    from pycomnet.errors import Overloaded as Overloaded
    from pycomnet.errors import PeerSilent as PeerSilent
    from pycomnet.errors import ProtocolViolation as ProtocolViolation
    from pycomnet.errors import PycomnetError as PycomnetError
    from pycomnet.errors import RemoteError as RemoteError
    from pycomnet.errors import ResultNotSendable as ResultNotSendable
    from pycomnet.errors import RevisionTooOld as RevisionTooOld
    from pycomnet.errors import ServerLeaving as ServerLeaving
    from pycomnet.errors import ServiceError as ServiceError
    from pycomnet.errors import ServiceNameTaken as ServiceNameTaken
    from pycomnet.errors import ServiceNotFound as ServiceNotFound
    from pycomnet.errors import ServiceUnreachable as ServiceUnreachable
    from pycomnet.errors import SessionTooLarge as SessionTooLarge
    from pycomnet.errors import SpecError as SpecError
    from pycomnet.errors import StoreCutOff as StoreCutOff
    from pycomnet.errors import StoreFailed as StoreFailed
    from pycomnet.errors import StoreUncertain as StoreUncertain
    from pycomnet.errors import TokenError as TokenError
    from pycomnet.errors import TooManyRegistrations as TooManyRegistrations
    from pycomnet.errors import UnknownInterface as UnknownInterface
    from pycomnet.errors import UnknownMethod as UnknownMethod
    from pycomnet.errors import UsedAfterFork as UsedAfterFork
    from pycomnet.gateways.channelgateway import ChannelGateway as ChannelGateway
    from pycomnet.gateways.gateway import Gateway as Gateway
    from pycomnet.gateways.group import Group as Group
    from pycomnet.gateways.localfactory import Resumable as Resumable
    from pycomnet.gateways.output import Output as Output
    from pycomnet.gateways.pool.pool import GatewayPool as GatewayPool
    from pycomnet.gateways.pool.scheduler import NoGatewayLeft as NoGatewayLeft
    from pycomnet.gateways.spec import Spec as Spec
    from pycomnet.nameserver.follow import follow as follow
    from pycomnet.rsync.fetch import fetch as fetch
    from pycomnet.rsync.options import SyncError as SyncError
    from pycomnet.rsync.result import SyncEvent as SyncEvent
    from pycomnet.rsync.result import SyncFailures as SyncFailures
    from pycomnet.rsync.result import SyncResult as SyncResult
    from pycomnet.rsync.result import TargetResult as TargetResult
    from pycomnet.rsync.rsync import RSync as RSync
    from pycomnet.services.binary import Binary as Binary
    from pycomnet.services.binary import BlockLimits as BlockLimits
    from pycomnet.services.binary import ReceivedFile as ReceivedFile
    from pycomnet.services.client.context import Context as Context
    from pycomnet.services.client.remoteservice import RemoteService as RemoteService
    from pycomnet.services.client.remotestream import RemoteStream as RemoteStream
    from pycomnet.services.default import configure as configure
    from pycomnet.services.default import connect as connect
    from pycomnet.services.default import locate as locate
    from pycomnet.services.default import nameserver as nameserver
    from pycomnet.services.health import health_check as health_check
    from pycomnet.services.interface import Service as Service
    from pycomnet.services.interface import interface as interface
    from pycomnet.services.interface import method as method
    from pycomnet.services.server.limits import ServerLimits as ServerLimits
    from pycomnet.services.server.request import Request as Request
    from pycomnet.services.server.server import ServiceServer as ServiceServer
    from pycomnet.services.server.sessions import SessionLimits as SessionLimits
    from pycomnet.wire.kinds import register_type as register_type
    from pycomnet.wire.values import ValueNotReceivable as ValueNotReceivable
    from pycomnet.wire.values import ValueNotSendable as ValueNotSendable

_WHERE = {
    "AttachmentFailed": "pycomnet.errors",
    "AttachmentTooLarge": "pycomnet.errors",
    "Binary": "pycomnet.services.binary",
    "BlockLimits": "pycomnet.services.binary",
    "CallInterrupted": "pycomnet.errors",
    "CallSkipped": "pycomnet.errors",
    "CertificateRefused": "pycomnet.errors",
    "Channel": "pycomnet.channels.channel",
    "ChannelClosed": "pycomnet.errors",
    "ChannelGateway": "pycomnet.gateways.channelgateway",
    "CodeNotSendable": "pycomnet.errors",
    "ConnectionLost": "pycomnet.errors",
    "Context": "pycomnet.services.client.context",
    "DeadlineExceeded": "pycomnet.errors",
    "EndpointError": "pycomnet.errors",
    "FactoryUnreachable": "pycomnet.errors",
    "Gateway": "pycomnet.gateways.gateway",
    "GatewayDied": "pycomnet.errors",
    "GatewayNotStarted": "pycomnet.errors",
    "GatewayPool": "pycomnet.gateways.pool.pool",
    "GatewaysNotStarted": "pycomnet.errors",
    "Group": "pycomnet.gateways.group",
    "InvalidArguments": "pycomnet.errors",
    "InvalidRegistration": "pycomnet.errors",
    "LeaseLost": "pycomnet.errors",
    "MultiChannel": "pycomnet.channels.multichannel",
    "NameserverFull": "pycomnet.errors",
    "NoGatewayLeft": "pycomnet.gateways.pool.scheduler",
    "NotLeaseOwner": "pycomnet.errors",
    "Output": "pycomnet.gateways.output",
    "Overloaded": "pycomnet.errors",
    "PeerSilent": "pycomnet.errors",
    "ProtocolViolation": "pycomnet.errors",
    "PycomnetError": "pycomnet.errors",
    "RSync": "pycomnet.rsync.rsync",
    "ReceivedFile": "pycomnet.services.binary",
    "RemoteError": "pycomnet.errors",
    "RemoteService": "pycomnet.services.client.remoteservice",
    "RemoteStream": "pycomnet.services.client.remotestream",
    "Request": "pycomnet.services.server.request",
    "ResultNotSendable": "pycomnet.errors",
    "Resumable": "pycomnet.gateways.localfactory",
    "RevisionTooOld": "pycomnet.errors",
    "ServerLeaving": "pycomnet.errors",
    "ServerLimits": "pycomnet.services.server.limits",
    "Service": "pycomnet.services.interface",
    "ServiceError": "pycomnet.errors",
    "ServiceNameTaken": "pycomnet.errors",
    "ServiceNotFound": "pycomnet.errors",
    "ServiceServer": "pycomnet.services.server.server",
    "ServiceUnreachable": "pycomnet.errors",
    "SessionLimits": "pycomnet.services.server.sessions",
    "SessionTooLarge": "pycomnet.errors",
    "Spec": "pycomnet.gateways.spec",
    "SpecError": "pycomnet.errors",
    "StoreFailed": "pycomnet.errors",
    "NameserverStale": "pycomnet.errors",
    "StoreUncertain": "pycomnet.errors",
    "StoreCutOff": "pycomnet.errors",
    "SyncError": "pycomnet.rsync.options",
    "SyncEvent": "pycomnet.rsync.result",
    "SyncFailures": "pycomnet.rsync.result",
    "SyncResult": "pycomnet.rsync.result",
    "TargetResult": "pycomnet.rsync.result",
    "TokenError": "pycomnet.errors",
    "TooManyRegistrations": "pycomnet.errors",
    "UnknownInterface": "pycomnet.errors",
    "UnknownMethod": "pycomnet.errors",
    "ValueNotReceivable": "pycomnet.wire.values",
    "UsedAfterFork": "pycomnet.errors",
    "ValueNotSendable": "pycomnet.wire.values",
    "configure": "pycomnet.services.default",
    "connect": "pycomnet.services.default",
    "fetch": "pycomnet.rsync.fetch",
    "follow": "pycomnet.nameserver.follow",
    "health_check": "pycomnet.services.health",
    "interface": "pycomnet.services.interface",
    "locate": "pycomnet.services.default",
    "method": "pycomnet.services.interface",
    "nameserver": "pycomnet.services.default",
    "register_type": "pycomnet.wire.kinds",
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
