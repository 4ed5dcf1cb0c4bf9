"""Addresses of stores in PostgreSQL. ``postgresql_cases.py`` has the tests that need a server."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from pycomnet.ext.workflow.errors import RunStoreFailed
from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.ext.workflow.stores.postgresql import Address


class AddressTests(TestCase):
    """What may follow ``postgresql:``."""

    def test_own_options_are_taken_out(self) -> None:
        """The schema and the lease are the store's; the rest is libpq's."""
        found = Address.of("//u:p%20w@h:5/d?sslmode=require&schema=s%20t&lease=2.5")
        self.assertEqual((found.schema, found.lease), ("s t", 2.5))
        self.assertEqual(found.conninfo["sslmode"], "require")
        self.assertEqual(found.conninfo["password"], "p w")
        self.assertEqual(found.name, "postgresql://u@h:5/d?schema=s t")
        self.assertNotIn("p w", repr(found))

    def test_wrong_addresses(self) -> None:
        """What is no address is refused, and says what is expected."""
        for wrong in (
            "",
            "x",
            "//h/d?lease=0",
            "//h/d?lease=nan",
            "//h/d?lease=1e9",
            "//h/d?lease=",
            "//h/d?lease=1_0",
            "//h/d?schema=",
            "//h/d?schema=" + "x" * 64,
            "//h/d?nothing=1",
            "//h/d?schema=$user",
        ):
            with self.assertRaisesRegex(RunStoreFailed, "expected postgresql://"):
                Address.of(wrong)

    def test_misspelt_options_are_told_with_those_that_are_near(self) -> None:
        """Of the store and of libpq; one that libpq alone knows goes to it."""
        for wrong, near in (
            ("//u@h/d?schem=x", "no option schem; did you mean 'schema'"),
            ("//u@h/d?lease=5&leese=5", "no option leese; did you mean 'lease'"),
            ("//u@h/d?ssl_mode=require", "no option ssl_mode; did you mean 'sslmode'"),
        ):
            with self.assertRaisesRegex(RunStoreFailed, near):
                Address.of(wrong)
        self.assertEqual(Address.of("//h/d?ssl=true").conninfo["sslmode"], "require")

    def test_no_error_has_a_password(self) -> None:
        """What is wrong with an address is told without a part of it that may be a password."""
        for wrong in (
            "postgresql://u:secret%zz@h/d",
            "postgresql://u:secret@[h/d",
            "postgresql://h/d?password=secret%zz",
            "postgresql://u:secret@h/d?nothing=1",
            "postgres://u:secret@h/d",
        ):
            with self.assertRaises(RunStoreFailed) as caught:
                make_run_store(wrong, Clock())
            self.assertNotIn("secret", str(caught.exception))
