"""Send mutated credentials to a server with access rules: none may get in, and nothing may grow.

    python benchmarks/fuzz_logins.py --count 20000 --seed 1
    python benchmarks/fuzz_logins.py --count 1000000

The messages are almost right: a password, a token or a JSON Web Token with some bytes changed, or
with other contents. The status is 1 if one of them got in, a call ran, or the process grew.
pycomnet/test/ext/access/mutated.py is what it does; the network is in memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from pycomnet.test.ext.access.mutated import MutatedLogins

#: Messages between two looks at the memory.
PART = 10_000
#: The share of the messages that go over the network.
WHOLE = 0.02
#: MB by which the process may grow after the first part.
MOST_GROWTH = 20.0


def memory() -> float:
    """The resident memory of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(size) / 1024


def main() -> int:
    """Run, and print what came of the messages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="messages to send")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        logins = MutatedLogins(Path(directory), arguments.seed, WHOLE)
        first, left = 0.0, arguments.count
        while left > 0:
            logins.run(min(PART, left))
            left -= PART
            kept, now = logins.kept(), memory()
            first = first or now
            outcomes = ", ".join(f"{name} {n}" for name, n in logins.outcomes.most_common())
            print(
                f"seed {arguments.seed}, {logins.outcomes.total()} messages, "
                f"{time.monotonic() - start:.0f} s: {outcomes}; "
                f"{now:.1f} MB, {now - first:+.1f}; kept: {kept}",
                flush=True,
            )
    for payload in logins.got_in[:10]:
        print("got in:", payload)
    return int(bool(logins.got_in or logins.ran or now - first > MOST_GROWTH))


if __name__ == "__main__":
    sys.exit(main())
