"""The ``pycomnet`` command as a process: signals, pipes, and what is left when it is gone."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from pycomnet.test.processes import children, resident, still_there
from pycomnet.test.waiting import wait_until

#: Seconds for what takes one or two.
PATIENCE = 120
COMMAND = [sys.executable, "-m", "pycomnet"]
#: Far code that says who it is and then does not want to end.
STUBBORN = """
import os, time
print(os.getpid(), os.getppid(), flush=True)
while True:
    try:
        time.sleep(1000)
    except KeyboardInterrupt:
        pass
"""


class Command:
    """A running command.

    :ivar process: its process.
    """

    def __init__(self, *args: str, **options: Any) -> None:
        pipe = subprocess.PIPE
        options = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **options}
        self.process = subprocess.Popen([*COMMAND, *args], **options)

    def line(self, stream: Any = None) -> str:
        """The next line of standard output, which has to come."""
        stream = stream or self.process.stdout
        text = b""
        while not text.endswith(b"\n"):
            assert select.select([stream], [], [], PATIENCE)[0], f"no line, only {text!r}"
            data = os.read(stream.fileno(), 1)
            assert data, f"the end, after {text!r}"
            text += data
        return text.decode().rstrip("\n")

    def send(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close(self, name: str) -> None:
        """Close this end of one of its streams."""
        close(getattr(self.process, name))
        setattr(self.process, name, None)

    def finish(self) -> tuple[int, str, str]:
        """Its exit status and what it printed since."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode(), (err or b"").decode()

    def kill(self) -> None:
        """End it, at the end of the test."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            close(stream)


def close(stream: IO[bytes] | None) -> None:
    """Close a pipe, if it is one."""
    if stream is not None:
        stream.close()


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts commands; they are ended with the test."""
    commands: list[Command] = []

    def start(*args: str, **options: Any) -> Command:
        commands.append(Command(*args, **options))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


def test_run_passes_status_streams_and_arguments_on(start, tmp_path):
    """The script's own status, its output on each stream, its arguments."""
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:]); print('e', file=sys.stderr); sys.exit(7)")
    status, out, err = start("run", str(script), "--on", "x").finish()
    assert (status, out, err) == (7, "[gw0] ['--on', 'x']\n", "[gw0] e\n")


def test_script_from_stdin_runs_without_prefix(start):
    """``-``, and plain output without a prefix."""
    command = start("run", "--no-prefix", "-", "a", stdin=subprocess.PIPE)
    command.send("import sys\nprint(sys.argv, __name__)\n1/0\n")
    status, out, err = command.finish()
    assert (status, out) == (1, "['-', 'a'] __main__\n")
    assert err.startswith('Traceback (most recent call last):\n  File "<stdin>", line 3, in')


def test_mistake_is_status_2_with_a_hint(start):
    """A mistake is status 2, with a hint; nothing of a traceback."""
    status, out, err = start("run", "--on", "popem", "script.py").finish()
    assert (status, out) == (2, "")
    assert "did you mean 'popen'?" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_ends_the_gateways_and_the_command(start, number, status):
    """The command ends its gateways, however little they want to, and exits."""
    command = start("run", "--no-prefix", "--on", "2xpopen", "-c", STUBBORN)
    pids = {int(pid) for _ in range(2) for pid in command.line().split()}
    assert len(pids) == 4
    command.process.send_signal(number)
    code, _, err = command.finish()
    assert code == status
    assert "ending the gateways" in err
    assert still_there(pids) == []


def test_second_ctrl_c_does_not_wait(start):
    """The second Ctrl-C does not wait; the gateways end all the same."""
    command = start("run", "--no-prefix", "-c", STUBBORN)
    pids = [int(pid) for pid in command.line().split()]
    command.process.send_signal(signal.SIGINT)
    assert "ending the gateways" in command.line(command.process.stderr)
    command.process.send_signal(signal.SIGINT)
    assert command.finish()[0] == 130
    assert still_there(pids) == []


def test_killed_command_leaves_no_gateway(start):
    """When the command itself is killed, nothing is left either."""
    command = start("run", "--no-prefix", "-c", STUBBORN)
    pids = [int(pid) for pid in command.line().split()]
    command.process.kill()
    command.process.wait()
    assert still_there(pids) == []


def test_ctrl_c_works_on_a_full_pipe(start):
    """A full pipe does not keep Ctrl-C from working."""
    code = "import sys\nprint('begun', file=sys.stderr, flush=True)\nwhile True: print('x' * 1000)"
    command = start("run", "-c", code)
    assert command.line(command.process.stderr) == "[gw0] begun"
    poll = select.poll()
    poll.register(command.process.stdout, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(PATIENCE) == 130


def unread(pipe: Any) -> int:
    """How many bytes are in a pipe."""
    found: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
    return found


def test_ctrl_c_works_while_standard_input_is_awaited(start, tmp_path):
    """An import of a pipe that brings only a part can be interrupted."""
    store = f"sqlite:{tmp_path}/names"
    command = start("ns", "import", "--store", store, "-", stdin=subprocess.PIPE)
    command.send('{"format": 1, ')
    wait_until(lambda: unread(command.process.stdin) == 0, "it has read what is in the pipe")
    command.process.send_signal(signal.SIGINT)
    assert (command.process.wait(PATIENCE), os.listdir(tmp_path)) == (130, [])


LOST = """
import os

def work(line):
    if line == "hold":
        with open({held!r}, "w") as held:
            held.write(str(os.getpid()))
        open({go!r}).close()
    return line + "!"
"""


def test_map_gives_all_results_though_a_worker_is_killed(start, tmp_path):
    """A worker is killed while it has a line: all results come, in order, and it is said."""
    held, go = tmp_path / "held", tmp_path / "go"
    os.mkfifo(held)
    os.mkfifo(go)
    functions = tmp_path / "functions.py"
    functions.write_text(LOST.format(held=str(held), go=str(go)))
    command = start("map", "--on", "2xpopen", f"{functions}:work", stdin=subprocess.PIPE)
    lines = [*map(str, range(200)), "hold", *map(str, range(200))]
    command.send("".join(f"{line}\n" for line in lines))
    command.close("stdin")
    first = int(held.read_text())  # waits for a worker to have the line
    os.kill(first, signal.SIGKILL)
    second = int(held.read_text())
    assert second != first
    go.write_text("")
    status, out, err = command.finish()
    assert (status, out.split()) == (0, [f"{line}!" for line in lines])
    assert "killed by SIGKILL" in err and "takes its place" in err
    assert still_there([second]) == []


def test_map_prints_each_result_when_it_is_there(start):
    """A result is printed when it is there, not when the input ends."""
    command = start("map", "builtins:len", stdin=subprocess.PIPE)
    for text, length in (("abc", "3"), ("", "0"), ("abcd", "4")):
        command.send(f"{text}\n")
        assert command.line() == length
    workers = children(command.process.pid)
    assert workers
    command.process.send_signal(signal.SIGINT)
    assert command.finish()[0] == 130
    assert still_there(workers) == []


def test_map_ends_silently_on_a_broken_pipe(start):
    """``| head -1``: it ends silently, as a program that SIGPIPE ends, and so do its gateways."""
    endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    try:
        command = start("map", "--on", "2xpopen", "builtins:str", stdin=endless.stdout)
        close(endless.stdout)
        assert command.line() == "y"
        workers = children(command.process.pid)
        command.close("stdout")
        assert command.process.wait(PATIENCE) == 141
        assert command.process.stderr.read() == b""
        assert still_there(workers) == []
        assert endless.wait(PATIENCE) == -signal.SIGPIPE
    finally:
        endless.kill()
        endless.wait()


def test_run_ends_silently_on_a_broken_pipe(start):
    """So does ``run``, though its script would print for ever."""
    command = start("run", "-c", "while True: print('x')")
    assert command.line() == "[gw0] x"
    command.close("stdout")
    assert command.process.wait(PATIENCE) == 141
    assert command.process.stderr.read() == b""


def test_endless_input_takes_bounded_memory(start):
    """Input that does not end takes no more memory the longer it lasts."""
    endless = subprocess.Popen(["yes", "x" * 1000], stdout=subprocess.PIPE)
    try:
        command = start("map", "--on", "2xpopen", "builtins:str", stdin=endless.stdout)
        close(endless.stdout)
        out = command.process.stdout
        sizes = []
        for _ in range(3):
            for _ in range(20):
                assert len(out.read(1_001_000)) == 1_001_000
            sizes.append(resident(command.process.pid))
        assert sizes[2] - sizes[0] < 20_000_000, sizes
        assert sizes[2] < 150_000_000, sizes
    finally:
        endless.kill()
        endless.wait()


def test_closed_stdout_does_not_reach_a_gateways_socket(start, tmp_path):
    """With standard output closed from the start, results do not end up in a gateway's socket."""
    source = Path(tmp_path / "in")
    source.write_text("1\n2\n")
    shell = f'{sys.executable} -m pycomnet map builtins:str <{source} >&-; echo "status $?" >&2'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=PATIENCE)
    assert done.stderr == b"status 0\n"


def test_verbose_logs_to_stderr_alone(start):
    """``-v`` logs to standard error, and results stay what they are."""
    status, out, err = start("-v", "run", "--no-prefix", "-c", "print(1)").finish()
    assert (status, out) == (0, "1\n")
    assert "#info] gw0 is " in err


def read_terminal(master: int, process: subprocess.Popen[bytes]) -> str:
    """All that a process writes to its terminal until it ends."""
    text = b""
    while True:
        assert select.select([master], [], [], PATIENCE)[0], text
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux: nobody has the other end any more
            data = b""
        if not data:
            assert process.wait(PATIENCE) is not None
            return text.decode()
        text += data


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: its master and the end for a command, which the test closes."""
    master, end = os.openpty()
    yield master, end
    os.close(master)


TERMINAL = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
TERMINAL.update(TERM="xterm-256color", COLUMNS="120")


def test_progress_bar_leaves_results_untouched(start, terminal, tmp_path):
    """On a terminal there is a bar, reports are put above it, and results are not touched."""
    master, end = terminal
    (tmp_path / "in").write_text("1\nx\n" * 50)
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as out:
        command = start("map", "builtins:int", stdin=source, stdout=out, stderr=end, env=TERMINAL)
        os.close(end)
        shown = read_terminal(master, command.process)
    assert command.process.returncode == 1
    assert (tmp_path / "out").read_text() == "1\n" * 50
    assert "100/100" in shown and "100%" in shown
    assert shown.count("ValueError") == 50
    assert shown.rstrip().endswith("\x1b[?25h"), "the cursor is not shown again"


def test_each_gateways_id_has_a_colour_on_a_terminal(start, terminal):
    master, end = terminal
    command = start("run", "-c", "print('x')", stdout=end, env=TERMINAL)
    os.close(end)
    shown = read_terminal(master, command.process)
    assert shown == "\x1b[36m[gw0]\x1b[0m x\r\n"


IMPORTING = """
import os, signal, sys
MODULE = sys.argv.pop(1)
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupter())
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in the foreground
from pycomnet.cli import main
main()
"""


@pytest.mark.parametrize("module", ["click", "pycomnet.cli.program", "twisted.internet.reactor"])
@pytest.mark.parametrize("command", ["run -c pass", "map a:b", "demo", "ns list", "call a b"])
def test_ctrl_c_during_import_or_start_is_silent_130(module, command):
    """Ctrl-C while a command is being imported or started is status 130, without a word."""
    argv = [sys.executable, "-c", IMPORTING, module, *command.split()]
    ran = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    "command", ["demo", "run --on 3xpopen -c print(1)", "--help", "run --help", "--version"]
)
def test_command_whose_output_nobody_reads_ends_quietly(start, command):
    """A command whose output nobody reads ends quietly, whatever was under way."""
    read, write = os.pipe()
    os.close(read)
    try:
        process = start(*command.split(), stdout=write).process
    finally:
        os.close(write)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode in (141, 1), err) == (True, b"")


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("command", ["run", "map"])
def test_escape_sequences_are_made_visible_unless_raw(start, raw, command):
    """On a terminal escape sequences are made visible, in output, results and errors."""
    main, other = os.openpty()
    options = ["--raw-output"] if raw else []
    text = "\\x1b[2J\\r[gw9] x"
    try:
        if command == "run":
            code = f"import sys; print('{text}'); print('{text}', file=sys.stderr); 1 / 0"
            command = start("run", *options, "-c", code, stdout=other, stderr=other)
        else:
            command = start("map", *options, "builtins:eval", stdout=other, stderr=other, stdin=-1)
            command.send(f"'{text}'\nprint('{text}')\nint('{text}')\n")
            command.close("stdin")
        os.close(other)
        shown = read_terminal(main, command.process)
    finally:
        os.close(main)
    assert "Error" in shown
    assert ("\x1b[2J\r[gw9]" in shown) is raw, shown
    assert raw or "\\x1b[2J\\r[gw9] x" in shown
