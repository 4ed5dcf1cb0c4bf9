from collections.abc import Mapping

OPEN: str
ENDED: str
FAR_ENDED: str
FAR_CLOSED: str
OVER: str
CUT: str
SHUT: str
CLOSED: str
GONE: str
END: str
CLOSE: str
FAR_END: str
FAR_CLOSE: str
INTERRUPT: str
SEE: str
PASS: str
KEEP: str
TELL: str
CLOSE_BOTH: str
CLOSE_NEAR: str
STATES: Mapping[str, str]
EVENTS: Mapping[str, str]
EFFECTS: Mapping[str, str]
CHANNEL: Mapping[str, Mapping[str, tuple[str, str | None]]]
PROGRAM_SENDS: frozenset[str]
FAR_SENDS: frozenset[str]
FAR_UNAWARE: frozenset[str]
