"""A service: it adds. Run it with ``twistd --pidfile= -n pycomnet-service calc``."""

from typing import Any

import pycomnet


@pycomnet.interface("org.example.calc")
class Calc(pycomnet.Service):
    """Calculates."""

    @pycomnet.method(args={"a": int, "b": int}, results=int, idempotent=True)
    def add(self, request: Any) -> int:
        """The sum of a and b."""
        return int(request.args["a"] + request.args["b"])
