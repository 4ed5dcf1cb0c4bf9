"""The output of far code, as events at the near side."""

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
#: The characters from which on an incomplete line is shown.
MAX_LINE = 65536


@attrs.frozen
class Output:
    """A piece of far code's output.

    :ivar gateway: the id of its gateway.
    :ivar stream: 1 for standard output, 2 for standard error.
    :ivar text: the text; cut anywhere.
    """

    gateway: str
    stream: int
    text: str


OutputCallback = Callable[[Output], Any]


@attrs.frozen
class UnchangedOutput:
    """An output callback that gets bytes that are not UTF-8 as ``surrogateescape`` has them.

    Other callbacks get a replacement character for each.

    :param callback: called with each :class:`Output`.
    """

    callback: OutputCallback

    def __call__(self, output: Output) -> Any:
        return self.callback(output)


def shown(text: str) -> str:
    """Text in which bytes that are not UTF-8 are replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class OutputSink:
    """Decodes a gateway's output, and gives it to a callback.

    :param id: the gateway's.
    :param callback: is called with each :class:`Output`. If it returns a Deferred or a coroutine,
        far code's next output waits for that.
    """

    def __init__(self, id: str, callback: OutputCallback) -> None:
        self.id = id
        self.callback = callback
        #: called with far code's standard error
        self.keep: Callable[[str], object] | None = None
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")("surrogateescape")
            for stream in (STDOUT, STDERR)
        }

    def accept(self, core: Any) -> None:
        """Accept the channel that the far side opened for its output.

        Each value on it is an array of 1 or 2 and bytes. A far side that sends anything else breaks
        the protocol (code ``output``), which ends the connection.
        """

        def arrived(event: Any) -> Any:
            if not _is_output(event):
                text = f"output is an array of 1 or 2 and bytes, not {reprlib.repr(event)}"
                raise core.connection.violated("output", text)
            return self._event(*event)

        core.set_callback(arrived, self._failed, NO_ENDMARKER)

    def _failed(self, failure: Failure) -> None:
        # The waiters of other operations fail, as the connection is over.
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
        """Handle the standard error of the process itself; return the callback's result."""
        return self._give(STDERR, text)

    def _give(self, stream: int, text: str) -> Any:
        """Call the callback; log what it raises, as nothing else is at fault."""
        if not isinstance(self.callback, UnchangedOutput):
            text = shown(text)
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
        """There will be no more: show incomplete lines and incomplete characters."""
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
    """Shows whole lines with the gateway's id: ``[gw0] text``.

    On a terminal control characters are made visible. Elsewhere they stay, but the id follows each
    character that could be taken for the end of a line. Characters that a stream can't encode are
    shown with backslashes.

    :param stdout: the stream for standard output; None is ``sys.stdout`` at that time.
    :param stderr: the stream for standard error.
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
        """A gateway is over: show its incomplete lines."""
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
