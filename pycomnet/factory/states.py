"""The state tables of a far side that the factory keeps: its own, and its program's route's.

docs/lifecycles.rst has the same tables, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.gateways.lifecycle import Table


class KeptState(Enum):
    """The states of a far side that the factory keeps. The value describes the state."""

    STARTING = "it is being started"
    STARTED = "it has said hello; its first program is about to use it"
    USED = "a program uses it"
    LINGERING = "no program uses it; it is kept for the next one until its time is over"
    ENDING = "it was told to end"
    TOLD = "it has ended by itself; its program is told what it sent last, and how it ended"
    LEFT = "it has ended by itself; what it sent last is kept for the next program"
    PARTING = "it has ended; its program is told so, and no other program is waited for"
    GONE = "it is not kept any more"


class KeptEvent(Enum):
    """What happens to a far side that the factory keeps."""

    START = "it has started"
    NOT_START = "it could not be started, or its program has given up"
    ATTACH = "a program uses it from now on"
    LEAVE = "its program is gone, and it may be used by another one"
    DETACH = "its program is gone, or was told everything, and no other may use it"
    END = "it is told to end: by its program, as it is idle, or as the factory ends"
    EXPIRE = "its time without a program is over"
    OVER = "its process has ended, and all that it sent was read"


class KeptEffect(Enum):
    """What the factory does at a transition."""

    GIVE_UP = "stop starting it"
    WAIT = "wait for the next program, for as long as its spec says"
    STOP = "say goodbye to it; send SIGTERM after 5 s, and SIGKILL 6 s later"
    TELL = "send its program what is left, and tell it how it ended"
    FORGET = "drop what is kept of it; tell the service"


class RouteState(Enum):
    """How bytes pass between a kept far side and its program. The value describes the state."""

    RELAYED = "frames pass through the factory's relay"
    OPEN = "the far side's hello is awaited; then its program may be given the far side's pipes"
    GIVEN = "the program has the far side's own pipes, for as long as that lives"
    ASKED = "the far side was asked to open pipes to the program; other frames still pass the relay"
    TURNING = (
        "the far side was asked to use these pipes; nothing is written to it until it has answered"
    )
    HANDED = "the far side and the program use these pipes; the factory reads the journal"
    RECALLED = "as HANDED, and the far side was told to leave the program"


class RouteEvent(Enum):
    """What happens to the route between a kept far side and its program."""

    RELAY = "the far side's pipes can't be given to its program"
    GIVE = "the program is given the far side's pipes"
    ASK = "a program comes that accepts pipes made for it"
    REFUSE = "the far side can't open or use these pipes, is too slow, or the program is gone"
    ACCEPT = "the far side has opened them"
    TURN = "the far side uses them, and the program is still there"
    MISS = "the far side uses them, and the program is gone"
    RECALL = (
        "the program is gone or broke the protocol, or the far side is about to return by itself"
    )
    RETURN = "the far side has returned to the relay"
    LOSE = "the far side has ended"


class RouteEffect(Enum):
    """What the factory does at a transition of the route."""

    BEGIN = "write the snapshot; tell it to begin; give the program its pipes"
    LEAVE = "tell it to leave the program"
    RELAY = "connect the program, if there is one, to the relay; let the next one come"
    DISMISS = "tell it to leave; then as RELAY"
    WELCOME = "close the journal; drop the program if it closed its pipes; let the next one come"


_K, _E, _F = KeptState, KeptEvent, KeptEffect

#: The events that may happen in each state of a kept far side, and their effects.
KEPT: Table[KeptState, KeptEvent, KeptEffect] = {
    _K.STARTING: {
        _E.START: (_K.STARTED, None),
        _E.NOT_START: (_K.GONE, _F.FORGET),
        _E.END: (_K.STARTING, _F.GIVE_UP),
        _E.OVER: (_K.GONE, _F.FORGET),
    },
    _K.STARTED: {
        _E.ATTACH: (_K.USED, None),
        _E.END: (_K.ENDING, _F.STOP),
        _E.OVER: (_K.GONE, _F.FORGET),
    },
    _K.USED: {
        _E.LEAVE: (_K.LINGERING, _F.WAIT),
        _E.DETACH: (_K.ENDING, _F.STOP),
        _E.END: (_K.ENDING, _F.STOP),
        _E.OVER: (_K.TOLD, _F.TELL),
    },
    _K.LINGERING: {
        _E.ATTACH: (_K.USED, None),
        _E.END: (_K.ENDING, _F.STOP),
        _E.EXPIRE: (_K.ENDING, _F.STOP),
        _E.OVER: (_K.LEFT, None),  # its time goes on
    },
    _K.ENDING: {
        _E.DETACH: (_K.ENDING, None),  # its program has said goodbye, which is found in the journal
        _E.END: (_K.ENDING, None),
        _E.OVER: (_K.PARTING, _F.TELL),
    },
    _K.TOLD: {
        _E.LEAVE: (_K.LEFT, _F.WAIT),
        _E.DETACH: (_K.GONE, _F.FORGET),
        _E.END: (_K.PARTING, None),
    },
    _K.LEFT: {
        _E.ATTACH: (_K.TOLD, None),
        _E.END: (_K.GONE, _F.FORGET),
        _E.EXPIRE: (_K.GONE, _F.FORGET),
    },
    _K.PARTING: {
        _E.LEAVE: (_K.GONE, _F.FORGET),
        _E.DETACH: (_K.GONE, _F.FORGET),
        _E.END: (_K.PARTING, None),
    },
    _K.GONE: {
        _E.START: (_K.GONE, None),  # it ended in the meantime
        _E.NOT_START: (_K.GONE, None),
        _E.ATTACH: (_K.GONE, None),  # its first program is still told
        _E.LEAVE: (_K.GONE, None),
        _E.DETACH: (_K.GONE, None),
        _E.END: (_K.GONE, None),
    },
}

_R, _V, _W = RouteState, RouteEvent, RouteEffect

#: The events that may happen in each state of a program's route, and their effects.
ROUTE: Table[RouteState, RouteEvent, RouteEffect] = {
    _R.RELAYED: {
        _V.ASK: (_R.ASKED, None),
        _V.LOSE: (_R.RELAYED, None),
    },
    _R.OPEN: {
        _V.RELAY: (_R.RELAYED, None),
        _V.GIVE: (_R.GIVEN, None),
        _V.LOSE: (_R.RELAYED, None),
    },
    _R.GIVEN: {
        _V.LOSE: (_R.GIVEN, None),
    },
    _R.ASKED: {
        _V.REFUSE: (_R.RELAYED, _W.RELAY),
        _V.ACCEPT: (_R.TURNING, None),
        _V.LOSE: (_R.RELAYED, _W.RELAY),
    },
    _R.TURNING: {
        _V.REFUSE: (_R.RELAYED, _W.RELAY),
        _V.TURN: (_R.HANDED, _W.BEGIN),
        _V.MISS: (_R.RELAYED, _W.DISMISS),
        _V.LOSE: (_R.RELAYED, _W.RELAY),
    },
    _R.HANDED: {
        _V.RECALL: (_R.RECALLED, _W.LEAVE),
        _V.LOSE: (_R.RELAYED, _W.WELCOME),
    },
    _R.RECALLED: {
        _V.RECALL: (_R.RECALLED, None),
        _V.RETURN: (_R.RELAYED, _W.WELCOME),
        _V.LOSE: (_R.RELAYED, _W.WELCOME),
    },
}
