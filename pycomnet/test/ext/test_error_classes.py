"""Errors of the extensions arrive as their classes in programs that import nothing but a client."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from pycomnet import errors
from pycomnet.errors import from_map
from pycomnet.ext.pubsub import subscriber
from pycomnet.ext.workflow import workflow

#: They bring their services' errors.
CLIENTS = (subscriber, workflow)
#: What is said of the class of a code, once a client has been imported.
NAME = "from pycomnet.errors import from_map; print(type(from_map({'code': %r})).__name__)"


class ErrorClassTests(SynchronousTestCase):
    """Each in an interpreter of its own, as a module that was imported once stays."""

    def test_class_is_there_with_the_client(self) -> None:
        """A program that only has the client catches what the service raises."""
        for client, code, name in (
            ("from pycomnet.ext.workflow import workflow", "workflow-run", "UnknownRun"),
            ("from pycomnet.blocking.ext.workflow import workflow", "workflow-run", "UnknownRun"),
            ("from pycomnet.ext.pubsub import subscriber", "subject", "InvalidSubject"),
            ("from pycomnet.blocking.ext.pubsub import subscriber", "subject", "InvalidSubject"),
        ):
            ran = subprocess.run(
                [sys.executable, "-c", f"{client}\n{NAME % code}"],
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual((ran.stdout.strip(), ran.stderr), (name, ""), client)


class FieldTests(SynchronousTestCase):
    """What another process sends of an error need not be complete."""

    def test_error_without_fields_has_their_defaults(self) -> None:
        """Each attribute that its class documents is there, but for the kinds of logins, which most
        errors of that class do not have either."""
        known = [
            one
            for one in list(errors._by_code.values())
            if one.fields and not one.__module__.startswith("pycomnet.test.")
        ]
        self.assertGreater(len(known), 6)
        for kind in known:
            for sent in ({"code": kind.code}, {"code": kind.code, "fields": None}):
                problem = from_map(sent)
                self.assertIs(type(problem), kind)
                for name in kind.fields:
                    if name != "login":
                        default = getattr(kind("a message"), name)
                        found = getattr(problem, name)
                        self.assertIn(found, (default, ()) if default == [] else (default,))
