"""The audit log: a line for each subprocess that was started, and each that has ended."""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Any

from pycomnet.net import private
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.mediator.server.session import MediatorSession


class AuditLog:
    """Records each subprocess, its user and its end: in Twisted's log, and in a file if there is
    one.

    :param path: a file to which each record is appended as a line of JSON; it is created with mode
        0600.
    :raises NotPrivate: others can change it, or it is a link.
    """

    log = Logger("pycomnet.mediator.server.audit")

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._file: IO[str] | None = None
        if path is not None:
            fd = private.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, private.PLAIN)
            self._file = os.fdopen(fd, "a", encoding="utf-8")

    def started(self, session: MediatorSession, peer: str) -> None:
        """Record that a subprocess was started."""
        assert session.child is not None
        fields = {
            "pid": session.pid,
            "user": session.owner.name,
            "peer": peer,
            "process": session.child.pid,
            "spec": str(session.spec),
        }
        self.log.info("started {pid} for {user} at {peer}: process {process}, {spec}", **fields)
        self._write(event="start", time=session.started, **fields)

    def failed(self, session: MediatorSession, peer: str, problem: BaseException) -> None:
        """Record that a subprocess could not be started."""
        fields = {
            "pid": session.pid,
            "user": session.owner.name,
            "peer": peer,
            "process": session.child.pid if session.child is not None else None,
            "why": str(problem) or type(problem).__name__,
            "spec": str(session.spec),
        }
        self.log.info("can't start {pid} for {user} at {peer}: {why}; {spec}", **fields)
        self._write(event="failed", time=session.started, **fields)

    def ended(self, session: MediatorSession) -> None:
        """Record that a subprocess has ended."""
        assert session.end is not None and session.child is not None
        state = session.as_map()
        self.log.info(
            "ended {pid} of {user}: {reason}, status {status}, after {seconds:.1f} s; "
            "{received} bytes in, {sent} out",
            pid=session.pid,
            user=session.owner.name,
            reason=session.end.reason,
            status=session.end.status,
            seconds=state["seconds"],
            received=state["received"],
            sent=state["stdout"]["end"],
        )
        self._write(
            event="end",
            time=session.started + state["seconds"],
            pid=session.pid,
            user=session.owner.name,
            process=session.child.pid,
            reason=session.end.reason,
            status=session.end.status,
            seconds=state["seconds"],
            bytes_in=state["received"],
            bytes_out=state["stdout"]["end"],
        )

    def _write(self, **fields: Any) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(fields) + "\n")
            self._file.flush()
        except OSError:
            # For example, the disk is full: subprocesses go on, and Twisted's log has the error.
            self.log.failure("the audit log {path} can't be written", path=self.path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self.log.failure("the audit log {path} can't be written", path=self.path)
            self._file = None
