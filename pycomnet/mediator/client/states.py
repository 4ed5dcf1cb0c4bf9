"""The client's state tables: of a far side on a server, its transport, and a WebSocket.

docs/lifecycles.rst has the same tables, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.gateways.lifecycle import Table


class FarSideState(Enum):
    """The states of a far side on a server. The value describes the state."""

    NEW = "the server has not been asked to start it"
    STARTING = "the server has been asked to start it, and has not answered"
    ABANDONED = "as STARTING; when it has been started, it is ended at once"
    GIVEN_UP = "as ABANDONED; it was reported as ended, as the server does not answer"
    RUNNING = "it has been started; its streams are carried until the server reports its end"
    CLOSING = "it has ended, or was not started; the connections to the server are being closed"
    ENDED = "its end has been reported"


class FarSideEvent(Enum):
    """What happens to a far side on a server."""

    ASK = "the server is asked to start it"
    CANNOT_ASK = "the server's address or the token to it is missing or wrong"
    STARTED = "the server has started it"
    NOT_STARTED = "the server could not start it, or can't be reached"
    TERM = "SIGTERM is to be sent to it, or nobody waits any more for its start"
    KILL = "SIGKILL is to be sent to it"
    OVER = "the server reports how it ended, or can't be reached any more"
    CLOSED = "the connections to the server are closed"


class FarSideEffect(Enum):
    """What the client does at a transition."""

    CONNECT = "connect its streams; notify who waits for that"
    END = "ask the server to send SIGTERM; wait for its end"
    TERMINATE = "ask the server to send SIGTERM"
    KILL = "ask the server to send SIGKILL; wait 10 s for its end"
    GIVE_UP = "report that the server does not answer"
    CLOSE = "close the connections to the server"
    REPORT = "report how it ended, unless that was done"


class StreamState(Enum):
    """The states of a transport over HTTP. The value describes the state.

    A transport outlives its connections: the state does not tell whether one carries it now.
    """

    OPEN = "its protocol is connected"
    CLOSING = "its protocol has closed it; what was written has not all been received"
    CLOSED = "its protocol was told that it is closed, and the far side that its input has ended"
    ABORTED = "its protocol was told that it is closed; the server is asked to end the far side"
    OVER = "the far side has ended, or can't be reached"


class StreamEvent(Enum):
    """What happens to a transport over HTTP."""

    LOSE = "its protocol calls ``loseConnection``"
    ABORT = "its protocol calls ``abortConnection``"
    WRITTEN = "it is CLOSING, and the server has received all that was written"
    END = "the server reports how the far side ended, or there was no connection for too long"


class StreamEffect(Enum):
    """What the transport does at a transition."""

    ASK = "ask the server what it has received"
    CLOSE = "end the far side's input; tell the protocol"
    ABORT = "ask the server to end the far side; tell the protocol"
    FINISH = "stop all requests; notify waiters; tell the protocol, if it is still connected"


class LinkState(Enum):
    """The states of a WebSocket. The value describes the state."""

    OPENING = "it is connected, and waits for the server's first message"
    SENDING = "what is written is sent over it"
    ASKING = "much data is waiting; the server is asked what it has received"
    POSTING = "a POST beside it sends much data; what the server sends still comes over it"
    ENDING = "the server has reported how the far side ended, and will close it"
    LOST = "it is closed"


class LinkEvent(Enum):
    """What happens to a WebSocket."""

    RECEIVED = "the server reports how much it has received"
    MUCH = "so much is waiting that a POST is cheaper, but the server may not have all before that"
    MUCH_ALONE = "so much is waiting, and the server has all before that"
    POSTED = "the POST is answered"
    NOT_POSTED = "the POST failed"
    ENDED = "the server reports how the far side ended"
    LOSE = "the connection is lost"


class LinkEffect(Enum):
    """What the WebSocket does at a transition."""

    BEGIN = "carry the stream, starting at what the server has received"
    SEND = "send what is waiting"
    ASK = "ask the server what it has received"
    POST = "send what is waiting in a POST"
    DROP = "drop the connection: on a new one the server reports what it has received"
    CONFIRM = "confirm everything; wait 1 s for the server to close it"
    FINISH = "stop the POST; report how the far side ended, if that is known; notify waiters"


_A, _B, _C = FarSideState, FarSideEvent, FarSideEffect

#: The events that may happen in each state of a far side on a server, and their effects.
FAR_SIDE: Table[FarSideState, FarSideEvent, FarSideEffect] = {
    _A.NEW: {
        _B.ASK: (_A.STARTING, None),
        _B.CANNOT_ASK: (_A.ENDED, _C.REPORT),
        _B.TERM: (_A.NEW, None),
        _B.KILL: (_A.NEW, None),
    },
    _A.STARTING: {
        _B.STARTED: (_A.RUNNING, _C.CONNECT),
        _B.NOT_STARTED: (_A.CLOSING, _C.CLOSE),
        _B.TERM: (_A.ABANDONED, None),
        _B.KILL: (_A.GIVEN_UP, _C.GIVE_UP),
    },
    _A.ABANDONED: {
        _B.STARTED: (_A.RUNNING, _C.END),
        _B.NOT_STARTED: (_A.CLOSING, _C.CLOSE),
        _B.TERM: (_A.ABANDONED, None),
        _B.KILL: (_A.GIVEN_UP, _C.GIVE_UP),
    },
    _A.GIVEN_UP: {
        _B.STARTED: (_A.RUNNING, _C.END),
        _B.NOT_STARTED: (_A.CLOSING, _C.CLOSE),
        _B.TERM: (_A.GIVEN_UP, None),
        _B.KILL: (_A.GIVEN_UP, None),
    },
    _A.RUNNING: {
        _B.TERM: (_A.RUNNING, _C.TERMINATE),
        _B.KILL: (_A.RUNNING, _C.KILL),
        _B.OVER: (_A.CLOSING, _C.CLOSE),
    },
    _A.CLOSING: {
        _B.TERM: (_A.CLOSING, None),
        _B.KILL: (_A.CLOSING, None),
        _B.CLOSED: (_A.ENDED, _C.REPORT),
    },
    _A.ENDED: {
        _B.TERM: (_A.ENDED, None),
        _B.KILL: (_A.ENDED, None),
    },
}

_T, _V, _W = StreamState, StreamEvent, StreamEffect

#: The events that may happen in each state of a transport over HTTP, and their effects.
STREAM: Table[StreamState, StreamEvent, StreamEffect] = {
    _T.OPEN: {
        _V.LOSE: (_T.CLOSING, _W.ASK),
        _V.ABORT: (_T.ABORTED, _W.ABORT),
        _V.END: (_T.OVER, _W.FINISH),
    },
    _T.CLOSING: {
        _V.LOSE: (_T.CLOSING, None),
        _V.ABORT: (_T.ABORTED, _W.ABORT),
        _V.WRITTEN: (_T.CLOSED, _W.CLOSE),
        _V.END: (_T.OVER, _W.FINISH),
    },
    _T.CLOSED: {
        _V.LOSE: (_T.CLOSED, None),
        _V.ABORT: (_T.CLOSED, None),
        _V.END: (_T.OVER, _W.FINISH),
    },
    _T.ABORTED: {
        _V.LOSE: (_T.ABORTED, None),
        _V.ABORT: (_T.ABORTED, None),
        _V.END: (_T.OVER, _W.FINISH),
    },
    _T.OVER: {
        _V.LOSE: (_T.OVER, None),
        _V.ABORT: (_T.OVER, None),
        _V.END: (_T.OVER, None),  # the first report of the end counts
    },
}

_S, _E, _F = LinkState, LinkEvent, LinkEffect

#: The events that may happen in each state of a WebSocket, and their effects.
LINK: Table[LinkState, LinkEvent, LinkEffect] = {
    _S.OPENING: {
        _E.RECEIVED: (_S.SENDING, _F.BEGIN),
        _E.ENDED: (_S.ENDING, _F.CONFIRM),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.SENDING: {
        _E.RECEIVED: (_S.SENDING, _F.SEND),
        _E.MUCH: (_S.ASKING, _F.ASK),
        _E.MUCH_ALONE: (_S.POSTING, _F.POST),
        _E.ENDED: (_S.ENDING, _F.CONFIRM),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.ASKING: {
        _E.RECEIVED: (_S.SENDING, _F.SEND),
        _E.ENDED: (_S.ENDING, _F.CONFIRM),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.POSTING: {
        _E.RECEIVED: (_S.POSTING, _F.SEND),
        _E.POSTED: (_S.SENDING, _F.SEND),
        _E.NOT_POSTED: (_S.POSTING, _F.DROP),
        _E.ENDED: (_S.ENDING, _F.CONFIRM),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.ENDING: {
        _E.RECEIVED: (_S.ENDING, None),
        _E.POSTED: (_S.ENDING, None),
        _E.NOT_POSTED: (_S.ENDING, None),  # the far side has ended, and takes no more input
        _E.ENDED: (_S.ENDING, None),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.LOST: {},
}
