"""Any changes that hypothesis comes up with, made in a store and in a model of one beside it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.internet import defer

from pycomnet.errors import StoreConflict
from pycomnet.nameserver.records import EXPIRED, UNREGISTERED, Delete, Put
from pycomnet.test.nameserver.kit import Follower, record
from pycomnet.test.properties import examples, given, settings

#: A change: of which name, whether it removes, what it replaces (what is there as far as is known;
#: nothing; or something else), and whether its outcome is waited for before the next one.
STEPS = st.tuples(
    st.sampled_from("abc"),
    st.booleans(),
    st.sampled_from(["known", "known", "nothing", "other"]),
    st.booleans(),
)


def drawn_plans(many: int) -> list[Any]:
    """Lists of changes. They are drawn beforehand, as the stores' outcomes come later."""
    found: list[Any] = []

    @settings(max_examples=examples(many))
    @given(st.lists(STEPS, min_size=1, max_size=15))
    def draw(plan: Any) -> None:
        found.append(plan)

    draw()
    return found


class StoreModel:
    """Names, and the fence that each has; of a change without an outcome yet, an object."""

    def __init__(self) -> None:
        self.fences: dict[str, Any] = {}
        #: the highest fence that each name has had
        self.highest: dict[str, int] = {}

    def decide(self, change: Put | Delete) -> object | None:
        """What stands for the outcome; None: a conflict."""
        now = self.fences.get(change.service)
        if now != change.replaces or (now is None and isinstance(change, Delete)):
            return None
        if isinstance(change, Delete):
            del self.fences[change.service]
            return object()
        outcome = self.fences[change.service] = object()
        return outcome

    def settle(self, service: str, outcome: object, fence: int) -> None:
        """An outcome is known."""
        assert fence > self.highest.get(service, 0), (service, fence)
        self.highest[service] = fence
        if self.fences.get(service) is outcome:
            self.fences[service] = fence


async def run_plan(store: Any, follower: Follower, model: StoreModel, plan: Any, name: str) -> None:
    """Make the changes of a plan, and compare.

    :param name: begins its names.
    """
    waiting: list[tuple[Put | Delete, Any, defer.Deferred[int]]] = []
    known: dict[str, int] = {}
    for at, (letter, removes, replaces, settles) in enumerate(plan):
        service = f"{name}-{letter}"
        before = {"nothing": None, "other": 1}.get(replaces, known.get(service))
        change: Put | Delete = (
            Delete(service, before, (UNREGISTERED, EXPIRED)[at % 2])
            if removes
            else Put(record(service, address=f"tcp:h:{at}"), before)
        )
        waiting.append((change, model.decide(change), store.commit(change)))
        if not settles and at + 1 < len(plan):
            continue
        for done, outcome, committed in waiting:
            try:
                fence = await committed
            except StoreConflict:
                assert outcome is None, (plan, done)
            else:
                assert outcome is not None, (plan, done)
                model.settle(done.service, outcome, fence)
        waiting = []
        known = {key: fence for key, fence in model.fences.items() if key.startswith(f"{name}-")}
        for one in "abc":
            service = f"{name}-{one}"
            assert follower.fence_of(service) == model.fences.get(service), (plan, service)
