"""A real sshd for tests: an ordinary process on a free loopback port, with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycomnet.test.needs import missing

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
MaxSessions 100
LogLevel VERBOSE
"""
#: How the tests' ssh sees it: ``box``; with what else a test wants to go wrong, or be different.
CLIENT = """\
Host noisy
  IdentityFile {directory}/noisy
Host stranger
  IdentityFile {directory}/stranger
Host unknown host7
  UserKnownHostsFile {directory}/wrong
Host closed host3
  Port 1
Host shared
  ControlMaster auto
  ControlPath {sockets}/c
  ControlPersist 5
Host box shared unknown closed host*
  IdentityFile {directory}/user
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
"""
#: What the key ``noisy`` may run: what is asked for, after what a shell's profile may print.
NOISE = (
    "echo Welcome to this machine; echo from the profile >&2; head -c 20000 /dev/zero; echo; "
    'eval "$SSH_ORIGINAL_COMMAND"'
)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Sshd:
    """A running sshd.

    :ivar config: the file for ``ssh_config=``; its hosts are ``box`` and those that something is
        wrong with: ``noisy``, ``stranger``, ``unknown``, ``closed``; ``shared`` is several
        sessions of one connection. ``host1``, ``host2`` and so on are as ``box``, but ``host3`` is
        as ``closed``, and ``host7`` as ``unknown``.
    """

    def __init__(self, directory: Path, settings: str = "") -> None:
        assert SSHD is not None
        self.directory = directory
        self._settings = settings
        #: for the sockets of its clients, whose names are long
        self._sockets = tempfile.mkdtemp(prefix="ssh")
        for name in ("host", "user", "noisy", "stranger", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
            subprocess.run(command, check=True)
        for _ in range(10):  # another process may listen on the port that was free
            self.port = _free_port()
            self.process = self._start()
            if self._listens():
                break
            self.process.communicate()
        else:
            pytest.fail("sshd does not start")
        # It goes on to log; nobody may wait for that.
        self._log = subprocess.Popen(
            ["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def _start(self) -> subprocess.Popen[bytes]:
        host, other = (self._public(name) for name in ("host", "other"))
        self._write("known", f"[127.0.0.1]:{self.port} {host}")
        self._write("wrong", f"[127.0.0.1]:{self.port} {other}")
        noise = NOISE.replace('"', '\\"')
        self._write(
            "authorized", f'{self._public("user")}command="{noise}" {self._public("noisy")}'
        )
        names = {
            "directory": self.directory,
            "sockets": self._sockets,
            "port": self.port,
            "user": getpass.getuser(),
        }
        self._write("sshd_config", CONFIG.format(**names) + self._settings)
        self.config = self._write("ssh_config", CLIENT.format(**names))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # it wants it, and Debian makes it at boot
        argv = [str(SSHD), "-D", "-e", "-f", str(self.directory / "sshd_config")]
        return subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True)

    def _listens(self) -> bool:
        """Wait until it listens; False when it has ended."""
        assert self.process.stderr is not None
        return any(b"Server listening" in line for line in self.process.stderr)

    def _public(self, name: str) -> str:
        return (self.directory / f"{name}.pub").read_text()

    def _write(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def spec(self, host: str = "box") -> str:
        """The spec of a gateway there."""
        return f"ssh={host}//ssh_config={self.config}//python={python()}"

    def stop(self) -> None:
        """End it, and wait for that."""
        subprocess.run(
            ["ssh", "-F", self.config, "-O", "exit", "shared"],
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
        for process in (self.process, self._log):
            process.kill()
            process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        shutil.rmtree(self._sockets, ignore_errors=True)


def python() -> str:
    """The interpreter for tests: this one, which is there under this name over ssh as well."""
    import sys

    return sys.executable


@contextmanager
def sshd(directory: Path, settings: str = "") -> Iterator[Sshd]:
    """An sshd; the test skips if there is none, unless it is required.

    :param settings: further lines of its configuration.
    """
    if SSHD is None or shutil.which("ssh") is None:
        missing("sshd or ssh is not installed")
    running = Sshd(directory, settings)
    try:
        yield running
    finally:
        running.stop()
