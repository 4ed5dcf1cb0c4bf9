"""The popen transport: a far side in a process of this machine.

The first is a new interpreter; those after it are forked from a running one
(:mod:`pycomnet.gateways.forkserver.client`). With ``//fork=no``, or if forking is not possible,
each is a new interpreter; with ``//fork=yes`` none is.
"""

from __future__ import annotations

import os

from pycomnet.gateways.boot import boot, interpreter, worker_config
from pycomnet.gateways.transports import routes
from pycomnet.gateways.transports.forked import ForkedGatewayTransport
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.processgateway import ProcessGatewayTransport


def standalone_transport(request: GatewayRequest) -> ProcessGatewayTransport:
    """The transport of a gateway with a new interpreter."""
    spec = request.spec
    config = {**worker_config(spec, request.id), "near": os.getpid()}
    start = boot(interpreter(spec), {**os.environ, **spec.env}, config)
    return ProcessGatewayTransport(request, start.argv, start.env, start.message)


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """The transport of a popen gateway's connection."""
    if request.spec.via is not None:
        return ForkedGatewayTransport(request, routes.via_route)
    if request.spec.fork is not False and routes.can_fork(request.spec):
        return ForkedGatewayTransport(
            request, routes.local_route, standalone_transport, first_alone=True
        )
    return standalone_transport(request)
