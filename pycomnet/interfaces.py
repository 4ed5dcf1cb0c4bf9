"""The seams: what a plug-in provides, and what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.nameserver.records import Change, Delete, Put, Record


class INameFollower(Interface):
    """Who is told what a nameserver's store has. It is the nameserver; a store calls it.

    Records and changes are those of :mod:`pycomnet.nameserver.records`. All of it is called in the
    reactor's thread.
    """

    def load(records: Iterable[tuple[Record, float]]) -> None:
        """Take some of what the store had when it was opened.

        :param records: an iterable of ``(Record, seconds left)``, of names that were not loaded
            before. The fence is set.
        """

    def loaded(revision: int) -> None:
        """Take note that everything is loaded.

        :param revision: the latest, an int: of the changes that are loaded, and of those that were
            there and are not any more.
        """

    def changed(changes: Sequence[Change]) -> None:
        """Take what has been committed.

        :param changes: a sequence of ``Change``, with revisions that are above all before.
        """

    def fence_of(service: str) -> int | None:
        """The fence of what is registered under a name, also after its lease, or None.

        For a store without an index of its own; it does not know of what is not yet ``changed``.
        """

    def times_left() -> Iterator[tuple[str, float]]:
        """Iterate over ``(service, seconds left)`` of all that is registered, for a store that
        keeps these when it is closed."""


class INameStore(Interface):
    """Where a nameserver's registrations are kept.

    There may be several nameservers to one store, if it can have several; each is told of what the
    others commit. :class:`pycomnet.test.nameserver.conformance.StoreConformance` has the tests
    that every store passes.
    """

    name = Attribute("""What ``stat`` says it is, such as ``sqlite:/srv/names.sqlite``.""")

    ends_leases = Attribute(
        """False: the nameserver's clock ends leases, and it commits the removals. True: the store
        does, for all nameservers alike, and tells of it as of any change; ``renew`` is what it
        goes by."""
    )

    def open(follower: INameFollower) -> Deferred[None]:
        """Begin: ``load`` everything, then ``loaded``, and from then on ``changed``.

        :param follower: an :class:`INameFollower`.
        :returns: a Deferred that fires after ``loaded``; it fails with
            :class:`~pycomnet.errors.StoreFailed`. Cancelling it may leave the store half open:
            ``close`` it.
        """

    def commit(change: Put | Delete) -> Deferred[int]:
        """Keep or remove a registration, so that it survives whatever the store survives.

        What is asked for in one turn of the reactor may be committed together. The order in which
        it was asked for is the order of the revisions.

        :param change: what it ``replaces`` has to be what is there, after all that was asked for
            before.
        :returns: a Deferred that fires with the revision, a new fence, an int above all before
            (over restarts, too), once it is committed and the follower was told. It fails with
            :class:`~pycomnet.errors.StoreConflict` if it was to replace something else than is
            there, once the follower was told of what is there; and with
            :class:`~pycomnet.errors.StoreFailed` if it could not be kept, and then nothing has
            changed. It can't be cancelled.
        """

    def renew(record: Record) -> Deferred[None] | None:
        """Take note that a lease was renewed. Nothing is written for it.

        :param record: the live ``Record``.
        :returns: None, or a Deferred that fails with :class:`~pycomnet.errors.LeaseLost` when the
            lease is over after all.
        """

    def leave() -> None:
        """The nameserver is about to close it: another may be waiting to open it."""

    def close() -> Deferred[None]:
        """Commit what was asked for, keep the times that leases have left, and end.

        :returns: a Deferred that fires when nothing is open any more. A store that was not opened
            can be closed, and so can a closed one.
        """
