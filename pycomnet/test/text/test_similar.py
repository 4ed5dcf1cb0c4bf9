"""Suggestions for misspelt names."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.text.similar import LONGEST, MOST, most_similar, suggestion, suggestion_or_all


class SimilarTests(SynchronousTestCase):
    """Which name is suggested, and in what words."""

    def test_most_similar_name_is_suggested(self) -> None:
        """In any case, and by its last part; a name that is like none has no suggestion."""
        known = ("call", "list", "org.example.calc", "Upper")
        for word, name in (
            ("cal", "call"),
            ("LIST", "list"),
            ("lits", "list"),
            ("calc", "call"),
            ("uper", "Upper"),
            ("xyz", None),
            ("", None),
            (5, None),
        ):
            self.assertEqual(most_similar(word, known), name)
        self.assertEqual(most_similar("calc", known[1:]), "org.example.calc")
        self.assertIsNone(most_similar("call", ()))
        self.assertIsNone(most_similar("env", ["env:NAME"]))
        self.assertEqual(most_similar("env", ["env:NAME"], 0.5), "env:NAME")

    def test_long_names_and_very_many_are_not_compared(self) -> None:
        """So that names that another process has chosen take no time; short ones still are."""
        long = "".join(map(chr, range(0x4E00, 0x4E00 + LONGEST)))
        self.assertEqual(most_similar(long, [long[::-1], long[:-1]]), long[:-1])
        for word, known in (
            (long + "x", [long]),
            (long, [long + "x"]),
            ("call", ["x"] + [f"{n:06}" for n in range(MOST)] + ["call"]),
        ):
            self.assertIsNone(most_similar(word, known))
        self.assertEqual(most_similar("cal", [long * 1000, "call"]), "call")
        self.assertIn("there are", suggestion_or_all(long * 1000, ["call"]))

    def test_suggestion_is_the_end_of_an_error(self) -> None:
        """Without a similar name it is empty, or all names are listed."""
        self.assertEqual(suggestion("cal", ["call"]), "; did you mean 'call'?")
        self.assertEqual(suggestion("xyz", ["call"]), "")
        self.assertEqual(suggestion_or_all("cal", ["call", "run"]), "; did you mean 'call'?")
        self.assertEqual(suggestion_or_all("xyz", iter(["call", "run"])), "; there are: call, run")

    def test_names_of_others_command_no_terminal(self) -> None:
        """Their control characters are made visible."""
        for shown in (suggestion("call", ["call\x1b"]), suggestion_or_all("xyz", ["call\x1b"])):
            self.assertNotIn("\x1b", shown)
            self.assertIn("call", shown)
