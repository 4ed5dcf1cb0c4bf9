"""Mediators as processes, for tests, and what may stand before them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pycomnet.test.needs import require
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons
from pycomnet.test.waiting import wait_until

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Mediator:
    """A server that runs.

    :ivar where: how a spec begins.
    :ivar token_file: a file with a token for it.
    """

    def __init__(
        self, daemons: Daemons, *args: str, listen: str = LOOPBACK, token: str = ""
    ) -> None:
        directory = daemons.directory
        self.token_file = Path(token) if token else directory / "token"
        options = ["--listen", listen, *args]
        if not token:
            options += ["--token-file", str(self.token_file)]
        self.daemon: Daemon = daemons.start("pycomnet-http-exec", *options)
        self.where = self.daemon.wait_for(r"reach it with (https?=[^/\s]+)")[1]
        self.pid = self.daemon.pid
        self.port = int(self.where.rpartition(":")[2])
        self.url = self.where.replace("=", "://", 1)

    @property
    def token(self) -> str:
        """The token."""
        return self.token_file.read_text().strip()

    def spec(self, **options: object) -> str:
        """A gateway's spec."""
        keys = {"token_file": self.token_file, **options}
        return "//".join([self.where, *(f"{key}={value}" for key, value in keys.items())])

    def curl(self, path: str, *args: str, token: str | None = "") -> Answer:
        """Ask it with curl.

        :param token: another one than its own; None sends none.
        """
        require("curl")
        argv = ["curl", "-sS", "--noproxy", "*", "-D", "-", "--max-time", str(PATIENCE), *args]
        if token is not None:
            argv += ["-H", f"Authorization: Bearer {token or self.token}"]
        ran = subprocess.run([*argv, f"{self.url}{path}"], capture_output=True, timeout=PATIENCE)
        return Answer(ran.stdout, ran.stderr.decode())


class Answer:
    """What curl printed: the last answer's status, headers and body."""

    def __init__(self, printed: bytes, errors: str) -> None:
        self.errors = errors
        head, _, self.body = printed.partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, self.body = self.body.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n") if head else [""]
        self.status = int(first.split()[1]) if first else 0
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }

    @property
    def json(self) -> Any:
        """What its body says."""
        return json.loads(self.body)


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of this machine for what listens with ``SO_REUSEPORT``; nobody else gets it."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


NGINX = """
daemon off;
{user}
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} reuseport{tls};
        # As nginx is by itself: answers and requests are buffered, and nothing is upgraded.
        location /code/ {{
            proxy_pass http://127.0.0.1:{upstream}/;
            proxy_buffering on;
            proxy_ignore_headers X-Accel-Buffering;
        }}
        # As the howto has it.
        location /live/ {{
            proxy_pass http://127.0.0.1:{upstream}/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_request_buffering off;
            client_max_body_size 64m;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@contextmanager
def nginx(
    directory: Path, upstream: int, port: int, certificate: Path | None = None
) -> Iterator[None]:
    """A real nginx before a server.

    :param port: where it listens: a reserved one.
    :param certificate: a file with a key and a certificate, for TLS.
    """
    require("nginx")
    directory = directory / "nginx"
    directory.mkdir()
    config = directory / "nginx.conf"
    config.write_text(
        NGINX.format(
            directory=directory,
            port=port,
            upstream=upstream,
            tls=""
            if certificate is None
            else f" ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}",
            # As root its workers would be somebody else, who can't write here.
            user="user root;" if os.geteuid() == 0 else "",
        )
    )
    process = subprocess.Popen(
        ["nginx", "-p", str(directory), "-c", str(config), "-e", "stderr"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens there."""

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            return False
        return True

    wait_until(listens, f"something listens on port {port}")
