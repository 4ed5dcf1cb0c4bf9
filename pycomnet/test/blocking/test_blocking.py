"""pycomnet.blocking has the same names as the Deferred API; what it does is tested by scripts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet import blocking
from pycomnet.channels.files import ChannelFile

#: Of a class, what is no user's business.
OWN = {"abandoned", "forget", "forked", "shut_down"}


class NamesTests(SynchronousTestCase):
    """Every public name of the Deferred API."""

    def test_every_public_name_is_there_and_documented(self) -> None:
        """Each is here, and documented."""
        classes = (pycomnet.Channel, pycomnet.Gateway, pycomnet.Group, pycomnet.MultiChannel)
        for source in (*classes, ChannelFile):
            made = getattr(blocking, source.__name__)
            self.assertEqual(made.__doc__, source.__doc__)
            for name, value in vars(source).items():
                if name.startswith("_") or name in OWN or not callable(value):
                    continue
                self.assertTrue(callable(getattr(made, name)), name)
                self.assertTrue(getattr(made, name).__doc__, name)
