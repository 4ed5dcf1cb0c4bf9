"""Suggestions for misspelt names."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.text.similar import most_similar, suggestion, suggestion_or_all


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
