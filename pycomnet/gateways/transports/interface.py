"""What a gateway needs of its transport: the seam between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.internet import defer

from pycomnet.errors import GatewayNotStarted, PycomnetError
from pycomnet.gateways.spec import Spec
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from pycomnet.channels.connection import Connection
    from pycomnet.gateways.group import Group


@attrs.frozen
class GatewayRequest:
    """A gateway that is to be made.

    :ivar id: its name in its group.
    :ivar output: called with each piece of text that the far process itself writes to its standard
        error; a Deferred that it returns is waited for before the next piece is taken.
    :ivar group_reference: the group it will be in; weakly, as the reactor keeps what is asked for
        alive, and that may keep no group alive.
    """

    spec: Spec
    id: str
    output: Callable[[str], Any]
    group_reference: Callable[[], Group | None]
    reactor: Any

    @property
    def group(self) -> Group:
        """The group it will be in."""
        group = self.group_reference()
        if group is None:
            raise PycomnetError("the group is gone")
        return group

    def not_started(
        self, words: str, status: int | None = None, stderr: str = ""
    ) -> GatewayNotStarted:
        """The error that says why this gateway could not be made.

        :param status: the exit status of what was started, or minus the signal that ended it.
        :param stderr: what it said last.
        """
        text = f"gateway {self.id} ({self.spec}): {words}"
        if stderr:
            text += f"; its standard error:\n{visible(stderr)}"
        return GatewayNotStarted(text, status, stderr, words)


class GatewayTransport(Protocol):
    """What carries one gateway's connection, and what is known of the far side beside it.

    A transport's module has a function ``gateway_transport(request)`` that makes one of a
    :class:`GatewayRequest`; it does nothing before :meth:`connect` is called. Everything is called
    in the reactor's thread.

    :ivar status: how the far side ended: its exit status, or minus the signal that ended it; None
        while it runs, and for ever where that can't be known.
    :ivar what: what is gone when it is gone, for messages: ``"its process"``.
    """

    what: str

    @property
    def status(self) -> int | None:
        """See above."""

    def connect(self, connection: Connection) -> defer.Deferred[None]:
        """Reach the far side and make it the protocol's transport.

        :returns: fires when ``connection.makeConnection`` has been called; the hello may be still
            to come. Fails with :class:`GatewayNotStarted`, made by
            :meth:`GatewayRequest.not_started`. Cancelling it gives up.
        """

    def when_ended(self) -> defer.Deferred[int | None]:
        """Wait for the far side's end.

        :returns: fires with :attr:`status`. Where the far process can't be seen, it fires with None
            as soon as it is out of reach for good. Cancelling it changes nothing there.
        """

    def kill(self, number: int) -> None:
        """End the far side without asking it: it had its time. Called at any time after connect.

        :param number: SIGTERM: it and what it started get a last moment; SIGKILL: at once. What
            knows no signals closes what it has. After SIGKILL :meth:`when_ended` fires soon.
        """

    def describe_end(self, status: int | None) -> str:
        """How it ended, as words that follow ``"its process is gone: "``; empty if unknown."""

    def keep(self, text: str) -> None:
        """Remember what its code wrote to standard error, for :meth:`stderr_tail`."""

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
