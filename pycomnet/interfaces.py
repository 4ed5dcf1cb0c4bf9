"""The interfaces of plug-ins: stores, which plug-ins provide, and followers, which they call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.ext.workflow.records import (
        Claim,
        Message,
        RunChange,
        RunQuery,
        RunRow,
    )
    from pycomnet.nameserver.records import Change, Delete, Put, Record


class INameFollower(Interface):
    """What a nameserver's store calls to report its contents. The nameserver provides it.

    Records and changes are those of :mod:`pycomnet.nameserver.records`. All of it is called in the
    reactor's thread.
    """

    def load(records: Iterable[tuple[Record, float]]) -> None:
        """Take some of the store's records, while it is being opened.

        :param records: an iterable of ``(Record, seconds left)``. No name comes twice, and each
            record has its fence.
        """

    def loaded(revision: int) -> None:
        """Everything is loaded.

        :param revision: the latest revision, an int; it may be that of a removal.
        """

    def changed(changes: Sequence[Change]) -> None:
        """Take changes that have been committed.

        :param changes: a sequence of ``Change``, whose revisions are above all earlier ones.
            Several changes with one revision are a group: one call has all of them, and their
            records have their fences already. A store that has missed some revisions reports the
            differences in this way.
        """

    def reached(revision: int) -> None:
        """All changes up to a revision have been reported.

        Only a store that several nameservers share calls this, as its revisions also grow for other
        reasons than registrations.
        """

    def doubted(since: int | None) -> None:
        """Most leases have ended at once, and the nameservers that share the store doubt that this
        is right: see :meth:`ISharedNameStore.doubt`.

        :param since: the revision after which the first of these leases ended; None: the doubt is
            over.
        """

    def names() -> Iterator[str]:
        """Iterate over the names that are registered, while nothing changes."""

    def fence_of(service: str) -> int | None:
        """The fence of the registration of a name, even if its lease has ended; None if there is
        no registration.

        For a store without an index of its own. Changes that were not passed to ``changed`` yet are
        not included.
        """

    def times_left() -> Iterator[tuple[str, float]]:
        """Iterate over ``(service, seconds left)`` of all that is registered, for a store that
        keeps these when it is closed."""


class INameStore(Interface):
    """Where a nameserver's registrations are kept.

    A store may serve several nameservers: it reports to each of them what the others commit.
    docs/architecture/stores.rst says how to write one.
    :class:`pycomnet.test.nameserver.conformance.StoreConformance` has the tests that every store
        passes.
    """

    name = Attribute("""What ``stat`` shows, such as ``sqlite:/srv/names.sqlite``.""")

    ends_leases = Attribute(
        """Whether the store ends leases, for all nameservers alike, and reports their ends like
        other changes; ``renew`` tells it which leases go on. If False, the nameserver ends them by
        its own clock, and commits the removals."""
    )

    def open(follower: INameFollower) -> Deferred[None]:
        """Begin: ``load`` everything, then ``loaded``, and from then on ``changed``.

        :param follower: an :class:`INameFollower`.
        :returns: a Deferred that fires after ``loaded``; it fails with
            :class:`~pycomnet.errors.StoreFailed`. Cancelling it may leave the store half open:
            ``close`` it.
        """

    def commit(change: Put | Delete) -> Deferred[int]:
        """Keep or remove a registration durably.

        The changes of one turn of the reactor may be committed together. Revisions are in the order
        of the calls: for all changes, or at least for those of each name.

        :param change: its ``replaces`` has to be the fence of the registration that there is after
            all changes that were requested before.
        :returns: a Deferred that fires with the revision (the new fence: an int above all earlier
            ones, also those before a restart) once the change is committed and the follower was
            told. It can't be cancelled. It fails with

            :class:`~pycomnet.errors.StoreConflict` if the registration is another than
                ``replaces``, once the follower was told of that one;
            :class:`~pycomnet.errors.StoreFailed` if the change could not be kept, and then nothing
                has changed; its subclass :class:`~pycomnet.errors.StoreCutOff` if another
                nameserver may be able to keep it;
            :class:`~pycomnet.errors.StoreUncertain` if it isn't known whether the change was kept.
                Then the store goes on until it knows, and tells the follower the outcome.
        """

    def renew(record: Record) -> Deferred[None] | None:
        """A lease was renewed. A store that does not end leases need not write anything.

        :param record: the live ``Record``.
        :returns: None, or a Deferred that fails with :class:`~pycomnet.errors.LeaseLost` if the
            lease has ended nevertheless.
        """

    def leave() -> None:
        """The nameserver is about to close it: another may be waiting to open it."""

    def close() -> Deferred[None]:
        """Commit all requested changes, keep the times that leases have left, and end.

        :returns: a Deferred that fires when nothing is open any more. Closing a store that was not
            opened, or was closed before, does nothing.
        """


class ISharedNameStore(INameStore):
    """A store that several nameservers share: this nameserver's data may lag behind the store's.

    It ends leases itself, and calls the follower's ``reached``.
    """

    def staleness() -> float:
        """By how many seconds the follower's data may lag behind the store's.

        :returns: 0.0 while it does not lag.
        """

    def refresh(service: str) -> Deferred[None]:
        """Report to the follower all changes of a name that were acknowledged before this call.

        :returns: a Deferred that fires when that is done; it fails with
            :class:`~pycomnet.errors.StoreCutOff`.
        """

    def refresh_lease(lease: int) -> Deferred[None]:
        """As :meth:`refresh`, for all names that are registered with a lease."""

    def doubt(since: int, seconds: float) -> Deferred[None]:
        """Keep a note, for all nameservers, that most leases have ended at once.

        ``doubted`` of each follower is called between the same two changes, and again when the
        note has ended. If there is such a note already, it stays unchanged.

        :param since: the revision after which the first of these leases ended.
        :param seconds: how long the note stays.
        :returns: a Deferred that fires when the note is kept; it fails with
            :class:`~pycomnet.errors.StoreFailed`.
        """

    def tell(about: dict[str, object]) -> None:
        """Publish facts about this nameserver: the others get them from ``cluster``.

        :param about: its ``version`` and ``addresses``.
        """

    def freshness() -> dict[str, object]:
        """What ``stat`` shows of how this nameserver follows the store."""

    def cluster() -> Deferred[dict[str, list[dict[str, object]]]]:
        """The nameservers that share the store, and its members.

        :returns: a Deferred that fires with ``{"nameservers": [...], "members": [...]}``; it fails
            with :class:`~pycomnet.errors.StoreCutOff`.
        """


class IRunFollower(Interface):
    """What a store of runs calls to report changes. A workflow service provides it.

    All of it is called in the reactor's thread.
    """

    def posted(run: str) -> None:
        """A run that this service has claimed has got a message: ``messages`` returns it."""

    def claimable() -> None:
        """There may be runs to claim: a message for a parked run was committed, for example."""

    def lost(runs: Sequence[str]) -> None:
        """Another service has claimed these runs: this one must not go on with them."""

    def ended(run: str) -> None:
        """A run has ended, in this service or another: its result can be fetched."""

    def renewed() -> None:
        """The store's ``held`` is true again: calls that have waited for that can begin."""

    def claims() -> Mapping[str, int]:
        """The runs that this service believes to have claimed: id -> fence."""

    def awaited() -> Collection[str]:
        """The ids of runs whose end a caller waits for."""


class IRunStore(Interface):
    """Where the runs of workflows are kept.

    Records are those of :mod:`pycomnet.ext.workflow.records`; a store does not interpret their
    bytes. It may serve several workflow services. A run is *claimed* by at most one of them at a
    time, and each claim has a *fence*, an int above those of the run's earlier claims.

    All methods are called in the reactor's thread. The requests of one turn of the reactor may be
    committed together, and are committed in the order of the calls. Deferreds fire once the request
    is committed. Cancelling one only stops the waiting: the request is carried out and reported.

    All methods fail with :class:`~pycomnet.ext.workflow.errors.RunStoreFailed` if the store can't
    carry out the request, and then nothing has changed; with its subclass ``RunNotKept`` if it
    never can, as it can't keep one of the values. Only that request has failed, and not others that
    are committed with it. If the connection to a store's server is lost, it is unknown whether a
    request was carried out; runs that a service has then claimed without knowing it become
    claimable again.

    :class:`pycomnet.test.ext.workflow.conformance.RunStoreConformance` has the tests that every
        store passes.
    """

    name = Attribute("""What the status page shows, such as ``sqlite:/srv/runs.sqlite``.""")

    lease = Attribute(
        """Seconds after which the claims of a silent service end, or None if the store is this
        service's alone. With a lease, ``renew`` has to be called three times within it."""
    )

    held = Attribute(
        """Whether this service's claims certainly hold: with a lease, whether it was renewed within
        the last ``lease`` seconds. While this is false, no call may begin."""
    )

    def open(follower: IRunFollower) -> Deferred[None]:
        """Begin. A store that is one service's alone ends all claims of earlier services.

        :returns: fires when the store can be used; fails if another service has it alone.
        """

    def definition(hash: str) -> Deferred[bytes | None]:
        """A definition; None if there is none."""

    def create(
        row: RunRow, steps: Sequence[tuple[str, bytes]] = (), definition: bytes | None = None
    ) -> Deferred[tuple[RunRow, Claim | None]]:
        """Keep a new run, claimed by this service.

        :param steps: path and bytes of the steps that it begins with.
        :param definition: the bytes of its definition, which the store keeps if it has not got it.
        :returns: fires with the run and its claim; or, if there is a run of that id, with that run
            and None, and nothing has changed.
        """

    def commit(change: RunChange) -> Deferred[None]:
        """Keep what has changed of a claimed run: its row, its steps, its definition, and the
        messages that it has taken.

        A parked run is not claimed any more, and becomes claimable when it is due, or at once if it
        has a message. Nor is one that has ended (its state is in ``records.ENDED``); it becomes
        claimable with a message only.

        :returns: fails with :class:`~pycomnet.ext.workflow.errors.FenceLost`, and nothing has
            changed, if the claim of that fence has ended.
        """

    def claim(now: float, limit: int) -> Deferred[tuple[list[Claim], float | None]]:
        """Claim runs that no service has claimed: those that are not parked, are due or have
        messages.

        :param now: seconds since 1970.
        :param limit: the most runs. They are fewer if they are very large, so that a claim does not
            fill the memory; then the next is due at once.
        :returns: fires with the claims, the run that waits longest first, and with the time at
            which the next parked run is due: None if there is none.
        """

    def release(runs: Mapping[str, int]) -> Deferred[None]:
        """End claims: others may claim these runs at once.

        :param runs: id -> fence. Runs that another service has claimed meanwhile are left alone.
        """

    def renew() -> Deferred[None]:
        """Renew all claims for another lease. The follower's ``lost`` gets those that had ended;
        and changes that were not reported while the connection was lost are reported now."""

    def post(run: str, message: Message) -> Deferred[RunRow | None]:
        """Keep a message for a run, and notify the service that has claimed it, or all if none has.

        A ``retry`` is kept only if the run has failed or was cancelled; its row's state is
        ``running`` then, at once.

        :returns: fires with the run as it was before, without its body; with None, and nothing has
            changed, if there is no such run.
        """

    def messages(run: str) -> Deferred[list[Message]]:
        """The messages of a run that it has not taken, the oldest first."""

    def row(run: str) -> Deferred[RunRow | None]:
        """A run without its body and steps; None if there is no such run."""

    def get(run: str) -> Deferred[tuple[RunRow, list[bytes]] | None]:
        """A run, with its body, and its steps; None if there is no such run."""

    def list(query: RunQuery) -> Deferred[list[RunRow]]:
        """Some runs, without their bodies: the newest first, runs of the same age by descending
        id."""

    def counts() -> Deferred[dict[str, int]]:
        """How many runs are in which state."""

    def prune(before: float, limit: int) -> Deferred[int]:
        """Remove runs that ended before a time, each with all that belongs to it or not at all.
        Definitions that no run uses are removed as well.

        :param before: seconds since 1970.
        :param limit: the most runs that are removed; fewer are if they have very many steps.
        :returns: fires with the number of removed runs: 0 if none is left.
        """

    def marks() -> Deferred[dict[str, float]]:
        """Names with a time each: when schedules were last looked at, and when the store was first
        used with a directory for files."""

    def mark(name: str, time: float) -> Deferred[None]:
        """Keep a time under a name."""

    def close() -> Deferred[None]:
        """Commit all requests, end all claims, and release everything. Closing a store that was not
        opened, or was closed before, does nothing."""
