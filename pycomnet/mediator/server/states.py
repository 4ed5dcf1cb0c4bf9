"""The state table of a subprocess on the server. Its process and its output end separately.

docs/lifecycles.rst has the same table, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.gateways.lifecycle import Table


class SessionState(Enum):
    """The states of a subprocess. The value describes the state.

    The three ``SILENT`` states are those of a process whose standard output has ended.
    """

    NEW = "it has not been launched yet"
    RUNNING = "the process runs, and its output is open"
    CLOSING = "it was told to end: its input is closed"
    TERMINATED = "SIGTERM was sent"
    KILLED = "SIGKILL was sent"
    SILENT = "its output has ended, but the process has not"
    SILENT_TERMINATED = "its output has ended, and SIGTERM was sent"
    SILENT_KILLED = "its output has ended, and SIGKILL was sent"
    DRAINING = "the process has ended; its output is read, at the pace of its reader"
    CUTTING = "the process has ended, as it was told to; its output is read as long as more arrives"
    ENDED = "process and output have ended; what its client has not received is kept"
    GONE = "it is not needed any more, or it could not be launched"


class SessionEvent(Enum):
    """What happens to a subprocess."""

    LAUNCH = "the server starts it"
    NOT_LAUNCHED = "launching it failed"
    CLOSE = "it is told to end: by its client, or because it is idle or no client is connected"
    TERM = "SIGTERM or SIGINT is to be sent"
    KILL = "SIGKILL is to be sent"
    TIMEOUT = "the time limit of the state has passed"
    OUTPUT_ENDED = "its standard output has ended"
    PROCESS_ENDED = "its process has ended"
    FORGET = "its client has received everything, or has not come back for it"


class SessionEffect(Enum):
    """What the server does at a transition."""

    CLOSE_INPUT = "close its input; wait 5 s"
    SIGNAL = "send the signal; wait 6 s"
    REPEAT = "send the signal; keep waiting"
    SIGKILL = "send SIGKILL"
    AWAIT_STATUS = "wait 5 s for the process"
    EXPIRE = "report that it closed its output; send SIGTERM; wait 6 s"
    DRAIN = "wait for the end of the output: 2 s after each piece"
    CUT = "close its output"
    FINISH = "report how it ended; keep unread output"
    STOP = "stop the timer"
    FORGET = "drop unread output; tell the mediator"


S, E, F = SessionState, SessionEvent, SessionEffect

#: The events that may happen in each state of a subprocess, and their effects.
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
        E.OUTPUT_ENDED: (S.SILENT, None),  # the timer keeps running
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
        E.FORGET: (S.GONE, None),  # reported by two connections of a client
        E.OUTPUT_ENDED: (S.GONE, None),  # the pipes of a launch that failed
    },
}
