"""What lives on a connection can't be pickled or copied, and says so."""

from __future__ import annotations

import copy
import pickle
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet import blocking, connection
from pycomnet.channel import Channel, ChannelCore
from pycomnet.channeltransport import ChannelTransport
from pycomnet.files import ChannelFile
from pycomnet.gateways.gateway import Gateway, Link
from pycomnet.gateways.group import Group
from pycomnet.gateways.place import Place, Places
from pycomnet.multichannel import MultiChannel, ReceiveQueue
from pycomnet.services.client import RemoteService
from pycomnet.services.context import Context
from pycomnet.services.pool import Pool
from pycomnet.services.registration import Registration
from pycomnet.services.remotestream import RemoteStream
from pycomnet.services.request import Request
from pycomnet.services.server import ServiceServer
from pycomnet.worker import channel, files, link, main

LIVE: tuple[Any, ...] = (
    *(Channel, ChannelCore, ChannelTransport, ChannelFile, connection.Connection),
    *(Gateway, Link, Group, Place, Places, MultiChannel, ReceiveQueue),
    *(RemoteService, Context, Pool, Registration, RemoteStream, Request, ServiceServer),
    *(blocking.Group, blocking.Gateway, blocking.Channel, blocking.ChannelFile),
    *(blocking.MultiChannel, blocking.RemoteService, blocking.Context, blocking.RemoteStream),
    *(channel.Channel, main.Gateway, main.Worker, link.Link),
    *(files.ChannelFileRead, files.ChannelFileWrite),
)


class Refused(SynchronousTestCase):
    """Each way to copy, of each kind."""

    def test_each(self) -> None:
        """An error that names the kind and says what to do, rather than an unchecked copy."""
        for kind in LIVE:
            one = object.__new__(kind)
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                error = self.assertRaises(TypeError, way, one)
                self.assertIn(f"a {kind.__name__} can't be pickled or copied", str(error))
