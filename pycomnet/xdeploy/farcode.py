"""Sends the far side's modules to a gateway when they are first needed, and runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycomnet.errors import RemoteError
from pycomnet.far import xdeploy
from pycomnet.far.xdeploy import lookup
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.xdeploy.resolve import DeploymentFailed

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: The far side's modules, by the name that they have there.
FAR_PACKAGE = "_pycomnet_xdeploy"


class EnvironmentRefused(DeploymentFailed):
    """No environment can be made there: by that Python, or in that directory."""


def offer(gateway: Gateway) -> None:
    """Offer the far side's modules to a gateway."""
    # Whoever uses the gateway finds out if it is gone.
    gateway.offer_modules(ModuleOffer.far_package(FAR_PACKAGE, xdeploy)).addErrback(lambda _: None)


def start(gateway: Gateway, function: str, **kwargs: Any) -> Channel:
    """Run a function of the far side's modules there.

    :param function: ``module:function``, within the far side's package.
    :returns: the channel that the function gets.
    """
    offer(gateway)
    module, _, name = function.partition(":")
    code = f"from {FAR_PACKAGE}.{module} import {name}\n{name}(channel, **given)\n"
    return gateway.remote_exec(code, given=kwargs)


def ask(gateway: Gateway, request: dict[str, Any]) -> Channel:
    """Ask the far side for an environment: the module that finds it is sent, the others offered.

    :param request: as for ``serve`` in far/xdeploy/lookup.py.
    :returns: the channel of the conversation.
    """
    offer(gateway)
    return gateway.remote_exec(lookup, request={**request, "package": FAR_PACKAGE})


def explained(problem: RemoteError) -> DeploymentFailed:
    """The error for what was raised at the far side."""
    if problem.type.endswith(".VenvRefused"):
        return EnvironmentRefused(problem.message)
    return DeploymentFailed(
        f"the far side failed with {problem.type}: {problem.message}", problem.formatted
    )


def no_message(message: object) -> DeploymentFailed:
    """The error for what a far side of this version does not send."""
    return DeploymentFailed(f"the far side sent what is no message: {message!r:.200}")
