"""Access to services that run as daemons, by commands and by the blocking API; many logins."""

from __future__ import annotations

import json
import os
import pwd
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import defer

import pycomnet
from pycomnet.ext import access
from pycomnet.ext.access.passwordedit import delete_user
from pycomnet.test.system.daemons import COMMAND, PATIENCE, Daemons, command, daemons, environment

NAME = "org.example.guarded"
LISTEN = "tcp:0:interface=127.0.0.1"
#: Logins at the same time.
LOGINS = 200
ENDED = r"offers org.example.guarded at (\S+), (\S+)"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory with the service and its users."""
    directory = Path(tmp_path_factory.mktemp("a"))
    source = Path(__file__).with_name("access_guarded.py")
    (directory / "guarded.py").write_text(source.read_text())
    found = passwd(directory, "alice", "a secret")
    assert found.returncode == 0, found.stderr
    with daemons(directory) as running:
        yield running


def passwd(directory: Path, user: str, password: str, *options: str) -> Any:
    """Run ``pycomnet passwd``."""
    return subprocess.run(
        [*COMMAND, "passwd", "--stdin", *options, str(directory / "passwd"), user],
        input=password,
        env=environment(),
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )


def start(running: Daemons, *more: str, **env: Any) -> tuple[Any, str, str]:
    """Start the service; the daemon, and its addresses on loopback and at a unix socket."""
    socket = running.directory / "s"
    listen = ["--listen", LISTEN, "--listen", f"unix:{socket}"]
    daemon = running.start(
        "pycomnet-service",
        *listen,
        *(more or ("--nameserver", "none")),
        "guarded",
        PASSWD=str(running.directory / "passwd"),
        **env,
    )
    both = daemon.wait_for(ENDED)
    tcp, unix = sorted([both[1], both[2]])
    return daemon, tcp, unix


def call(address: str, *options: str, method: str = "whoami", **env: str) -> Any:
    """Run ``pycomnet call``, without this user's own credentials; what came of it."""
    clean = {"XDG_CONFIG_HOME": "/nowhere", "PYCOMNET_TOKEN": "", "PYCOMNET_USER": "", **env}
    return command("call", "--address", address, *options, NAME, method, env=clean)


def test_commands_log_in_as_they_are_told(started: Daemons) -> None:
    """By an option, the environment, or the user's file; or not at all."""
    _, tcp, unix = start(started)
    found = call(tcp)
    assert (found.returncode, "it takes were given: password" in found.stderr) == (1, True), (
        found.stderr
    )
    assert "--user" in found.stderr
    right = ["alice", "password"]
    for options, env in (
        (("--user", "alice"), {"PYCOMNET_PASSWORD": "a secret"}),
        ((), {"PYCOMNET_USER": "alice", "PYCOMNET_PASSWORD": "a secret"}),
    ):
        found = call(tcp, *options, **env)
        assert json.loads(found.stdout) == right, found.stderr
    found = call(tcp, "--user", "alice", PYCOMNET_PASSWORD="wrong")
    assert (found.returncode, "nobody here has these" in found.stderr) == (1, True), found.stderr
    found = call(tcp, "--user", "alice")  # and there is no terminal
    assert (found.returncode, "PYCOMNET_PASSWORD" in found.stderr) == (1, True), found.stderr
    assert "/nowhere/pycomnet/credentials.toml" in found.stderr
    me = pwd.getpwuid(os.getuid()).pw_name
    found = call(unix)
    assert json.loads(found.stdout) == [me, "peer"], found.stderr

    config = started.directory / "pycomnet" / "credentials.toml"
    config.parent.mkdir(mode=0o700)
    config.write_text(
        '[[credentials]]\naddress = "tcp:127.0.0.1:*"\nuser = "alice"\npassword = "a secret"\n'
    )
    config.chmod(0o600)
    stored = {"XDG_CONFIG_HOME": str(started.directory)}
    found = call(tcp, **stored)
    assert json.loads(found.stdout) == right, found.stderr
    found = call(tcp, method="secret", **stored)
    assert (found.returncode, "may not call secret" in found.stderr) == (1, True), found.stderr
    found = command("describe", "--address", tcp, NAME, env=stored)
    assert "whoami" in found.stdout
    assert "secret" not in found.stdout
    config.chmod(0o644)
    found = call(tcp, **stored)
    assert (found.returncode, "chmod 600" in found.stderr) == (1, True), found.stderr


def test_commands_log_in_with_files(started: Daemons) -> None:
    """A token's, and a certificate's and its key's; a token that nobody has is refused."""
    authority, files = trustme.CA(), started.directory
    authority.cert_pem.write_to_path(str(files / "ca.pem"))
    for name in ("localhost", "alice.example.org"):
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(files / f"{name}.pem"))
        issued.cert_chain_pems[0].write_to_path(str(files / f"{name}.crt"))
        issued.private_key_pem.write_to_path(str(files / f"{name}.key"))
    for name, text in (
        ("tokens", "[build]\ntoken_file = token\n"),
        ("token", "a-token-of-some-length\n"),
        ("other", "another-token-of-nobody\n"),
    ):
        (files / name).write_text(text)
        (files / name).chmod(0o600)
    server, roots = files / "localhost.pem", str(files / "ca.pem")
    daemon = started.start(
        "pycomnet-service",
        *("--listen", LISTEN, "--nameserver", "none"),
        *("--listen", f"tls:0:interface=127.0.0.1:privateKey={server}:clientCAs={roots}"),
        "guarded",
        PASSWD=str(files / "passwd"),
        TOKENS=str(files / "tokens"),
    )
    both = daemon.wait_for(ENDED)
    tcp, tls = sorted([both[1].rstrip(","), both[2]])
    assert tls.startswith("tls:")
    port = tls.split(":")[2]
    tls = f"tls:localhost:{port}"
    found = call(tcp, "--token-file", str(files / "token"))
    assert json.loads(found.stdout) == ["build", "token"], found.stderr
    found = call(tcp, "--token-file", str(files / "other"))
    assert (found.returncode, "nobody here has these" in found.stderr) == (1, True), found.stderr
    alice = files / "alice.example.org.pem"
    for options in (
        ("--cert", str(alice)),
        ("--cert", str(alice.with_suffix(".crt")), "--key", str(alice.with_suffix(".key"))),
    ):
        found = call(tls, *options, "--trust-roots", roots)
        assert json.loads(found.stdout) == ["alice.example.org", "certificate"], found.stderr


def test_daemon_does_not_start_with_users_that_it_can_not_read(started: Daemons) -> None:
    """It says which line is wrong, and ends."""
    (started.directory / "passwd").write_text("# users\nalice:rubbish\n")
    daemon = started.start(
        "pycomnet-service",
        *("--listen", LISTEN, "--nameserver", "none", "guarded"),
        PASSWD=str(started.directory / "passwd"),
    )
    assert daemon.wait() == 1
    assert "passwd, line 2" in daemon.said
    assert "rubbish" not in daemon.said


def test_daemon_logs_who_did_what(started: Daemons) -> None:
    """A line of JSON for each login and refusal."""
    daemon, tcp, _ = start(started)
    call(tcp, "--user", "alice", PYCOMNET_PASSWORD="a secret")
    line = daemon.wait_for(r'(\{"event": "login".*\})')[1]
    found = json.loads(line)
    assert (found["user"], found["kind"], found["outcome"]) == ("alice", "password", "ok")
    call(tcp)
    daemon.wait_for(r'"event": "refused".*"method": "whoami", "outcome": "missing"')
    assert "a secret" not in daemon.said


def test_service_registers_at_a_nameserver_with_rules(started: Daemons) -> None:
    """With the credentials of its environment; another does not get the name."""
    (started.directory / "names.toml").write_text(
        f'password_file = "{started.directory / "passwd"}"\n'
        '[[register]]\nnames = ["shop-*"]\ninterfaces = ["org.example.*"]\nallow = ["alice"]\n'
    )
    nameserver = started.start(
        "pycomnet-nameserver",
        *("--listen", LISTEN, "--store", "memory:", "--access", "names.toml"),
    )
    address = nameserver.wait_for(r"the nameserver is at (\S+)")[1]
    env: dict[str, Any] = {"PYCOMNET_USER": "alice", "PYCOMNET_PASSWORD": "a secret"}
    nobody: dict[str, Any] = {}
    options = ("--nameserver", address, "--name")
    good, _, _ = start(started, *options, "shop-1", **env)
    good.wait_for("registered 'shop-1'")
    found = command("ns", "--nameserver", address, "list", env={})
    assert "shop-1" in found.stdout
    for name, more, says in (
        ("shop-2", nobody, "needs credentials"),
        ("other", env, "may not register 'other'"),
    ):
        bad = started.start(
            "pycomnet-service",
            *("--listen", LISTEN, *options, name, "guarded"),
            PASSWD=str(started.directory / "passwd"),
            **more,
        )
        assert bad.wait() == 1
        assert says in bad.said


def test_blocking_api_logs_in(started: Daemons) -> None:
    """With the same credentials; a user who is removed is out, with the program's own error."""
    _, tcp, _ = start(started)
    program = f"""
from pycomnet import blocking
from pycomnet.ext import access

with blocking.Context(credentials=access.Password("alice", lambda: "a secret")) as context:
    service = context.connect({tcp!r}, {NAME!r})
    assert service.invoke("whoami") == ["alice", "password"]
    try:
        service.invoke("secret")
    except access.Forbidden as problem:
        print(problem.role, flush=True)
    input()
    import time
    end = time.monotonic() + {PATIENCE}
    while time.monotonic() < end:
        try:
            service.invoke("whoami")
        except access.Unauthenticated as problem:
            print(problem.reason, flush=True)
            break
        time.sleep(0.05)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "nobody has it\n"
    delete_user(str(started.directory / "passwd"), "alice")
    out, _ = process.communicate("\n", timeout=PATIENCE)
    assert out == "refused\n"
    assert process.returncode == 0


@pytest_twisted.ensureDeferred
async def test_logins_in_a_storm_do_not_starve_calls(tmp_path: Path) -> None:
    """While two hundred passwords are checked, the others' calls are answered between two checks.

    And no turn of the reactor that a call waits for takes long by its thread's own clock, which
    other processes do not move: nothing is hashed in the reactor's thread.
    """
    from passlib.hash import bcrypt
    from twisted.internet import reactor

    hashing: set[int] = set()

    class Noting(access.PasswordFile):
        """Notes in which threads it checks passwords."""

        def check(self, credentials: Any) -> Any:
            hashing.add(threading.get_ident())
            return super().check(credentials)

    path = tmp_path / "passwd"
    path.write_text(f"alice:{bcrypt.using(rounds=6).hash('a secret')}\n")
    path.chmod(0o600)

    @access.auth(Noting(path))
    @pycomnet.interface(NAME)
    class Guarded(pycomnet.Service):
        @access.public
        @pycomnet.method()
        def free(self, request: Any) -> None:
            pass

        @pycomnet.method()
        def whoami(self, request: Any) -> str:
            return str(request.user.name)

    server = pycomnet.ServiceServer(reactor)
    await server.add(Guarded())
    address = await server.listen(LISTEN)
    other = await pycomnet.Context(reactor).connect(address, NAME)
    await other.invoke("free")
    contexts = [
        pycomnet.Context(
            reactor, timeout=PATIENCE, credentials=access.Password("alice", "a secret")
        )
        for _ in range(LOGINS)
    ]
    logins = [context.at(address, NAME).invoke("whoami") for context in contexts]
    waiting = len(logins)
    answered: list[int] = []
    took: list[float] = []
    while waiting:
        begun = time.thread_time()
        await other.invoke("free", timeout=PATIENCE)
        took.append(time.thread_time() - begun)
        waiting = sum(1 for one in logins if not one.called)
        answered.append(waiting)
    assert await defer.gatherResults(logins) == ["alice"] * LOGINS
    assert hashing and threading.get_ident() not in hashing
    # Between the ends of two logins there were calls, and not all of them at the end.
    counts = [answered.count(number) for number in range(LOGINS)]
    assert statistics.median(counts) >= 1, counts
    assert statistics.quantiles(took, n=100)[-1] < 0.02, sorted(took)[-10:]
    for context in (*contexts, other.context):
        await context.close()
    await server.close()
