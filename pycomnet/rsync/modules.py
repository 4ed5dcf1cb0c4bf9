"""The far side's part of rsync, as modules that a gateway is offered when it first needs them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from pycomnet.far import rsync
from pycomnet.gateways.modules import ModuleOffer, OfferedRoot

#: The name of the package there.
NAME = "_pycomnet_rsync"
SEND = f"from {NAME}.send import send\nsend(channel, data, options)\n"
RECEIVE = f"from {NAME}.receive import receive\nreceive(channel, data, options)\n"


@functools.cache
def far_modules() -> ModuleOffer:
    """The offer. It is the same for every gateway, so what is compiled there is used again."""
    found = Path(rsync.__file__)
    spec = importlib.util.spec_from_file_location(
        NAME, found, submodule_search_locations=[str(found.parent)]
    )
    assert spec is not None
    return ModuleOffer({NAME: OfferedRoot(spec, named=False)})
