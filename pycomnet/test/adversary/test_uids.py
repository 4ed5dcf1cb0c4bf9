"""Another user of the machine, nobody, against what listens on unix sockets and loopback."""

from __future__ import annotations

import os
import stat

import pytest
import pytest_twisted

from pycomnet.test.adversary.kit import (
    Victim,
    as_user,
    in_thread,
    ready,
    start,
    withstands,
)
from pycomnet.test.processes import children
from pycomnet.test.system.daemons import Daemons
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.hello import PLAIN
from pycomnet.wire.mux import Mux

NOBODY = 65534
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("PYCOMNET_REQUIRE_ALL"),
    reason="only root has processes of two users",
)

CONNECTS = """
import socket, sys
kind, where, data = sys.argv[1:]
connection = socket.socket(getattr(socket, kind))
connection.settimeout(30)
try:
    connection.connect(where if kind == "AF_UNIX" else ("127.0.0.1", int(where)))
except OSError as problem:
    print("refused", problem.errno)
    sys.exit()
connection.sendall(bytes.fromhex(data))
came = b""
try:
    while piece := connection.recv(65536):
        came += piece
except OSError:
    pass
print("said", came.hex())
"""
READS = """
import sys
for path in sys.argv[1:]:
    try:
        print(len(open(path, "rb").read()))
    except OSError as problem:
        print(type(problem).__name__)
"""


def goodbye(data: bytes) -> str:
    """The code of the GOAWAY in what was said, behind a hello."""
    at = 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4]
        if kind == GOAWAY:
            code: str = PLAIN.decode(data[at + 9 : at + 9 + size])["code"]
            return code
        at += 9 + size
    return ""


@pytest.mark.parametrize("kind", ["gateway", "factory"])
@pytest_twisted.ensureDeferred
async def test_another_user_is_refused_on_a_unix_socket(running: Daemons, kind: str) -> None:
    """The system's word counts: without a token nobody else comes in, even where the socket lets
    them connect; and as it is made they can't even do that."""
    running.directory.chmod(0o755)
    for parent in running.directory.parents:
        if str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o011)
    for number, (mode, expected) in enumerate((("", "refused"), (":mode=666", "said"))):
        path = running.directory / f"sock{number}"
        daemon = running.start(f"pycomnet-{kind}", "--listen", f"unix:{path}{mode}")
        victim = Victim(kind, daemon, f"unix:{path}")
        daemon.wait_for("listening on" if kind == "factory" else "clients reach it")
        for credential in (None, b"x" * 43, b"0", b""):
            data = Mux(True, credential=credential).data_to_send()
            ran = await in_thread(as_user, NOBODY, CONNECTS, "AF_UNIX", str(path), data.hex())
            word, said = ran.stdout.split()
            assert word == expected, (ran.stdout, ran.stderr)
            if word == "said":
                assert goodbye(bytes.fromhex(said)) == "credential"
        assert not children(victim.pid), "something was started for nobody"


@pytest.mark.parametrize("kind", ["gateway", "factory", "http-exec"])
@pytest_twisted.ensureDeferred
async def test_another_user_is_a_stranger_on_loopback(running: Daemons, kind: str) -> None:
    """On loopback everybody is a stranger: nobody's user needs the token, and can't read it."""
    victim = ready(start(running, kind))
    assert victim.token_file is not None
    assert stat.S_IMODE(victim.token_file.stat().st_mode) == 0o600
    ran = await in_thread(
        as_user, NOBODY, READS, str(victim.token_file), f"/proc/{victim.pid}/environ"
    )
    assert ran.stdout.split() == ["PermissionError"] * 2, (ran.stdout, ran.stderr)
    if kind == "http-exec":
        lines = ("POST /popen HTTP/1.1", "Host: localhost", "Connection: close", "", "")
        data = "\r\n".join(lines).encode()
    else:
        data = Mux(True).data_to_send()
    async with withstands(victim):
        ran = await in_thread(as_user, NOBODY, CONNECTS, "AF_INET", str(victim.port), data.hex())
    said = bytes.fromhex(ran.stdout.split()[1])
    if kind == "http-exec":
        assert said.startswith(b"HTTP/1.1 401"), said
    else:
        assert goodbye(said) == "credential"
