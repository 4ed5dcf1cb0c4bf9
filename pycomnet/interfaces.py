"""The plug-in seams: the interfaces that a plug-in provides, and those that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.nameserver.records import Change, Delete, Put, Record


class INameFollower(Interface):
    """What a nameserver's store calls to report its contents. The nameserver provides it.

    Records and changes are those of :mod:`pycomnet.nameserver.records`. All of it is called in the
    reactor's thread.
    """

    def load(records: Iterable[tuple[Record, float]]) -> None:
        """Take some of the store's records, while it is being opened.

        :param records: an iterable of ``(Record, seconds left)``, of names that were not loaded
            before. The fence is set.
        """

    def loaded(revision: int) -> None:
        """Everything is loaded.

        :param revision: the latest revision, an int, also of records that are not there any more.
        """

    def changed(changes: Sequence[Change]) -> None:
        """Take changes that have been committed.

        :param changes: a sequence of ``Change``, with revisions above all before. Several changes
            with one revision are a group: all of it is in one call, and its records have their
            fences already. A store that has missed revisions tells of what is different so.
        """

    def reached(revision: int) -> None:
        """Everything up to a revision was told: nothing that is registered has changed since.

        Only for a store that several nameservers share, whose revisions grow for other reasons,
        too.
        """

    def names() -> Iterator[str]:
        """Iterate over the names that are registered, while nothing changes."""

    def fence_of(service: str) -> int | None:
        """The fence of what is registered under a name, also after its lease, or None.

        For a store without an index of its own. Changes that were not passed to ``changed`` yet are
        not in it.
        """

    def times_left() -> Iterator[tuple[str, float]]:
        """Iterate over ``(service, seconds left)`` of all that is registered, for a store that
        keeps these when it is closed."""


class INameStore(Interface):
    """Where a nameserver's registrations are kept.

    A store may serve several nameservers, if it can; it tells each of them what the others commit.
    docs/architecture/stores.rst says how to write one.
    :class:`pycomnet.test.nameserver.conformance.StoreConformance` has the tests that every store
        passes.
    """

    name = Attribute("""What ``stat`` shows, such as ``sqlite:/srv/names.sqlite``.""")

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

        The changes of one turn of the reactor may be committed together. The order of the calls is
        the order of the revisions: of all changes, or at least of those of each name.

        :param change: its ``replaces`` has to be the fence of what is there, after all changes that
            were requested before.
        :returns: a Deferred that fires with the revision (the new fence: an int above all before,
            also over restarts) once the change is committed and the follower was told. It fails
            with
            :class:`~pycomnet.errors.StoreConflict` if something else than ``replaces`` is there,
                once the follower was told of that. It fails with
                :class:`~pycomnet.errors.StoreFailed` if the change could not be kept, and then
                nothing has changed; :class:`~pycomnet.errors.StoreCutOff` is the one that another
                nameserver may do better with. It fails with
            :class:`~pycomnet.errors.StoreUncertain` if it isn't known whether the change was kept.
                Then the store goes on until it knows, and the follower is told of what is there. It
                can't be cancelled.
        """

    def renew(record: Record) -> Deferred[None] | None:
        """A lease was renewed. Nothing has to be written for it.

        :param record: the live ``Record``.
        :returns: None, or a Deferred that fails with :class:`~pycomnet.errors.LeaseLost` when the
            lease is over after all.
        """

    def leave() -> None:
        """The nameserver is about to close it: another may be waiting to open it."""

    def close() -> Deferred[None]:
        """Commit all requested changes, keep the times that leases have left, and end.

        :returns: a Deferred that fires when nothing is open any more. A store that was not opened
            can be closed, and so can a closed one.
        """


class ISharedNameStore(INameStore):
    """A store that several nameservers share, so that this one's memory may be behind.

    It ends leases itself, and tells the follower of ``reached``.
    """

    def staleness() -> float:
        """How old what the follower knows may be, in seconds.

        :returns: 0.0 while it follows closely.
        """

    def refresh(service: str) -> Deferred[None]:
        """Have the follower know of all changes of a name that were acknowledged before this call.

        :returns: a Deferred that fires when it does; it fails with
            :class:`~pycomnet.errors.StoreCutOff`.
        """

    def refresh_lease(lease: int) -> Deferred[None]:
        """The same for whatever is registered with a lease."""

    def tell(about: dict[str, object]) -> None:
        """Have the other nameservers see more of this one, by ``cluster``.

        :param about: its ``version`` and ``addresses``.
        """

    def freshness() -> dict[str, object]:
        """What ``stat`` shows of how this nameserver follows the store."""

    def cluster() -> Deferred[dict[str, list[dict[str, object]]]]:
        """The nameservers that share the store, and its members.

        :returns: a Deferred that fires with ``{"nameservers": [...], "members": [...]}``; it fails
            with :class:`~pycomnet.errors.StoreCutOff`.
        """
