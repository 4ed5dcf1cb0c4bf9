"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pycomnet.test.needs import found

#: The user that runs it where root runs the tests: it refuses to run as root.
USER = "postgres"
#: The roles: the first may do all, by the socket; the second has a password, which TCP asks for.
ROLE, GUEST, PASSWORD = "tester", "guest", "the guest's password"
#: Seconds in which it begins, or ends.
LONGEST = 60.0


class PostgreSQL:
    """A server in a directory of its own, with a socket there and a port on the loopback interface.

    :param settings: of the server.
    """

    def __init__(self, **settings: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pycomnet-pg"))
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.data = self.directory / "data"
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port: int = one.getsockname()[1]
        self.settings = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            **settings,
        }
        self._schemas = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            *("initdb", "-D", str(self.data), "-U", ROLE, "--no-sync", "-E", "UTF8"),
            *("--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"),
        )

    def _run(self, name: str, *args: str) -> None:
        ran = subprocess.run(
            [found(name) or name, *args],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            **self._user,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        given = [f"--{name}={value}" for name, value in self.settings.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [found("postgres") or "postgres", "-D", str(self.data), *given],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._user,
            )
        ends = time.monotonic() + LONGEST
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < ends
                time.sleep(0.05)

    def make_guest(self) -> None:
        """Make the role with a password."""
        self.execute(
            f"CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'"
        )
        self.execute(f"GRANT CREATE ON DATABASE postgres TO {GUEST}")

    @property
    def dsn(self) -> str:
        """What libpq takes, by the socket."""
        return f"host={self.directory} port={self.port} user={ROLE} dbname=postgres"

    def address(self, schema: str | None = None, **more: Any) -> str:
        """A store's address, of a schema that was not there before, by the socket."""
        if schema is None:
            schema = f"s{next(self._schemas)}"
        query = "&".join(f"{name}={value}" for name, value in more.items())
        where = f"host={self.directory}&port={self.port}&schema={schema}"
        return f"postgresql://{ROLE}@/postgres?{where}{'&' if query else ''}{query}"

    def execute(self, text: str, *values: Any) -> list[Any]:
        """Run a statement in a connection of its own; its rows."""
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as connection:
            done = connection.execute(text, values)
            return [] if done.description is None else done.fetchall()

    @property
    def is_down(self) -> bool:
        """Whether it was stopped."""
        return self._process is None

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it, and wait for that. SIGINT ends all connections, SIGQUIT is as a crash."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(number)
            process.wait(LONGEST)

    def close(self) -> None:
        """Stop it, and remove all."""
        with suppress(subprocess.TimeoutExpired):
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def postgresql(**settings: Any) -> Iterator[PostgreSQL]:
    """A server that ends with the block."""
    server = PostgreSQL(**settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


_shared: list[PostgreSQL] = []


def shared() -> PostgreSQL:
    """The server of this process, for tests that do it no harm. It ends with the process."""
    if not _shared:
        server = PostgreSQL()
        atexit.register(server.close)
        server.start()
        server.make_guest()
        _shared.append(server)
    return _shared[0]
