"""The drop-in for execnet: execnet's program, which finds the drop-in by execnet's name."""

from __future__ import annotations

from pycomnet.xdist import stand_in

stand_in()

import execnet_peer  # noqa: E402 - it imports execnet
import measure  # noqa: E402

if __name__ == "__main__":
    measure.answer(execnet_peer.run)
