"""Gateway specs: read, shown, and refused with words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import PycomnetError, SpecError
from pycomnet.gateways.limits import far_limits
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports import window_of
from pycomnet.wire.frames import CHANNELS, MEDIATED_WINDOW, WIDE_WINDOW, WINDOW


class Reading(SynchronousTestCase):
    """What a text says."""

    def test_bare_transport_has_defaults(self) -> None:
        """A bare transport has its defaults."""
        spec = Spec.parse("popen")
        self.assertEqual(spec, Spec())
        self.assertEqual(
            (spec.transport, spec.python, spec.id, spec.chdir, spec.nice, spec.execmodel, spec.env),
            ("popen", None, None, None, 0, "thread", {}),
        )

    def test_all_keys_are_read_in_any_order(self) -> None:
        """Each key is read, in any order; values may have an equals sign and blanks."""
        text = (
            "popen//env:A=1//python=pypy3 -X a=b//id=w//chdir=/tmp/x y//nice=5"
            "//execmodel=main_thread_only//env:B=x=y//env:EMPTY="
        )
        self.assertEqual(
            Spec.parse(text),
            Spec(
                python=["pypy3", "-X", "a=b"],
                id="w",
                chdir="/tmp/x y",
                nice=5,
                execmodel="main_thread_only",
                env={"A": "1", "B": "x=y", "EMPTY": ""},
            ),
        )

    def test_target_follows_the_transports_name(self) -> None:
        """What follows the transport's name is where it leads; it may have blanks and colons."""
        for text, transport, target in (
            ("ssh=host", "ssh", "host"),
            ("ssh=me@host -p 2222 -i 'a key'//id=x", "ssh", "me@host -p 2222 -i 'a key'"),
            ("socket=tls:host.example:443", "socket", "tls:host.example:443"),
            ("socket=unix:/run/x.sock", "socket", "unix:/run/x.sock"),
            ("http=localhost:8080/exec", "http", "localhost:8080/exec"),
            ("https=[::1]:8443", "https", "[::1]:8443"),
        ):
            spec = Spec.parse(text)
            self.assertEqual((spec.transport, spec.target), (transport, target))
            self.assertEqual(str(spec), text)

    def test_keys_of_single_transports_are_read(self) -> None:
        """Keys that only some transports have."""
        spec = Spec.parse("ssh=h//ssh_config=/c//keepalive=1.5//fork=no//via=gw0//python=pypy3")
        self.assertEqual(
            (spec.ssh_config, spec.keepalive, spec.fork, spec.via, spec.python),
            ("/c", 1.5, False, "gw0", ("pypy3",)),
        )
        spec = Spec.parse("socket=tcp:h:1//token=t//ca=/ca//cert=/c//key=/k//linger=60//resume=yes")
        self.assertEqual(
            (spec.token, spec.ca, spec.cert, spec.key, spec.linger, spec.resume),
            ("t", "/ca", "/c", "/k", 60.0, True),
        )
        self.assertEqual(Spec.parse("popen", fork=False, linger=2), Spec(fork=False, linger=2.0))

    def test_nice_may_be_negative(self) -> None:
        """A niceness may be below zero."""
        self.assertEqual(Spec.parse("popen//nice=-5").nice, -5)

    def test_options_override_the_text_and_none_says_nothing(self) -> None:
        """Options go before what the text says, and may hold what it can't; None says nothing."""
        spec = Spec.parse(
            "popen//id=a//python=b//env:A=1//env:B=2",
            id="c",
            python=None,
            chdir=Path("/x//y"),
            nice=3,
            env={"B": "//", "C": "3"},
            execmodel="main_thread_only",
        )
        self.assertEqual(
            spec,
            Spec(
                id="c",
                python="b",
                chdir="/x/y",
                nice=3,
                execmodel="main_thread_only",
                env={"A": "1", "B": "//", "C": "3"},
            ),
        )

    def test_spec_is_copied_with_changes(self) -> None:
        """A Spec is taken as it is, or changed as a text is; itself it stays."""
        base = Spec(id="a", env={"A": "1"})
        self.assertEqual(Spec.parse(base), base)
        changed = Spec.parse(base, nice="7", env={"B": "2"})
        self.assertEqual(changed, Spec(id="a", nice=7, env={"A": "1", "B": "2"}))
        self.assertEqual(base.env, {"A": "1"})

    def test_spec_is_immutable_and_hashable(self) -> None:
        """It can't be changed in place, and can be kept in sets."""
        spec = Spec.parse("popen//env:A=1")
        with self.assertRaises(AttributeError):
            spec.nice = 5  # type: ignore[misc]
        self.assertEqual(len({spec, Spec.parse("popen//env:A=1"), Spec()}), 2)


class Showing(SynchronousTestCase):
    """How a spec is shown."""

    def test_str_reads_back_as_the_same_spec(self) -> None:
        """As a text with what isn't a default, even if it looks like one."""
        for text in (
            "popen",
            "popen//python=thread//id=x//nice=-3//execmodel=main_thread_only",
            "ssh=h//fork=no//via=x//keepalive=2.5",
            "socket=tcp:h:1//linger=60//resume=yes",
        ):
            self.assertEqual(str(Spec.parse(text)), text)
            self.assertEqual(Spec.parse(str(Spec.parse(text))), Spec.parse(text))

    def test_secrets_are_shown_nowhere(self) -> None:
        """The values of environment variables are never shown: not in errors either."""
        text = "popen//env:TOKEN=s3cret//env:URL=a=s3cret"
        spec = Spec.parse(text)
        self.assertEqual(str(spec), "popen//env:TOKEN=...//env:URL=...")
        self.assertIn("TOKEN", repr(spec))
        self.assertNotIn("s3cret", repr(spec))
        secret = Spec.parse("socket=tcp:h:1//token=s3cret")
        self.assertEqual(str(secret), "socket=tcp:h:1//token=...")
        self.assertNotIn("s3cret", repr(secret))
        for bad in (
            lambda: Spec.parse("socket=tcp:h:1//token=s3cret//nice=x"),
            lambda: Spec.parse("socket=tcp:h:1", token=b"s3cret"),
            lambda: Spec.parse("socket=tcp:h:1//token=s3cret//token=s3cret"),
            lambda: Spec.parse(text + "//nice=x"),
            lambda: Spec.parse(text + "//chdri=x"),
            lambda: Spec.parse(text, nicce=3),
            lambda: Spec.parse(spec, nice="x"),
            lambda: Spec.parse("popen", env={"TOKEN": b"s3cret"}),
            lambda: Spec.parse("poppen//env:TOKEN=s3cret"),
        ):
            error = self.assertRaises(SpecError, bad)
            self.assertNotIn("s3cret", str(error))


class TrustTests(SynchronousTestCase):
    """The limits on what a far side sends."""

    def test_limits_are_read_and_give_way_to_the_spec(self) -> None:
        """From text and from keywords; the spec's word counts, then the group's."""
        text = "ssh=a//trusted=no//max_value=65536//max_items=1024"
        spec = Spec.parse("ssh=a", trusted=False, max_value=65536, max_items="1024")
        self.assertEqual(Spec.parse(text), spec)
        self.assertEqual(str(spec), text)
        limits = far_limits(spec, WIDE_WINDOW)
        self.assertEqual((limits.value, limits.items, limits.channels), (65536, 1024, 64))
        self.assertEqual(limits.window, WINDOW)
        trusted = far_limits(Spec(), WIDE_WINDOW)
        self.assertEqual((trusted.value, trusted.items), (1 << 30, 1 << 22))
        self.assertEqual(trusted.window, WIDE_WINDOW)
        strict = far_limits(Spec(trusted=False), kept=True)
        self.assertEqual((strict.value, strict.channels), (16 << 20, CHANNELS))

    def test_window_is_as_wide_as_the_way_is_long(self) -> None:
        """A gateway on this machine, on another, behind another one, and behind a mediator."""
        for text, window in (
            ("popen", WINDOW),
            ("popen//via=a", WIDE_WINDOW),
            ("ssh=host", WIDE_WINDOW),
            ("socket=tcp:host:1//token=t", WIDE_WINDOW),
            ("http=host:1//token=t", MEDIATED_WINDOW),
            ("https=host:1//token=t", MEDIATED_WINDOW),
        ):
            self.assertEqual(window_of(Spec.parse(text)), window, text)

    def test_limit_out_of_range_is_refused_with_the_range(self) -> None:
        """What can't be is refused, with what can."""
        for key, value, says in (
            ("max_value", 65535, "max_value: expected a whole number from 65536 to 4294967295"),
            ("max_value", 1 << 32, "from 65536 to"),
            ("max_value", float("nan"), "whole number"),
            ("max_items", -1, "from 1024 to"),
            ("max_items", "1e5", "whole number"),
            ("nice", 40, "nice: expected a whole number from -39 to 39, not 40"),
            ("max_items", "many", "whole number"),
            ("trusted", "maybe", "yes or no"),
        ):
            error = self.assertRaises(SpecError, Spec.parse, "popen", **{key: value})
            self.assertIn(says, str(error))


class Refusing(SynchronousTestCase):
    """What is wrong with a spec, and what was meant."""

    def refused(self, text: Any, **options: Any) -> str:
        """The message of the error."""
        error = self.assertRaises(SpecError, Spec.parse, text, **options)
        self.assertIsInstance(error, PycomnetError)
        self.assertIsInstance(error, ValueError)
        return str(error)

    def test_unknown_transport_suggests_the_nearest(self) -> None:
        """A transport that there isn't: the nearest, and all there are."""
        self.assertEqual(
            self.refused("poppen//id=x"),
            "spec 'poppen//id=x': no transport 'poppen' (did you mean 'popen'?); "
            "there are: popen, ssh, socket, http, https",
        )
        self.assertEqual(
            self.refused("xyz"),
            "spec 'xyz': no transport 'xyz'; there are: popen, ssh, socket, http, https",
        )
        self.assertIn("(did you mean 'ssh'?)", self.refused("shs=host"))
        self.assertIn("no transport ''", self.refused(""))
        self.assertEqual(
            self.refused("popen=python3"),
            "spec 'popen=python3': 'popen' alone, with nothing after it",
        )

    def test_missing_or_malformed_target_is_refused(self) -> None:
        """Where to: it can't be missing, and what ssh gets is split as a shell does."""
        for text in ("ssh", "ssh=", "ssh= //id=x"):
            self.assertIn("expected ssh=... (host, or", self.refused(text))
        self.assertIn("(an endpoint)", self.refused("socket//token=x"))
        self.assertIn("(host:port/prefix)", self.refused("https"))
        self.assertIn("No closing quotation", self.refused("ssh=host -i 'a key"))
        self.assertIn("without NUL", self.refused("ssh=ho\0st"))

    def test_key_of_another_transport_is_refused(self) -> None:
        """A key that other transports have is said to be theirs."""
        message = self.refused("popen//ssh_config=x")
        self.assertIn("'ssh_config' is no key of popen gateways; there are: python", message)
        self.assertIn("'via' is no key of http gateways", self.refused("http=h:1//via=x"))
        self.assertIn("no option 'token'", self.refused("ssh=h", token="x"))

    def test_flag_must_be_yes_or_no(self) -> None:
        """What is yes or no is nothing else."""
        for key in ("fork", "resume"):
            self.assertIn(f"{key} is yes or no, not 'maybe'", self.refused(f"popen//{key}=maybe"))
            self.assertIn(f"{key} is yes or no, not 7", self.refused("popen", **{key: 7}))

    def test_seconds_must_be_a_number_above_zero(self) -> None:
        """Times are numbers above 0."""
        for value in ("soon", "0", "-1", "nan", "inf"):
            message = self.refused(f"ssh=h//keepalive={value}")
            self.assertIn(
                f"keepalive: expected a number of seconds above 0, at most 1e+09, not {value!r}",
                message,
            )

    def test_misspelt_key_suggests_the_right_one(self) -> None:
        """A misspelt key: each is suggested for its slips, and all are listed."""
        for slip, meant in (
            ("pyhton=3", "python"),
            ("pythn=3", "python"),
            ("ID=3", "id"),
            ("chdri=3", "chdir"),
            ("dir=3", "chdir"),
            ("nicc=3", "nice"),
            ("exec=3", "execmodel"),
            ("exec_model=3", "execmodel"),
            ("env=3", "env:NAME"),
            ("envNAME=3", "env:NAME"),
        ):
            message = self.refused(f"popen//{slip}")
            self.assertIn(f"(did you mean {meant!r}?)", message, slip)
            self.assertIn("there are: python, id, chdir, nice, execmodel, fork, via, ", message)
        self.assertIn("no key 'xyz'; there are", self.refused("popen//xyz=3"))

    def test_misspelt_option_suggests_the_right_one(self) -> None:
        """An option that there isn't is treated likewise."""
        self.assertEqual(
            self.refused("popen", niec=3),
            "spec 'popen': no option 'niec' (did you mean 'nice'?)",
        )
        self.assertIn("(did you mean 'env'?)", self.refused("popen", envs={}))
        self.assertIn("no option 'transport'", self.refused("popen", transport="ssh"))
        self.assertIn("(did you mean 'nice'?)", self.refused(Spec(), niec=3))

    def test_part_must_be_key_and_value(self) -> None:
        """Each part is a key and a value."""
        for part in ("nice", "nice=", "", "=5", "/tmp/x"):
            message = self.refused(f"popen//{part}")
            if part == "=5":
                self.assertIn("no key ''", message)
            else:
                self.assertIn(f"expected key=value, not {part!r}", message)

    def test_repeated_key_is_refused(self) -> None:
        """No key, and no variable, is given twice."""
        self.assertIn("nice twice", self.refused("popen//nice=1//nice=2"))
        self.assertIn("env:A twice", self.refused("popen//env:A=1//env:A=2"))
        self.assertIn("no key 'transport'", self.refused("popen//transport=ssh"))

    def test_nice_must_be_a_whole_number(self) -> None:
        """The niceness is a whole number."""
        values: list[Any] = [
            "high",
            "1.5",
            "",
            [],
            1.5,
            float("inf"),
            float("nan"),
            1e23,
            40,
            "1_0",
        ]
        for value in values:
            message = self.refused("popen", nice=value)
            self.assertEqual(
                message,
                f"spec 'popen': nice: expected a whole number from -39 to 39, not {value!r}",
            )
        self.assertIn("not 'high'", self.refused("popen//nice=high"))
        self.assertEqual(Spec.parse("popen", nice=2.0).nice, 2)

    def test_unknown_execution_model_suggests_the_nearest(self) -> None:
        """There are two execution models; the nearest is suggested."""
        self.assertEqual(
            self.refused("popen//execmodel=threads"),
            "spec 'popen//execmodel=threads': execmodel is thread or main_thread_only, "
            "not 'threads' (did you mean 'thread'?)",
        )
        self.assertIn("'main_thread_only'?", self.refused("popen", execmodel="main_thread"))
        self.assertIn("not 5", self.refused("popen", execmodel=5))

    def test_python_must_be_a_path_or_list(self) -> None:
        """A path, or a list of one and its arguments; a text is split, an option is not."""
        for value in (5, b"bytes", "", "a\0b", [5], [], ["", "-O"], ["a", "\0"]):
            message = self.refused("popen", python=value)
            self.assertIn(f"a list of one and its arguments, not {value!r}", message)
        self.assertIn("No closing quotation", self.refused("popen//python='a"))
        self.assertEqual(Spec.parse("popen//python='a b' -c").python, ("a b", "-c"))
        self.assertEqual(Spec.parse("popen", python="a b -c").python, ("a b -c",))
        text = str(Spec.parse("popen", python=["a b", "-c"]))
        self.assertEqual(text, "popen//python='a b' -c")
        self.assertEqual(Spec.parse(text), Spec(python=("a b", "-c")))

    def test_text_keys_refuse_other_types(self) -> None:
        """What is text can be nothing else."""
        for key in ("id", "chdir"):
            for value in (5, b"bytes", "", "a\0b", ["x"]):
                message = self.refused("popen", **{key: value})
                self.assertIn(f"{key} is text, not {value!r}", message)

    def test_environment_variable_needs_name_and_text(self) -> None:
        """Environment variables have a name, and text as their value."""
        self.assertIn("can be called ''", self.refused("popen//env:=1"))
        for name in ("", "a=b", "a\0", 5):
            self.assertIn(f"can be called {name!r}", self.refused("popen", env={name: "x"}))
        for value in (5, None, b"x", "a\0b"):
            message = self.refused("popen", env={"A": value})
            self.assertEqual(
                message, "spec 'popen': the environment variable A is text without NUL"
            )
