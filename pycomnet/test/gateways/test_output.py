"""What far code prints, on its way to whoever wants it."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ProtocolViolation
from pycomnet.gateways.output import MAX_LINE, STDERR, STDOUT, Output, OutputSink, PrefixedLines
from pycomnet.test.kit import Pair, PairCase


class Lines(SynchronousTestCase):
    """Showing whole lines under a gateway's id."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.lines = PrefixedLines(self.out, self.err)

    def show(self, *texts: str, gateway: str = "gw0", stream: int = STDOUT) -> None:
        """Have pieces of output shown."""
        for text in texts:
            self.lines(Output(gateway, stream, text))

    def test_each_line_has_the_id_before_it(self) -> None:
        """Each line has the id before it, empty ones as well."""
        self.show("one\ntwo\n\nthree\n")
        self.assertEqual(self.out.getvalue(), "[gw0] one\n[gw0] two\n[gw0] \n[gw0] three\n")

    def test_line_is_shown_when_it_is_whole(self) -> None:
        """A line is shown when it is whole, wherever it was cut."""
        self.show("on", "e")
        self.assertEqual(self.out.getvalue(), "")
        self.show("\ntw", "o\n")
        self.assertEqual(self.out.getvalue(), "[gw0] one\n[gw0] two\n")

    def test_prefix_cannot_be_forged(self) -> None:
        """A line can't pretend to be another gateway's, whatever a reader takes for its end."""
        for end in "\r\v\f\x1c\x85\u2028":
            self.show(f"a{end}[gw1] b\n")
        self.show("ends\r\n", "50%\r", "100%\r\n")
        for line in self.out.getvalue().splitlines():
            self.assertTrue(line.startswith("[gw0] "), line)
        self.assertIn("[gw0] ends\r\n[gw0] 50%\r[gw0] 100%\r\n", self.out.getvalue())
        self.show("x\n", gateway="a\n[gw1] b")
        self.assertTrue(self.out.getvalue().endswith("\n[a\\n[gw1] b] x\n"))

    def test_control_characters_are_made_visible_on_a_terminal(self) -> None:
        """On a terminal control characters are made visible, and tabs are tabs."""
        self.patch(self.out, "isatty", lambda: True)
        self.show("\x1b[2J\ta\rb\x9b\u202e\x7f\r\n")
        self.assertEqual(self.out.getvalue(), "[gw0] \\x1b[2J\ta\\rb\\x9b\\u202e\\x7f\n")
        self.show("\x1b[2J\n", stream=STDERR)
        self.assertEqual(self.err.getvalue(), "[gw0] \x1b[2J\n")

    def test_unencodable_characters_are_shown_with_backslashes(self) -> None:
        """What a stream can't encode is shown with backslashes, and nothing is lost."""
        for encoding, shown in (
            ("ascii", "\\xe4\\u20ac\\U0001f600"),
            ("latin-1", "\xe4\\u20ac\\U0001f600"),
        ):
            binary = io.BytesIO()
            lines = PrefixedLines(io.TextIOWrapper(binary, encoding, newline="\n"))
            lines(Output("gw0", STDOUT, "plain\n\xe4\u20ac\U0001f600\n"))
            self.assertEqual(binary.getvalue().decode(encoding), f"[gw0] plain\n[gw0] {shown}\n")

    def test_pieces_of_gateways_and_streams_do_not_mix(self) -> None:
        """The pieces of several gateways, and of their two streams, do not mix."""
        self.show("a")
        self.show("b", gateway="gw1")
        self.show("c", stream=STDERR)
        self.show("A\n")
        self.show("B\n", gateway="gw1")
        self.show("C\n", stream=STDERR)
        self.assertEqual(self.out.getvalue(), "[gw0] aA\n[gw1] bB\n")
        self.assertEqual(self.err.getvalue(), "[gw0] cC\n")

    def test_flush_shows_one_gateways_unfinished_lines(self) -> None:
        """At its end a gateway's last lines are shown without their own end; others' wait on."""
        self.show("rest")
        self.show("error", stream=STDERR)
        self.show("other", gateway="gw1")
        self.lines.flush("gw0")
        self.lines.flush("gw0")
        self.assertEqual(
            (self.out.getvalue(), self.err.getvalue()), ("[gw0] rest\n", "[gw0] error\n")
        )
        self.show(" one\n", gateway="gw1")
        self.assertIn("[gw1] other one\n", self.out.getvalue())

    def test_endless_line_is_shown_in_parts(self) -> None:
        """A line that never ends is shown in parts: it is not kept without a bound."""
        for _ in range(5):
            self.show("x" * (MAX_LINE // 2 + 1))
        shown = self.out.getvalue()
        self.assertEqual(shown.count("[gw0]"), 2)
        self.lines.flush("gw0")
        self.assertEqual(self.out.getvalue().count("x"), 5 * (MAX_LINE // 2 + 1))

    def test_default_streams_are_looked_up_at_each_output(self) -> None:
        """By default it goes to what ``sys.stdout`` and ``sys.stderr`` are at that time."""
        lines = PrefixedLines()
        out, err = io.StringIO(), io.StringIO()
        self.patch(__import__("sys"), "stdout", out)
        self.patch(__import__("sys"), "stderr", err)
        lines(Output("gw0", STDOUT, "a\n"))
        lines(Output("gw0", STDERR, "b\n"))
        self.assertEqual((out.getvalue(), err.getvalue()), ("[gw0] a\n", "[gw0] b\n"))

    def test_missing_or_closed_stream_is_no_error(self) -> None:
        """Without a stream, or with one that is closed, it goes nowhere: as with print()."""
        lines = PrefixedLines()
        closed = io.StringIO()
        closed.close()
        for stream in (None, closed):
            self.patch(__import__("sys"), "stdout", stream)
            lines(Output("gw0", STDOUT, "a\n"))
        PrefixedLines(closed)(Output("gw0", STDOUT, "a\n"))

    def test_stream_needs_write_alone(self) -> None:
        """What stands in for a stream may have nothing but ``write``."""

        class Tee:
            def __init__(self) -> None:
                self.text = ""

            def write(self, text: str) -> None:
                self.text += text

        tee: Any = Tee()
        PrefixedLines(tee)(Output("gw0", STDOUT, "a\n"))
        self.assertEqual(tee.text, "[gw0] a\n")


class Sink(PairCase):
    """From the far side's output channel to the callback."""

    def setUp(self) -> None:
        super().setUp()
        self.outputs: list[Output] = []
        self.result: Any = None
        self.sink = OutputSink("gw0", self.collect)
        self.pair.near.purposes["output"] = self.sink.accept
        core = self.pair.far.open("output")
        self.far = core
        self.pair.pump()

    def collect(self, output: Output) -> Any:
        """The callback."""
        self.outputs.append(output)
        return self.result

    def print(self, *events: tuple[int, bytes]) -> defer.Deferred[None]:
        """Have the far side print."""
        sent: defer.Deferred[None] = defer.succeed(None)
        for stream, data in events:
            sent = self.far.send(self.pair.far.encode([stream, data]))
        self.pair.pump()
        return sent

    def texts(self, stream: int = STDOUT) -> str:
        """What has come of a stream."""
        return "".join(o.text for o in self.outputs if o.stream == stream)

    def test_output_has_text_stream_and_gateway_id(self) -> None:
        """It comes as text, with its stream and the gateway's id."""
        self.print((STDOUT, b"out"), (STDERR, b"err"))
        self.assertEqual(self.outputs, [Output("gw0", 1, "out"), Output("gw0", 2, "err")])

    def test_cut_utf8_characters_are_joined_in_each_stream(self) -> None:
        """A character that is cut in two is one, in each stream; what is none is shown as such."""
        data = "äö€\U0001f600".encode()
        for at in range(len(data)):
            self.print((STDOUT, data[at : at + 1]), (STDERR, data[at : at + 1]))
        self.assertEqual((self.texts(), self.texts(STDERR)), ("äö€\U0001f600",) * 2)
        self.print((STDOUT, b"\xff!"))
        self.assertEqual(self.texts(), "äö€\U0001f600\ufffd!")

    def test_flush_replaces_half_a_character(self) -> None:
        """Half a character at the very end is not lost without a trace."""
        self.print((STDOUT, b"x\xe2\x82"))
        self.assertEqual(self.texts(), "x")
        self.sink.flush()
        self.sink.flush()
        self.assertEqual(self.texts(), "x\ufffd")

    def test_far_side_waits_for_the_callbacks_deferred(self) -> None:
        """A Deferred that the callback returns is waited for, and so does the far side."""
        self.result = waiting = defer.Deferred[None]()
        sent = self.print(*[(STDOUT, bytes(60_000))] * 40)
        self.assertEqual(len(self.outputs), 1)
        self.assertNoResult(sent)
        self.result = None
        waiting.callback(None)
        self.pair.pump()
        self.assertEqual(len(self.outputs), 40)
        self.successResultOf(sent)

    def test_raising_callback_is_logged_and_called_again(self) -> None:
        """A callback that raises is logged each time, and gets what comes next."""

        def broken(output: Output) -> None:
            self.outputs.append(output)
            raise KeyError("broken")

        self.sink.callback = broken
        self.print((STDOUT, b"one"), (STDOUT, b"two"))
        self.sink.stderr("three")
        self.assertEqual([o.text for o in self.outputs], ["one", "two", "three"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 3)

    def test_failing_coroutine_callback_is_logged_and_called_again(self) -> None:
        """So is one whose Deferred or coroutine fails."""

        async def broken(output: Output) -> None:
            self.outputs.append(output)
            raise KeyError("broken")

        self.sink.callback = broken
        self.print((STDOUT, b"one"), (STDOUT, b"two"))
        self.sink.stderr("three")
        self.assertEqual([o.text for o in self.outputs], ["one", "two", "three"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 3)

    def test_callback_can_be_changed(self) -> None:
        """The callback can be changed in between."""
        self.print((STDOUT, b"one"))
        others: list[Output] = []
        self.sink.callback = others.append
        self.print((STDOUT, b"two"))
        self.assertEqual([o.text for o in self.outputs + others], ["one", "two"])
        self.assertEqual(len(others), 1)

    def test_end_of_channel_is_no_output(self) -> None:
        """The channel's end, and the connection's, are no output and no error."""
        self.far.close()
        self.pair.pump()
        self.sink.accept(self.pair.near.open("test"))
        self.pair.lose()
        self.assertEqual(self.outputs, [])

    def test_malformed_output_event_ends_the_connection(self) -> None:
        """What is no output event ends the connection at once, with an error that says so."""
        wrong: list[Any] = [
            "just text",
            None,
            b"xy",
            [],
            [1],
            [1, b"a", b"b"],
            [3, b"a"],
            [True, b"a"],
            [1.0, b"a"],
            [1, "a"],
            [[1], b"a"],
            (1, b"a"),
            {1: b"a", 2: b"b"},
            ["x" * 100_000, b""],
        ]
        for value in wrong:
            pair = Pair()
            pair.near.purposes["output"] = self.sink.accept
            far = pair.far.open("output")
            far.send(pair.far.encode([STDOUT, b"right"]))
            far.send(pair.far.encode(value))
            far.send(pair.far.encode([STDOUT, b"too late"]))
            pair.pump()
            lost = pair.far.lost
            self.assertIsInstance(lost, ProtocolViolation)
            self.assertIn("(output): output is an array of 1 or 2 and bytes, not", str(lost))
            self.assertLess(len(str(lost)), 300)
            self.assertEqual(self.texts(), "right")
            self.outputs.clear()

    def test_flush_reaches_the_default_callback(self) -> None:
        """At the end the default callback shows what has no line's end."""
        out = io.StringIO()
        self.sink.callback = PrefixedLines(out)
        self.print((STDOUT, b"no end \xe2\x82"))
        self.assertEqual(out.getvalue(), "")
        self.sink.flush()
        self.assertEqual(out.getvalue(), "[gw0] no end \ufffd\n")
