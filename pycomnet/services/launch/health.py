"""Calls the checks of services again and again, and tells when they fail or pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import message_of
from pycomnet.services.health import MAX_SAID, HealthCheck
from pycomnet.services.threads import MethodThreads
from pycomnet.text.logs import Logger

log = Logger()


class CheckLoop:
    """One check, called again and again.

    :param name: the service's, for the log.
    :param changed: called when :attr:`failing` or :attr:`said` have changed with the state.
    :param run: runs a function in a thread.
    :ivar failing: whether it fails, by its thresholds.
    :ivar said: its text when that changed.
    """

    def __init__(
        self,
        name: str,
        check: HealthCheck,
        function: Callable[[], Any],
        changed: Callable[[], object],
        reactor: IReactorTime,
        run: Callable[[Callable[[], Any]], defer.Deferred[Any]],
    ) -> None:
        self.failing = False
        self.said = ""
        self._name = name
        self._check = check
        self._function = function
        self._changed = changed
        self._reactor = reactor
        self._run = run
        self._looping: defer.Deferred[None] | None = None
        #: the call in a thread that has not returned
        self._hanging: defer.Deferred[Any] | None = None
        #: results in a row that are not as the state
        self._against = 0

    @deferred
    async def first(self) -> None:
        """Call it for the first time, which decides at once."""
        self.failing, self.said = await self._once()

    def start(self) -> None:
        """Call it again and again."""
        self._looping = defer.Deferred.fromCoroutine(self._loop())
        self._looping.addErrback(lambda failure: failure.trap(defer.CancelledError))

    def stop(self) -> None:
        """Call it no more."""
        if self._looping is not None:
            self._looping.cancel()

    async def _loop(self) -> None:
        while True:
            await deferLater(self._reactor, self._check.interval)
            failing, said = await self._once()
            self._against = self._against + 1 if failing != self.failing else 0
            if self._against >= (self._check.fall if failing else self._check.rise):
                self._against = 0
                self.failing, self.said = failing, said
                log.warn(
                    "the check of {name} {does}: {said}",
                    name=self._name,
                    does="fails" if failing else "passes again",
                    said=said or "-",
                )
                self._changed()

    async def _once(self) -> tuple[bool, str]:
        """Whether it fails now, and its text."""
        if self._hanging is not None:
            return True, "the check has not returned yet"
        calling = self._call()
        why: list[str] = []

        def give_up(reason: str) -> None:
            why.append(reason)
            calling.cancel()
            if not waiting.called:
                waiting.callback(None)  # whatever the check makes of that

        def over(result: Any) -> None:
            if not waiting.called:
                waiting.callback(result)

        waiting: defer.Deferred[Any] = defer.Deferred(lambda _: give_up("stopped"))
        calling.addBoth(over)
        timer = self._reactor.callLater(self._check.timeout, give_up, "late")
        said = ""
        try:
            result = await waiting
        except GeneratorExit:
            raise
        except BaseException as problem:  # whatever the service's code raises, cancelled or not
            result, said = False, _line(f"{type(problem).__name__}: {message_of(problem)}")
        finally:
            if timer.active():
                timer.cancel()
        if "stopped" in why:
            raise defer.CancelledError
        if why:
            return True, f"the check takes more than {self._check.timeout:g} s"
        return result is False, _line(result) if isinstance(result, str) else said

    def _call(self) -> defer.Deferred[Any]:
        if not self._check.thread:
            return defer.Deferred.fromCoroutine(self._awaited())
        running = self._hanging = self._run(self._function)
        # It can't be interrupted: whoever waits for it waits for another Deferred.
        ended: OneShot[Any] = OneShot()
        waiting = ended.when_fired()
        ended.follow(running.addBoth(self._returned))
        return waiting

    def _returned(self, result: Any) -> Any:
        self._hanging = None
        return result

    async def _awaited(self) -> Any:
        result = self._function()
        return await result if inspect.isawaitable(result) else result


class HealthChecks:
    """All checks of the services of one name.

    :param checks: each with its function.
    :param tell: called with whether one fails, and what was said, when that has changed.
    """

    def __init__(
        self,
        name: str,
        checks: Iterable[tuple[HealthCheck, Callable[[], Any]]],
        tell: Callable[[bool, str], object],
        reactor: IReactorTime,
        threads: MethodThreads,
    ) -> None:
        self._tell = tell

        def run(function: Callable[[], Any]) -> defer.Deferred[Any]:
            return threads.run(f"the check of {name}", function)

        self._loops = [
            CheckLoop(name, check, function, self._changed, reactor, run)
            for check, function in checks
        ]

    @property
    def failing(self) -> bool:
        """Whether one of them fails."""
        return any(one.failing for one in self._loops)

    @property
    def said(self) -> str:
        """What those that fail have said, or else what all have."""
        failing = [one.said for one in self._loops if one.failing]
        said = failing or [one.said for one in self._loops]
        return _line("; ".join(filter(None, said)))

    @deferred
    async def first(self) -> None:
        """Call each for the first time."""
        await defer.gatherResults([one.first() for one in self._loops], consumeErrors=True)

    def start(self) -> None:
        """Call them again and again."""
        for one in self._loops:
            one.start()

    def stop(self) -> None:
        """Call them no more."""
        for one in self._loops:
            one.stop()

    def _changed(self) -> None:
        self._tell(self.failing, self.said)


def _line(text: str) -> str:
    """A text that the nameserver takes."""
    text = " ".join(text.split())
    return "".join(one if one.isprintable() else "?" for one in text)[:MAX_SAID]
