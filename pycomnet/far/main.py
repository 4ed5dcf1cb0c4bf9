"""The far side's entry point: called with the configuration by what a transport starts."""

import os
import sys

from .connection import FileIO
from .path import give_back
from .worker import FarSide
from .writebuffer import WriteBuffer, new_memory


def main(config):
    """Run the far side: a worker, or a fork server.

    :param config: a map: ``id``, ``execmodel``, ``chdir``, ``nice``, ``fork``, ``near`` (its pid),
        ``update`` (of the environment), ``busy`` (as of :class:`FileIO`); or ``fork_server`` for a
        fork server, each of whose children becomes a worker.
    """
    io = write_buffer = None
    try:
        if config.get("more"):
            from .forkserver.preforked import wait_for_more

            os.environ.update(wait_for_more().get("update", {}))
        if config.get("fork_server") is not None:
            from .forkserver.server import serve

            config, io, write_buffer = serve(config)
        if config.get("safe_path"):
            os.environ.pop("PYTHONSAFEPATH", None)
        if config.get("update"):
            os.environ.update(config["update"])
        if config.get("umask") is not None:
            os.umask(config["umask"])
        for directory in (config.get("cwd"), config.get("chdir")):
            if directory:
                os.chdir(directory)
        if config.get("nice"):
            os.nice(config["nice"])
    except (OSError, AttributeError) as error:
        sys.stderr.write("pycomnet: %s\n" % error)
        sys.exit(2)
    ending = {}
    if io is None and sys.platform.startswith("java"):
        from . import javaio

        io = javaio.JavaIO()
        ending = {"halt": javaio.halt, "interrupt": javaio.interrupt_main}
    elif io is None:
        io, write_buffer = _begin(config)
    give_back(config.get("safe_path"))
    FarSide(io, config, write_buffer, **ending).serve()


def _begin(config):
    """Set this process up: take the connection, and fork the worker if that is possible."""
    from .stdio import take_stdio

    read_fd, write_fd = take_stdio()
    io = FileIO(read_fd, write_fd, config.get("busy", True))
    write_buffer = None
    if hasattr(os, "fork") and config.get("fork", True):
        from .supervisor import supervised

        memory = new_memory()
        if memory is not None:
            write_buffer = WriteBuffer(io.write_fd, memory)
        supervised(io.read_fd, config.get("near"), write_buffer)
    return io, write_buffer
