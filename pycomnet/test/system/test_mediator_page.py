"""The status page of the mediator in a real browser, headless Chromium, over its DevTools."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

from pycomnet.test.needs import require
from pycomnet.test.system.daemons import PATIENCE, daemons
from pycomnet.test.system.mediators import Mediator
from pycomnet.test.waiting import wait_until

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
]


class Refused(Exception):
    """What the browser was to do, and does not."""


class Page:
    """A page of the browser, by the DevTools protocol.

    :param address: of its debugging WebSocket.
    """

    def __init__(self, address: str) -> None:
        import socket

        _, _, rest = address.partition("://")
        host, _, path = rest.partition("/")
        name, _, port = host.partition(":")
        self._socket = socket.create_connection((name, int(port)), PATIENCE)
        self._socket.settimeout(PATIENCE)
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._number = 0
        self._text = ""
        self._answers: dict[int, Any] = {}
        self.events: list[dict[str, Any]] = []
        self._socket.sendall(self._wire.send(Request(host=host, target=f"/{path}")))
        self._opened = False
        while not self._opened:
            self._read()

    def _read(self) -> None:
        self._wire.receive_data(self._socket.recv(1 << 16) or None)
        for event in self._wire.events():
            if isinstance(event, AcceptConnection):
                self._opened = True
            elif isinstance(event, Ping):
                self._socket.sendall(self._wire.send(event.response()))
            elif isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    said, self._text = json.loads(self._text), ""
                    if "id" in said:
                        self._answers[said["id"]] = said
                    else:
                        self.events.append(said)

    def do(self, method: str, **params: Any) -> Any:
        """Have the browser do something; its result."""
        self._number += 1
        message = json.dumps({"id": self._number, "method": method, "params": params})
        self._socket.sendall(self._wire.send(TextMessage(message)))
        while self._number not in self._answers:
            self._read()
        answer = self._answers.pop(self._number)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def value(self, expression: str) -> Any:
        """What JavaScript says in the page."""
        result = self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, what: Callable[[Any], bool] = bool) -> Any:
        """Ask until it is so."""
        value: Any = None

        def so() -> bool:
            nonlocal value
            try:
                value = self.value(expression)
            except Refused:  # one page has just taken the place of another
                return False
            return what(value)

        wait_until(so, f"{expression} is as it has to be")
        return value

    def close(self) -> None:
        """Leave it."""
        self._socket.close()


@contextmanager
def browser(url: str) -> Iterator[Page]:
    """A page of a new Chromium."""
    name = "chromium" if shutil.which("chromium") else "chromium-browser"
    require(name)
    # Not below the test's directory: sockets in it would have too long a name.
    directory = tempfile.mkdtemp(prefix="pycomnet-chromium-")
    process = subprocess.Popen(
        [name, *FLAGS, f"--user-data-dir={directory}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = Path(directory) / "DevToolsActivePort"

        def started() -> bool:
            assert process.poll() is None, "the browser ended"
            return told.exists() and "\n" in told.read_text()

        wait_until(started, "the browser has started")
        port = told.read_text().split()[0]

        def pages() -> list[str]:
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
                found = json.load(answer)
            return [one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"]

        page = Page(wait_until(pages, "the browser has a page")[0])
        page.do("Page.enable")
        page.do("Runtime.enable")
        page.do("Log.enable")
        page.do("Network.enable")
        page.do("Page.navigate", url=url)
        yield page
        page.do("Browser.close")
        page.close()
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


SIGN_IN = """
document.getElementById("token").value = {token};
document.getElementById("login").requestSubmit();
"""


@pytest.fixture
def mediator(tmp_path: Path) -> Iterator[Mediator]:
    """A server."""
    with daemons(tmp_path) as started:
        yield Mediator(started)


def test_status_page_shows_what_runs_and_ends_it(mediator: Mediator) -> None:
    """It asks for the token, shows what runs as it changes, and ends what it is told to."""
    running = "document.querySelectorAll('#running tr').length"
    with browser(f"{mediator.url}/") as page:
        page.until("document.readyState == 'complete' && !!document.getElementById('login')")
        assert page.value("document.getElementById('overview').hidden") is True
        page.value(SIGN_IN.format(token=json.dumps("x" * 40)))
        problem = page.until("document.getElementById('problem').textContent")
        assert "nobody has such a token" in problem
        page.value(SIGN_IN.format(token=json.dumps(mediator.token)))
        page.until("document.getElementById('state').textContent", lambda text: "live" in text)
        assert page.value(running) == 0
        # It is live: what is started elsewhere appears, with what it has said.
        options = {"python": "sh -c 'echo hello; exec sleep 1000' #", "id": "<b>bold</b>"}
        pid = mediator.curl("/popen", "-d", json.dumps(options)).json["pid"]
        page.until(running, lambda number: number == 1)
        row = f"document.querySelector('#running tr[data-pid=\"{pid}\"]')"
        page.until(f"{row}.cells[5].textContent", lambda text: text == "6 B")
        assert page.value(f"{row}.cells[1].textContent") == "<b>bold</b>"
        assert page.value("document.querySelectorAll('#running b').length") == 0
        assert page.value("document.getElementById('count').textContent") == "1"
        # A signal from elsewhere, and the reason.
        mediator.curl(f"/exec/{pid}?signal=KILL", "-X", "DELETE")
        page.until(running, lambda number: number == 0)
        ended = f"document.querySelector('#ended tr[data-pid=\"{pid}\"]')"
        assert page.value(f"{ended}.cells[3].textContent") == "SIGKILL"
        assert page.value(f"{ended}.cells[4].textContent") == "its client ended it"
        # The button ends one.
        mediator.curl("/popen", "-d", json.dumps({"python": "sh -c 'exec cat'"}))
        page.until(running, lambda number: number == 1)
        page.value("document.querySelector('#running button').click()")
        page.until(running, lambda number: number == 0)
        # Nothing of the token stays anywhere, and nothing was loaded from elsewhere.
        assert page.value("document.cookie") == ""
        assert page.value("localStorage.length + sessionStorage.length") == 0
        asked = [
            event["params"]["request"]["url"]
            for event in page.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert asked
        for url in asked:
            assert url.startswith((f"{mediator.url}/", "data:")), url
            assert mediator.token not in url
        broken = [event for event in page.events if event["method"] == "Runtime.exceptionThrown"]
        assert broken == []


def test_another_servers_page_gets_nothing(mediator: Mediator, tmp_path: Path) -> None:
    """A page of another server, which even has the token, gets nothing."""
    ask = (
        "fetch({url}, {{headers: {{authorization: {bearer}}}}})"
        ".then((answer) => answer.text(), (problem) => 'refused: ' + problem)"
    )
    bearer = json.dumps(f"Bearer {mediator.token}")
    page_file = tmp_path / "evil.html"
    page_file.write_text("<!doctype html><title>evil</title>")
    with browser(page_file.as_uri()) as page:
        page.until("document.title == 'evil'")
        url = json.dumps(f"{mediator.url}/")
        assert page.value(ask.format(url=url, bearer=bearer)).startswith("refused")
        simple = f"fetch({url}, {{mode: 'no-cors'}}).then((a) => a.type + a.status, String)"
        assert page.value(simple) in ("opaque0", "TypeError: Failed to fetch")
        socket = (
            f"new Promise((done) => {{ const s = new WebSocket('{mediator.where}/ws'"
            ".replace('http=', 'ws://')); s.onopen = () => done('open');"
            " s.onerror = () => done('refused'); })"
        )
        assert page.value(socket) == "refused"
    assert mediator.curl("/").json["processes"] == []
