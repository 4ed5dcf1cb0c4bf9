"""The drop-in for execnet: its kinds of gateways, against real servers, and what each can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.sshd import sshd
from pycomnet.test.system.test_execnet import run_program

#: The programs of execnet_gateways.py without arguments: what each prints.
PROGRAMS = {
    "keys": "keys have their effect\n",
    "files": "files are read and written\n",
    "dropped_modules": "they are imported again\n",
}


def printed(directory: Path, *arguments: str) -> str:
    """What a program of execnet_gateways.py prints."""
    done = run_program(directory, *arguments, module="execnet_gateways")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_does_what_execnet_documents(name: str, tmp_path: Path) -> None:
    """On this machine."""
    assert printed(tmp_path, name) == PROGRAMS[name]


def test_a_machine_is_reached_by_ssh(tmp_path: Path) -> None:
    """``ssh=``, against a real sshd; a host that does not answer is an error of execnet's."""
    (tmp_path / "sshd").mkdir()
    with sshd(tmp_path / "sshd") as server:
        assert printed(tmp_path, "machine", server.spec()) == "it is reached\n"
        assert printed(tmp_path, "nowhere", server.spec("closed")) == "it is not found\n"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("x")) as running:
        yield running


def test_a_machine_is_reached_by_a_socket(tmp_path: Path, started: Daemons) -> None:
    """``socket=``, at a service of pycomnet's, with its token; without the service is an error."""
    token = started.directory / "token"
    service = started.start(
        "pycomnet-gateway", "--listen", "tcp:0:interface=127.0.0.1", "--token-file", str(token)
    )
    where = service.wait_for(r"clients reach it with socket=(\S+)")[1]
    port = int(where.split("//")[0].rpartition(":")[2])
    spec = f"socket=127.0.0.1:{port}//token_file={token}"
    assert printed(tmp_path, "machine", spec) == "it is reached\n"
    service.signal()
    service.wait()
    assert printed(tmp_path, "nowhere", spec) == "it is not found\n"
