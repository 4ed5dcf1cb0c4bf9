"""Kills the leader of three members of etcd under load, again and again, and checks the history.

Two nameservers run on the cluster; six clients contend for names, and record what they are told.
``python benchmarks/etcd_kills.py --kills 30`` prints how long writes were away after each kill, and
what can't have been (nothing, it should be). Its short form is in
pycomnet/test/system/test_etcd_store.py.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import defer, task

from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.etcdkills import run_kills
from pycomnet.test.system.etcds import EtcdMembers


async def main(reactor: Any, options: argparse.Namespace) -> None:
    """Run it."""
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-kills-", dir=options.directory))
    members = EtcdMembers(directory, 3)
    try:
        members.start()
        with daemons(directory) as started:
            run = await run_kills(reactor, members, started, options.kills, options.between)
    finally:
        members.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{options.kills} kills, {run.operations} calls")
    median, most = statistics.median(run.back), max(run.back)
    print(f"writes were back after {median:.2f} s, at most {most:.2f} s")
    for problem in run.problems:
        print(problem)
    if run.problems:
        sys.exit(f"{len(run.problems)} things can't have been")
    print("nothing that can't have been")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--between", type=float, default=3.0, help="seconds of load before each")
    parser.add_argument("--directory", default=None, help="for the members' data")
    found = parser.parse_args()
    task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor, found)))
