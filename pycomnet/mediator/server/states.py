"""The lifecycle of a subprocess on the server: two ends, of its process and of its output.

docs/lifecycles.rst has the same table, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.mediator.lifecycle import Table


class SessionState(Enum):
    """Where a subprocess is in its life; the value says what that means.

    The three ``SILENT`` states are those of a process whose standard output has ended.
    """

    NEW = "it is not launched yet"
    RUNNING = "the process runs, and its output is open"
    CLOSING = "it was told to end: its input is closed"
    TERMINATED = "SIGTERM was sent"
    KILLED = "SIGKILL was sent"
    SILENT = "its output has ended, the process not yet"
    SILENT_TERMINATED = "its output has ended, and SIGTERM was sent"
    SILENT_KILLED = "its output has ended, and SIGKILL was sent"
    DRAINING = "the process has ended; its output is read, at the pace of its reader"
    CUTTING = "the process has ended, as it was told to; its output is read while that goes on"
    ENDED = "both have ended; what its client has not received is kept"
    GONE = "nobody needs it any more, or it could not be launched"


class SessionEvent(Enum):
    """What happens to a subprocess."""

    LAUNCH = "the server starts it"
    NOT_LAUNCHED = "that failed"
    CLOSE = "it is told to end: by its client, or as it is idle or nobody is connected"
    TERM = "SIGTERM or SIGINT is to be sent"
    KILL = "SIGKILL is to be sent"
    TIMEOUT = "the state's time is over"
    OUTPUT_ENDED = "its standard output has ended"
    PROCESS_ENDED = "its process has ended"
    FORGET = "its client has received all, or does not come for it"


class SessionEffect(Enum):
    """What is done then."""

    CLOSE_INPUT = "close its input; wait 5 s"
    SIGNAL = "send the signal; wait 6 s"
    REPEAT = "send the signal; go on waiting"
    SIGKILL = "send SIGKILL"
    AWAIT_STATUS = "wait 5 s for the process"
    EXPIRE = "say that it closed its output; send SIGTERM; wait 6 s"
    DRAIN = "wait for the end of the output: 2 s after each piece"
    CUT = "close its output"
    FINISH = "say how it ended; keep what is unread"
    STOP = "stop the timer"
    FORGET = "drop what is unread; tell the mediator"


S, E, F = SessionState, SessionEvent, SessionEffect

#: What may happen in which state of a subprocess, and what is done then.
SESSION: Table[SessionState, SessionEvent, SessionEffect] = {
    S.NEW: {
        E.LAUNCH: (S.RUNNING, None),
    },
    S.RUNNING: {
        E.NOT_LAUNCHED: (S.GONE, F.STOP),
        E.CLOSE: (S.CLOSING, F.CLOSE_INPUT),
        E.TERM: (S.TERMINATED, F.SIGNAL),
        E.KILL: (S.KILLED, F.SIGKILL),
        E.OUTPUT_ENDED: (S.SILENT, F.AWAIT_STATUS),
        E.PROCESS_ENDED: (S.DRAINING, F.DRAIN),
    },
    S.CLOSING: {
        E.CLOSE: (S.CLOSING, None),
        E.TERM: (S.TERMINATED, F.SIGNAL),
        E.KILL: (S.KILLED, F.SIGKILL),
        E.TIMEOUT: (S.TERMINATED, F.SIGNAL),
        E.OUTPUT_ENDED: (S.SILENT, None),  # its time goes on
        E.PROCESS_ENDED: (S.CUTTING, F.DRAIN),
    },
    S.TERMINATED: {
        E.CLOSE: (S.TERMINATED, None),
        E.TERM: (S.TERMINATED, F.REPEAT),
        E.KILL: (S.KILLED, F.SIGKILL),
        E.TIMEOUT: (S.KILLED, F.SIGKILL),
        E.OUTPUT_ENDED: (S.SILENT_TERMINATED, None),
        E.PROCESS_ENDED: (S.CUTTING, F.DRAIN),
    },
    S.KILLED: {
        E.CLOSE: (S.KILLED, None),
        E.TERM: (S.KILLED, None),
        E.KILL: (S.KILLED, None),
        E.OUTPUT_ENDED: (S.SILENT_KILLED, None),
        E.PROCESS_ENDED: (S.CUTTING, F.DRAIN),
    },
    S.SILENT: {
        E.NOT_LAUNCHED: (S.GONE, F.STOP),
        E.CLOSE: (S.SILENT, None),
        E.TERM: (S.SILENT_TERMINATED, F.SIGNAL),
        E.KILL: (S.SILENT_KILLED, F.SIGKILL),
        E.TIMEOUT: (S.SILENT_TERMINATED, F.EXPIRE),
        E.PROCESS_ENDED: (S.ENDED, F.FINISH),
    },
    S.SILENT_TERMINATED: {
        E.CLOSE: (S.SILENT_TERMINATED, None),
        E.TERM: (S.SILENT_TERMINATED, F.REPEAT),
        E.KILL: (S.SILENT_KILLED, F.SIGKILL),
        E.TIMEOUT: (S.SILENT_KILLED, F.SIGKILL),
        E.PROCESS_ENDED: (S.ENDED, F.FINISH),
    },
    S.SILENT_KILLED: {
        E.CLOSE: (S.SILENT_KILLED, None),
        E.TERM: (S.SILENT_KILLED, None),
        E.KILL: (S.SILENT_KILLED, None),
        E.PROCESS_ENDED: (S.ENDED, F.FINISH),
    },
    S.DRAINING: {
        E.CLOSE: (S.CUTTING, F.DRAIN),
        E.TERM: (S.CUTTING, F.DRAIN),
        E.KILL: (S.CUTTING, F.DRAIN),
        E.TIMEOUT: (S.CUTTING, F.CUT),
        E.OUTPUT_ENDED: (S.ENDED, F.FINISH),
    },
    S.CUTTING: {
        E.CLOSE: (S.CUTTING, None),
        E.TERM: (S.CUTTING, None),
        E.KILL: (S.CUTTING, None),
        E.TIMEOUT: (S.CUTTING, F.CUT),
        E.OUTPUT_ENDED: (S.ENDED, F.FINISH),
    },
    S.ENDED: {
        E.CLOSE: (S.ENDED, None),
        E.TERM: (S.ENDED, None),
        E.KILL: (S.ENDED, None),
        E.FORGET: (S.GONE, F.FORGET),
    },
    S.GONE: {
        E.CLOSE: (S.GONE, None),
        E.TERM: (S.GONE, None),
        E.KILL: (S.GONE, None),
        E.FORGET: (S.GONE, None),  # two connections of a client have found out that it has all
        E.OUTPUT_ENDED: (S.GONE, None),  # of a launch that failed when the pipes were there
    },
}
