"""The page ``docs/howto/venv.rst`` is followed literally, over a real ssh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycomnet
from pycomnet.test.needs import needs
from pycomnet.test.system.nearby import PATIENCE
from pycomnet.test.system.sshd import sshd
from pycomnet.test.xdeploy.packages import project, wheel

PAGE = Path(pycomnet.__file__).parent.parent / "docs" / "howto" / "venv.rst"
#: The host that the page names, for the ssh of the test.
HOST = "Host build.example\n  IdentityFile {}/user\n"
#: What stands for the package ``requests``, as no index is asked here.
REQUESTS = """\
class Response:
    status_code = 200

def get(url):
    return Response()
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory within a project, and an environment whose ssh knows the page's host."""
    (tmp_path / "ssh").mkdir()
    with sshd(tmp_path / "ssh", f"SetEnv XDG_DATA_HOME={tmp_path}/data\n") as server:
        config = Path(server.config)
        config.write_text(HOST.format(tmp_path / "ssh") + config.read_text())
        programs = tmp_path / "bin"
        programs.mkdir()
        # ssh reads the file of the user who runs it, and nothing else by itself.
        ssh = programs / "ssh"
        ssh.write_text(f'#!/bin/sh\nPATH="${{PATH#*:}}" exec ssh -F {config} "$@"\n')
        command = programs / "pycomnet"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pycomnet "$@"\n')
        for program in (ssh, command):
            program.chmod(0o755)
        index = tmp_path / "index"
        wheel(index, "requests", "2.1", files={"requests.py": REQUESTS})
        wheel(index, "attrs", "25.1")
        code = "import sys, requests\nif __name__ == '__main__':\n    print(sys.argv[1:])\n"
        source = project(tmp_path / "app", "app", source=code, requires=("requests",))
        (source / "setup.py").write_text("")
        (source / "work").mkdir()
        (source / "work" / "requirements.txt").write_text("attrs\n")
        (source / "work" / "constraints.txt").write_text("attrs>=1\n")
        env = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
        env |= {
            "PATH": f"{programs}:{env['PATH']}",
            "PYTHONPATH": str(PAGE.parents[2]),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(index),
        }
        yield source / "work", env


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, as they are indented there."""
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


@needs("pypy3")
@pytest.mark.skipif(not PAGE.is_file(), reason="there are no docs beside an installed package")
def test_page_is_right(desk: tuple[Path, dict[str, str]]) -> None:
    """Its program runs, piece after piece, and its commands do what it says."""
    where, env = desk
    program = "".join(blocks("python"))
    program += "    print(worker.call(status, 'after'), fast.id != worker.id)\n"
    lines = run([sys.executable, "-c", program], where, env).splitlines()
    assert lines[0] == "200"
    assert re.fullmatch(r"work 3\.\d+\.\S+ \{'requests': '2\.1'\}", lines[1])
    assert lines[2].startswith("Pruned(environments=")
    assert lines[3] == "200 True"
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$).+\n)*)", "".join(blocks("console")), re.M)
    assert len(commands) >= 3
    for command, _ in commands:
        output = run(["bash", "-c", command], where, env)
        if "--fast" in command:
            assert output == "['--fast']\n"
        elif command.startswith("pycomnet venv ssh"):
            assert re.fullmatch(r"\S+/environments/\w+/bin/python\n", output)
