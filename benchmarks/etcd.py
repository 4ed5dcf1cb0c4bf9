"""Transactions, reads and renewals of etcd: our client beside grpcio's and the JSON gateway.

``python benchmarks/etcd.py`` starts members of Debian's etcd on loopback, and prints the median of
some rounds for each row, and its ratio to grpcio's. All peers ask the leader, and write the same
keys; grpcio uses our encoders and decoders of messages, so that only the transport differs. "bare"
is a loop on a blocking socket that does nothing but these messages and their frames
(``etcd_bare.py``). Processor time is the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import etcd_bare  # noqa: E402
from ending import stoppable  # noqa: E402
from twisted.internet import defer, task  # noqa: E402

from pycomnet.etcd import (  # noqa: E402
    EtcdClient,
    KeyRange,
    PutRequest,
    RangeRequest,
    TxnRequest,
    requests,
    responses,
    unchanged,
)
from pycomnet.test.system.etcds import EtcdMembers  # noqa: E402

VALUE = b"v" * 100
#: row -> how many are in flight
ROWS = {"txn 1": 1, "txn 64": 64, "get 1": 1, "get 64": 64, "renew 64": 64}
PEERS = ("pycomnet", "grpcio", "json", "bare")

Operation = Callable[[int], Awaitable[Any]]


def transaction(number: int) -> TxnRequest:
    """A conditional transaction, which writes in any case."""
    key = b"bench/%d" % number
    put = (PutRequest(key, VALUE),)
    return TxnRequest((unchanged(key, 0),), put, put)


def processor() -> float:
    """The seconds of processor that this process has taken."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def print_row(name: str, count: int, took: float, used: float) -> None:
    """Print a row: operations, the seconds that they took, and the seconds of processor."""
    figures = {"rate": count / took, "us": used / count * 1e6}
    print(json.dumps({"row": name, **figures}), flush=True)


class Measure:
    """Runs a peer's operations and prints what they take.

    :param seconds: for each row.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = 0.0
        self.count = 0

    async def work(self, operation: Operation, number: int) -> None:
        """One after the other, until the time is over."""
        while time.perf_counter() < self.end:
            await operation(number)
            self.count += 1

    async def row(self, name: str, operation: Operation, gather: Any) -> None:
        """Measure a row."""
        flight = ROWS[name]
        self.end = time.perf_counter() + self.seconds / 5
        await gather([self.work(operation, number) for number in range(flight)])
        self.count = 0
        begun, used = time.perf_counter(), processor()
        self.end = begun + self.seconds
        await gather([self.work(operation, number) for number in range(flight)])
        print_row(name, self.count, time.perf_counter() - begun, processor() - used)


def run_pycomnet(ports: list[int], seconds: float) -> None:
    """Our client."""

    async def main(reactor: Any) -> None:
        client = EtcdClient([f"tcp:127.0.0.1:{port}" for port in ports], reactor, timeout=60)
        await client.connect()
        await task.deferLater(reactor, 1.0)  # until it knows the leader
        leases = [(await client.grant(300)).id for _ in range(64)]
        measure = Measure(seconds)

        def write(number: int) -> Any:
            request = transaction(number)
            return client.txn(request.compares, request.success, request.failure)

        operations: dict[str, Operation] = {
            "txn": write,
            "get": lambda number: client.get(b"bench/%d" % number),
            "renew": lambda number: client.keepalive(leases[number]),
        }

        async def gather(work: list[Any]) -> None:
            await defer.gatherResults([defer.ensureDeferred(one) for one in work])

        for name in ROWS:
            await measure.row(name, operations[name.split()[0]], gather)
        await client.close()

    task.react(lambda reactor: defer.ensureDeferred(main(reactor)))


def run_grpcio(ports: list[int], seconds: float) -> None:
    """grpcio's client for asyncio. A renewal is a stream's write and read."""
    import grpc

    async def main() -> None:
        found = None
        for port in ports:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            ask = channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=bytes,
                response_deserializer=responses.decode_status,
            )
            if (await ask(b"")).is_leader:
                found = channel
        assert found is not None, "no member is the leader"

        def method(name: str, encode: Any, decode: Any) -> Any:
            return found.unary_unary(
                f"/etcdserverpb.{name}", request_serializer=encode, response_deserializer=decode
            )

        txn = method("KV/Txn", requests.encode_txn, responses.decode_txn)
        get = method("KV/Range", requests.encode_range, responses.decode_range)
        grant = method("Lease/LeaseGrant", bytes, responses.decode_grant)
        leases = [(await grant(requests.encode_numbers(300))).id for _ in range(64)]
        stream = found.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=requests.encode_numbers,
            response_deserializer=responses.decode_keepalive,
        )()
        waiting: dict[int, Any] = {}
        writing = asyncio.Lock()

        async def renew(number: int) -> None:
            lease = leases[number]
            answer = waiting[lease] = asyncio.get_running_loop().create_future()
            async with writing:  # it takes one message at a time
                await stream.write(lease)
            await answer

        async def read() -> None:
            while True:
                lease, ttl = await stream.read()
                waiting.pop(lease).set_result(ttl)

        reading = asyncio.ensure_future(read())
        operations: dict[str, Operation] = {
            "txn": lambda number: txn(transaction(number), timeout=60),
            "get": lambda number: get(RangeRequest(KeyRange(b"bench/%d" % number)), timeout=60),
            "renew": renew,
        }

        async def gather(work: list[Any]) -> None:
            await asyncio.gather(*work)

        measure = Measure(seconds)
        for name in ROWS:
            await measure.row(name, operations[name.split()[0]], gather)
        reading.cancel()

    asyncio.run(main())


def run_json(ports: list[int], seconds: float) -> None:
    """etcd's JSON gateway by Twisted's HTTP client; it has no streams, so no row of renewals."""
    from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
    from twisted.web.http_headers import Headers

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    async def main(reactor: Any) -> None:
        import io

        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 64
        agent = Agent(reactor, pool=pool)
        headers = Headers({"Content-Type": ["application/json"]})

        async def ask(path: str, body: Any, port: int) -> Any:
            producer = FileBodyProducer(io.BytesIO(json.dumps(body).encode()))
            url = f"http://127.0.0.1:{port}/v3/{path}".encode()
            answer = await agent.request(b"POST", url, headers, producer)
            return json.loads(await readBody(answer))

        leader = ports[0]
        for port in ports:
            status = await ask("maintenance/status", {}, port)
            if status["leader"] == status["header"]["member_id"]:
                leader = port

        async def write(number: int) -> None:
            key = text(b"bench/%d" % number)
            put = [{"requestPut": {"key": key, "value": text(VALUE)}}]
            compare = [{"key": key, "target": "MOD", "modRevision": "0"}]
            await ask("kv/txn", {"compare": compare, "success": put, "failure": put}, leader)

        async def get(number: int) -> None:
            answer = await ask("kv/range", {"key": text(b"bench/%d" % number)}, leader)
            base64.b64decode(answer["kvs"][0]["value"])

        async def gather(work: list[Any]) -> None:
            await defer.gatherResults([defer.ensureDeferred(one) for one in work])

        measure = Measure(seconds)
        for name in ROWS:
            if not name.startswith("renew"):
                await measure.row(name, write if name.startswith("txn") else get, gather)
        await pool.closeCachedConnections()

    task.react(lambda reactor: defer.ensureDeferred(main(reactor)))


def run_bare(ports: list[int], seconds: float) -> None:
    """The messages, their frames and a socket; no row of renewals, see ``etcd_scale.py bare``."""

    def leads(port: int) -> bool:
        found: list[bool] = []

        def decode(data: bytes) -> None:
            found.append(responses.decode_status(data).is_leader)

        path = "/etcdserverpb.Maintenance/Status"
        etcd_bare.call(port, path, lambda _: b"", decode, 1, lambda count: count < 1)
        return found[0]

    leader = next(port for port in ports if leads(port))
    kinds: dict[str, tuple[str, Callable[[int], bytes], Callable[[bytes], Any]]] = {
        "txn": (
            "/etcdserverpb.KV/Txn",
            lambda number: requests.encode_txn(transaction(number)),
            responses.decode_txn,
        ),
        "get": (
            "/etcdserverpb.KV/Range",
            lambda number: requests.encode_range(RangeRequest(KeyRange(b"bench/%d" % number))),
            responses.decode_range,
        ),
    }

    def row(name: str, flight: int) -> None:
        first: list[tuple[int, float, float]] = []
        begun = time.perf_counter()

        def goes_on(count: int) -> bool:
            now = time.perf_counter()
            if not first and now - begun >= seconds / 5:
                first.append((count, now, processor()))
            return not first or now - first[0][1] < seconds

        count = etcd_bare.call(leader, *kinds[name.split()[0]], flight, goes_on)
        before, then, used = first[0]
        print_row(name, count - before, time.perf_counter() - then, processor() - used)

    for name, flight in ROWS.items():
        if not name.startswith("renew"):
            row(name, flight)


def run(peer: str, ports: list[int], seconds: float) -> dict[str, dict[str, float]]:
    """Run a peer in a process of its own: row -> its figures; empty if it is not installed."""
    command = [sys.executable, __file__, "--peer", peer, "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, *map(str, ports)], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        print(f"{peer} has failed:\n{done.stderr}", file=sys.stderr)
        return {}
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {one["row"]: one for one in found}


def show(rounds: list[dict[str, dict[str, dict[str, float]]]]) -> None:
    """Print the medians, and the ratios to grpcio."""

    def median(peer: str, row: str, figure: str) -> float:
        values = [one[peer][row][figure] for one in rounds if row in one.get(peer, {})]
        return statistics.median(values) if values else float("nan")

    def ratio(peer: str, row: str, figure: str) -> float:
        """The median of the rounds' ratios: what disturbs a round disturbs both."""
        values = [
            one[peer][row][figure] / one["grpcio"][row][figure]
            for one in rounds
            if row in one.get(peer, {}) and row in one.get("grpcio", {})
        ]
        return statistics.median(values) if values else float("nan")

    heads = [*PEERS, "to grpcio: rate  us", "bare us"]
    print(f"{'':10}" + "".join(f"{head:>22}" for head in heads))
    for row in ROWS:
        shown = f"{row:10}"
        for peer in PEERS:
            shown += f"{median(peer, row, 'rate'):>11.0f}/s{median(peer, row, 'us'):>6.0f} us"
        ours = [ratio("pycomnet", row, figure) for figure in ("rate", "us")]
        print(f"{shown}{ours[0]:>17.2f}{ours[1]:>5.2f}{ratio('bare', row, 'us'):>22.2f}")


def main() -> None:
    """Start the members, run all peers in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", nargs="*", type=int, help="of members that run already")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--peer", choices=PEERS, help="run this one alone, and print JSON")
    parser.add_argument("--directory", type=Path, help="for the members' data; removed")
    options = parser.parse_args()
    if options.peer:
        programs = {
            "pycomnet": run_pycomnet,
            "grpcio": run_grpcio,
            "json": run_json,
            "bare": run_bare,
        }
        programs[options.peer](options.ports, options.seconds)
        return
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=options.directory))
    members = EtcdMembers(directory, options.members)
    with stoppable():
        try:
            members.start()
            ports = [int(member.url.rpartition(":")[2]) for member in members.members]
            show(
                [
                    {peer: run(peer, ports, options.seconds) for peer in PEERS}
                    for _ in range(options.rounds)
                ]
            )
        finally:
            members.stop()
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
