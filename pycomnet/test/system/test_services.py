"""Services, the launcher and the nameserver as processes: restarts, takeover, TLS, clean stops."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.cli import tour, tourdaemons
from pycomnet.errors import CallInterrupted, CertificateRefused, ServiceNotFound
from pycomnet.ext import access
from pycomnet.test.needs import needs
from pycomnet.test.processes import still_there
from pycomnet.test.system.daemons import (
    EXAMPLES,
    PATIENCE,
    TWISTD,
    Daemon,
    Daemons,
    command,
    daemons,
    environment,
)
from pycomnet.test.system.nearby import ROOT

#: What is run: says who it is, and takes as long as it is told to.
MODULE = """
import os
import pycomnet
from twisted.internet import reactor
from twisted.internet.task import deferLater

@pycomnet.interface("org.example.who")
class Who(pycomnet.Service):
    @pycomnet.method(idempotent=True)
    def pid(self, request):
        return os.getpid()

    @pycomnet.method()
    async def slow(self, request):
        await deferLater(reactor, request.args["seconds"])
        return os.getpid()

    @pycomnet.method()
    async def hang(self, request):
        open(request.args["begun"], "x").close()
        await deferLater(reactor, 3600)

    @pycomnet.method(idempotent=True)
    async def first_hangs(self, request):
        try:
            open(request.args["begun"], "x").close()
        except FileExistsError:
            return os.getpid()
        await deferLater(reactor, 3600)

    @pycomnet.method()
    def user(self, request):
        return request.user and request.user.name
"""
WHO = "org.example.who"
REGISTERED = r"registered '(\S+)' at (\S+): \S+ \(lease \d+, fence (\d+)"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory with the module ``who``."""
    directory = Path(tmp_path_factory.mktemp("d"))
    (directory / "who.py").write_text(MODULE)
    with daemons(directory) as found:
        yield found


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: Any) -> Iterator[str]:
    """A nameserver that the tests share; each uses names of its own."""
    with daemons(Path(tmp_path_factory.mktemp("n"))) as found:
        yield found.nameserver()


@pytest_twisted.async_yield_fixture
async def context(nameserver: str) -> Any:
    """A context that knows it."""
    from twisted.internet import reactor

    made = pycomnet.Context(reactor, nameserver=nameserver, timeout=PATIENCE)
    yield made
    await made.close()


def registered(daemon: Daemon) -> tuple[str, str, int]:
    """Wait for a service to be registered: its name, address and fence."""
    name, address, fence = daemon.wait_for(REGISTERED).groups()
    return name, address, int(fence)


async def until_there(context: Any, path: Path) -> None:
    """Wait for a file."""
    for _ in range(PATIENCE * 50):
        if path.exists():
            return
        await deferLater(context.reactor, 0.02)
    raise AssertionError(f"{path} does not come")


async def address_of(context: Any, name: str) -> str | None:
    """Where the nameserver has a service of this name."""
    nameserver = await context.nameserver()
    found = await nameserver.invoke("list_services", {"service": name})
    records = found["services"] if isinstance(found, dict) else found
    return records[0]["address"] if records else None


# -- a user's first steps ------------------------------------------------------------------------


def howto_commands() -> list[list[str]]:
    """The commands of the howto's first section, each with the lines that it is to print."""
    text = (ROOT / "docs" / "howto" / "services.rst").read_text()
    section = text.partition("A first service\n")[2].partition("Calling it\n")[0]
    lines = re.findall(r"^   (.*)$|^$", section, re.M)
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:]])
        elif found and not line.startswith(":"):
            found[-1].append(line)
    return found


def test_howtos_commands_print_what_it_says(started: Daemons, nameserver: str) -> None:
    """The commands of the howto, one after the other, print what it says they do."""
    shown = howto_commands()
    assert [words[0].split()[:4] for words in shown] == [
        ["twistd", "--pidfile=", "-n", "pycomnet-nameserver"],
        ["twistd", "--pidfile=", "-n", "pycomnet-service"],
        ["pycomnet", "describe", "org.example.calc"],
        ["pycomnet", "call", "org.example.calc", "add"],
    ]
    env = {"PYCOMNET_NAMESERVER": nameserver}
    service = started.start("pycomnet-service", "calc", directory=EXAMPLES, **env)
    name, address, _ = registered(service)
    assert re.fullmatch(r"calc-[0-9a-f]{8}", name)
    assert f"Calc offers org.example.calc at {address}" in service.said
    described = command("describe", "org.example.calc", env=env)
    assert described.stdout.split() == " ".join(shown[2][1:]).split()
    called = command("call", "org.example.calc", "add", '{"a": 1, "b": 2}', env=env)
    assert (called.returncode, called.stdout, called.stderr) == (0, "3\n", "")
    assert shown[3][1].strip() == "3"


@pytest_twisted.ensureDeferred
async def test_tours_services_part_works_and_leaves_nothing(context: Any) -> None:
    """What the demo shows of services is so, and nothing is left of it."""
    tour_daemons = tourdaemons.Daemons()
    try:
        tour_daemons.start_nameserver()
        tour_daemons.start_service()
        working = tour_daemons.start_workflow()
        found = pycomnet.Context(context.reactor, nameserver=tour_daemons.nameserver)
        async with found:
            service = await tour.find(found, tour_daemons.check)

            def restart(pid: int) -> None:
                tour_daemons.kill(pid)
                tour_daemons.start_service()

            first, second = await tour.survive(service, restart)
            seen = await tour.follow(found, 3, 10)

            def kill() -> None:
                tour_daemons.kill(working)
                tour_daemons.start_workflow()

            run = await tour.outlive(found, kill)
        assert first != second
        assert seen == [*range(seen[0], seen[0] + 10)]
        assert (run["state"], len(run["steps"])) == ("done", 2)
        os.kill(second, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        tour_daemons.check()
    finally:
        await tour_daemons.close()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)
    assert not tour_daemons.directory.exists()


@needs("etcd")
@pytest_twisted.ensureDeferred
async def test_tours_leader_dies_and_another_one_leads(context: Any) -> None:
    """What the demo shows of several nameservers is so, and nothing is left of it."""
    tour_daemons = tourdaemons.Daemons()
    pids: list[int] = []
    try:
        tour_daemons.start_cluster()
        pids += tour_daemons.members.values()
        async with pycomnet.Context(context.reactor, nameserver=tour_daemons.nameserver) as found:
            await tour.answering(found, tour_daemons.check)
            killed: list[str] = []

            def kill(name: str) -> None:
                killed.append(name)
                tour_daemons.kill(tour_daemons.members[name])

            dead, leader, took = await tour.outlive_leader(found, "a secret of sixteen", kill)
        assert killed == [dead]
        assert leader in tour_daemons.members and leader != dead
        assert took > 0
        assert still_there([tour_daemons.members[dead]]) == []
        tour_daemons.check()  # the others run
    finally:
        await tour_daemons.close()
    assert still_there(pids) == []
    assert not tour_daemons.directory.exists()


@pytest_twisted.ensureDeferred
async def test_tour_tells_what_a_failed_daemon_said() -> None:
    """A daemon that can't run is told, with what it said."""
    tour_daemons = tourdaemons.Daemons()
    try:
        tour_daemons.nameserver = "nowhere"
        pid = tour_daemons.start_service()
        assert still_there([pid]) == []
        with pytest.raises(pycomnet.PycomnetError, match="'nowhere' is no address"):
            tour_daemons.check()
    finally:
        await tour_daemons.close()


# -- restarts ------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_calls_follow_a_service_restarted_elsewhere(
    started: Daemons, context: Any, tmp_path: Path
) -> None:
    """A service is killed and comes back at another address while a client calls."""
    names = context.nameserver_address
    first = started.service(names, "--name", "moves", "--ttl", "3", module="who")
    old = registered(first)[1]
    who = await context.locate(WHO, "moves")
    assert await who.invoke("pid") == first.pid
    interrupted = who.invoke("hang", {"begun": str(tmp_path / "hang")})
    repeated = who.invoke("first_hangs", {"begun": str(tmp_path / "repeated")})
    await until_there(context, tmp_path / "hang")
    await until_there(context, tmp_path / "repeated")
    first.process.kill()
    first.wait()
    # Called while there is nobody, and while the nameserver still has the dead one's record.
    waiting = who.invoke("pid")
    with pytest.raises(CallInterrupted):
        await interrupted
    second = started.service(names, "--name", "moves", "--ttl", "3", "--wait", module="who")
    assert await waiting == second.pid
    assert await repeated == second.pid
    assert registered(second)[1] != old
    assert await who.invoke("pid") == second.pid


@pytest_twisted.ensureDeferred
async def test_standby_takes_the_name_when_the_lease_ends(started: Daemons, context: Any) -> None:
    """A stand-by gets the name when the lease of the one that was killed ends, not before."""
    names = context.nameserver_address
    first = started.service(names, "--name", "taken", "--ttl", "5", module="who")
    fence = registered(first)[2]
    second = started.service(names, "--name", "taken", "--ttl", "5", "--wait", module="who")
    second.wait_for("waiting for the name 'taken'.* is registered for tcp:127.0.0.1:")
    who = await context.locate(WHO, "taken")
    assert await who.invoke("pid") == first.pid
    assert "registered 'taken'" not in second.said
    first.process.kill()
    assert registered(second)[2] > fence
    assert await who.invoke("pid") == second.pid


@pytest_twisted.ensureDeferred
async def test_service_registers_again_at_an_empty_nameserver(
    started: Daemons, context: Any
) -> None:
    """It comes back without what it knew: the service registers again, nobody restarts anything."""
    names = started.directory / "lost"
    arguments = ("--listen", f"unix:{names}", "--store", "memory:")
    first = started.start("pycomnet-nameserver", *arguments)
    first.wait_for("the nameserver is at")
    service = started.service(f"unix:{names}", "--ttl", "3", "--name", "who", module="who")
    registered(service)
    mine = pycomnet.Context(context.reactor, nameserver=f"unix:{names}", timeout=PATIENCE)
    async with mine:
        who = await mine.locate(WHO)
        first.signal()
        first.wait()
        # What is found already is called without a nameserver.
        assert await who.invoke("pid") == service.pid
        service.wait_for("can't renew the lease of 'who'")
        second = started.start("pycomnet-nameserver", *arguments)
        second.wait_for("the nameserver is at")
        service.wait_for("the nameserver has lost 'who'(.|\n)*registered 'who'")
        assert await address_of(mine, "who") is not None


# -- ends ----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_sigterm_unregisters_and_ends_calls(
    started: Daemons, context: Any, tmp_path: Path
) -> None:
    """SIGTERM: it is taken out at once, and the call that ran is ended."""
    names = context.nameserver_address
    service = started.service(names, "--name", "stops", "--ttl", "3600", module="who")
    _, address, _ = registered(service)
    assert await address_of(context, "stops") == address
    who = await context.locate(WHO, "stops")
    assert await who.invoke("pid") == service.pid
    service.signal(signal.SIGTERM)
    status = await service.ended()
    assert status == -signal.SIGTERM  # as twistd has it
    assert "unregistered 'stops'" in service.said and "all services have ended" in service.said
    assert await address_of(context, "stops") is None
    with pytest.raises(ServiceNotFound):
        await context.locate(WHO, "stops")


@pytest_twisted.ensureDeferred
async def test_sigterm_drains_under_calls_in_flight(started: Daemons, context: Any) -> None:
    """SIGTERM with calls in flight: none is lost and none refused; later calls go elsewhere."""
    names = context.nameserver_address
    first = started.service(names, "--name", "drains-1", "--drain", "30", module="who")
    second = started.service(names, "--name", "drains-2", module="who")
    registered(first), registered(second)
    who = await context.locate(WHO)
    slow = [who.invoke("slow", {"seconds": 0.8}) for _ in range(20)]
    while {await who.invoke("pid") for _ in range(4)} != {first.pid, second.pid}:
        pass
    first.signal(signal.SIGTERM)
    quick = [await who.invoke("pid") for _ in range(200)]
    assert set(quick[-20:]) == {second.pid}
    assert {await one for one in slow} == {first.pid, second.pid}
    assert await first.ended() == -signal.SIGTERM
    assert re.search("draining(.|\n)*unregistered 'drains-1'", first.said)


@pytest_twisted.ensureDeferred
async def test_second_sigterm_ends_at_once(started: Daemons, context: Any, tmp_path: Path) -> None:
    """A second SIGTERM ends the drain, and the call that hangs."""
    names = context.nameserver_address
    service = started.service(names, "--name", "hurries", "--drain", "3600", module="who")
    registered(service)
    who = await context.locate(WHO, "hurries")
    hanging = who.invoke("hang", {"begun": str(tmp_path / "begun")})
    while not (tmp_path / "begun").exists():
        await deferLater(context.reactor, 0.01)
    service.signal(signal.SIGTERM)
    service.wait_for("draining")
    service.signal(signal.SIGTERM)
    with pytest.raises(CallInterrupted):
        await hanging
    assert await service.ended() == -signal.SIGTERM
    assert "unregistered 'hurries'" in service.said


@pytest_twisted.ensureDeferred
async def test_failed_start_is_status_1_and_leaves_nothing(started: Daemons, context: Any) -> None:
    """Each ends with status 1 and says why; nothing is left registered or listening."""
    names = context.nameserver_address
    (started.directory / "broken.py").write_text("import no_such_module\n")
    holder = started.service(names, "--name", "held", module="who")
    address = registered(holder)[1]
    gone = f"unix:{started.directory / 'gone'}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listen = f"tcp:{port}:interface=127.0.0.1"
        cases = [
            (
                started.service(names, "--name", "held", module="who"),
                f"'held' is registered for {address} until its lease ends in",
            ),
            (
                started.service(gone, "--patience", "0.5", module="who"),
                f"no answer from the nameserver in 0.5 seconds: .*{re.escape(gone)}",
            ),
            (
                started.service(names, "--listen", listen, module="who"),
                f"can't listen on {listen}: Address already in use",
            ),
            (started.service(names, module="nowhere"), "there is no module 'nowhere' in: "),
            (
                started.service(names, module="broken"),
                "can't import module 'broken':\nTraceback(.|\n)*No module named 'no_such_module'",
            ),
        ]
        for daemon, said in cases:
            assert await daemon.ended() == 1, daemon.said
            assert re.search(f"(?m)^pycomnet-service: {said}", daemon.said), daemon.said
    assert await address_of(context, "held") == address


@pytest_twisted.ensureDeferred
async def test_daemon_says_what_is_wrong_before_going_to_background(
    started: Daemons, context: Any
) -> None:
    """Without ``-n``: what is wrong is said before it goes to the background; then it runs on."""

    def start(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TWISTD, "--pidfile=d.pid", "--logfile=d.log", "pycomnet-service", *args],
            cwd=started.directory,
            env=environment(PYCOMNET_NAMESERVER=context.nameserver_address),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    failed = start("nowhere")
    assert failed.returncode == 1
    assert "there is no module 'nowhere'" in failed.stderr
    assert start("--name", "daemon", "who").returncode == 0
    pid = int((started.directory / "d.pid").read_text())
    try:
        who = await located(context, "daemon")
        assert await who.invoke("pid") == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        assert still_there([pid]) == []
    assert "unregistered 'daemon'" in (started.directory / "d.log").read_text()
    assert not (started.directory / "d.pid").exists()


async def located(context: Any, name: str) -> Any:
    """The service of a name, once it is registered."""
    while True:
        try:
            return await context.locate(WHO, name)
        except ServiceNotFound:
            await deferLater(context.reactor, 0.05)


# -- TLS -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_service_with_tls_checks_both_ways(started: Daemons, context: Any) -> None:
    """The launcher's service with TLS: checked both ways, and the client's name arrives."""
    authority, other = trustme.CA(), trustme.CA()
    directory = started.directory
    files = {}
    for name, made in (("ca", authority), ("other", other)):
        files[name] = directory / f"{name}.pem"
        made.cert_pem.write_to_path(str(files[name]))
    for name, leaf in (
        ("server", authority.issue_cert("localhost")),
        ("client", authority.issue_cert("alice@example.org", common_name="alice")),
    ):
        leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    own = directory / "server.pem"
    listen = f"tls:0:interface=127.0.0.1:privateKey={own}:certKey={own}:clientCAs={files['ca']}"
    names = context.nameserver_address
    service = started.service(
        names, "--listen", listen, "--advertise", "localhost", "--name", "secure", module="who"
    )
    _, address, _ = registered(service)
    assert re.fullmatch(r"tls:localhost:\d+", address)
    client = directory / "client.pem"
    credentials = f":certificate={client}:privateKey={client}"
    who = await context.connect(f"{address}:trustRoots={files['ca']}{credentials}", WHO)
    assert await who.invoke("user") == "alice"
    # It is found by its interface, too, by those who say themselves what they check it by.
    found = started.service(
        names, "--listen", listen, "--advertise", "localhost", "--name", "found", module="who"
    )
    registered(found)
    mine = pycomnet.Context(
        context.reactor,
        nameserver=names,
        credentials=access.ClientCertificate(str(client), str(client)),
        trust_roots=files["ca"],
    )
    assert await (await mine.locate(WHO, "found")).invoke("pid") == found.pid
    await mine.close()
    with pytest.raises(CertificateRefused, match="certificate"):
        await context.connect(f"{address}:trustRoots={files['other']}{credentials}", WHO)
    by_number = address.replace("localhost", "127.0.0.1")
    with pytest.raises(CertificateRefused, match=r"127\.0\.0\.1"):
        await context.connect(f"{by_number}:trustRoots={files['ca']}{credentials}", WHO)
    with pytest.raises(pycomnet.PycomnetError):
        anonymous = await context.connect(f"{address}:trustRoots={files['ca']}", WHO)
        await anonymous.invoke("user")
