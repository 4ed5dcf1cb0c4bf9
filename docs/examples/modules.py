"""Functions that use the rest of their module, and its package, and its data."""

from pathlib import Path

import shapes

import pycomnet
from pycomnet.blocking import Group

FACTOR = 10


def scaled(radius):
    return shapes.describe(radius * FACTOR)


if __name__ == "__main__":
    # What is offered can be imported there. It is asked for when that happens, and only that.
    with Group(modules=["shapes"]) as group:
        gateway = group.makegateway("popen", chdir="/")
        assert gateway.call(shapes.describe, 2) == "12.6 cm2"
        assert gateway.call(shapes.title) == "Areas of circles"

        # This program was not offered: the error says which name is missing, and how to go on.
        try:
            gateway.call(scaled, 2)
        except pycomnet.CodeNotSendable as problem:
            assert "send_modules('__main__')" in str(problem)

        # It is imported there as any other module, so what it does has to be guarded as here.
        gateway.send_modules("__main__")
        assert gateway.call(scaled, 2) == "1256.6 cm2"

        # A directory: all modules and packages that Python would find in it.
        gateway.send_modules(Path(__file__).parent)
