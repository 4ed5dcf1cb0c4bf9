"""What far code prints is shown under the gateway's id, or handed to a callback."""

from twisted.internet.task import react

import pycomnet


def chatter(channel):
    import sys

    print("working on it")
    print("this looks odd", file=sys.stderr)


async def main(reactor):
    # By default it is shown: "[gw0] working on it".
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        await gateway.remote_exec(chatter).waitclose()

    # A callback gets it in pieces, which may be cut anywhere. When it returns a Deferred, far code
    # that prints waits for that.
    printed = {1: "", 2: ""}

    def collect(output):
        assert output.gateway == "worker"
        printed[output.stream] += output.text

    async with pycomnet.Group(reactor, output=collect) as group:
        gateway = await group.makegateway("popen//id=worker")
        await gateway.remote_exec(chatter).waitclose()
        assert printed == {1: "working on it\n", 2: "this looks odd\n"}


react(main)
