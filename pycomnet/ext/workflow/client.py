"""The client of a workflow service: ``workflow("/demo/workflow/1")``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

# So that the errors of a service are of their classes:
import pycomnet.ext.workflow.errors  # noqa: F401
from pycomnet.far.live import Live
from pycomnet.services.client.remoteservice import DEFAULT

if TYPE_CHECKING:
    from pycomnet.services.binary import ReceivedFile
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.remoteservice import RemoteService

#: The interface of workflow services.
WORKFLOW = "org.pycom.workflow"


def workflow(
    service: str | None = None, *, context: Context | None = None, address: str | None = None
) -> Workflow:
    """A workflow service.

    :param service: the name that it is registered as; None for any workflow service.
    :param context: what it is called with; by default the default context.
    :param address: its address, without a nameserver.
    """
    return Workflow(service, context, address)


class Workflow(Live):
    """Starts runs at a workflow service, and steers them.

    All methods return Deferreds, which fail as calls do; the service is found by the first call.
    """

    def __init__(self, service: str | None, context: Context | None, address: str | None) -> None:
        self._name = service
        self._context = context
        self._address = address
        self._service: RemoteService | None = None

    def __repr__(self) -> str:
        return f"<Workflow {self._name or self._address or WORKFLOW}>"

    def _found(self) -> RemoteService:
        if self._service is None:
            from pycomnet.services.client.instances import NamedRoute
            from pycomnet.services.client.remoteservice import RemoteService
            from pycomnet.services.default import default_context

            context = self._context or default_context()
            if self._address is not None:
                self._service = context.at(self._address, WORKFLOW)
            else:
                route = NamedRoute(context, WORKFLOW, self._name)
                self._service = RemoteService(context, route, WORKFLOW)
        return self._service

    def _call(self, method: str, timeout: Any = DEFAULT, **args: Any) -> defer.Deferred[Any]:
        given = {name: value for name, value in args.items() if value is not None}
        return self._found().invoke(method, given, timeout)

    def invoke(
        self, task: str, args: Any = None, timeout: float | None = DEFAULT, id: str | None = None
    ) -> defer.Deferred[Any]:
        """Run a task, and wait for its result.

        :param args: the run's input: usually a dict.
        :param timeout: seconds to wait, as for any call. The run of a durable task then goes on; if
            an id was given, :meth:`result` waits for it again.
        :param id: the run's id; by default a new one.
            An error has it as ``run``.
        :returns: fires with the result. Fails with :class:`RunFailed`, ``RunCancelled`` or
            ``UnknownTask``, or as any call.
        """
        run = new_id() if id is None else id
        return self._call("invoke", timeout, task=task, args=args, id=run).addErrback(_named, run)

    def start(self, task: str, args: Any = None, id: str | None = None) -> defer.Deferred[Any]:
        """Start a run.

        :param id: its id; a second start of the same id is the same run.
        :returns: fires with what is shown of the run, once it is kept: ``id``, ``task``, ``state``,
            ``created``... Fails with :class:`RunConflict` if the id is that of a run of another
            task or another input.
        """
        run = new_id() if id is None else id
        return self._call("start", task=task, args=args, id=run).addErrback(_named, run)

    def result(self, id: str, timeout: float | None = None) -> defer.Deferred[Any]:
        """Wait for a run's end: fires with its result, or fails as :meth:`invoke`."""
        return self._call("result", timeout, id=id)

    def list(
        self,
        task: str | None = None,
        state: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        before: tuple[float, str] | None = None,
    ) -> defer.Deferred[Sequence[dict[str, Any]]]:
        """A page of runs, the newest first.

        :param since: created since then, seconds since 1970; ``until``: until then.
        :param before: ``created`` and ``id`` of the last run of the page before.
        """
        page = None if before is None else list(before)
        return self._call(
            "list", task=task, state=state, since=since, until=until, limit=limit, before=page
        )

    async def all(self, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """All runs, page by page; the parameters are those of :meth:`list`."""
        while page := await self.list(**query):
            for run in page:
                yield run
            query["before"] = (page[-1]["created"], page[-1]["id"])

    def show(self, id: str) -> defer.Deferred[dict[str, Any]]:
        """A run with its input, its result, and its history: ``steps``."""
        return self._call("show", id=id)

    def files(self, id: str, step: str) -> defer.Deferred[Sequence[ReceivedFile]]:
        """The blocks of binary data that a step of a run has returned, and that are kept.

        :param step: its path, as :meth:`show` has it.
        :returns: fires with files that are open for reading; close them. Fails with
            :class:`UnknownRun` if there is no such run or step, with ``RunFileLost`` if a file is
            not there any more.
        """

        def received(answer: tuple[int, Sequence[ReceivedFile]]) -> Sequence[ReceivedFile]:
            return answer[1]

        asked = {"id": id, "step": step}
        return self._found().invoke("files", asked, with_binary=True).addCallback(received)

    def graph(
        self, task: str | None = None, id: str | None = None, format: str = "mermaid"
    ) -> defer.Deferred[str]:
        """A drawing of a task, or of a run with its states: ``mermaid`` or ``dot``."""
        return self._call("graph", task=task, id=id, format=format)

    def tasks(self) -> defer.Deferred[dict[str, Any]]:
        """The tasks that this user may run."""
        return self._call("tasks")

    def signal(self, id: str, name: str, value: Any = None) -> defer.Deferred[None]:
        """Send a run a signal; it is kept until a step waits for it."""
        return self._call("signal", id=id, name=name, value=value)

    def cancel(self, id: str) -> defer.Deferred[None]:
        """Cancel a run; its steps are undone."""
        return self._call("cancel", id=id)

    def suspend(self, id: str) -> defer.Deferred[None]:
        """Suspend a run: it begins no more steps until it is resumed."""
        return self._call("suspend", id=id)

    def resume(self, id: str) -> defer.Deferred[None]:
        """Resume a suspended run."""
        return self._call("resume", id=id)

    def retry(self, id: str, latest: bool = False, unsure: bool = False) -> defer.Deferred[None]:
        """Continue a failed run at the steps that failed.

        :param latest: with the service's present definition, not the one that the run has pinned.
        :param unsure: also repeat steps that may have run; otherwise they are an error.
        """
        return self._call("retry", id=id, latest=latest, unsure=unsure)


def _named(failure: Failure, run: str) -> Failure:
    """Add the run's id to an error, as the run may continue."""
    problem: Any = failure.value
    if not getattr(problem, "run", ""):
        problem.run = run
    return failure


def new_id() -> str:
    """An id for a run that nobody has."""
    return secrets.token_hex(12)
