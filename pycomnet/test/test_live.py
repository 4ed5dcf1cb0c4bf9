"""What lives on a connection can't be pickled or copied, and says so."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet import blocking
from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.files import ChannelFile
from pycomnet.channels.multichannel import MultiChannel, ReceiveQueue
from pycomnet.channels.transport import ChannelTransport
from pycomnet.ext.pubsub.subscriber import Subscriber
from pycomnet.ext.pubsub.topic import Topic
from pycomnet.ext.workflow.client import Workflow
from pycomnet.far import channel, connection, files, worker
from pycomnet.gateways.connection import GatewayConnection
from pycomnet.gateways.forkserver.client import ForkServerClient, ForkServerClients
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group
from pycomnet.rsync.rsync import RSync
from pycomnet.services.client.context import Context
from pycomnet.services.client.pool import Pool
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.client.remotestream import RemoteStream
from pycomnet.services.launch.registration import Registration
from pycomnet.services.server.request import Request
from pycomnet.services.server.server import ServiceServer

LIVE: tuple[Any, ...] = (
    *(Channel, ChannelCore, ChannelTransport, ChannelFile, Connection),
    *(
        Gateway,
        GatewayConnection,
        Group,
        ForkServerClient,
        ForkServerClients,
        MultiChannel,
        ReceiveQueue,
    ),
    *(RemoteService, Context, Pool, Registration, RemoteStream, Request, ServiceServer),
    *(blocking.Group, blocking.Gateway, blocking.Channel, blocking.ChannelFile),
    *(blocking.MultiChannel, blocking.RemoteService, blocking.Context, blocking.RemoteStream),
    *(channel.FarChannel, worker.FarGateway, worker.FarSide, connection.FarConnection),
    *(Subscriber, Topic, Workflow, RSync),
    *(files.ChannelFileRead, files.ChannelFileWrite),
)


class Refused(SynchronousTestCase):
    """Each way to copy, of each kind."""

    def test_pickling_or_copying_live_objects_is_refused(self) -> None:
        """An error that names the kind and says what to do, rather than an unchecked copy."""
        ignored: list[object] = []
        self.patch(sys, "unraisablehook", ignored.append)
        for kind in LIVE:
            one = object.__new__(kind)
            for way in (copy.copy, copy.deepcopy, pickle.dumps):
                error = self.assertRaises(TypeError, way, one)
                self.assertIn(f"a {kind.__name__} can't be pickled or copied", str(error))
            del one
        self.assertEqual(ignored, [], "what __del__ of an object without attributes raised")
