"""The plug-in seams: the interfaces that a plug-in provides, and those that it is given."""

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

    def doubted(since: int | None) -> None:
        """The nameservers that share the store doubt it that most leases have ended at once: see
        :meth:`ISharedNameStore.doubt`.

        :param since: the revision after which the first of these ended; None: no longer.
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

    def doubt(since: int, seconds: float) -> Deferred[None]:
        """Note, for all nameservers, that most leases have ended at once. All followers are told,
        by ``doubted``, at the same place among the changes; and again when the note has ended.
        Another such note that is there already stays as it is.

        :param since: the revision after which the first of them ended.
        :param seconds: how long the note stays.
        :returns: a Deferred that fires when it is noted; it fails with
            :class:`~pycomnet.errors.StoreFailed`.
        """

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


class IRunFollower(Interface):
    """What a store of runs calls. A workflow service provides it; all is called in the reactor's
    thread."""

    def posted(run: str) -> None:
        """There is a message for a run that this service has claimed: ``messages`` has it."""

    def claimable() -> None:
        """There may be runs to claim: a message for a parked run was committed, for example."""

    def lost(runs: Sequence[str]) -> None:
        """Another service has these runs by now: step them no more."""

    def ended(run: str) -> None:
        """A run has ended, in whatever service: for those who wait for its result."""

    def renewed() -> None:
        """The store's ``held`` is true again: make the calls that have waited for that."""

    def claims() -> Mapping[str, int]:
        """The runs that this service has claimed, as far as it knows: id -> fence."""

    def awaited() -> Collection[str]:
        """The runs for whose end somebody waits."""


class IRunStore(Interface):
    """Where the runs of workflows are kept.

    Records are those of :mod:`pycomnet.ext.workflow.records`. A store does not look into what they
    keep as bytes. It may serve several workflow services, if it can. A run is *claimed* by at most
    one of them at a time, and each claim has a *fence*, an int above those of its claims before.
    All is called in the reactor's thread. What is asked for in one turn of the reactor may
    be committed together, and is committed in the order in which it was asked for. Deferreds fire
    once that is committed. Who cancels one waits no longer; what was asked for is done all the
    same, and told. All fail with
    :class:`~pycomnet.ext.workflow.errors.RunStoreFailed` if the store can't do what it was asked
    for, and then nothing has changed; with its subclass ``RunNotKept`` if it never can, as a value
    is none of a store. Either is of that call alone: others that are committed with it count. If
    the connection to a store's server is lost, nobody knows whether what was asked for was done;
    what a service then has claimed without knowing it becomes claimable.

    :class:`pycomnet.test.ext.workflow.conformance.RunStoreConformance` has the tests that every
        store passes.
    """

    name = Attribute("""What the status page shows, such as ``sqlite:/srv/runs.sqlite``.""")

    lease = Attribute(
        """Seconds after which the claims of a silent service end, or None if the store
        is this service's alone. With a lease, ``renew`` has to be called three times as often."""
    )

    held = Attribute(
        """Whether the claims are sure to be this service's now: with a lease, it was renewed not
        longer ago than that. While it is false no call may begin."""
    )

    def open(follower: IRunFollower) -> Deferred[None]:
        """Begin. A store that is one service's alone ends all claims of the service before.

        :returns: fires when the store can be used; fails if another service has it alone.
        """

    def definition(hash: str) -> Deferred[bytes | None]:
        """A definition; None if there is none."""

    def create(
        row: RunRow, steps: Sequence[tuple[str, bytes]] = (), definition: bytes | None = None
    ) -> Deferred[tuple[RunRow, Claim | None]]:
        """Keep a new run, claimed by this service.

        :param steps: path and bytes of the steps that it begins with.
        :param definition: the bytes of its definition, which is kept with it, unless it is there.
        :returns: fires with the run and its claim; or, if there is a run of that id, with that one
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
        """Claim runs that nobody has and that are not parked, that are due, or that have messages.

        :param now: seconds since 1970.
        :param limit: the most runs. They are fewer if they are very large, so that a claim does not
            fill the memory; then the next is due at once.
        :returns: fires with the claims, the run that waits longest first, and with the time at
            which the next parked run is due: None if there is none.
        """

    def release(runs: Mapping[str, int]) -> Deferred[None]:
        """End claims: others may claim these runs at once.

        :param runs: id -> fence. What another service has by now is left alone.
        """

    def renew() -> Deferred[None]:
        """Go on with all claims for another lease; tells ``lost`` of those that had ended, and
        whatever the follower has not been told while the connection was lost."""

    def post(run: str, message: Message) -> Deferred[RunRow | None]:
        """Keep a message for a run, and tell the service that has it, or, if none has, all.

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
        """Some runs, without their bodies, the newest first; of those that are equally old, the
        greatest id."""

    def counts() -> Deferred[dict[str, int]]:
        """How many runs are in which state."""

    def prune(before: float, limit: int) -> Deferred[int]:
        """Remove runs that have ended before some time, with all that belongs to them: a run wholly
        or not at all. Definitions that no run has are removed as well.

        :param limit: the most runs that are removed; they are fewer if they have very many steps.
        :returns: fires with how many they were: 0 if none is left.
        """

    def marks() -> Deferred[dict[str, float]]:
        """Names with a time each: when schedules were last looked at, and when the store was first
        used with a directory for files."""

    def mark(name: str, time: float) -> Deferred[None]:
        """Keep a time under a name."""

    def close() -> Deferred[None]:
        """Commit what was asked for, end all claims, and release everything. A store that was not
        opened can be closed, and so can a closed one."""
