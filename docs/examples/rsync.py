"""A directory, sent to two gateways."""

import os
import tempfile
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

import pycomnet


async def main(reactor):
    with tempfile.TemporaryDirectory() as base:
        source = Path(base, "project")
        (source / "docs").mkdir(parents=True)
        (source / "docs" / "index.rst").write_text("Hello\n")
        (source / "main.py").write_text("print('hello')\n")
        (source / "main.pyc").write_bytes(b"compiled")
        async with pycomnet.Group(reactor) as group:
            gateways = await gatherResults([group.makegateway("popen") for _ in range(2)])

            # All targets get what is in the directory, from one reading of it.
            sync = pycomnet.RSync(source, exclude=["*.pyc"], delete=True)
            for number, gateway in enumerate(gateways):
                sync.add_target(gateway, f"{base}/target{number}")
            result = await sync.send()
            result.raise_for_failures()
            assert sorted(result.targets[0].sent) == ["docs/index.rst", "main.py"]
            assert sorted(os.listdir(f"{base}/target1")) == ["docs", "main.py"]

            # The next time, only what has changed is sent, and what is gone is deleted.
            (source / "main.py").write_text("print('hello, world')\n")
            (source / "docs" / "index.rst").unlink()
            kinds = {}
            async for event in sync.events():
                kinds.setdefault(event.kind, set()).add(event.path)
            assert kinds["sent"] == {"main.py"}
            assert kinds["deleted"] == {"docs/index.rst"}

            # The other way.
            result = await pycomnet.fetch(gateways[0], f"{base}/target0", f"{base}/back")
            assert result.sent == ["main.py"]


react(main)
