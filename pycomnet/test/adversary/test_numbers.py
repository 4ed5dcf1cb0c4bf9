"""Numbers that are none, wherever a daemon takes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.errors import PycomnetError
from pycomnet.ranges import NumberRefused
from pycomnet.services.server.limits import ServerLimits
from pycomnet.test.processes import children
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.mediators import Mediator

#: As JSON has them, or as Python reads JSON: NaN is no JSON, and 1e999 is an infinity.
WRONG_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "-1", "true", '"5"', "1" + "0" * 400, "[]")
WRONG_TEXT = ("nan", "inf", "-inf", "1e999", "-1", "1_0", "0x10", "", "1" * 5000, "\u0661")
#: All options of all daemons that are numbers.
OPTIONS = {
    "pycomnet-gateway": ("clients", "workers", "keepalive", "drain"),
    "pycomnet-http-exec": (
        *("total", "processes", "queue", "request", "linger", "idle-timeout", "drain"),
    ),
    "pycomnet-factory": (
        *("port", "programs", "gateways", "each", "linger", "idle-timeout", "kept", "keepalive"),
    ),
    "pycomnet-nameserver": ("max-services", "max-per-client", "max-ttl", "history", "max-stale"),
    "pycomnet-service": ("ttl", "patience", "drain"),
    "pycomnet-workflow": ("ttl", "patience"),
}
#: What a daemon has to have beside them.
SEED = Path(__file__).parents[3] / "docs" / "examples" / "workflow_seed.json"
MORE = {"pycomnet-service": ["calc"], "pycomnet-workflow": ["--config", str(SEED)]}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


def options_of(name: str) -> Any:
    """The options of a daemon, as twistd makes them."""
    from twisted.application.service import IServiceMaker
    from twisted.plugin import getPlugins

    return next(maker for maker in getPlugins(IServiceMaker) if maker.tapname == name).options()


@pytest.mark.parametrize("daemon", OPTIONS)
def test_each_option_refuses_wrong_numbers_by_name(daemon: str) -> None:
    """Each option of each daemon refuses each of them, and says its name."""
    from twisted.python.usage import UsageError

    more = MORE.get(daemon, [])
    for option in OPTIONS[daemon]:
        for value in WRONG_TEXT:
            with pytest.raises(UsageError) as refused:
                options_of(daemon).parseOptions([f"--{option}={value}", *more])
            assert option in str(refused.value), refused.value


def test_every_numeric_option_is_tested() -> None:
    """An option whose default is a number is one of those above."""
    for daemon, known in OPTIONS.items():
        for name, _, default, *_ in options_of(daemon).optParameters:
            if isinstance(default, (int, float)):
                assert name in known, f"{daemon} --{name}"


def test_workflow_configuration_refuses_wrong_numbers(tmp_path: Path) -> None:
    """Each number of a configuration is refused, with the name of its key."""
    from pycomnet.ext.workflow.definition import read_config
    from pycomnet.ext.workflow.errors import WorkflowConfigError

    call = '"interface": "a.b"'
    places = {
        "keep": '"keep": %s, "tasks": {"t": [{"wait": 1}]}',
        "deadline": '"tasks": {"t": {"deadline": %s, "steps": [{"wait": 1}]}}',
        "wait": '"tasks": {"t": [{"wait": %s}]}',
        "timeout": '"tasks": {"t": [{"signal": "s", "timeout": %s}]}',
        "attempts": f'"tasks": {{"t": [{{{call}, "retry": {{"attempts": %s}}}}]}}',
        "delay": f'"tasks": {{"t": [{{{call}, "retry": {{"delay": %s}}}}]}}',
        "backoff": f'"tasks": {{"t": [{{{call}, "retry": {{"backoff": %s}}}}]}}',
        "jitter": f'"tasks": {{"t": [{{{call}, "retry": {{"jitter": %s}}}}]}}',
        "concurrency": f'"tasks": {{"t": [{{"map": [{{{call}}}], "concurrency": %s}}]}}',
        "tolerate": f'"tasks": {{"t": [{{"map": [{{{call}}}], "tolerate": %s}}]}}',
    }
    file = tmp_path / "tasks.json"
    for key, place in places.items():
        for number in WRONG_JSON:
            file.write_text(f"{{{place % number}}}")
            with pytest.raises(WorkflowConfigError) as refused:
                read_config(str(file))
            if number not in ("NaN", "Infinity", "-Infinity"):  # which are no JSON
                assert key in str(refused.value), (key, number, refused.value)
        file.write_text(f"{{{place % 1}}}")
        read_config(str(file))


def test_request_with_wrong_numbers_starts_nothing(running: Daemons) -> None:
    """A request with such a number starts nothing, whatever else it has."""
    mediator = Mediator(running, "--processes", "1")
    for key in ("linger", "nice"):
        for number in WRONG_JSON:
            if key == "nice" and number in ("-1", '"5"'):
                continue
            body = f'{{"{key}": {number}}}'
            answer = mediator.curl("/popen", "-d", body)
            assert answer.status == 400, (body, answer.body)
    for body in ('{"nice": 1e23}', '{"id": "\\ud800"}', '{"chdir": "a\\u0000b"}', "[" * 50_000):
        assert mediator.curl("/popen", "-d", body).status == 400, body
    for path in ("offset", "wait", "max", "received"):
        for text in ("nan", "inf", "1e999", "-1", "1" * 5000):
            answer = mediator.curl(f"/exec/x?{path}={text}")
            assert answer.status in (400, 404), answer.body
    assert not children(mediator.pid), "something was started"
    assert mediator.curl("/popen", "-d", "{}").status == 201
    for text in ("nan", "inf", "1e999", "-1", "1" * 5000):
        pid = mediator.curl("/").json["processes"][0]["pid"]
        assert mediator.curl(f"/exec/{pid}?wait={text}").status == 400
        assert mediator.curl(f"/exec/{pid}?offset={text}").status == 400
    assert mediator.curl("/popen", "-d", "{}").status == 429
    metrics = mediator.curl("/metrics").body.decode()
    assert "pycomnet_mediator_processes_started_total 1.0" in metrics
    assert 'status="500"' not in metrics
    assert "Traceback" not in mediator.daemon.said


def test_failed_start_is_counted_and_audited(running: Daemons) -> None:
    """What can't be started is counted, and in the audit log."""
    audit = running.directory / "audit"
    mediator = Mediator(running, "--processes", "1", "--audit-log", str(audit))
    for _ in range(3):  # a limit of one is not used up by them
        answer = mediator.curl("/popen", "-d", '{"python": "/no/such/python"}')
        assert (answer.status, answer.json["error"]) == (422, "not_started")
    assert "pycomnet_mediator_processes_failed_total 3.0" in mediator.curl("/metrics").body.decode()
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [event["event"] for event in events] == ["failed"] * 3
    assert "/no/such/python" in events[0]["why"]


@pytest_twisted.ensureDeferred
async def test_api_refuses_wrong_numbers_before_anything_starts() -> None:
    """What a program gives to the API is looked at before anything is started or sent."""
    from twisted.internet import reactor

    group = pycomnet.Group(reactor)
    for value in (float("nan"), float("inf"), -1.0, True, "5"):
        wrong: Any = value
        for asked in (
            group.makegateway("popen", timeout=wrong),
            group.makegateway("popen", nice=float("nan")),
            group.terminate(wrong),
        ):
            with pytest.raises(PycomnetError, match="expected a"):
                await asked
        with pytest.raises(NumberRefused):
            pycomnet.Context(reactor, timeout=wrong)
        with pytest.raises(NumberRefused):
            pycomnet.Context(reactor, keepalive=wrong)
        with pytest.raises(NumberRefused):
            ServerLimits(keepalive=wrong)
        with pytest.raises(NumberRefused):
            ServerLimits(running=wrong)
    assert not list(group)


@pytest_twisted.ensureDeferred
async def test_nameserver_and_calls_refuse_wrong_numbers(running: Daemons) -> None:
    """The nameserver's requests and the calls' deadlines."""
    from twisted.internet import reactor

    address = running.nameserver()
    context = pycomnet.Context(reactor, nameserver=address)
    names = await context.connect(address)
    offer = {"service": "x", "interfaces": ["t.x"], "address": "tcp:127.0.0.1:1"}
    for ttl in (float("nan"), float("inf"), -1, 1e300, 10**400, True, "5"):
        with pytest.raises(PycomnetError, match="ttl"):
            await names.invoke("register", {**offer, "ttl": ttl})
    for timeout in (float("nan"), float("inf"), 1e300):
        with pytest.raises(NumberRefused, match="timeout"):
            await names.invoke("stat", timeout=timeout)
    assert (await names.invoke("stat"))["services"] == 0
    await context.close()
