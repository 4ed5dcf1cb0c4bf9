"""Sends the far side's part of the drop-in, ``execnet``, and the code that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycomnet.far import execnet
from pycomnet.gateways.modules import ModuleOffer

if TYPE_CHECKING:
    from twisted.internet import defer

    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: The name under which far code imports the package.
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
    """Set a gateway's far side up for the drop-in. Called in the reactor's thread.

    :param chdir: the directory in which its code runs; it is made if it does not exist.
    :param begun: a channel over which the far side sends the number of each request's channel when
        the code begins to run.
    :returns: fires with facts about its interpreter once its main thread is free for other code.
    """
    # If the gateway is gone, the next use of it raises that.
    gateway.offer_modules(ModuleOffer.far_package(NAME, execnet)).addErrback(lambda _: None)
    given = {"execmodel": execmodel, "chdir": chdir, "begun": begun, "near": __package__}
    channel = gateway.remote_exec(_BEGIN, given=given)
    return channel.receive().addCallback(_when_closed, channel)


def _when_closed(facts: dict[str, Any], channel: Channel) -> defer.Deferred[dict[str, Any]]:
    return channel.waitclose().addCallback(lambda _: facts)
