"""The stub of the API without Deferreds is what its source makes of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet import blocking
from pycomnet.blocking.stub import PATH, stub


class StubTests(SynchronousTestCase):
    """``pycomnet/blocking/__init__.pyi``."""

    def test_stub_is_up_to_date(self) -> None:
        """It is what ``python -m pycomnet.blocking.stub`` writes."""
        self.assertEqual(
            PATH.read_text(), stub(), "write it anew: python -m pycomnet.blocking.stub"
        )

    def test_stub_has_exactly_what_is_public(self) -> None:
        """Each public method and property of each class is in it, and no other."""
        text = PATH.read_text()
        for name in blocking.__all__:
            if name == "GatewayExecutor":
                continue
            self.assertRegex(text, rf"(?m)^(class|def) {name}\b")
        for inner in ("abandoned", "forget", "forked", "shut_down"):
            self.assertNotIn(f"def {inner}(", text)
            self.assertFalse(hasattr(blocking.Group, inner) or hasattr(blocking.Gateway, inner))
