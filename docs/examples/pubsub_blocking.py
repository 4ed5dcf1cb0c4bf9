"""A publisher of random numbers, and a script that prints ten of them, without Deferreds."""

import random
import time
from collections.abc import Iterator

from pycomnet import blocking as pycomnet
from pycomnet.blocking.ext.pubsub import publisher, subscriber


@publisher("demo.interface.name")
def pub_demo() -> Iterator[float]:
    while True:
        yield random.random()
        time.sleep(0.01)  # it has a thread of its own


with pycomnet.ServiceServer() as server, pycomnet.Context() as context:
    server.add(pub_demo())
    address = server.listen("tcp:0:interface=127.0.0.1")

    client = subscriber("demo.interface.name", context=context, address=address)
    print(client[:10])  # the next ten
    print(client[5:10])  # the five after the next five
    for number in client:
        if number > 0.5:
            break
    print(client.get(timeout=10))
    client.close()
