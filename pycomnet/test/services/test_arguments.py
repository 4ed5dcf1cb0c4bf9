"""Numbers that a method refuses: the caller's, and its own."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import InvalidArguments, RemoteError
from pycomnet.ranges import whole
from pycomnet.services.arguments import refusing_numbers
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.network import ServiceCase


@interface("t.numbers")
class Numbers(Service):
    """Checks numbers."""

    @method()
    def theirs(self, request: Any) -> int:
        """The caller's."""
        with refusing_numbers():
            return whole("count", request.args["count"], 1, 9)

    @method()
    def own(self, request: Any) -> int:
        """One that the caller knows nothing of."""
        return whole("workers", -1, 1)


class NumberTests(ServiceCase):
    """What the caller gets."""

    services = (Numbers,)

    def test_refused_argument_is_the_callers(self) -> None:
        """It says what was expected."""
        remote = self.connect()
        self.assertEqual(self.result(remote.invoke("theirs", {"count": 3})), 3)
        problem = self.failure(remote.invoke("theirs", {"count": 10}), InvalidArguments)
        self.assertIn("count: expected a whole number from 1 to 9, not 10", str(problem))

    def test_refused_number_of_the_methods_own_is_an_error_of_the_method(self) -> None:
        """The caller is not told to give other arguments."""
        problem = self.failure(self.connect().invoke("own"), RemoteError)
        self.assertIn("NumberRefused", problem.type)
