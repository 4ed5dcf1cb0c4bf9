"""A run and its steps: their states, their limits, and how stores keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import attrs

from pycomnet.ext.workflow.definition import Definition
from pycomnet.ext.workflow.valuetext import shown
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import ValueNotSendable

#: States of a run. One that is ``running`` may be suspended.
RUNNING = "running"
SUSPENDED = "suspended"
COMPENSATING = "compensating"
DONE = "done"
FAILED = "failed"
CANCELLED = "cancelled"
#: Those of a run that has ended.
ENDED = frozenset({DONE, FAILED, CANCELLED})
#: ... and that a retry lets continue.
RETRIED = frozenset({FAILED, CANCELLED})

#: States of a step: its call is under way; it waits for a time or a signal; it waits for its next
#: attempt; it has a result; it has an error.
BEGUN = "begun"
WAITING = "waiting"
RETRYING = "retrying"
STEP_DONE = "done"
STEP_FAILED = "failed"

#: The code of the error of a run that can't be read.
UNREADABLE = "unreadable"

#: The most bytes of a run's input, and of one result.
MOST_BYTES = 1 << 20
#: The most bytes of the results of a run's steps together, and of the run's result.
MOST_RUN = 64 << 20
MOST_RESULT = 16 << 20
#: The most signals that wait in a run, and the most bytes of one.
MOST_SIGNALS = 100
MOST_SIGNAL = 1 << 16
#: The longest key of a call; in a longer one the step's path is hashed.
LONGEST_KEY = 900
#: The longest id of a run.
LONGEST_ID = 200
#: The prefix of the ids of runs that are not durable, so that they differ from all durable ones;
#: and the prefixes that an id from a client must not have.
TRANSIENT = "~"
RESERVED = ("~", "@")

_codec = make_codec()


def pack(value: Any) -> bytes:
    """The bytes of a value; raises ``ValueNotSendable``."""
    return bytes(_codec.encode(value))


def unpack(data: bytes) -> Any:
    """The value of bytes."""
    return _codec.decode(data)


def size_of(value: Any, most: int, what: str) -> int:
    """Return the size of a value in bytes, as it is stored.

    :raises ValueError: the size is over ``most``, or the value can't be stored.
    """
    try:
        size = len(pack(value))
    except (ValueNotSendable, RecursionError) as problem:
        raise ValueError(f"{what} can't be kept: {problem}") from None
    if size > most:
        raise ValueError(f"{what} has {size} bytes; the limit is {most}")
    return size


def weight_of(value: Any) -> int:
    """Return the approximate size of a value in bytes, also of one that can't be stored."""
    try:
        return len(pack(value))
    except (ValueNotSendable, RecursionError):
        return MOST_BYTES


def step_key(run: str, path: str, nonce: str) -> str:
    """The idempotency key of a step.

    :param nonce: the run's random part: a later run of the same id has other keys, and so has one
        of another workflow service.
    """
    key = f"{run}:{path}:{nonce}"
    if len(key) <= LONGEST_KEY:
        return key
    return f"{run}:{hashlib.sha256(path.encode()).hexdigest()}:{nonce}"


@attrs.define
class StepRecord:
    """The state of a step, as it is stored.

    :ivar path: which step it is.
    :ivar kind: what kind of step.
    :ivar attempts: how often its call was begun.
    :ivar began: when it began; ``ended``: when it ended. Seconds since 1970.
    :ivar due: the time of the next attempt, or of the end of a wait or timeout.
    :ivar order: its place in the order in which the run's steps have ended.
    :ivar memory: the memory of the server that its key was sent to; for methods with ``once``.
    :ivar shown: its arguments as text of limited length, for the history.
    :ivar unsure: whether an attempt before the present one may have run.
    :ivar files: the blocks of its result, as ``runfiles.Reference`` has them.
    """

    path: str
    kind: str
    state: str
    began: float
    attempts: int = 0
    ended: float | None = None
    due: float | None = None
    order: int = 0
    memory: str = ""
    shown: str = ""
    result: Any = None
    error: dict[str, Any] | None = None
    unsure: bool = False
    files: Sequence[Any] = ()

    def dump(self) -> bytes:
        """Its encoding, for a store."""
        return pack(list(_STEP(self)))

    @classmethod
    def load(cls, data: bytes) -> StepRecord:
        """Decode what :meth:`dump` has encoded."""
        return cls(*unpack(data))

    def show(self) -> dict[str, Any]:
        """Its entry in the history of its run."""
        return {
            "path": self.path,
            "kind": self.kind,
            "state": self.state,
            "attempts": self.attempts,
            "began": self.began,
            "ended": self.ended,
            "due": self.due,
            "args": self.shown,
            "error": self.error,
            "result": shown(self.result),
            "files": [{"sha256": one[0], "size": one[1], "name": one[2]} for one in self.files],
        }


@attrs.define
class WorkflowRun:
    """A run in memory.

    :ivar definition: the hash of the definition that it has pinned.
    :ivar created: when it was started; seconds since 1970, as all times of runs.
    :ivar deadline: the time at which it fails.
    :ivar caller: the user who started it.
    :ivar failure: the error for which it is compensated.
    :ivar nonce: the random part of the keys of its calls.
    :ivar ordered: how many steps have ended.
    :ivar steps: path -> the step's record.
    :ivar signals: name -> the values of signals that no step has taken yet.
    :ivar values: (path, purpose) -> the value of an expression: a cache. A missing one is
        evaluated.
    """

    id: str
    task: str
    definition: str
    input: Any
    created: float
    caller: str = ""
    state: str = RUNNING
    updated: float = 0.0
    deadline: float | None = None
    durable: bool = True
    suspended: bool = False
    cancelling: bool = False
    ordered: int = 0
    result: Any = None
    error: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    undone: list[str] = attrs.field(factory=list)
    nonce: str = ""
    steps: dict[str, StepRecord] = attrs.field(factory=dict)
    signals: dict[str, list[Any]] = attrs.field(factory=dict)
    values: dict[Any, Any] = attrs.field(factory=dict, eq=False, repr=False)
    pinned: Definition | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED

    @property
    def shown_state(self) -> str:
        """The state as lists show it."""
        return SUSPENDED if self.suspended and not self.ended else self.state

    def row(self) -> RunRow:
        """Its encoding, for a store, without its steps."""
        return RunRow(
            self.id,
            self.task,
            self.definition,
            self.shown_state,
            self.caller,
            self.created,
            self.updated,
            pack(list(_DATA_OF(self))),
            sum(map(len, self.signals.values())),
            pack(list(_BODY_OF(self))),
        )

    @classmethod
    def seen(cls, row: RunRow, steps: Mapping[str, StepRecord] | None = None) -> WorkflowRun:
        """Decode a run that is to be shown. A failed run with a request to retry is shown as
        running. A run that can't be decoded has its row's columns and an error."""
        try:
            run = cls.of(row, steps)
        except Exception as problem:
            error = {
                "code": UNREADABLE,
                "type": "",
                "message": f"it can't be read: {problem!s:.500}",
            }
            run = cls(row.id, row.task, row.definition, None, row.created, row.caller)
            run.updated, run.error = row.updated, error
            run.suspended = row.state == SUSPENDED
            run.state = RUNNING if run.suspended else row.state
            return run
        if row.state == RUNNING and run.ended:
            run.state, run.error, run.failure, run.result = RUNNING, None, None, None
            run.cancelling = run.suspended = False
        return run

    @classmethod
    def of(cls, row: RunRow, steps: Mapping[str, StepRecord] | None = None) -> WorkflowRun:
        """Decode a run. Without the row's body it has no input, result and signals."""
        found = dict(zip(_PACKED, unpack(row.data), strict=False))
        found.update(zip(_BODY, unpack(row.body) if row.body else (None,), strict=False))
        return cls(
            row.id,
            row.task,
            row.definition,
            created=row.created,
            caller=row.caller,
            updated=row.updated,
            steps=dict(steps or {}),
            **found,
        )

    def show(self) -> dict[str, Any]:
        """The run as clients are shown it."""
        return {
            "id": self.id,
            "task": self.task,
            "state": self.shown_state,
            "caller": self.caller,
            "created": self.created,
            "updated": self.updated,
            "deadline": self.deadline,
            "definition": self.definition,
            "error": self.error or self.failure,
        }


#: The fields of a run that are packed; new ones go to the end. Those of the body may be large: they
#: are read only where they are needed.
_BODY = ("input", "result", "signals")
_PACKED = (
    "state",
    "deadline",
    "durable",
    "suspended",
    "cancelling",
    "ordered",
    "error",
    "failure",
    "undone",
    "nonce",
)
_STEP = attrgetter(*(field.name for field in attrs.fields(StepRecord)))
_BODY_OF, _DATA_OF = attrgetter(*_BODY), attrgetter(*_PACKED)


@attrs.frozen
class RunRow:
    """A run as a store keeps it: fields that queries use, and the rest as bytes.

    :ivar state: one of the states of a run, or ``suspended``.
    :ivar data: the other small fields, packed.
    :ivar signals: how many signals wait in it: a store limits them by that.
    :ivar body: its input, result and signals, packed; empty if they were not requested.
    """

    id: str
    task: str
    definition: str
    state: str
    caller: str
    created: float
    updated: float
    data: bytes
    signals: int = 0
    body: bytes = b""


@attrs.frozen
class RunChange:
    """A change of a run, which a store commits as a whole.

    :ivar fence: the fence of the claim that the change is made under.
    :ivar steps: path -> a step's bytes; None removes it.
    :ivar consumed: the numbers of messages that were applied: the store removes them.
    :ivar parked: whether the claim ends with this commit.
    :ivar due: of a parked run: when it can be claimed again; None for when it gets a message.
    :ivar definition: the bytes of the definition that the row names, if that has changed.
    """

    row: RunRow
    fence: int
    steps: tuple[tuple[str, bytes | None], ...] = ()
    consumed: tuple[int, ...] = ()
    parked: bool = False
    due: float | None = None
    definition: bytes | None = None


@attrs.frozen
class Message:
    """A signal for a run, or a request to cancel, suspend, resume or retry it.

    :ivar kind: ``signal``, ``cancel``, ``suspend``, ``resume`` or ``retry``.
    :ivar name: the signal's name; for a ``retry`` see :func:`.messages.apply`.
    :ivar data: its value, packed.
    :ivar number: the store's number of it; numbers grow.
    """

    kind: str
    name: str = ""
    data: bytes = b""
    number: int = 0

    def value(self) -> Any:
        """Its value."""
        return unpack(self.data) if self.data else None


@attrs.frozen
class Claim:
    """A run that a store has given to a workflow service. Only that service may commit it now.

    :ivar fence: each commit has to name it.
    :ivar steps: the records of its steps, as bytes.
    :ivar messages: the messages that wait for it, the oldest first.
    """

    row: RunRow
    fence: int
    steps: tuple[bytes, ...] = ()
    messages: tuple[Message, ...] = ()


@attrs.frozen
class RunQuery:
    """Which runs are listed: the newest first.

    :ivar before: (created, id) of the last one of the page before.
    :ivar caller: only this user's.
    :ivar tasks: or of these tasks.
    :ivar callerless: or of these tasks, if nobody's. With none of the three, everybody's.
    """

    task: str | None = None
    state: str | None = None
    since: float | None = None
    until: float | None = None
    caller: str | None = None
    tasks: tuple[str, ...] | None = None
    callerless: tuple[str, ...] = ()
    before: tuple[float, str] | None = None
    limit: int = 100
