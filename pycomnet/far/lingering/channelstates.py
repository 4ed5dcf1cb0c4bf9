"""The lifecycle of a channel that passes a relay, as a table.

docs/lifecycles.rst has the same table, for readers. As in all of the far side's code there are no
enums: states, events and effects are strings, and a snapshot has them as they are.
"""

OPEN, ENDED, FAR_ENDED, FAR_CLOSED = "OPEN", "ENDED", "FAR_ENDED", "FAR_CLOSED"
OVER, CUT, SHUT, CLOSED, GONE = "OVER", "CUT", "SHUT", "CLOSED", "GONE"
END, CLOSE, FAR_END, FAR_CLOSE, INTERRUPT, SEE = (
    "END",
    "CLOSE",
    "FAR_END",
    "FAR_CLOSE",
    "INTERRUPT",
    "SEE",
)
PASS, KEEP, TELL, CLOSE_BOTH, CLOSE_NEAR = "PASS", "KEEP", "TELL", "CLOSE_BOTH", "CLOSE_NEAR"

#: The states, and what each means.
STATES = {
    OPEN: "the program and the far side may send",
    ENDED: "the program has ended its half",
    FAR_ENDED: "the far side has ended its half",
    FAR_CLOSED: "the far side has closed it; the program has not answered",
    OVER: "both have ended their halves; a program has not seen the end",
    CUT: "the relay has closed it; the far side has not answered",
    SHUT: "the far side or the relay has closed it; a program has not seen that",
    CLOSED: "nothing of it is for a program any more; the far side has not answered a CLOSE",
    GONE: "nothing is kept of it",
}
#: What happens to a channel.
EVENTS = {
    END: "the program sends END",
    CLOSE: "the program sends CLOSE",
    FAR_END: "the far side sends END",
    FAR_CLOSE: "the far side sends CLOSE",
    INTERRUPT: "a program is gone, and no other can continue the channel",
    SEE: "a program has seen its end, or no other program may come",
}
#: What the relay does at a transition.
EFFECTS = {
    PASS: "pass the frame on to the far side",
    KEEP: "keep the frame; pass it on to the program",
    TELL: "pass the frame on to the program, if it knows the channel",
    CLOSE_BOTH: "send the far side a CLOSE with an error; keep it for the next program",
    CLOSE_NEAR: "keep a CLOSE with an error for the next program",
}

#: state -> event that may happen in it -> the next state, and the effect or None. A frame that is
#: not in the table breaks the protocol. One without an effect was on its way when the channel was
#: closed: it is dropped.
CHANNEL = {
    OPEN: {
        END: (ENDED, PASS),
        CLOSE: (CLOSED, PASS),
        FAR_END: (FAR_ENDED, KEEP),
        FAR_CLOSE: (FAR_CLOSED, KEEP),
        INTERRUPT: (CUT, CLOSE_BOTH),
    },
    ENDED: {
        CLOSE: (CLOSED, PASS),
        FAR_END: (OVER, KEEP),
        FAR_CLOSE: (OVER, KEEP),
        INTERRUPT: (CUT, CLOSE_BOTH),
    },
    FAR_ENDED: {
        END: (OVER, PASS),
        CLOSE: (GONE, PASS),
        FAR_CLOSE: (FAR_CLOSED, KEEP),
        INTERRUPT: (SHUT, CLOSE_BOTH),
    },
    FAR_CLOSED: {
        END: (OVER, PASS),
        CLOSE: (SHUT, PASS),
        INTERRUPT: (FAR_CLOSED, CLOSE_NEAR),
    },
    OVER: {
        END: (OVER, None),
        CLOSE: (OVER, None),
        FAR_CLOSE: (OVER, None),
        INTERRUPT: (OVER, CLOSE_NEAR),
        SEE: (GONE, None),
    },
    CUT: {
        END: (CUT, None),
        CLOSE: (CUT, None),
        FAR_END: (SHUT, None),
        FAR_CLOSE: (SHUT, None),
        SEE: (CLOSED, None),
    },
    SHUT: {
        END: (SHUT, None),
        CLOSE: (SHUT, None),
        FAR_CLOSE: (SHUT, None),
        INTERRUPT: (SHUT, CLOSE_NEAR),
        SEE: (GONE, None),
    },
    CLOSED: {
        END: (CLOSED, None),
        CLOSE: (CLOSED, None),
        FAR_END: (GONE, TELL),
        FAR_CLOSE: (GONE, TELL),
    },
    GONE: {},
}

#: The states in which the program may send values, and those in which the far side may.
PROGRAM_SENDS = frozenset([OPEN, FAR_ENDED, FAR_CLOSED])
FAR_SENDS = frozenset([OPEN, ENDED])
#: The states in which the far side has not received a CLOSE yet: what it sends is dropped.
FAR_UNAWARE = frozenset([CUT, CLOSED])
