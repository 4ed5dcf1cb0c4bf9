"""The lifecycles of the client's end: of a far side's streams, and of a WebSocket for them.

docs/lifecycles.rst has the same tables, for readers.
"""

from __future__ import annotations

from enum import Enum

from pycomnet.mediator.lifecycle import Table


class StreamState(Enum):
    """Where a transport over HTTP is in its life; the value says what that means.

    A transport outlives its connections: whether one carries it now is no part of this.
    """

    OPEN = "its protocol is connected"
    CLOSING = "its protocol has closed it; what was written has not all been received"
    CLOSED = "its protocol is told that it is closed, and the far side that its input ended"
    ABORTED = "its protocol is told that it is closed; the server is asked to end the far side"
    OVER = "the far side has ended, or is out of reach"


class StreamEvent(Enum):
    """What happens to a transport over HTTP."""

    LOSE = "its protocol calls ``loseConnection``"
    ABORT = "its protocol calls ``abortConnection``"
    WRITTEN = "it is CLOSING, and the server has received all that was written"
    END = "the server says how the far side ended, or there was no connection for too long"


class StreamEffect(Enum):
    """What is done then."""

    ASK = "ask the server what it has received"
    CLOSE = "end the far side's input; tell the protocol"
    ABORT = "ask the server to end the far side; tell the protocol"
    FINISH = "stop all requests; tell who waits; tell the protocol, if that is still there"


class LinkState(Enum):
    """Where a WebSocket is in its life; the value says what that means."""

    OPENING = "it is connected, and the server's first message awaited"
    SENDING = "what is written goes over it"
    ASKING = "much is waiting; the server is asked what it has received"
    POSTING = "much is being sent in a POST beside it; what comes does so over it"
    ENDING = "the server has said how the far side ended, and is to close it"
    LOST = "it is closed"


class LinkEvent(Enum):
    """What happens to a WebSocket."""

    RECEIVED = "the server says how much it has received"
    MUCH = "so much is waiting that a POST is cheaper, and the server may not have all before that"
    MUCH_ALONE = "so much is waiting, and the server has all before that"
    POSTED = "the POST is answered"
    NOT_POSTED = "the POST failed"
    ENDED = "the server says how the far side ended"
    LOSE = "the connection is lost"


class LinkEffect(Enum):
    """What is done then."""

    BEGIN = "carry the stream from where the server is"
    SEND = "send what is waiting"
    ASK = "ask the server what it has received"
    POST = "send what is waiting in a POST"
    DROP = "drop the connection: on a new one the server says what it has"
    CONFIRM = "confirm all; wait 1 s for the server to close it"
    FINISH = "stop the POST; say how the far side ended, if that is known; tell who waits"


_T, _V, _W = StreamState, StreamEvent, StreamEffect

#: What may happen in which state of a transport over HTTP, and what is done then.
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
        _V.END: (_T.OVER, None),  # of several that find out, the first counts
    },
}

_S, _E, _F = LinkState, LinkEvent, LinkEffect

#: What may happen in which state of a WebSocket, and what is done then.
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
        _E.NOT_POSTED: (_S.ENDING, None),  # there is nobody to take it any more
        _E.ENDED: (_S.ENDING, None),
        _E.LOSE: (_S.LOST, _F.FINISH),
    },
    _S.LOST: {},
}
