"""Blocks of binary data beside a call's arguments, and beside its result."""

import hashlib
import tempfile
from typing import Any

from twisted.internet.task import react

import pycomnet


@pycomnet.interface("org.example.archive")
class Archive(pycomnet.Service):
    """Keeps nothing."""

    @pycomnet.method()
    def store(self, request: Any) -> Any:
        """Hash each block, and send a receipt."""
        sums = {}
        for file in request.files:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
            sums[file.filename] = digest.hexdigest()
        return sums, pycomnet.Binary(b"%d blocks\n" % len(sums), "receipt.txt")


async def main(reactor: Any) -> None:
    limits = pycomnet.ServerLimits(blocks=pycomnet.BlockLimits(block=1 << 30, count=4))
    server = pycomnet.ServiceServer(reactor, limits=limits)
    await server.add(Archive())
    address = await server.listen("tcp:0:interface=127.0.0.1")

    with tempfile.NamedTemporaryFile() as long:
        long.write(bytes(10_000_000))
        long.flush()
        async with pycomnet.Context(reactor) as context:
            archive = await context.connect(address)
            sums, files = await archive.invoke(
                "store",
                attachments=[
                    pycomnet.Binary(long.name, "long"),  # a path,
                    pycomnet.Binary(b"some bytes", "short"),  # bytes, or an open file
                ],
                with_binary=True,
            )
            assert sums["short"] == hashlib.sha256(b"some bytes").hexdigest()
            (receipt,) = files
            assert receipt.filename == "receipt.txt"
            assert receipt.read() == b"2 blocks\n"
    await server.close()


react(main)
