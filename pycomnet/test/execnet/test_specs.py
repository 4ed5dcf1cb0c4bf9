"""execnet's specs, and what they are in pycomnet."""

from __future__ import annotations

import itertools
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ConnectionLost, FactoryUnreachable, GatewayNotStarted
from pycomnet.execnet import HostNotFound, XSpec
from pycomnet.execnet.specs import pycomnet_spec
from pycomnet.far.execnet.execmodel import get_execmodel


class XSpecTests(SynchronousTestCase):
    """``XSpec``."""

    def test_keys_are_attributes(self) -> None:
        """A key without a value is True, one that is not there None; unknown ones are allowed."""
        spec = XSpec("popen//id=a//env:X=1//env:Y=//hello=3")
        self.assertEqual((spec.popen, spec.id, spec.hello, spec.chdir), (True, "a", "3", None))
        self.assertEqual(spec.env, {"X": "1", "Y": ""})
        shown = "popen//id=a//env:X=...//env:Y=...//hello=3"
        self.assertEqual((str(spec), repr(spec)), (spec._spec, f"<XSpec '{shown}'>"))
        with self.assertRaises(AttributeError):
            spec._private  # noqa: B018

    def test_tokens_are_not_shown(self) -> None:
        """Specs are printed and logged; str() stays whole, as pytest-xdist reads it again."""
        text = "socket=h:1//token=secret//env:PASSWORD=secret"
        self.assertNotIn("secret", repr(XSpec(text)))
        self.assertEqual(str(XSpec(text)), text)
        with self.assertRaises(ValueError) as raised, pycomnet_spec(XSpec(f"{text}//via=x")):
            pass
        self.assertNotIn("secret", str(raised.exception))

    def test_specs_of_the_same_text_are_equal(self) -> None:
        """And have the same hash."""
        self.assertEqual({XSpec("popen"), XSpec("popen")}, {XSpec("popen")})
        self.assertNotEqual(XSpec("popen"), XSpec("popen//id=1"))

    def test_wrong_specs_are_refused(self) -> None:
        """A key twice, a private one, none."""
        for text, kind in (
            ("popen//popen", ValueError),
            ("_x=1", AttributeError),
            ("", ValueError),
            ("popen//=3", ValueError),
        ):
            with self.assertRaises(kind):
                XSpec(text)


class PlaceTests(SynchronousTestCase):
    """What a spec is in pycomnet."""

    def made(self, text: str) -> Any:
        """The pycomnet spec."""
        spec = XSpec(text)
        spec.id = "one"
        with pycomnet_spec(spec) as made:
            return made

    def test_popen_has_its_keys(self) -> None:
        """The directory is not among them: it is made there, if it has to be."""
        made = self.made("popen//python=python3 -E//nice=5//chdir=x//dont_write_bytecode//env:A=b")
        self.assertEqual(
            (made.transport, made.id, made.nice, made.chdir), ("popen", "one", 5, None)
        )
        self.assertEqual(made.python, ("python3", "-E"))
        self.assertEqual(made.env, {"A": "b", "PYTHONDONTWRITEBYTECODE": "1"})

    def test_ssh_has_its_keys(self) -> None:
        """Also behind another gateway."""
        made = self.made("ssh=-p 22 host//ssh_config=f//via=m")
        self.assertEqual((made.transport, made.target), ("ssh", "-p 22 host"))
        self.assertEqual((made.ssh_config, made.via), ("f", "m"))

    def test_a_socket_installed_via_a_gateway_goes_through_it(self) -> None:
        """No port is opened there."""
        made = self.made("socket//installvia=m")
        self.assertEqual((made.transport, made.via), ("popen", "m"))

    def test_a_socket_needs_a_token(self) -> None:
        """execnet's servers ask for none, so that anybody may run code at them."""
        with self.assertRaisesRegex(ValueError, "pycomnet-gateway"):
            self.made("socket=127.0.0.1:8888")
        made = self.made("socket=127.0.0.1:8888//token_file=f")
        self.assertEqual((made.target, made.token_file), ("tcp:127.0.0.1:8888", "f"))

    def test_an_address_of_ipv6_is_one(self) -> None:
        """In brackets, as everywhere."""
        made = self.made("socket=[::1]:8888//token_file=f")
        self.assertEqual(made.target, r"tcp:\:\:1:8888")

    def test_keys_that_would_have_no_effect_are_refused(self) -> None:
        """The message has the spec."""
        for text in (
            "ssh",
            "ssh=",
            "vagrant_ssh",
            "vagrant_ssh=--help",
            "vagrant_ssh=box//via=m",
            "vagrant_ssh=box//ssh_config=f",
            "socket",
            "socket=h:1//via=m",
            "socket=h:1//installvia=m",
        ):
            with self.assertRaisesRegex(ValueError, f"XSpec '{text}'"):
                self.made(text)

    def test_all_that_goes_wrong_is_an_error_of_execnets(self) -> None:
        """So programs that catch OSError catch it."""
        with self.assertRaisesRegex(OSError, "gone"), pycomnet_spec(XSpec("popen//id=a")):
            raise ConnectionLost("gone")

    def test_what_says_no_gateway_is_refused(self) -> None:
        """With execnet's words."""
        with self.assertRaisesRegex(ValueError, "no gateway type found for 'hello'"):
            self.made("hello")

    def test_an_interpreter_that_is_not_there_is_not_found(self) -> None:
        """As when a program starts one itself."""
        with self.assertRaises(FileNotFoundError):
            self.made("popen//python=no-such-python")

    def test_a_host_that_can_not_be_reached_is_not_found(self) -> None:
        """What ssh said is in the error."""
        spec = XSpec("ssh=host")
        with self.assertRaisesRegex(HostNotFound, "Connection refused"), pycomnet_spec(spec):
            raise GatewayNotStarted("gateway one: Connection refused", 255)

    def test_errors_end_with_their_message_and_have_no_second_traceback(self) -> None:
        """That of the Deferreds says nothing about the host."""
        problems = (GatewayNotStarted("refused", 255), FactoryUnreachable("no room"))
        for spec, problem in itertools.product((XSpec("ssh=host"), XSpec("popen")), problems):
            with self.assertRaises((HostNotFound, OSError)) as caught, pycomnet_spec(spec):
                raise problem
            self.assertTrue(caught.exception.__suppress_context__)

    def test_vagrant_is_asked_for_its_options(self) -> None:
        """They are in a file for as long as the gateway is being made."""
        directory = self.mktemp()
        os.mkdir(directory)
        tool = os.path.join(directory, "vagrant")
        with open(tool, "w") as file:
            file.write('#!/bin/sh\necho "Host $2 at $1"\n')
        os.chmod(tool, 0o755)
        self.patch(os, "environ", {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"})
        with pycomnet_spec(XSpec("vagrant_ssh=box")) as made:
            self.assertEqual((made.transport, made.target), ("ssh", "box"))
            assert made.ssh_config is not None
            with open(made.ssh_config) as file:
                self.assertEqual(file.read(), "Host box at ssh-config\n")
        self.assertFalse(os.path.exists(made.ssh_config))


class ExecModelTests(SynchronousTestCase):
    """``execmodel``."""

    def test_it_has_what_workers_need(self) -> None:
        """Locks, events, queues and threads."""
        model = get_execmodel("main_thread_only")
        queue = model.queue.Queue()
        model.start(queue.put, (model.backend,))
        self.assertEqual(queue.get(timeout=60), "main_thread_only")
        lock = model.Lock()
        with model.RLock(), lock, lock:  # as often as it likes, as with execnet
            self.assertFalse(model.Event().is_set())
        self.assertIs(get_execmodel(model), model)

    def test_greenlets_are_refused(self) -> None:
        """The error names threads."""
        for name in ("eventlet", "gevent", "nothing"):
            with self.assertRaisesRegex(ValueError, "use 'thread'"):
                get_execmodel(name)
