"""The same without Deferreds."""

from pycomnet.blocking import Group


def add_one(channel):
    channel.send(channel.receive() + 1)


group = Group()
gateway = group.makegateway("popen")
channel = gateway.remote_exec(add_one)
channel.send(1)
assert channel.receive(timeout=10) == 2
group.terminate(timeout=5)
