"""Sends the far side's part of the drop-in, ``execnet``, and the code that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycomnet.far import execnet
from pycomnet.gateways.modules import ModuleOffer

if TYPE_CHECKING:
    from twisted.internet import defer

    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: The name of the package there: what far code imports.
NAME = "execnet"
_BEGIN = f"""from _pycomnet.far.channel import FarChannel
from _pycomnet.wire.values import ValueNotSendable
from {NAME}.gateway_base import begin
begin(channel, FarChannel, ValueNotSendable, given)
"""
_RUN = f"""from _pycomnet.far.execute import function_of
from {NAME}.gateway_base import run
run(channel, task, given, function_of)
"""


def request(task: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The request that runs a task of :mod:`pycomnet.execnet.source`.

    :param given: the arguments of its function.
    """
    return {
        "source": _RUN,
        "filename": "<remote_exec>",
        "kwargs": {"task": task, "given": given},
    }


def begin(
    gateway: Gateway, execmodel: str, chdir: str | None, begun: Channel | None = None
) -> defer.Deferred[dict[str, Any]]:
    """Make a gateway one of the drop-in. Called in the reactor's thread.

    :param chdir: the directory that its code works in, which is made if it is not there.
    :param begun: a channel over which it tells the number of each request's channel when the code
        begins to run.
    :returns: fires with facts about its interpreter, once further code runs in its main thread.
    """
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(ModuleOffer.far_package(NAME, execnet)).addErrback(lambda _: None)
    given = {"execmodel": execmodel, "chdir": chdir, "begun": begun, "near": __package__}
    channel = gateway.remote_exec(_BEGIN, given=given)
    return channel.receive().addCallback(_when_closed, channel)


def _when_closed(facts: dict[str, Any], channel: Channel) -> defer.Deferred[dict[str, Any]]:
    return channel.waitclose().addCallback(lambda _: facts)
