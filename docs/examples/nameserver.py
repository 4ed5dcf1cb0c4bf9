"""A nameserver, who registers with it, and who follows it, in one process."""

from contextlib import aclosing

from twisted.internet.task import react

import pycomnet
from pycomnet.nameserver.daemon import NameserverService
from pycomnet.nameserver.stores import make_store


async def main(reactor):
    # What `twistd pycomnet-nameserver` runs; port 0 is any free one.
    store = make_store("memory:", reactor)
    server = NameserverService(store, ["tcp:0:interface=127.0.0.1"], reactor, failed=print)
    server.startService()
    (address,) = server.addresses
    try:
        async with pycomnet.Context(reactor, nameserver=address) as context:
            await use(await context.nameserver(), reactor)
    finally:
        await server.stopService()


async def use(names, reactor):
    # Register, as `twistd pycomnet-service` does for its services.
    held = await names.invoke(
        "register",
        {
            "service": "calc-1",
            "interfaces": ["org.example.calc"],
            "address": "tcp:calc.example.org:2013",
            "ttl": 15,
            "tags": ["eu"],
            "metadata": {"version": 3},
        },
    )
    owner = {"lease": held["lease"], "secret": held["secret"]}
    await names.invoke("renew", owner)  # every five seconds or so

    # Nobody else can have the name.
    try:
        await names.invoke(
            "register",
            {"service": "calc-1", "interfaces": ["org.example.calc"], "address": "tcp:other:1"},
        )
    except pycomnet.ServiceNameTaken as taken:
        assert taken.address == "tcp:calc.example.org:2013"
        assert 14 < taken.ttl <= 15

    # Find it.
    record = await names.invoke("locate", {"interface": "org.example.calc", "tags": ["eu"]})
    assert record["service"] == "calc-1"
    assert record["fence"] == held["fence"]
    records = await names.invoke("list_services", {"service": "calc-*", "limit": 100})
    assert [one["metadata"] for one in records] == [{"version": 3}]

    # Know what is there, always.
    there = {}
    async with aclosing(pycomnet.follow(names, reactor, interface="org.example.*")) as events:
        async for event in events:
            if event["event"] == "put":
                there[event["record"]["service"]] = event["record"]["address"]
            elif event["event"] == "delete":
                del there[event["service"]]
                break
            elif event["event"] == "end-of-snapshot":
                assert there == {"calc-1": "tcp:calc.example.org:2013"}
                await names.invoke("unregister", owner)
    assert there == {}
    print("registered, found, followed and gone")


if __name__ == "__main__":
    react(main)
