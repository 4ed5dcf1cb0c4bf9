"""Answers that are kept for repetitions: of methods with ``once``, by the key of a call.

These results are the server's *memory*: a deduplication cache. The server's hello has its name. If
a caller repeats that name, the call runs only if this is that memory, so that another process, or
this one after too long a time, does not run again what has been run. The name has a part that is
random for each process, and a *generation*, which grows with time. An answer is kept for two
generations at least, and the names of the present and the last one count.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot
from pycomnet.errors import KeyConflict, OnceMemoryLost, Overloaded
from pycomnet.text.logs import Logger
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import ValueNotReceivable, ValueNotSendable

log = Logger()

if TYPE_CHECKING:
    from pycomnet.services.interface import Method
    from pycomnet.services.server.calls import ServerCalls
    from pycomnet.services.server.request import Request


@attrs.define
class _Answer:
    """What is kept of a call.

    :ivar asked: a digest of its arguments.
    :ivar value: the encoded result; None while it runs, and if it could not be kept.
    :ivar running: whether it runs: then it is not forgotten, whoever waits for it.
    :ivar ended: its end, for those that wait; has failed if it has run and could not be kept.
    """

    asked: bytes
    generation: int
    value: bytes | None = None
    running: bool = True
    ended: OneShot[Any] = attrs.field(factory=OneShot)


class OnceMemory:
    """The answers of a server's methods with ``once``.

    :param server: its limits determine how much is kept, and how long.
    """

    def __init__(self, server: ServerCalls) -> None:
        self._server = server
        self._limits = server.limits
        self._start = server.reactor.seconds()
        self._process = secrets.token_hex(8)
        self._generation = 0
        self._answers: dict[tuple[str, str, str, str], _Answer] = {}
        self._size = 0
        #: user -> the number of answers and their bytes
        self._shares: dict[str, list[int]] = {}
        self._codec = make_codec()

    @property
    def name(self) -> str:
        """What this memory is called now."""
        self._age()
        return f"{self._process}.{self._generation}"

    def bind(
        self,
        method: Method,
        function: Callable[[Request], Any],
        in_thread: Callable[[str, Callable[[], Any]], defer.Deferred[Any]],
    ) -> Callable[[Request], Any]:
        """What is called for a method with ``once``.

        :param in_thread: runs a function in a thread, for methods with ``thread``.
        """
        if not method.thread:
            return partial(self.call, function)

        def start(request: Request) -> defer.Deferred[Any]:
            name = f"{request.interface}.{request.method}"
            return in_thread(name, partial(function, request))

        return partial(self.call, start)

    def call(self, function: Callable[[Request], Any], request: Request) -> Any:
        """Run a method, or answer from what is kept.

        :raises OnceMemoryLost: the call is for another memory; the method did not run.
        :raises KeyConflict: the key was used with other arguments.
        """
        key = request.key
        if key is None:
            return function(request)
        self._age()
        self._check_memory(request.memory)
        user = request.user
        where = (user.name if user else "", request.interface, request.method, key)
        asked = hashlib.sha256(self._codec.encode(self._ordered(request.args))).digest()
        found = self._answers.get(where)
        if found is None:
            return self._run(function, request, where, asked)
        if found.asked != asked:
            raise KeyConflict(f"the key {key!r} was used with other arguments")
        if found.value is not None:
            return self._codec.decode(found.value)
        return found.ended.when_fired()

    def _ordered(self, value: Any) -> Any:
        """A value with its maps and sets in one order: they come in any."""
        kind = type(value)
        if kind is dict:
            items = [(self._codec.encode(key), self._ordered(one)) for key, one in value.items()]
            return ["map", *sorted(items, key=lambda item: bytes(item[0]))]
        if kind in (set, frozenset):
            return ["set", *sorted(bytes(self._codec.encode(one)) for one in value)]
        if kind is list:
            return ["list", *map(self._ordered, value)]
        return tuple(map(self._ordered, value)) if kind is tuple else value

    def _check_memory(self, wanted: str | None) -> None:
        if wanted is None:
            return
        process, _, generation = wanted.partition(".")
        known = (str(self._generation), str(self._generation - 1))
        if process != self._process or generation not in known:
            text = (
                "this server no longer has, or never had, the reply of an earlier attempt: it may "
                "have been restarted meanwhile; the call was not run again"
            )
            raise OnceMemoryLost(text, self.name)

    def _run(
        self,
        function: Callable[[Request], Any],
        request: Request,
        where: tuple[str, str, str, str],
        asked: bytes,
    ) -> defer.Deferred[Any]:
        most = self._limits.once_answers
        if len(self._answers) >= most or self._size >= self._limits.once_bytes:
            raise Overloaded(f"{len(self._answers)} answers with {self._size} bytes are kept here")
        share = self._shares.setdefault(where[0], [0, 0])
        part = self._limits.once_share
        if share[0] >= most * part or share[1] >= self._limits.once_bytes * part:
            raise Overloaded(f"{share[0]} answers with {share[1]} bytes are kept here for one user")
        share[0] += 1
        self._answers[where] = answer = _Answer(asked, self._generation)
        # The caller may go: the method runs to its end, as its answer is for a repetition.
        waiting = answer.ended.when_fired()
        running = self._begun(function, request)
        running.addCallbacks(self._done, callbackArgs=(where, answer))
        running.addErrback(self._failed, where, answer)
        return waiting

    def _begun(self, function: Callable[[Request], Any], request: Request) -> defer.Deferred[Any]:
        try:
            result = function(request)
            if type(result) is CoroutineType:
                return self._server.tasks.start(result)
            waiting = self._server.tasks.deferred(result)
        except BaseException:  # also SystemExit: it is an error of this one call
            return defer.fail(Failure())
        return defer.succeed(result) if waiting is None else waiting

    def _done(self, result: Any, where: tuple[str, str, str, str], answer: _Answer) -> None:
        answer.running = False
        # Not kept in the answer: it holds the result as an object.
        ended, answer.ended = answer.ended, OneShot()
        try:
            answer.value = bytes(self._codec.encode(result))
        except (ValueNotSendable, ValueNotReceivable):
            # It is not kept, and does not run again: its place stays as one that is not known.
            answer.generation = self._generation
            text = "the method has run, and its result could not be kept"
            answer.ended.fail(OnceMemoryLost(text))
        else:
            self._count(where[0], 0, len(answer.value))
        ended.fire(result)

    def _failed(self, failure: Failure, where: tuple[str, str, str, str], answer: _Answer) -> None:
        # A method that raises has had no effect: it may be tried again.
        answer.running = False
        del self._answers[where]
        self._count(where[0], -1, 0)
        if not answer.ended.waiting:
            log.error(
                "{method} failed, and nobody waits: {problem}", method=where[1:3], problem=failure
            )
        problem: Any = failure.value
        answer.ended.fail(problem)

    def _count(self, user: str, answers: int, size: int) -> None:
        self._size += size
        share = self._shares[user]
        share[0] += answers
        share[1] += size
        if not share[0]:
            del self._shares[user]

    def _age(self) -> None:
        """Forget the answers that are too old."""
        passed = self._server.reactor.seconds() - self._start
        generation = int(passed / self._limits.once_time)
        if generation == self._generation:
            return
        self._generation = generation
        old = [
            where
            for where, one in self._answers.items()
            if one.generation < generation - 1 and not one.running
        ]
        for where in old:
            self._count(where[0], -1, -len(self._answers.pop(where).value or b""))
