"""The code at the far side: the same for pycomnet and execnet, whose channels are called alike.

It is sent as source, so each function stands alone (and has no annotations: execnet takes their
names for globals that the far side lacks). Those with ``counts`` do their work once for each of
them: the first time to warm up.
"""

# mypy: disable-error-code="no-untyped-def"


def echo(channel):
    while True:
        value = channel.receive()
        if value is None:
            break
        channel.send(value)


def first(channel):
    channel.send(1)


def send_dicts(channel, counts):
    for count in counts:
        channel.receive()
        for number in range(count):
            channel.send({"id": number, "name": "a name", "score": 0.5, "ok": True})


def send_bytes(channel, counts, size):
    data = b"x" * size
    for count in counts:
        channel.receive()
        for _ in range(count):
            channel.send(data)


def take(channel, counts):
    for count in counts:
        for _ in range(count):
            channel.receive()
        channel.send(count)


def send_counted(channel, count, size):
    import sys

    data = b"x" * size
    channel.receive()
    for number in range(count):
        channel.send(data)
        sys.__dict__["benchmark_sent"] = number + 1


def tell_count(channel):
    import sys

    while True:
        channel.receive()
        channel.send(sys.__dict__.get("benchmark_sent", 0))


def take_nothing(channel):
    import time

    channel.send("ready")
    time.sleep(60)


def send_big(channel, size):
    data = b"x" * size
    channel.send("made")
    channel.receive()
    channel.send(data)


def take_big(channel):
    channel.send(len(channel.receive()))
