"""Runs a command in an environment, for ``pycomnet venv ... -- COMMAND``."""

import os
import subprocess
import threading


def run(channel, argv):
    """Run a command, and send what it writes and how it ends.

    Sent are lists: a stream's number (1 or 2) and bytes; at the end 0 and the exit status, or minus
    the signal that ended it. The near side ends the command by ending the gateway.

    :param argv: the command and its arguments.
    """
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as problem:
        text = "%s can't be run: %s\n" % (argv[0], problem.strerror)
        channel.send([2, text.encode("utf-8")])
        channel.send([0, 127 if isinstance(problem, FileNotFoundError) else 126])
        return
    other = threading.Thread(target=_forward, args=(channel, 2, process.stderr))
    other.start()
    _forward(channel, 1, process.stdout)
    other.join()
    channel.send([0, process.wait()])


def _forward(channel, number, stream):
    fd = stream.fileno()
    while True:
        data = os.read(fd, 65536)
        if not data:
            return
        channel.send([number, data])
