"""Reads all keys of a range in etcd, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from twisted.internet import defer

from pycomnet.etcd import (
    EtcdClient,
    EtcdOverloaded,
    EtcdTimeout,
    KeyRange,
    KeyValue,
    RangeRequest,
    RangeResponse,
)
from pycomnet.text.logs import Logger

log = Logger()
T = TypeVar("T")
Decode = Callable[[list[KeyValue]], Iterable[T]]

#: Records of the first page. The largest records have 30 kB, and the client accepts replies of
#: 64 MiB. If a reply is too long or too late all the same, the next request is for fewer.
PAGE = 500
#: For each page etcd goes through all keys that follow. For a million records in pages of 10,000
#: that takes it longer than to send them. So each page is up to GROWTH times as long as the last,
#: while a reply has about BYTES bytes at most, up to MOST records at the start, and MOST_SERVING
#: while other requests wait. Where records are larger, pages become smaller again.
BYTES, GROWTH = 8 << 20, 4
MOST, MOST_SERVING = 40_000, 2_000
#: The smallest page for an etcd that is slow, and seconds for a page.
SLOW_PAGE, READING = 50, 20.0


async def read_all(
    client: EtcdClient,
    keys: KeyRange,
    decode: Decode[T],
    revision: int = 0,
    most: int = MOST_SERVING,
) -> tuple[int, list[T]]:
    """Read a range, of one revision.

    :param decode: decodes a page. It is called with each page when that arrives, so that the
        reactor does other work between pages.
    :param revision: the revision; 0: the latest.
    :param most: the most records of a page.
    :returns: the revision, and all decoded records.
    """
    found, start, page = list[T](), keys.key, PAGE

    def ask() -> defer.Deferred[RangeResponse]:
        wanted = RangeRequest(KeyRange(start, keys.end), limit=page, revision=revision)
        return client.range(wanted, timeout=READING)

    asked = ask()
    while True:
        try:
            answer = await asked
        except (EtcdOverloaded, EtcdTimeout) as problem:
            if page <= (1 if isinstance(problem, EtcdOverloaded) else SLOW_PAGE):
                raise
            page = most = PAGE if page > PAGE else max(1, page // 2)
            log.warn(
                "can't read so many records of etcd at a time ({problem}): asking for {page}",
                problem=problem,
                page=page,
            )
            asked = ask()
            continue
        revision = revision or answer.header.revision
        if not answer.more:
            found += decode(answer.kvs)
            return revision, found
        start = answer.kvs[-1].key + b"\0"
        each = sum(len(kv.value) for kv in answer.kvs) // len(answer.kvs) + 1
        page = min(most, max(PAGE, min(page * GROWTH, BYTES // each)))
        # etcd reads the next page while this one is decoded.
        asked = ask()
        try:
            found += decode(answer.kvs)
        except BaseException:
            asked.addErrback(lambda failure: None)
            asked.cancel()
            raise
