"""Environments through every transport and hop, and from an index over HTTP."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet import xdeploy
from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.mediators import Mediator
from pycomnet.test.system.nearby import PATIENCE
from pycomnet.test.system.sshd import Sshd, sshd
from pycomnet.test.xdeploy.packages import wheel

SOCKET = "tcp:0:interface=127.0.0.1"


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and a pip that asks nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[Sshd]:
    """An sshd for all tests here."""
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def where() -> list[str]:
    """What far code sees of its environment."""
    import os
    import subprocess
    import sys

    import alpha  # type: ignore[import-not-found]

    said = subprocess.check_output(["alpha"], universal_newlines=True)
    return [sys.prefix, os.getcwd(), alpha.VERSION, said.strip(), os.environ.get("GIVEN", "")]


def index(path: Path, version: str = "1.0") -> Path:
    """A directory with the wheel ``alpha``."""
    code = f"import sys\nVERSION = {version!r}\ndef main():\n    print(sys.prefix)\n"
    wheel(
        path,
        "alpha",
        version,
        files={"alpha.py": code},
        entry_points="[console_scripts]\nalpha = alpha:main\n",
    )
    return path


WAYS = ["popen", "alone", "ssh", "through ssh", "through two", "socket", "http", "factory"]


@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_everywhere(way: str, server: Sshd, tmp_path_factory: Any, tmp_path: Path) -> None:
    """A gateway of each kind gets one in an environment beside it, twice.

    That one ends with the first, whose connection it uses; but beside a subprocess it is another.
    """
    from twisted.internet import reactor

    root = str(tmp_path / "root")
    wheels = index(tmp_path / "index")
    with ExitStack() as stack:
        group = pycomnet.Group(reactor, output=lambda output: None)
        try:
            running = None
            if way in ("socket", "http", "factory"):
                running = stack.enter_context(daemons(tmp_path_factory.mktemp("d")))
            specs = ["popen//env:GIVEN=given"]
            if way == "alone":
                specs = ["popen//fork=no//env:GIVEN=given"]
            elif way == "ssh":
                specs = [server.spec() + "//env:GIVEN=given"]
            elif way == "through ssh":
                specs = [server.spec(), "popen//env:GIVEN=given"]
            elif way == "through two":
                specs = ["popen", server.spec(), f"{server.spec()}//env:GIVEN=given"]
            elif way == "socket":
                assert running is not None
                daemon = running.start(
                    "pycomnet-gateway", "--listen", SOCKET, "--token-file", "token"
                )
                said = daemon.wait_for(r"clients reach it with (\S+)")[1]
                token = f"token_file={running.directory}/token"
                specs = [said.replace("token_file=token", token) + "//env:GIVEN=given"]
            elif way == "http":
                assert running is not None
                specs = [Mediator(running).spec() + "//env:GIVEN=given"]
            elif way == "factory":
                assert running is not None
                address = f"unix:{running.directory}/sock"
                running.start("pycomnet-factory", "--listen", address).wait_for("listening on")
                group.setlocalfactory(endpoint=address)
            gateway = None
            for spec in specs:
                options: dict[str, Any] = {} if gateway is None else {"via": gateway.id}
                gateway = await group.makegateway(spec, **options)
            assert gateway is not None
            found = []
            for _ in range(2):
                inside = await xdeploy.create_venv_gateway(
                    gateway, "work", "alpha", index=wheels, directory=root
                )
                prefix, directory, version, said, given = await inside.call(where)
                assert prefix == directory == said
                assert prefix.startswith(root)
                assert (version, given) == ("1.0", "given")
                found.append(prefix)
            assert found[0] == found[1]
            await gateway.exit()
            if gateway.spec.transport != "popen":
                await inside.join().addTimeout(PATIENCE, reactor)  # it used that connection
            else:
                assert (await inside.call(where))[0] == found[1]
        finally:
            await group.close()


class LoopbackIndex(ThreadingHTTPServer):
    """A simple index on loopback (PEP 503).

    :ivar asked: the paths that were asked for.
    """

    daemon_threads = True

    def __init__(self, files: Path) -> None:
        asked: list[str] = []

        class Handler(SimpleHTTPRequestHandler):
            """Gives the files, and pages that list them."""

            def do_GET(self) -> None:
                asked.append(self.path)
                if not self.path.startswith("/simple/"):
                    super().do_GET()
                    return
                name = self.path.split("/")[2]
                links = [
                    f'<a href="/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"'
                    f">{path.name}</a>"
                    for path in files.glob(f"{name}-*")
                ]
                page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
                self.send_response(200 if links else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        super().__init__(
            ("127.0.0.1", 0),
            lambda *args: Handler(*args, directory=str(files)),  # type: ignore[arg-type]
        )
        self.asked = asked

    @property
    def url(self) -> str:
        """Its address, for pip."""
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


@pytest.fixture
def simple(tmp_path: Path) -> Iterator[LoopbackIndex]:
    """An index of ``alpha``."""
    with LoopbackIndex(index(tmp_path / "files")) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest_twisted.ensureDeferred
async def test_index_over_http(simple: LoopbackIndex, tmp_path: Path) -> None:
    """The index is asked once: not for what is there, nor for what was resolved before."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        made = []
        for root, name in (("one", "work"), ("one", "work"), ("one", "other"), ("two", "work")):
            made.append(
                await xdeploy.create_venv(
                    gateway,
                    name,
                    "alpha>=1",
                    index=simple.url,
                    directory=str(tmp_path / root),
                )
            )
            if len(made) == 1:
                asked = list(simple.asked)
        assert any(path.startswith("/simple/alpha") for path in asked)
        assert simple.asked == asked
        assert [each.made for each in made] == [True, False, False, True]
        index(tmp_path / "files", "2.0")
        newer = await xdeploy.create_venv(
            gateway,
            "work",
            "alpha>=1",
            index=simple.url,
            directory=str(tmp_path / "one"),
            upgrade=True,
        )
        assert newer.packages == {"alpha": "2.0"}
