"""A gateway that operates on a channel: code in a worker made it."""

from pycomnet.blocking import ChannelGateway, Group

MAKER = """
from _pycomnet.far.gateways import gatewaymaker
gatewaymaker(channel)
"""

if __name__ == "__main__":
    with Group() as group:
        outer = group.makegateway("popen//id=outer")
        channel = outer.remote_exec(MAKER)
        channel.send("popen")
        inner = ChannelGateway(channel.receive(), id="inner")
        assert inner.call("operator:add", 1, 2) == 3
        assert inner.call("os:getppid") != outer.call("os:getppid")
