"""The README's example where it is typed in: REPLs, ``-c``, standard input, IPython, doctest."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pycomnet

README = Path(pycomnet.__file__).parent.parent / "README.rst"
#: Seconds for what takes two.
PATIENCE = 120


def example() -> str:
    """The first program of the README's "Use it"."""
    if not README.is_file():
        pytest.skip("there is no README beside an installed package")
    text = README.read_text(encoding="utf-8").partition("\nUse it\n")[2]
    found = re.search(r"code-block:: python\n\n((?:   .*\n|\n)+)", text)
    assert found is not None
    return "".join(line[3:] or "\n" for line in found[1].splitlines(keepends=True))


def run(*argv: str, stdin: str = "", **env: str) -> str:
    """What a program printed, its two streams together."""
    ran = subprocess.run(
        list(argv),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHON_BASIC_REPL": "1", **env},
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ran.stdout


MARK = 'print("it " + "works", ch.isclosed(), ch is not None)\n'


def test_function_from_python_c_runs() -> None:
    assert "it works" in run(sys.executable, "-c", example() + MARK)


def test_function_from_stdin_runs() -> None:
    """A program on standard input, as one and as typed into the REPL."""
    assert "it works" in run(sys.executable, "-", stdin=example() + MARK)
    typed = run(sys.executable, "-i", stdin=example() + MARK)
    assert "it works" in typed
    assert "Error" not in typed


def test_function_from_the_repl_runs(tmp_path: Path) -> None:
    """The REPL on a terminal."""
    main, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-i"], stdin=other, stdout=other, stderr=other, start_new_session=True
    ) as process:
        os.close(other)
        os.write(main, (example() + MARK + "exit()\n").encode())
        printed = b""
        try:
            while True:
                printed += os.read(main, 65536)
        except OSError:
            pass  # the end of a terminal
        process.wait(PATIENCE)
    os.close(main)
    assert b"\nit works" in printed, printed.decode()


def test_function_from_ipython_keeps_its_source() -> None:
    """IPython, as Jupyter's kernel, keeps the sources of its cells."""
    ipython = pytest.importorskip("IPython")
    assert ipython
    code = example() + MARK + "1 / 0 if not ch else None\n"
    cells = (
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        f"shell = Shell.instance()\nshell.run_cell({code!r})\n"
        "shell.run_cell('def fails(channel):\\n    raise KeyError(1)  # this line\\n')\n"
        "shell.run_cell('gw.remote_exec(fails).waitclose()')\n"
    )
    printed = run(sys.executable, "-c", cells)
    assert "it works" in printed
    assert "raise KeyError(1)  # this line" in printed  # in the far side's traceback, by source


def test_proxy_in_ipython_is_completed_and_explained() -> None:
    """Its methods by Tab, also those that are no attributes, and their signatures by ``?``."""
    pytest.importorskip("IPython")
    program = (
        "from pycomnet import Service, blocking, interface, method\n"
        "from pycomnet.blocking.ext.proxy import proxy\n"
        "from IPython.core.completer import provisionalcompleter\n"
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        "@interface('org.example.calc')\n"
        "class Calc(Service):\n"
        "    @method(args={'a': int, 'b': 'int?'}, results=int)\n"
        "    def add(self, request):\n"
        "        'The sum of both.'\n"
        "        return request.args['a']\n"
        "    @method('import', args={})\n"
        "    def import_(self, request): pass\n"
        "with blocking.ServiceServer() as server, blocking.Context() as context:\n"
        "    server.add(Calc())\n"
        "    address = server.listen('tcp:0:interface=127.0.0.1')\n"
        "    calc = proxy(context.connect(address, 'org.example.calc'))\n"
        "    calc.add(a=1)\n"
        "    shell = Shell.instance(user_ns={'calc': calc})\n"
        "    for typed in ('calc.ad', 'calc.impo', 'calc[\"im'):\n"
        "        with provisionalcompleter():\n"
        "            found = shell.Completer.completions(typed, len(typed))\n"
        "            print([one.text for one in found])\n"
        "    print(shell.object_inspect_text('calc.add'))\n"
    )
    printed = run(sys.executable, "-c", program)
    attribute, keyword, key = printed.splitlines()[:3]
    assert attribute.endswith("add']"), printed
    assert (keyword, "import" in key) == ("[]", True), printed
    assert "calc.add(a: int, b: int = ...) -> int" in printed
    assert "The sum of both." in printed


def test_functions_without_source_run_as_compiled_code() -> None:
    """What has no source: lambdas, defaults, its own name."""
    program = (
        "from pycomnet.blocking import Group\ngw = Group().makegateway('popen')\n"
        "print(gw.call(lambda x, y=2: x * y, 21))\n"
        "def fact(n, *, one=1): return n * fact(n - 1) if n else one\n"
        "print(gw.call(fact, 5))\n"
        "import functools\n"
        "print(gw.call(functools.partial(fact, 3)))\n"
    )
    assert run(sys.executable, "-c", program).split() == ["42", "120", "6"]


def test_compiled_code_for_another_python_is_refused_here() -> None:
    """A far side that is another Python: what to do is said, where there is no source."""
    if shutil.which("pypy3") is None:
        if os.environ.get("PYCOMNET_REQUIRE_ALL"):
            pytest.fail("pypy3 is not installed")
        pytest.skip("pypy3 is not installed")
    program = (
        "from pycomnet.blocking import Group\n"
        "gw = Group().makegateway('popen//python=pypy3')\n"
        "gw.call(lambda: 1)\n"
    )
    printed = run(sys.executable, "-c", program)
    assert "its compiled code runs on cpython" in printed
    assert "define it in a file, or send its source as text" in printed


def test_compiled_code_for_another_python_is_refused_there() -> None:
    """Code for another Python is refused at the far side, before it is unmarshalled."""
    program = (
        "from pycomnet.blocking import Group\n"
        "gw = Group().makegateway('popen')\n"
        "far = gw._wrapped\n"
        "request = {'code': b'x', 'bytecode': 'cpython-9.9-00', 'name': 'f'}\n"
        "from pycomnet.blocking.waiting import wait_for\n"
        "def call():\n"
        "    c = far._connection\n"
        "    return c.open('call', c.encode(request), end=True).receive()\n"
        "wait_for(call, 60, 'call')\n"
    )
    printed = run(sys.executable, "-c", program)
    assert "ValueError: the code of a function for cpython-9.9-00 can't run on" in printed
