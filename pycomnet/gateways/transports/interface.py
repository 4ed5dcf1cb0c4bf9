"""The interface between a gateway and its transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs
from twisted.internet import defer

from pycomnet.errors import GatewayNotStarted, PycomnetError
from pycomnet.gateways.spec import Spec
from pycomnet.net.reactors import GatewayReactor
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from pycomnet.channels.connection import Connection
    from pycomnet.gateways.group import Group


@attrs.frozen
class GatewayRequest:
    """A request for a gateway.

    :ivar spec: what it is to be, and where.
    :ivar id: its name in its group.
    :ivar output: called with each piece of text that the far process itself writes to its standard
        error; if it returns a Deferred, the next piece waits for that.
    :ivar group_reference: a weak reference to its group: the reactor keeps this request alive, and
        that must not keep the group alive.
    :ivar reactor: watches its process and connection.
    """

    spec: Spec
    id: str
    output: Callable[[str], Any]
    group_reference: Callable[[], Group | None]
    reactor: GatewayReactor

    @property
    def group(self) -> Group:
        """Its group."""
        group = self.group_reference()
        if group is None:
            raise PycomnetError("the group is gone")
        return group

    def not_started(
        self, words: str, status: int | None = None, stderr: str = ""
    ) -> GatewayNotStarted:
        """The error that says why this gateway could not be made.

        :param status: the exit status of the started process, or minus the signal that ended it.
        :param stderr: the last lines of its standard error.
        """
        text = f"gateway {self.id} ({self.spec}): {words}"
        if stderr:
            text += f"; its standard error:\n{visible(stderr)}"
        return GatewayNotStarted(text, status, stderr, words)


class GatewayTransport(Protocol):
    """Carries one gateway's connection, and reports how the far side ended.

    A transport's module has a function ``gateway_transport(request)`` that makes one for a
    :class:`GatewayRequest`; it does nothing before :meth:`connect` is called. All methods are
    called in the reactor's thread.

    :ivar status: how the far side ended: its exit status, or minus the signal that ended it; None
        while it runs, and for ever where that can't be known.
    :ivar what: the word for it in messages that say it is gone: ``"its process"``.
    """

    what: str

    @property
    def status(self) -> int | None:
        """See above."""

    def connect(self, connection: Connection) -> defer.Deferred[None]:
        """Reach the far side, and connect the connection to it.

        :returns: fires when ``connection.makeConnection`` has been called; the hello may come
            later. Fails with :class:`GatewayNotStarted`, made by
            :meth:`GatewayRequest.not_started`. Cancelling it stops the attempt.
        """

    def when_ended(self) -> defer.Deferred[int | None]:
        """Wait for the far side's end.

        :returns: fires with :attr:`status`. If the far process can't be seen, it fires with None as
            soon as the far side is out of reach for good. Cancelling it does not affect the far
            side.
        """

    def kill(self, number: int) -> None:
        """End the far side by force. Called at any time after connect.

        :param number: SIGTERM: it and its processes get a last moment; SIGKILL: at once. A
            transport without signals closes its connection. After SIGKILL :meth:`when_ended` fires
            soon.
        """

    def describe_end(self, status: int | None) -> str:
        """How it ended, as words that follow ``"its process is gone: "``; empty if unknown."""

    def keep(self, text: str) -> None:
        """Remember what its code wrote to standard error, for :meth:`stderr_tail`."""

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""


@runtime_checkable
class LeavableTransport(Protocol):
    """The additional method of a transport whose server keeps far sides without their programs."""

    def left(self) -> defer.Deferred[None]:
        """The gateway's connection is closed, and the server is to keep the far side.

        :returns: fires when the server knows that, so that another program can resume it.
        """
