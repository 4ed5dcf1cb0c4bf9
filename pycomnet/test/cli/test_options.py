"""Which gateways ``--on`` asks for."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli.options import MAX_COUNT, expand, read_specs
from pycomnet.errors import SpecError


class Expanding(SynchronousTestCase):
    """One text, several gateways."""

    def targets(self, text: str) -> list[str | None]:
        """Where they lead."""
        return [spec.target for spec in expand(text)]

    def test_range_counts_up_and_down(self) -> None:
        """A range of numbers, up or down, with leading noughts or without."""
        self.assertEqual(self.targets("ssh=host{1..3}"), ["host1", "host2", "host3"])
        self.assertEqual(self.targets("ssh=h{3..1}.x"), ["h3.x", "h2.x", "h1.x"])
        self.assertEqual(self.targets("ssh=h{08..10}"), ["h08", "h09", "h10"])
        self.assertEqual(len(self.targets("ssh=host{1..50}")), 50)

    def test_words_expand_and_the_last_turns_first(self) -> None:
        """Words, and several braces: the last turns first, as in a shell."""
        self.assertEqual(self.targets("ssh={a,b}.example"), ["a.example", "b.example"])
        self.assertEqual(self.targets("ssh={a,b}{1..2}"), ["a1", "a2", "b1", "b2"])

    def test_as_they_are(self) -> None:
        """Braces that say nothing to a shell stay."""
        self.assertEqual(self.targets("ssh=h -o X={}"), ["h -o X={}"])
        self.assertEqual(self.targets("ssh=h -o X={a}"), ["h -o X={a}"])

    def test_counted_specs_are_repeated(self) -> None:
        """With a count each of them comes so often."""
        self.assertEqual(self.targets("2xssh=h{1..2}"), ["h1", "h1", "h2", "h2"])

    def test_shared_id_is_numbered(self) -> None:
        """An id that all have is numbered; one that differs already is not."""
        self.assertEqual([s.id for s in expand("ssh=h{1..2}//id=w")], ["w0", "w1"])
        self.assertEqual([s.id for s in expand("popen//id=w{1..2}")], ["w1", "w2"])
        self.assertEqual([s.id for s in expand("2xpopen//id=w")], ["w0", "w1"])
        self.assertEqual([s.id for s in expand("popen//id=w")], ["w"])

    def test_too_many_specs_are_refused_before_they_are_made(self) -> None:
        """More than anybody means are refused before they are made."""
        for text in (
            f"ssh=h{{1..{MAX_COUNT + 1}}}",
            "ssh=h{1..999999999999}",
            "ssh={1..100}{1..100}",
            "500xssh={a,b,c}",
            "2000xpopen",
            "0xpopen",
        ):
            error = self.assertRaises(SpecError, expand, text)
            self.assertIn(f"from 1 to {MAX_COUNT}", str(error))

    def test_duplicate_id_is_refused(self) -> None:
        """Two gateways can't have one id."""
        with self.assertRaises(SpecError):
            read_specs(["popen//id=a", "ssh=h//id=a"])
