"""The http mediator as a process: its interface with curl, who is let in, limits, and its end."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycomnet.auth.tokens import new_token
from pycomnet.test.needs import require
from pycomnet.test.processes import still_there
from pycomnet.test.system.daemons import PATIENCE, TWISTD, Daemons, daemons, environment
from pycomnet.test.system.mediators import LOOPBACK, Mediator
from pycomnet.test.waiting import wait_until

#: A subprocess that does what a test needs; given as ``python``, so that it is run with the rest of
#: the command line behind it.
CAT = "sh -c 'exec cat'"
SLEEP = "sh -c 'exec sleep 1000'"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


@pytest.fixture
def mediator(running: Daemons) -> Mediator:
    """A server."""
    return Mediator(running)


def start(mediator: Mediator, python: str = CAT, token: str = "", **options: Any) -> str:
    """Start a subprocess; its PID."""
    body = json.dumps({"python": python, **options})
    answer = mediator.curl("/popen", "-d", body, token=token)
    assert answer.status == 201, answer.body
    pid: str = answer.json["pid"]
    return pid


def process_of(mediator: Mediator, pid: str) -> int:
    """The operating system's number of a subprocess, which only the server's log has."""
    return int(mediator.daemon.wait_for(rf"started {re.escape(pid)} .*process (\d+)")[1])


def test_curl_alone_can_start_send_receive_and_end(mediator: Mediator) -> None:
    """What docs/protocol.rst says, with curl alone: start, send, receive, resume, end."""
    started = mediator.curl(
        "/popen", "-d", json.dumps({"python": CAT}), "-H", "Idempotency-Key: k1"
    )
    assert started.status == 201
    pid = started.json["pid"]
    again = mediator.curl("/popen", "-d", json.dumps({"python": CAT}), "-H", "Idempotency-Key: k1")
    assert again.json["pid"] == pid, "a repeated request started another"
    path = f"/exec/{pid}"
    # Sent twice, as after a lost answer: applied once. A gap is refused.
    for _ in range(2):
        sent = mediator.curl(f"{path}?offset=0", "--data-binary", "0123456789")
        assert (sent.status, sent.json) == (200, {"received": 10})
    sent = mediator.curl(f"{path}?offset=8", "--data-binary", "89abc")
    assert sent.json == {"received": 13}
    gap = mediator.curl(f"{path}?offset=20", "--data-binary", "x")
    assert (gap.status, gap.json["error"], gap.json["received"]) == (409, "offset", 13)
    # A streaming answer ends when there was nothing for so many seconds; one with max= at once.
    got = mediator.curl(f"{path}?offset=0&wait=0.5", "-N")
    assert got.status == 200
    whole = f"{path}?offset=0&max=100"
    wait_until(lambda: len(mediator.curl(whole).body) == 13, "all that was sent came back")
    got = mediator.curl(whole)
    assert got.body == b"0123456789abc"
    assert got.headers["x-pycomnet-offset"] == "0"
    assert got.headers["x-pycomnet-received"] == "13"
    # What is confirmed is gone; what is not can be read again, from anywhere.
    assert mediator.curl(f"{path}?offset=10&max=100").body == b"abc"
    lost = mediator.curl(f"{path}?offset=9&max=100")
    assert lost.status == 200 or (lost.status, lost.json["error"]) == (409, "offset")
    beyond = mediator.curl(f"{path}?offset=99&max=100")
    assert (beyond.status, beyond.json["high"]) == (409, 13)
    state = mediator.curl(f"{path}/status").json
    assert (state["state"], state["received"], state["stdout"]["end"]) == ("running", 13, 13)
    listed = mediator.curl("/").json["processes"]
    assert [one["pid"] for one in listed] == [pid]
    # The end of its input; its output's rest; how it ended.
    assert mediator.curl(f"{path}?offset=13&end=1", "--data-binary", "!").json == {"received": 14}
    rest = mediator.curl(f"{path}?offset=13", "-N")
    assert rest.body == b"!"
    ended = mediator.curl(f"{path}?offset=14")
    assert (ended.status, ended.json["error"], ended.json["exit_status"]) == (410, "ended", 0)
    assert mediator.curl(f"{path}/status").status == 410
    assert mediator.curl(f"{path}?offset=14", "--data-binary", "x").status == 410


def test_chunked_upload_is_applied_as_it_comes(mediator: Mediator) -> None:
    """A request that streams is applied as it comes, and so can be a conversation."""
    require("curl")
    pid = start(mediator)
    argv = ["curl", "-sS", "-N", "-T", "-", "-X", "POST", "--max-time", str(PATIENCE)]
    argv += ["-H", f"Authorization: Bearer {mediator.token}", "-H", "Expect:"]
    argv += [f"{mediator.url}/exec/{pid}?offset=0"]
    upload = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert upload.stdin is not None
    offset = 0
    for word in (b"one", b"two"):
        upload.stdin.write(word)
        upload.stdin.flush()
        assert mediator.curl(f"/exec/{pid}?offset={offset}&max=100").body == word
        offset += len(word)
    upload.stdin.close()
    assert upload.stdout is not None
    assert json.loads(upload.stdout.read()) == {"received": 6}
    upload.wait()


def test_stderr_is_a_stream_and_tells_the_end(mediator: Mediator) -> None:
    """Standard error is a stream of its own, and its last lines say how a subprocess ended."""
    pid = start(mediator, "sh -c 'echo first >&2; echo out; echo last words >&2; exit 7'")
    assert mediator.curl(f"/exec/{pid}/stderr?offset=0", "-N").body == b"first\nlast words\n"
    assert mediator.curl(f"/exec/{pid}?offset=0", "-N").body == b"out\n"
    ended = mediator.curl(f"/exec/{pid}?offset=4")
    assert (ended.status, ended.json["exit_status"]) == (410, 7)
    assert ended.json["stderr"] == "first\nlast words"


def test_second_reader_is_refused_unless_the_same(mediator: Mediator) -> None:
    """One client reads at a time; a new connection of the same one takes over."""
    pid = start(mediator)
    first = threading.Thread(target=mediator.curl, args=(f"/exec/{pid}?reader=a&wait=30",))
    first.start()
    wait_until(lambda: mediator.curl(f"/exec/{pid}/status").json["connections"], "the first reads")
    other = mediator.curl(f"/exec/{pid}?reader=b&wait=0.1")
    assert (other.status, other.json["error"]) == (409, "reader")
    assert mediator.curl(f"/exec/{pid}?reader=a&wait=0.1").status == 200
    first.join(PATIENCE)
    assert not first.is_alive(), "the connection before was not ended"


def test_client_ends_its_subprocess(mediator: Mediator) -> None:
    """A client ends its subprocess, with a signal or by the end of its input."""
    pid = start(mediator, SLEEP)
    process = process_of(mediator, pid)
    answer = mediator.curl(f"/exec/{pid}?signal=TERM", "-X", "DELETE")
    assert answer.status == 202, answer.body
    assert still_there([process]) == []
    mediator.daemon.wait_for(rf"ended {re.escape(pid)} ")
    ended = mediator.curl(f"/exec/{pid}")
    assert (ended.status, ended.json["signal_name"]) == (410, "SIGTERM")
    assert ended.json["reason"] == "its client ended it"
    pid = start(mediator)
    assert mediator.curl(f"/exec/{pid}", "-X", "DELETE").status == 202
    mediator.daemon.wait_for(rf"ended {re.escape(pid)} ")
    assert mediator.curl(f"/exec/{pid}").json["exit_status"] == 0
    assert mediator.curl(f"/exec/{pid}?signal=HUP", "-X", "DELETE").status in (400, 410)


def test_strangers_and_foreign_pages_are_refused(mediator: Mediator) -> None:
    """No token, a wrong one, a page of another server, another name for this one: nobody."""
    pid = start(mediator)
    for path in ("/popen", f"/exec/{pid}", f"/exec/{pid}/ws", "/ws", "/metrics", "/", "/nowhere"):
        answer = mediator.curl(path, token=None)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert mediator.curl(path, token="x" * 40).status == 401
    for header, value in (
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Host", "evil.example"),
        ("Host", "evil.example:2013"),
    ):
        for path in ("/", f"/exec/{pid}", "/popen", "/status.js"):
            answer = mediator.curl(path, "-H", f"{header}: {value}")
            assert answer.status == 403, (header, value, path)
            assert not [name for name in answer.headers if name.startswith("access-control")]
    # A preflight of another's page gets no leave, and no cookie is ever set.
    preflight = mediator.curl(
        "/popen",
        "-X",
        "OPTIONS",
        "-H",
        f"Origin: {mediator.url}",
        "-H",
        "Access-Control-Request-Method: POST",
    )
    assert preflight.status == 405
    assert "set-cookie" not in preflight.headers
    assert mediator.curl("/", "-H", f"Origin: {mediator.url}").status == 200
    # A token in the address is none: addresses are logged.
    assert mediator.curl(f"/?token={mediator.token}", token=None).status == 401
    # A body of somebody who isn't let in goes nowhere, however it is sent.
    big = ["--data-binary", "@/dev/zero", "-H", "Expect:", "-H", "Transfer-Encoding: chunked"]
    refused = mediator.curl(f"/exec/{pid}?offset=0", *big, token="x" * 40)
    assert refused.status in (0, 401)
    assert mediator.curl(f"/exec/{pid}/status").json["received"] == 0


def test_missing_token_is_made_and_not_logged(running: Daemons, tmp_path: Path) -> None:
    """With no token configured one is made; the log has its file, and not itself."""
    state = tmp_path / "state"
    daemon = running.start("pycomnet-http-exec", "--listen", LOOPBACK, XDG_STATE_HOME=str(state))
    where = daemon.wait_for(r"reach it with http=\S+//token_file=(\S+)")[1]
    path = state / "pycomnet" / "http-exec.token"
    assert Path(where) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in daemon.said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "tcp:0"], "has no TLS"),
        (["--listen", "tcp:0:interface=0.0.0.0"], "--insecure"),
        (["--listen", "tcp:0:interface=\\:\\:"], "--insecure"),
        (["--queue", "much"], "--queue: expected a size"),
        (["--idle-timeout", "-1"], "--idle-timeout: expected a number of seconds"),
        (["--tokens", "/no/such/file"], "No such file"),
        (["--allow", "everything"], "no option 'everything'"),
        (["--listen", "nonsense"], "no address"),
    ],
)
def test_unsafe_options_are_refused_at_start(
    options: list[str], words: str, tmp_path: Path
) -> None:
    """What isn't safe, or can't be read, is said at once, and nothing is started."""
    argv = [*TWISTD, "-n", "--pidfile=", "pycomnet-http-exec", *options]
    ran = subprocess.run(
        argv,
        cwd=tmp_path,
        env=environment(XDG_STATE_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode != 0
    assert words in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert list(tmp_path.iterdir()) == [], "it left something"


def test_taken_port_ends_the_server_with_an_error(mediator: Mediator, tmp_path: Path) -> None:
    """A port that is taken ends the server, with an error that says so."""
    argv = [*TWISTD, "-n", "--pidfile=", "pycomnet-http-exec", "--token-file", str(tmp_path / "t")]
    argv += ["--listen", f"tcp:{mediator.port}:interface=127.0.0.1"]
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 1
    assert "can't listen on" in ran.stdout
    assert "Address already in use" in ran.stdout


def tokens_file(directory: Path, **users: str) -> dict[str, str]:
    """Write a tokens file: each user's section; their tokens, by name."""
    made = {name: new_token() for name in users}
    path = directory / "tokens.ini"
    path.write_text("".join(f"[{name}]\ntoken = {made[name]}\n{users[name]}\n" for name in users))
    path.chmod(0o600)
    return made


def test_users_are_apart_and_have_limits_of_their_own(running: Daemons, tmp_path: Path) -> None:
    """What is one user's isn't there for another; each has limits of their own."""
    users = tokens_file(
        tmp_path,
        alice="processes = 2",
        bob="queue = 64k\nrequest = 1k\nallow = none\nlinger = 10",
    )
    path = tmp_path / "alice.token"
    path.write_text(users["alice"])
    path.chmod(0o600)
    audit = tmp_path / "audit.log"
    options = ["--tokens", str(tmp_path / "tokens.ini"), "--total", "3", "--audit-log", str(audit)]
    mediator = Mediator(running, *options, token=str(path))
    alices = [start(mediator, SLEEP) for _ in range(2)]
    full = mediator.curl("/popen", "-d", "{}")
    assert (full.status, full.json["error"]) == (429, "processes")
    assert int(full.headers["retry-after"]) > 0
    bob = {"token": users["bob"]}
    for method in ("GET", "POST", "DELETE"):
        for path_of in (f"/exec/{alices[0]}", f"/exec/{alices[0]}/status"):
            answer = mediator.curl(path_of, "-X", method, **bob)
            assert answer.status in (404, 405), (method, path_of)
    assert mediator.curl("/", **bob).json["processes"] == []
    denied = mediator.curl("/popen", "-d", '{"python": "sleep 1"}', **bob)
    assert (denied.status, denied.json["error"]) == (403, "option")
    started = mediator.curl("/popen", "-d", "{}", **bob)
    assert (started.status, started.json["linger"], started.json["queue"]) == (201, 10.0, 65536)
    pid = started.json["pid"]
    assert mediator.curl("/popen", "-d", "{}", **bob).json["error"] == "processes"  # 3 in all
    long = mediator.curl(f"/exec/{pid}?offset=0", "--data-binary", "x" * 2000, **bob)
    assert (long.status, long.json["limit"]) == (413, 1024)
    mediator.daemon.wait_for(f"ended {re.escape(pid)} of bob: nobody was connected to it")
    metrics = mediator.curl("/metrics").body.decode()
    assert "pycomnet_mediator_processes_started_total 3.0" in metrics
    assert 'processes_ended_total{reason="linger"} 1.0' in metrics
    assert "alice" not in metrics
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["event"], line["user"]) for line in lines] == [
        ("start", "alice"),
        ("start", "alice"),
        ("start", "bob"),
        ("end", "bob"),
    ]
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600


def test_emptied_tokens_file_withdraws_all_tokens_after_half_a_minute(
    running: Daemons, tmp_path: Path
) -> None:
    """If it is written again sooner, nobody notices, and what was started goes on."""
    token = tokens_file(tmp_path, alice="")["alice"]
    tokens = tmp_path / "tokens.ini"
    path = tmp_path / "alice.token"
    path.write_text(token)
    path.chmod(0o600)
    mediator = Mediator(running, "--tokens", str(tokens), token=str(path))
    process = process_of(mediator, start(mediator, SLEEP))
    whole = tokens.read_text()
    tokens.write_text("")
    mediator.daemon.wait_for("what was read before stays in force: .*no section")
    assert mediator.curl("/").status == 200
    tokens.write_text(whole)
    mediator.daemon.wait_for("was read again")
    assert mediator.curl("/").status == 200
    os.kill(process, 0)  # it runs
    tokens.write_text("")
    mediator.daemon.wait_for("the tokens of alice are withdrawn")
    assert mediator.curl("/").status == 401
    assert still_there([process]) == []
    tokens.write_text(whole)
    metrics = mediator.curl("/metrics").body.decode()
    assert 'processes_ended_total{reason="withdrawn"} 1.0' in metrics


def test_withdrawn_token_is_refused_and_what_it_started_ends(
    running: Daemons, tmp_path: Path
) -> None:
    """Without a restart; the other user notices nothing. A broken file changes nothing."""
    users = tokens_file(tmp_path, alice="", bob="")
    tokens = tmp_path / "tokens.ini"
    path = tmp_path / "bob.token"
    path.write_text(users["bob"])
    path.chmod(0o600)
    mediator = Mediator(running, "--tokens", str(tokens), token=str(path))
    alices, bobs = (start(mediator, SLEEP, token=users[name]) for name in ("alice", "bob"))
    processes = [process_of(mediator, pid) for pid in (alices, bobs)]
    ticket = mediator.curl("/tickets", "-d", '{"path": "/ws"}', token=users["alice"]).json["ticket"]
    whole = tokens.read_text()
    broken = tmp_path / "broken"
    broken.write_text(f"{whole}[carol]\n")
    broken.chmod(0o600)
    broken.replace(tokens)
    mediator.daemon.wait_for("what was read before stays in force: .*carol")
    assert mediator.curl("/", token=users["alice"]).status == 200
    without = tmp_path / "without"
    without.write_text(whole[whole.index("[bob]") :])
    without.chmod(0o600)
    without.replace(tokens)
    refused = mediator.curl("/popen", "-d", "{}", token=users["alice"])
    assert (refused.status, refused.json["error"]) == (401, "token")
    mediator.daemon.wait_for(f"ended {re.escape(alices)} of alice: the token of its user was")
    assert still_there(processes[:1]) == []
    used = mediator.curl(f"/ws?ticket={ticket}", token=None)
    assert (used.status, used.json["error"]) == (401, "ticket")
    assert still_there(processes[1:], 0) == processes[1:]
    assert [each["pid"] for each in mediator.curl("/").json["processes"]] == [bobs]
    assert not any(token in mediator.daemon.said for token in users.values())


def test_bad_requests_are_answered_with_what_is_wrong(mediator: Mediator) -> None:
    """What can't be read is answered with what is wrong with it, and the server goes on."""
    pid = start(mediator)
    for path, args, status in (
        ("/popen", ["-d", "{"], 400),
        ("/popen", ["-d", "[]"], 400),
        ("/popen", ["-d", '{"nice": "x"}'], 400),
        ("/popen", ["-d", '{"env": [1]}'], 400),
        ("/popen", ["-d", '{"linger": -1}'], 400),
        ("/popen", ["-d", '{"python": "/no/such"}'], 422),
        ("/popen", ["-d", '{"python": "\'"}'], 400),
        ("/popen", ["-d", "x" * 100_000], 413),
        ("/popen", [], 405),
        (f"/exec/{pid}?offset=-1", [], 400),
        (f"/exec/{pid}?offset=x", [], 400),
        (f"/exec/{pid}?wait=nan", [], 400),
        (f"/exec/{pid}?offset={10**30}", [], 400),
        (f"/exec/{pid}/ws", [], 426),
        (f"/exec/{pid}/nothing", [], 404),
        ("/exec/nobody", [], 404),
        ("/exec/nobody?offset=0", ["--data-binary", "x"], 404),
        ("/nowhere", [], 404),
        (f"/exec/{pid}?signal=9", ["-X", "DELETE"], 400),
        ("/tickets", ["-d", '{"path": 3}'], 400),
        (f"/exec/{pid}?received=5", ["--data-binary", ""], 409),
    ):
        answer = mediator.curl(path, *args)
        assert answer.status == status, (path, args, answer.body)
        assert set(answer.json) >= {"error", "message"}
    assert mediator.curl(f"/exec/{pid}/status").json["state"] == "running"
    assert "Traceback" not in mediator.daemon.said


def test_idle_subprocess_is_ended_busy_one_is_not(running: Daemons) -> None:
    """A subprocess that does nothing is ended; one that computes is not idle."""
    mediator = Mediator(running, "--idle-timeout", "1")
    idle = start(mediator, SLEEP)
    busy = start(mediator, "sh -c 'while :; do :; done'")
    mediator.daemon.wait_for(f"ended {re.escape(idle)} .*: it was idle")
    time.sleep(1.5)  # longer than an idle one has
    assert mediator.curl(f"/exec/{busy}/status").json["state"] == "running"
    assert mediator.curl(f"/exec/{busy}?signal=KILL", "-X", "DELETE").status == 202


@pytest.mark.parametrize("finishes", [True, False])
def test_sigterm_drains_then_ends_what_is_left(running: Daemons, finishes: bool) -> None:
    """SIGTERM: no more are started, those that run may finish, and what is left is ended."""
    mediator = Mediator(running, "--drain", "120" if finishes else "1")
    pid = start(mediator)
    stubborn = start(mediator, SLEEP)  # the end of its input is nothing to it
    processes = [process_of(mediator, one) for one in (pid, stubborn)]
    mediator.daemon.signal(signal.SIGTERM)
    mediator.daemon.wait_for("stopping: 2 subprocesses")
    if finishes:  # else it may have ended before it can be asked
        refused = mediator.curl("/popen", "-d", "{}")
        assert (refused.status, refused.json["error"]) == (503, "draining")
        assert mediator.curl(f"/exec/{pid}?offset=0", "--data-binary", "still").status == 200
        assert mediator.curl(f"/exec/{pid}?offset=0&max=9").body == b"still"
        mediator.curl(f"/exec/{stubborn}?signal=KILL", "-X", "DELETE")
        mediator.curl(f"/exec/{pid}?offset=5&end=1", "--data-binary", "")
    # twistd ends as the signal would have ended it, once all is done.
    assert mediator.daemon.wait() in (0, -signal.SIGTERM)
    assert still_there(processes) == []
    if not finishes:
        assert "the server was stopped" in mediator.daemon.said


def test_unwritable_audit_log_is_logged(running: Daemons, tmp_path: Path) -> None:
    """An audit log that can't grow is said in the log; subprocesses go on."""
    path = tmp_path / "audit.log"
    mediator = Mediator(running, "--audit-log", str(path))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(mediator.daemon.pid, resource.RLIMIT_FSIZE, (0, hard))
    start(mediator)
    mediator.daemon.wait_for(re.escape(f"audit log {path} can't be written"))


def test_help_says_what_the_command_does() -> None:
    """The command's help says what it does and what may be said."""
    argv = [*TWISTD, "pycomnet-http-exec", "--help"]
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0
    for word in ("--listen", "--token-file", "--insecure", "--linger", "docs/protocol.rst"):
        assert word in ran.stdout
