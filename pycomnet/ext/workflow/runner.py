"""Starts runs, claims them from the store, and applies the messages that are posted to them."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import OneShot, deferred
from pycomnet.ext.workflow.definition import Definition
from pycomnet.ext.workflow.errors import RunConflict, RunFull, RunStoreFailed
from pycomnet.ext.workflow.liverun import LiveRun
from pycomnet.ext.workflow.messages import RETRY, SIGNAL, apply
from pycomnet.ext.workflow.records import (
    TRANSIENT,
    Claim,
    StepRecord,
    WorkflowRun,
    weight_of,
)
from pycomnet.ext.workflow.runfiles import RunFiles
from pycomnet.ext.workflow.stepper import (
    AGAIN,
    LONGEST_DELAY,
    MOST_LIVE,
    RunStepper,
)
from pycomnet.interfaces import IRunFollower
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import IRunStore
    from pycomnet.services.client.context import Context

log = Logger()

#: Runs that are claimed at once.
CLAIMS = 500
#: Definitions that are kept in memory.
DEFINITIONS = 1_000
#: Seconds between looks whether all calls are over, when the service stops.
STOP_LOOK = 0.05


@implementer(IRunFollower)
class Runner(RunStepper):
    """Starts runs, claims them from the store, and steps them.

    :param store: open; it follows this object.
    :param context: for the calls.
    :param wall: seconds since 1970.
    """

    def __init__(
        self,
        store: IRunStore,
        context: Context,
        reactor: IReactorTime,
        wall: Callable[[], float] = time.time,
        files: RunFiles | None = None,
    ) -> None:
        super().__init__(store, context, reactor, wall, files)
        self._definitions: OrderedDict[str, Definition] = OrderedDict()
        #: id -> those who wait for its end
        self._waiting: dict[str, OneShot[WorkflowRun | None]] = {}
        self._claiming = False
        self._claim_again = False
        #: whether runs wait until there is room in memory
        self.is_full = False
        #: id -> fence of claims to end: requested again until the store confirms it
        self._unreleased: dict[str, int] = {}
        #: id -> fence of runs that are claimed and not in memory yet
        self._arriving: dict[str, int] = {}
        #: those of them that have a message since
        self._posted: set[str] = set()
        self._timer: Any = None
        #: id -> the timer after which its messages are read again
        self._rereads: dict[str, Any] = {}
        #: when the first run is due that was parked while runs are claimed
        self._soonest: float | None = None
        self._renewal: Any = None

    # -- beginning and end -----------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to claim runs."""
        self.claimable()
        if self.store.lease is not None:
            self._renew(self.store.lease)

    def _renew(self, lease: float) -> None:
        self._renewal = self._reactor.callLater(lease / 3, self._renew, lease)
        self.store.renew().addErrback(self._store_failed)

    @deferred
    async def close(self, grace: float = 0.0) -> None:
        """Stop: begin no more steps, and have the results of calls under way committed.

        :param grace: seconds for that. Calls that take longer are cancelled, and go on at the next
            start as after a crash.
        """
        self.stopping = True
        ends = self._reactor.seconds() + grace
        while any(self._is_busy(one) for one in self.live.values()):
            left = ends - self._reactor.seconds()
            if left <= 0:
                break
            await deferLater(self._reactor, min(left, STOP_LOOK))
        self.closed = True
        for timer in (self._timer, self._renewal, *self._rereads.values()):
            if timer is not None and timer.active():
                timer.cancel()
        for live in list(self.live.values()):
            self._drop(live)
        waiting, self._waiting = self._waiting, {}
        for ending in waiting.values():
            ending.fail(defer.CancelledError())

    def _is_busy(self, live: LiveRun) -> bool:
        """Whether a run has a call under way, or a result that is not committed."""
        return live.committing or any(live.under_way.values())

    # -- starting and asking ---------------------------------------------------------------------

    async def start(
        self, definition: Definition, input: Any, id: str, caller: str = ""
    ) -> tuple[WorkflowRun, bool]:
        """Start a run, unless there is one of that id.

        :param id: that of a run which is not durable gets a prefix.
        :returns: the run, once it is committed, and whether it is new.
        :raises RunConflict: that is a run of another task or input.
        :raises Overloaded: there is no room for one that is not durable.
        """
        now = self._wall()
        # One that is not durable has an id that no kept one has.
        run = WorkflowRun(id, definition.task, definition.hash, input, now, caller, updated=now)
        run.pinned = definition
        run.nonce = secrets.token_hex(8)
        task = definition.main
        if task.get("deadline") is not None:
            run.deadline = now + task["deadline"]
        run.durable = task.get("durable", True)
        if not run.durable:
            id = run.id = TRANSIENT + id
            found = self.known(id)
            if found is not None:
                return _same(found, run), False
            live = LiveRun(run, None)
            self.transient.begin(live)
            self.live[id] = live
            self.counts.started += 1
            self._step(live)
            return run, True
        # The run is created even if the caller stops waiting.
        created: OneShot[tuple[WorkflowRun, bool]] = OneShot()
        created.follow(defer.Deferred.fromCoroutine(self._create(run, definition)))
        return await created.when_fired()

    async def _create(self, run: WorkflowRun, definition: Definition) -> tuple[WorkflowRun, bool]:
        if self.room <= 0:
            # It begins when there is room.
            row, claim = await self.store.create(run.row(), (), definition.data)
            if claim is None:
                return _same(WorkflowRun.of(row), run), False
            self.counts.started += 1
            self._unreleased[run.id] = claim.fence
            self._look_in(AGAIN, earlier=True)
            return run, True
        live = LiveRun(run, 0, committing=True)
        decision = self._decide(live)
        steps = [(one.path, one.dump()) for one in live.dirty.values() if one is not None]
        row, claim = await self.store.create(run.row(), steps, definition.data)
        if claim is None:
            return _same(WorkflowRun.of(row), run), False
        self._keep(definition)
        self.counts.started += 1
        live.fence, live.committing = claim.fence, False
        for path, _ in steps:
            live.dirty.pop(path, None)
        self.live[run.id] = live
        if self.closed:
            self._drop(live)
            return run, True
        self._perform(live)
        self._set_timer(live, decision.due)
        if live.again or not live.under_way:
            self._step(live)
        return run, True

    def known(self, id: str) -> WorkflowRun | None:
        """Return a run that is in memory, or one that was not durable and has ended."""
        live = self.live.get(id)
        return self.transient.ended(id) if live is None else live.run

    @property
    def room(self) -> int:
        """How many more durable runs there may be in memory."""
        return MOST_LIVE - (len(self.live) - len(self.transient))

    def when_ended(self, id: str) -> defer.Deferred[WorkflowRun | None]:
        """Wait for the end of a run, from now on. Fires with the run, or with None if it may have
        ended at another service: then the store knows. Cancelling it ends the wait."""

        ending = self._waiting.get(id)
        if ending is None:
            ending = self._waiting[id] = OneShot(lambda: self._waiting.pop(id, None))
        return ending.when_fired()

    def is_awaited(self, id: str) -> bool:
        """Whether somebody waits for the end of a run."""
        return id in self._waiting

    def tell(self, id: str, kind: str, name: str, value: Any) -> bool:
        """Apply a message to a run that is not durable; return whether there is such a run."""
        live = self.live.get(id)
        if live is None or live.fence is not None:
            return False
        if kind == SIGNAL:
            self.transient.add(live, weight_of(value))
        try:
            apply(live.run, kind, name, value, self._wall())
        except RunFull:
            if kind == SIGNAL:
                self.transient.remove(live, weight_of(value))
            raise
        self._step(live)
        return True

    # -- what a store calls ----------------------------------------------------------------------

    def posted(self, run: str) -> None:
        live = self.live.get(run)
        if live is not None:
            self.store.messages(run).addCallbacks(
                partial(self._take, live), self._not_read, errbackArgs=(live,)
            )
        elif run in self._arriving:
            self._posted.add(run)

    def _not_read(self, failure: Failure, live: LiveRun) -> None:
        """The messages of a run could not be read: they are read again."""
        failure.trap(RunStoreFailed, defer.CancelledError)
        if not self.closed and not live.gone and live.run.id not in self._rereads:
            again = self._reactor.callLater(AGAIN, self._read_again, live)
            self._rereads[live.run.id] = again

    def _read_again(self, live: LiveRun) -> None:
        del self._rereads[live.run.id]
        if not self.closed and not live.gone:
            self.posted(live.run.id)

    def claimable(self) -> None:
        if self._claiming:
            self._claim_again = True
        elif not (self.closed or self.stopping):
            self._claiming = True
            self._claim().addErrback(self._store_failed)

    def lost(self, runs: Any) -> None:
        for id in runs:
            self._arriving.pop(id, None)
            self._unreleased.pop(id, None)
            if id in self.live:
                self._drop(self.live[id])

    def ended(self, run: str, kept: WorkflowRun | None = None) -> None:
        live = self.live.get(run)
        if live is not None and live.committing and live.run.ended:
            return  # it has ended here: notified when the commit is confirmed
        ending = self._waiting.pop(run, None)
        if ending is not None:
            ending.fire(kept)

    def renewed(self) -> None:
        for live in [one for one in self.live.values() if one.calls]:
            self._step(live)

    def claims(self) -> dict[str, int]:
        kept = {id: live.fence for id, live in self.live.items() if live.fence is not None}
        return {**self._unreleased, **kept, **self._arriving}

    def awaited(self) -> list[str]:
        return [id for id in self._waiting if not id.startswith(TRANSIENT)]

    # -- claims ----------------------------------------------------------------------------------

    @deferred
    async def _claim(self) -> None:
        due: float | None = None
        failed = False
        self._claim_again = False
        room = min(CLAIMS, self.room)
        if (room <= 0) != self.is_full:
            self.is_full = room <= 0
            if self.is_full:
                log.warn("{most} runs are in memory: others wait for room", most=MOST_LIVE)
            else:
                log.info("there is room in memory again")
        self._soonest = None
        try:
            if self._unreleased:
                ending, self._unreleased = self._unreleased, {}
                try:
                    await self.store.release(ending)
                except BaseException:
                    self._unreleased = {**ending, **self._unreleased}
                    raise
            if room > 0:
                claims, due = await self.store.claim(self._wall(), room)
                await self._arrive(claims)
        except BaseException:
            failed = True
            raise
        finally:
            self._claiming = False
            if self._claim_again and not failed:
                self.claimable()
            elif failed or room <= 0:
                self._look_in(AGAIN)
            else:
                lease = self.store.lease
                self._look_in(LONGEST_DELAY if lease is None else lease)
                for at in (due, self._soonest):
                    if at is not None:
                        self._look_in(at - self._wall(), earlier=True)

    def _look_in(self, delay: float, earlier: bool = False) -> None:
        """Claim again after a time.

        :param earlier: only if that is before the time that is set.
        """
        if self.closed:
            return
        delay = min(max(0.0, delay), LONGEST_DELAY)
        if self._timer is not None and self._timer.active():
            if earlier and self._timer.getTime() <= self._reactor.seconds() + delay:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(delay, self.claimable)

    def parked(self, due: float | None) -> None:
        if due is None:
            return
        if self._claiming:
            # The claim under way may not have seen it.
            self._soonest = due if self._soonest is None else min(due, self._soonest)
        else:
            self._look_in(due - self._wall(), earlier=True)

    async def _arrive(self, claims: Sequence[Claim]) -> None:
        """Step runs that were claimed. A run that can't be read does not stop the others."""
        self._arriving = {one.row.id: one.fence for one in claims}
        self._posted.clear()
        try:
            for claim in claims:
                if claim.row.id not in self._arriving:
                    continue  # it was lost meanwhile
                try:
                    await self._claimed(claim)
                except (RunStoreFailed, defer.CancelledError):
                    raise
                except Exception as problem:
                    self._unreadable(claim, problem)
        except BaseException:
            left = [one for one in claims if one.row.id in self._arriving]
            self._arriving.clear()
            self._unreleased.update({one.row.id: one.fence for one in left})
            raise

    def _unreadable(self, claim: Claim, problem: Exception) -> None:
        """Leave a run unchanged that can't be read. It stays claimed, so this service does not get
        it again before its next start."""
        run = claim.row.id
        self._arriving.pop(run, None)
        log.failure("the run {run} can't be read; it is left as it is", run=run)
        text = f"the run {run!r} can't be read: {problem!s:.500}"
        ending = self._waiting.pop(run, None)
        if ending is not None:
            ending.fail(RunStoreFailed(text))

    async def _claimed(self, claim: Claim) -> None:
        steps = {one.path: one for one in map(StepRecord.load, claim.steps)}
        run = WorkflowRun.of(claim.row, steps)
        pinned = await self._definition(run.definition)
        if run.id not in self._arriving:
            return  # it was lost meanwhile: another service may step it
        live = LiveRun(run, claim.fence, size=sum(map(len, claim.steps)))
        if pinned is None:
            self.live[run.id] = live
            self._arriving.pop(run.id, None)
            live.consumed = [one.number for one in claim.messages]
            self._broken(live, f"its definition {run.definition} is not in the store")
            return
        run.pinned = pinned
        self.live[run.id] = live
        if self.closed:
            self._drop(live)
            return
        self._take(live, list(claim.messages))
        self._arriving.pop(run.id, None)
        if run.id in self._posted:
            self.posted(run.id)

    async def _definition(self, hash: str) -> Definition | None:
        found = self._definitions.get(hash)
        if found is None:
            data = await self.store.definition(hash)
            if data is None:
                return None
            found = Definition.load(data)
            self._keep(found)
        return found

    def _keep(self, definition: Definition) -> None:
        self._definitions[definition.hash] = definition
        if len(self._definitions) > DEFINITIONS:
            self._definitions.popitem(last=False)

    def _take(self, live: LiveRun, messages: list[Any]) -> None:
        """Apply messages to a run, and step it."""
        if live.gone:
            return
        for message in messages:
            if message.number in live.consumed:
                continue
            live.consumed.append(message.number)
            live.changed = True
            try:
                value = message.value()
                removed = apply(live.run, message.kind, message.name, value, self._wall())
                if message.kind == RETRY and value is not None:
                    live.definition = value
            except Exception:
                log.failure("a message for the run {run} is not valid", run=live.run.id)
                continue
            live.dirty.update({path: live.run.steps.get(path) for path in removed})
        self._step(live)

    def _store_failed(self, failure: Failure) -> None:
        failure.trap(RunStoreFailed, defer.CancelledError)
        if not self.closed:
            log.error("the store failed: {problem}", problem=failure.value)
            self._look_in(AGAIN, earlier=True)


def _same(found: WorkflowRun, wanted: WorkflowRun) -> WorkflowRun:
    """Return the run that exists, if it has the same task and input.

    :raises RunConflict: it has another task or input.
    """
    if found.task != wanted.task or found.input != wanted.input:
        raise RunConflict(f"there is a run {found.id!r} of another task, or with another input")
    return found
