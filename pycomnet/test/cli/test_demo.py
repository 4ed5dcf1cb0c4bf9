"""``demo``: the steps, on a part of the library, and what it does when one goes wrong."""

from __future__ import annotations

from pycomnet.cli import survey
from pycomnet.test.cli.case import CommandCase


class Survey(CommandCase):
    """What is found in a module."""

    def test_survey_counts_lines_functions_classes_and_imports(self) -> None:
        """Lines, functions with those within others, classes, imports that are not relative."""
        path = self.file(
            "m.py",
            "import os, sys\nfrom json import loads\nfrom . import x\nfrom .y import z\n"
            "class A:\n    def f(self):\n        def g():\n            pass\n        return g\n"
            "async def h(): pass\n",
        )
        self.assertEqual(
            survey.survey_module(path),
            {
                "lines": 10,
                "functions": 3,
                "classes": 1,
                "longest": [(1, "h"), (2, "g"), (4, "f")],
                "imports": {"os", "sys", "json"},
            },
        )

    def test_unparsable_file_is_counted(self) -> None:
        """A file that can't be parsed is counted as that."""
        good, bad = self.file("good.py", "import os\n"), self.file("bad.py", "print 1\n")
        found = {path: survey.survey_module(path) for path in (good, bad)}
        self.patch(survey, "module_name", str)
        findings = survey.Findings.of(found)
        self.assertEqual((findings.modules, findings.lines), (1, 1))
        self.assertEqual(findings.imported, [("os", 1)])
        self.assertTrue(findings.problems[bad].startswith("SyntaxError: "))

    def test_module_names_are_as_imported(self) -> None:
        """As they are imported."""
        names = {survey.module_name(path) for path in survey.library_modules()}
        self.assertTrue({"json", "json.decoder", "ast", "os"} <= names)
        self.assertFalse({name for name in names if name.startswith(("test.", "site-packages"))})
