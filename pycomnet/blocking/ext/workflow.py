"""Workflow services without Deferreds: as :mod:`pycomnet.ext.workflow`.

::

    from pycomnet.blocking.ext.workflow import workflow

    w = workflow("/demo/workflow/1")
    result = w.invoke("task1", 4)

It may be used by any number of threads at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pycomnet.blocking.services  # noqa: F401 - it has what contexts become here
from pycomnet.blocking.wrapper import Blocking, to_deferred_api, wraps_class
from pycomnet.ext.workflow import client
from pycomnet.ext.workflow.builder import Task

if TYPE_CHECKING:
    from pycomnet.blocking import Context


@wraps_class(client.Workflow, (), frozenset({"all"}))
class Workflow(Blocking):
    """Filled from :class:`pycomnet.ext.workflow.Workflow`."""

    __slots__ = ()

    def __init__(self, wrapped: client.Workflow) -> None:
        self._wrapped = wrapped

    def all(self, **query: Any) -> Iterator[dict[str, Any]]:
        """All runs, page by page; the parameters are those of ``list``."""
        while page := self.list(**query):
            yield from page
            query["before"] = (page[-1]["created"], page[-1]["id"])


def workflow(
    service: str | None = None, *, context: Context | None = None, address: str | None = None
) -> Workflow:
    """As :func:`pycomnet.ext.workflow.workflow`."""
    from pycomnet.blocking.waiting import wait_for

    def make() -> client.Workflow:
        return client.workflow(service, context=to_deferred_api(context), address=address)

    return Workflow(wait_for(make, None, "workflow"))


__all__ = ["Task", "Workflow", "workflow"]
