"""The nameserver on etcd beside bare etcd, in one run: registering, and what another one sees.

Three members on this machine, a client of them, and two stores, as two nameservers have them, each
in a process of its own. "Bare" is a grant and a transaction by the same client, and a watch of the
client in the other nameserver's process that sees them. Rounds of both take turns, so that their
ratio says something on a busy machine. ``python benchmarks/etcd_names.py``.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ending import react
from twisted.internet import defer, task
from twisted.internet.threads import deferToThread

from pycomnet.etcd import EtcdClient, KeyEvent, PutRequest, RangeRequest, prefix, unchanged
from pycomnet.nameserver.daemon import loading_many
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.stores import make_store
from pycomnet.test.nameserver.kit import Follower, record
from pycomnet.test.system.etcds import EtcdMembers


def waited() -> float:
    """The seconds that this process's main thread was ready to run, and other processes ran."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


#: name -> when it was seen, and :func:`waited` then
Seen = dict[str, tuple[float, float]]
#: The keys of bare transactions.
BARE = b"/bare/"


class SeenFollower(Follower):
    """A follower that notes when it was told of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = {}

    def changed(self, changes: Any) -> None:
        super().changed(changes)
        now = time.monotonic(), waited()
        for change in changes:
            self.seen.setdefault(change.service, now)


class BareWatch:
    """A watch's handler that notes when it was told of each name, and does nothing else.

    :ivar begun: fires when etcd has begun the watch.
    """

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.begun: defer.Deferred[None] = defer.Deferred()

    def created(self, revision: int) -> None:
        if not self.begun.called:
            self.begun.callback(None)

    def events(self, events: list[KeyEvent], revision: int) -> None:
        now = time.monotonic(), waited()
        for event in events:
            self.seen.setdefault(event.kv.key[len(BARE) :].decode(), now)

    def progress(self, revision: int) -> None:
        """It does not matter."""

    def disconnected(self, reason: Exception) -> None:
        """It goes on at another member."""

    def compacted(self, revision: int) -> None:
        raise AssertionError("nobody compacts")

    def cancelled(self, reason: Exception) -> None:
        """The client is closed."""


def print_lateness(who: str, acknowledged: dict[str, float], seen: Seen) -> None:
    """Print how long after the acknowledgements the other process has seen the changes.

    On a busy machine that is mostly the time that its process waited for a processor. So it is
    printed without that time, too: what it waited since its last change before the acknowledgement.

    :param who: has seen them.
    """
    samples = sorted(seen.values())
    #: how many were in flight -> round -> for each name the time, and that without waiting
    late: dict[int, dict[int, list[tuple[float, float]]]] = {}
    for name, when in acknowledged.items():
        came, waits = seen[name]
        before = samples[max(0, bisect_left(samples, (when,)) - 1)][1]
        took = came - when
        own = min(took, max(0.0, took - (waits - before)))
        many, turn, _ = map(int, name[1:].split("-"))
        late.setdefault(many, {}).setdefault(turn, []).append((took, own))
    for many, turns in late.items():
        print(f"seen by {who} after the acknowledgement, {many} in flight:")
        for which, what in enumerate(("in all", "without waiting for a processor")):
            each = [sorted(pair[which] for pair in some) for some in turns.values()]
            values = sorted(value for some in each for value in some)
            p99 = statistics.median(some[len(some) * 99 // 100] for some in each)
            print(
                f"    {what}: median {1e3 * statistics.median(values):.2f} ms, p99 "
                f"{1e3 * values[len(values) * 99 // 100]:.2f} ms (median of the rounds "
                f"{1e3 * p99:.2f}), at most {1e3 * values[-1]:.2f} ms"
            )


async def in_flight(one: Callable[[str], Any], names: list[str], many: int) -> float:
    """The seconds that some calls take, so many at a time."""
    waiting = iter(names)

    async def work() -> None:
        for name in waiting:
            await one(name)

    begun = time.monotonic()
    await defer.gatherResults([defer.Deferred.fromCoroutine(work()) for _ in range(many)])
    return time.monotonic() - begun


async def measure(
    reactor: Any,
    members: EtcdMembers,
    other: subprocess.Popen[bytes],
    rounds: int,
    count: int,
) -> None:
    """Print the ratios.

    :param other: runs :func:`watch`.
    """
    endpoints = [one.url.replace("http://", "tcp:") for one in members.members]
    client = EtcdClient(endpoints, reactor)
    await client.connect()
    store = make_store(f"etcd:{members.urls}", reactor)
    with loading_many():  # as a nameserver's process does
        await store.open(Follower())
    assert other.stdin is not None and other.stdout is not None
    await deferToThread(other.stdout.readline)

    acknowledged: dict[str, float] = {}
    answered: dict[str, float] = {}

    async def bare(name: str) -> None:
        key, lease = BARE + name.encode(), secrets.randbits(53)
        await client.grant(30, id=lease)
        await client.txn(
            [unchanged(key, 0)],
            [PutRequest(key, bytes(150), lease, previous=True)],
            [RangeRequest(prefix(key))],
        )
        answered[name] = time.monotonic()

    async def register(name: str) -> None:
        wanted = record(name)
        wanted.lease = secrets.randbits(53)
        await store.commit(Put(wanted))
        acknowledged[name] = time.monotonic()

    for many, some in ((1, count // 10), (64, count)):
        ratios, rates, spent = [], [], [0.0, 0.0]
        for turn in range(rounds):
            names = [f"n{many}-{turn}-{number}" for number in range(some)]
            begun = time.process_time()
            alone = await in_flight(bare, names, many)
            between = time.process_time()
            ours = await in_flight(register, names, many)
            spent[0] += between - begun
            spent[1] += time.process_time() - between
            ratios.append(alone / ours)
            rates.append(some / ours)
        bares, own = (1e6 * one / (rounds * some) for one in spent)
        print(
            f"register, {many} in flight: {statistics.median(rates):.0f}/s, "
            f"{statistics.median(ratios):.2f} of bare's rate ({min(ratios):.2f} to "
            f"{max(ratios):.2f}); {own:.0f} us of processor each, bare {bares:.0f}"
        )
    await task.deferLater(reactor, 0.5)
    said, _ = await deferToThread(other.communicate)
    watched, followed = ({name: (*at,) for name, at in seen.items()} for seen in json.loads(said))
    print_lateness("a bare watch", answered, watched)
    print_lateness("the other nameserver", acknowledged, followed)
    loading = make_store(f"etcd:{members.urls}", reactor)
    begun = time.process_time()
    follower = Follower()
    await loading.open(follower)
    spent = time.process_time() - begun
    print(f"{len(follower.records)} records loaded with {spent:.2f} s of processor time")
    for one in (store, loading):
        await one.close()
    await client.close()


async def run(reactor: Any, options: argparse.Namespace) -> None:
    """Start members, and measure."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=options.directory))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        members = EtcdMembers(directory, 3)
        stack.callback(members.stop)
        for one in members.members:
            one.start()
        await deferToThread(members.wait)
        command = [sys.executable, __file__, "--watch", members.urls]
        pipe = subprocess.PIPE
        other = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
        stack.callback(other.kill)
        await measure(reactor, members, other, options.rounds, options.count)


async def watch(reactor: Any, urls: str) -> None:
    """Be another nameserver, and a bare watch, until standard input ends; then print when each has
    seen each name."""
    store, follower = make_store(f"etcd:{urls}", reactor), SeenFollower()
    with loading_many():  # as a nameserver's process does
        await store.open(follower)
    client = EtcdClient([url.replace("http://", "tcp:") for url in urls.split(",")], reactor)
    await client.connect()
    watch = BareWatch()
    client.watch(prefix(BARE), watch)
    await watch.begun
    print("ready", flush=True)
    await deferToThread(sys.stdin.read)
    print(json.dumps([watch.seen, follower.seen]), flush=True)
    await client.close()
    await store.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watch", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--directory", default=None, help="for the members' data")
    found = parser.parse_args()
    if found.watch is not None:
        react(lambda reactor: watch(reactor, found.watch))
    react(lambda reactor: run(reactor, found))


if __name__ == "__main__":
    main()
