"""What far code prints, as events at the near side."""

from __future__ import annotations

import codecs
import inspect
import reprlib
import sys
from collections.abc import Callable
from typing import Any, TextIO

import attrs
from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.errors import ConnectionLost
from pycomnet.text.logs import Logger
from pycomnet.text.printable import is_terminal, prefixed, visible_line, write_text

log = Logger()
#: 1 for standard output, 2 for standard error.
STDOUT, STDERR = 1, 2
#: Characters of a line without an end that are kept before they are shown anyway.
MAX_LINE = 65536


@attrs.frozen
class Output:
    """A piece of what far code printed.

    :ivar gateway: the id of the gateway it runs in.
    :ivar stream: 1 for standard output, 2 for standard error.
    :ivar text: what was printed; cut anywhere.
    """

    gateway: str
    stream: int
    text: str


OutputCallback = Callable[[Output], Any]


class OutputSink:
    """Where a gateway's output goes: decoded, and given to a callback.

    :param id: the gateway's.
    :param callback: gets each :class:`Output`. What it returns, a Deferred too, is waited for
        before the next piece that far code printed is taken.
    """

    def __init__(self, id: str, callback: OutputCallback) -> None:
        self.id = id
        self.callback = callback
        #: called with what far code printed to standard error
        self.keep: Callable[[str], object] | None = None
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (STDOUT, STDERR)
        }

    def accept(self, core: Any) -> None:
        """Take the channel that the far side opened for its output.

        What comes on it is an array of 1 or 2 and bytes. A far side that sends anything else breaks
        the protocol (code ``output``), which ends the connection.
        """

        def arrived(event: Any) -> Any:
            if not _is_output(event):
                text = f"output is an array of 1 or 2 and bytes, not {reprlib.repr(event)}"
                raise core.connection.violated("output", text)
            return self._event(*event)

        core.set_callback(arrived, self._failed, NO_ENDMARKER)

    def _failed(self, failure: Failure) -> None:
        # That the connection is over is told to whoever waits for something.
        if not failure.check(ConnectionLost):
            log.failure("the output of gateway {id} is lost", failure, id=self.id)

    def _event(self, stream: int, data: bytes) -> Any:
        text = self._decoders[stream].decode(data)
        if not text:
            return None
        if stream == STDERR and self.keep is not None:
            self.keep(text)
        return self._give(stream, text)

    def stderr(self, text: str) -> Any:
        """What the process itself wrote to its standard error; what the callback returned."""
        return self._give(STDERR, text)

    def _give(self, stream: int, text: str) -> Any:
        """Call back; what it raises is logged, as it is nobody else's fault."""
        try:
            result = self.callback(Output(self.id, stream, text))
        except Exception:
            log.failure("the output callback of gateway {id} raised", id=self.id)
            return None
        if inspect.iscoroutine(result):
            result = defer.Deferred.fromCoroutine(result)
        if isinstance(result, defer.Deferred):
            result.addErrback(
                lambda failure: log.failure(
                    "the output callback of gateway {id} failed", failure, id=self.id
                )
            )
        return result

    def flush(self) -> None:
        """There will be no more: show what has no line's end, and half characters as such."""
        for stream, decoder in self._decoders.items():
            text = decoder.decode(b"", True)
            if text:
                self._give(stream, text)
        if isinstance(self.callback, PrefixedLines):
            self.callback.flush(self.id)


def _is_output(event: Any) -> bool:
    return (
        type(event) is list
        and len(event) == 2
        and type(event[0]) is int
        and event[0] in (STDOUT, STDERR)
        and type(event[1]) is bytes
    )


class PrefixedLines:
    """Shows whole lines under the gateway's id: ``[gw0] text``.

    On a terminal control characters are made visible. Elsewhere they stay, but what could be taken
    for the end of a line has the id after it. What a stream can't encode is shown with backslashes.

    :param stdout: where standard output goes; None is ``sys.stdout`` at that time.
    :param stderr: where standard error goes.
    """

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self._files = {STDOUT: stdout, STDERR: stderr}
        self._rest: dict[tuple[str, int], str] = {}

    def __call__(self, output: Output) -> None:
        key = (output.gateway, output.stream)
        *lines, rest = (self._rest.pop(key, "") + output.text).split("\n")
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = ""
        if rest:
            self._rest[key] = rest
        if lines:
            self._show(key, lines)

    def flush(self, gateway: str) -> None:
        """Show what a gateway printed without a line's end: it is over."""
        for key in [key for key in self._rest if key[0] == gateway]:
            self._show(key, [self._rest.pop(key)])

    def _show(self, key: tuple[str, int], lines: list[str]) -> None:
        gateway, stream = key
        default = sys.stderr if stream == STDERR else sys.stdout
        file = self._files[STDERR if stream == STDERR else STDOUT] or default
        if file is None or getattr(file, "closed", False):
            return  # as print() does without a stream; a gateway that prints late is not at fault
        prefix, terminal = f"[{visible_line(gateway)}] ", is_terminal(file)
        write_text(file, "".join(f"{prefixed(prefix, line, terminal)}\n" for line in lines))
        flush = getattr(file, "flush", None)
        if flush is not None:
            flush()
