"""What runs at Mitogen's far side; it imports this module from the near one."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from mitogen.core import Blob, Receiver, takes_router


@takes_router
def echo(sender: Any, router: Any) -> None:
    receiver = Receiver(router)
    sender.send(receiver.to_sender())
    for message in receiver:
        sender.send(message.unpickle())


@takes_router
def send_dicts(sender: Any, counts: list[int], router: Any) -> None:
    receiver = Receiver(router)
    sender.send(receiver.to_sender())
    for count in counts:
        receiver.get()
        for number in range(count):
            sender.send({"id": number, "name": "a name", "score": 0.5, "ok": True})


@takes_router
def send_bytes(sender: Any, counts: list[int], size: int, router: Any) -> None:
    receiver = Receiver(router)
    sender.send(receiver.to_sender())
    data = Blob(b"x" * size)
    for count in counts:
        receiver.get()
        for _ in range(count):
            sender.send(data)


@takes_router
def take(sender: Any, counts: list[int], router: Any) -> None:
    receiver = Receiver(router)
    sender.send(receiver.to_sender())
    for count in counts:
        for _ in range(count):
            receiver.get().unpickle()
        sender.send(count)


def first() -> int:
    return 1
