"""The page ``docs/howto/rsync.rst`` is followed literally, over a real ssh."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import pycomnet
from pycomnet.test.needs import missing
from pycomnet.test.rsync.kit import tree_of
from pycomnet.test.system.nearby import PATIENCE
from pycomnet.test.system.sshd import sshd
from pycomnet.test.waiting import wait_until

PAGE = Path(pycomnet.__file__).parent.parent / "docs" / "howto" / "rsync.rst"
#: The hosts that the page names, for the ssh of the test.
HOSTS = "Host build.example web?.example\n  IdentityFile {}/user\n"

pytestmark = pytest.mark.skipif(
    not PAGE.is_file(), reason="there are no docs beside an installed package"
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """A directory with a project, the home directory there, and an environment for commands."""
    (tmp_path / "ssh").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    with sshd(tmp_path / "ssh", f"SetEnv HOME={home}\n") as server:
        config = Path(server.config)
        config.write_text(HOSTS.format(tmp_path / "ssh") + config.read_text())
        programs = tmp_path / "bin"
        programs.mkdir()
        # ssh reads the file of the user who runs it, and nothing else by itself. The working
        # directory there is the home directory of this user, not of the test.
        ssh = programs / "ssh"
        ssh.write_text(f'#!/bin/sh\nPATH="${{PATH#*:}}" exec ssh -F {config} "$@"\n')
        command = programs / "pycomnet"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pycomnet "$@"\n')
        for program in (ssh, command):
            program.chmod(0o755)
        desk = tmp_path / "desk"
        (desk / "project" / "docs").mkdir(parents=True)
        (desk / "project" / "main.py").write_text("print('hello')\n")
        (desk / "project" / "main.pyc").write_bytes(b"compiled")
        (desk / "project" / "docs" / "index.rst").write_text("Hello\n")
        (home / "log" / "app").mkdir(parents=True)
        (home / "log" / "app" / "today").write_text("line\n")
        env = dict(os.environ)
        env |= {"PATH": f"{programs}:{env['PATH']}", "PYTHONPATH": str(PAGE.parents[2])}
        yield desk, home, env


def there(text: str, home: Path) -> str:
    """What the page says, with paths that are relative to the home directory made absolute."""
    for path in ("releases/project", "log/app"):
        text = text.replace(path, f"{home}/{path}")
    return text


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    found = re.findall(
        rf"^\.\. code-block:: {language}\n\n((?: {{3}}.*\n|\n)+)", PAGE.read_text(), re.M
    )
    return [re.sub("^ {3}", "", block, flags=re.M) for block in found]


def run(argv: list[str], where: Path, env: dict[str, str]) -> str:
    """Run a command that has to succeed; what it prints."""
    ran = subprocess.run(
        argv, cwd=where, env=env, capture_output=True, text=True, timeout=5 * PATIENCE
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_page_is_right(desk: tuple[Path, Path, dict[str, str]]) -> None:
    """Its commands and its programs do what it says."""
    where, home, env = desk
    target = home / "releases" / "project"
    commands = [
        command
        for block in blocks("console")
        for command in re.findall(r"^\$ (.*)$", block, re.M)
        if "--watch" not in command
    ]
    assert len(commands) == 2
    for command in commands:
        output = run(["bash", "-c", there(command, home)], where, env)
        if "--dry-run" in command:
            # The pattern is not in this command.
            assert output.count("sent main.pyc") == 3
            assert not (target / "main.pyc").exists()
        else:
            assert "sent docs/index.rst" in output
            assert sorted(os.listdir(target)) == ["docs", "main.py"]
    fetching, sending = blocks("python")
    assert run([sys.executable, "-c", there(fetching, home)], where, env) == "['today']\n"
    assert (where / "logs" / "today").read_text() == "line\n"
    assert "kind='sent'" in run([sys.executable, "-c", there(sending, home)], where, env)
    assert tree_of(str(target)) == tree_of(str(where / "project"))


def test_watching_is_right(desk: tuple[Path, Path, dict[str, str]]) -> None:
    """What changes arrives, what is removed goes, and Ctrl-C ends it."""
    if find_spec("watchfiles") is None:
        missing("watchfiles is not installed")
    where, home, env = desk
    target, source = home / "releases" / "project", where / "project"
    (command,) = [block for block in blocks("console") if "--watch" in block]
    argv = ["bash", "-c", "exec " + there(command, home).removeprefix("$ ")]
    with (
        open(where / "output", "wb") as output,
        subprocess.Popen(argv, cwd=where, env=env, stdout=output, stderr=output) as process,
    ):

        def said() -> str:
            return (where / "output").read_text()

        def equal() -> bool:
            assert process.poll() is None, said()
            try:
                return tree_of(str(target)) == tree_of(str(source))
            except FileNotFoundError:
                return False

        try:
            wait_until(equal, "all has arrived")
            (source / "new").mkdir()
            (source / "new" / "file").write_text("new")
            wait_until(equal, "what is new has arrived")
            (source / "main.py").unlink()
            wait_until(equal, "what was removed has gone")
            for line in ("sent new/file", "deleted main.py"):
                wait_until(lambda: line in said(), f"{line!r} was shown")  # noqa: B023
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()
    assert "interrupted" in said()
