"""DBOS: chains of three null steps. Prints seconds of both measurements as JSON.

Run by ``benchmarks/workflow.py``: URL RUNS AT_A_TIME; the URL is SQLAlchemy's.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS


@DBOS.step()
def null(value: Any) -> Any:
    """A step that does nothing."""
    return value


@DBOS.workflow()
def chain(value: Any) -> Any:
    """Three of them."""
    return null(null(null(value)))


def main() -> None:
    """Run chains one after the other, then many at a time."""
    url, runs, at_a_time = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    config: Any = {
        "name": "chain",
        "system_database_url": url,
        "log_level": "ERROR",
        "max_executor_threads": at_a_time,
    }
    DBOS(config=config)
    DBOS.launch()
    for _ in range(5):
        chain(1)
    begun = time.perf_counter()
    for number in range(runs):
        chain(number)
    one = time.perf_counter() - begun
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(chain, range(runs * 4)))
    many = time.perf_counter() - begun
    print(json.dumps({"one": one, "many": many}))
    DBOS.destroy()


if __name__ == "__main__":
    main()
