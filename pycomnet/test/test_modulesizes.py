"""No module is longer than 500 lines, but those that are named here, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.importrules import PACKAGE

#: The most lines of a module.
MOST = 500
#: The exceptions: the most lines of each. Lower a limit when its module becomes shorter.
LONGER = {
    # A list: some fifty classes of a few lines, which users look for in one place.
    "errors.py": 570,
    # One class whose two methods are one loop each over a value: a call for each item is what
    # would be most of its time.
    "wire/values.py": 860,
    # Each value passes these two. Their classes' attributes are read directly, in each other's
    # methods: what was taken out of them cost a call for each value.
    "channels/core.py": 670,
    "channels/connection.py": 670,
    # The same at the far side, where threads share the locks that these methods hold.
    "far/connection.py": 660,
    "far/channel.py": 530,
    # Each frame of a far side that lingers passes it; it is one table of the channels' state.
    "far/lingering/relay.py": 580,
}


def too_long(sizes: Mapping[str, int], longer: Mapping[str, int]) -> list[str]:
    """What is wrong with the lengths of modules.

    :param sizes: a module's path in the package -> its lines.
    :param longer: the exceptions: path -> the most lines.
    """
    found = [
        f"{path} has {size} lines, the limit is {longer.get(path, MOST)}: split it"
        for path, size in sorted(sizes.items())
        if size > longer.get(path, MOST)
    ]
    return found + [
        f"{path} is no exception any more" for path in sorted(longer) if sizes.get(path, 0) <= MOST
    ]


class SizeTests(SynchronousTestCase):
    """The lengths of modules."""

    def test_modules_are_short(self) -> None:
        """No module of the package is too long, the tests aside."""
        sizes = {}
        for path in PACKAGE.rglob("*.py"):
            name = path.relative_to(PACKAGE)
            if name.parts[0] != "test":
                sizes[name.as_posix()] = path.read_text(encoding="utf-8").count("\n")
        self.assertGreater(len(sizes), 100)
        self.assertEqual(too_long(sizes, LONGER), [])

    def test_long_modules_are_found(self) -> None:
        """One of 501 lines, one above its own limit, and an exception that is not needed."""
        sizes = {"a.py": 500, "b.py": 501, "c.py": 700, "d.py": 701, "e.py": 500}
        longer = {"c.py": 700, "d.py": 700, "e.py": 600, "gone.py": 600}
        found = "\n".join(too_long(sizes, longer))
        self.assertEqual(
            found,
            "b.py has 501 lines, the limit is 500: split it\n"
            "d.py has 701 lines, the limit is 700: split it\n"
            "e.py is no exception any more\n"
            "gone.py is no exception any more",
        )
