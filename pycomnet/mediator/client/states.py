"""The lifecycles at the client's end: of a transport over HTTP, and of a WebSocket for it.

docs/lifecycles.rst has the same tables, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.gateways.lifecycle import Table


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
