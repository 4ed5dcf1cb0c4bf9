"""The far side of a gateway of the drop-in: its channels, and how it runs code.

:func:`begin` is run once, when the gateway has been made. It gives the far side's channels the
methods and exceptions of execnet's.
"""

import abc
import os
import sys

from .dumpformat import DataFormatError, DumpError, LoadError, dumps, loads, opcode
from .execmodel import ExecModel, get_execmodel


class TimeoutError(IOError):
    """No value has arrived in time."""


#: The type of the error with which the near side closes a request that has waited too long for the
#: main thread.
WAITED = "main_thread_only"
#: The far side's own classes, once :func:`begin` has been called.
Channel = None
RemoteError = None
#: The name of the near side's package, which has the rest of execnet's names.
near = ""


def begin(channel, plain, not_sendable, given):
    """Set this process up as the far side of a gateway of the drop-in.

    :param plain: the class of the far side's channels.
    :param not_sendable: its exception for a value that can't be sent.
    :param given: ``execmodel``; ``chdir``; ``near``, the name of the near side's package; and
        ``begun``, a channel or None: it gets the number of each request's channel when its code
        begins to run.
    """
    global Channel, RemoteError, near
    link = channel.link
    near = str(given["near"])
    RemoteError = plain.RemoteError
    Channel = link.channel_class = channel_class(plain, not_sendable)
    package = sys.modules[__name__.rpartition(".")[0]]
    package.RemoteError, package.Channel = RemoteError, Channel
    if str is not bytes:
        sys.meta_path.append(NoPlugin(near.rpartition(".")[0]))
    gateway = link.gateway
    gateway.id = "%s-worker" % gateway.id
    gateway.execmodel = get_execmodel(str(given["execmodel"]))
    gateway._channelfactory = Channels(link.mux)  # noqa: SLF001 - execnet's name
    restore_output()
    directory = given.get("chdir")
    if directory:
        try:
            os.makedirs(directory)
        except OSError:  # it exists; another gateway may have just made it
            if not os.path.isdir(directory):
                raise
        os.chdir(directory)
    gateway.begun = given.get("begun")
    channel.send(rinfo())


class NoPlugin(object):
    """Finds an empty module in place of the drop-in's pytest plugin, where that is not installed.

    pytest-xdist passes the options of its command line to its workers, so these load the plugin. It
    has nothing to do there.

    :param package: the name of the package that has the plugin.
    """

    def __init__(self, package):
        self._package = package

    def find_spec(self, name, path=None, target=None):
        """As any finder's; it is asked last."""
        if name not in (self._package, self._package + ".xdist"):
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=name == self._package)

    def create_module(self, spec):
        """As any loader's: Python makes the module."""

    def exec_module(self, module):
        """As any loader's: the module stays empty."""


def restore_output():
    """Drop printed output, and write errors to standard error; neither goes over the connection."""
    if not hasattr(os, "dup2"):
        return  # Jython: the near side drops printed output
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
    finally:
        os.close(null)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def rinfo():
    """Facts about this interpreter."""
    return {
        "executable": sys.executable,
        "version_info": list(sys.version_info[:5]),
        "platform": str(sys.platform),
        "cwd": os.getcwd(),
        "pid": os.getpid() if hasattr(os, "getpid") else 0,
    }


class Channels(object):
    """``gateway._channelfactory``: the open channels.

    :param mux: the connection's state.
    """

    finished = False

    def __init__(self, mux):
        self._mux = mux

    @property
    def _channels(self):
        return dict((id, stream.app) for id, stream in self._mux.streams.items())

    def channels(self):
        """All of them."""
        return list(self._channels.values())


def channel_class(plain, not_sendable):
    """The class of channels, from the far side's own.

    :param plain: that class.
    :param not_sendable: its exception for a value that can't be sent.
    """

    # If the near side's package is imported in this process, it registers its own class here: so
    # execnet.Channel is the class of its channels, too.
    class WorkerChannel(abc.ABCMeta("Registry", (plain,), {})):
        """A channel with execnet's exceptions."""

        TimeoutError = TimeoutError

        def __repr__(self):
            return "<Channel id=%d %s>" % (self.id, "closed" if self.isclosed() else "open")

        def send(self, item):
            """Send a value.

            :raises DumpError: it can't be sent.
            :raises IOError: the channel is closed.
            """
            try:
                plain.send(self, item)
            except not_sendable as error:
                raise DumpError("can't serialize: %s" % error)
            except (EOFError, plain.RemoteError) as error:
                raise IOError("cannot send to %r: %s" % (self, error))

        def close(self, error=None):
            """Close it, with an error's text or without.

            :raises IOError: code that runs can't close its own channel.
            """
            if self.runs:
                raise IOError("cannot explicitly close channel within remote_exec")
            plain.close(self, error)

        def reconfigure(self, py2str_as_py3str=True, py3str_as_py2str=False):
            """Do nothing: text is text, and bytes are bytes."""

        def _getremoteerror(self):
            return self.over if isinstance(self.over, plain.RemoteError) else None

    return WorkerChannel


def run(channel, task, given, function_of):
    """Run the code of a request. An EOFError is a normal end: its channel has ended.

    :param task: its ``source``, ``filename``, and for a function its ``function`` and ``line``.
    :param given: the function's arguments.
    :param function_of: makes the function of a task.
    """
    if getattr(channel.over, "type", "") == WAITED:
        return
    begun = channel.gateway.begun
    if begun is not None:
        begun.send(channel.id)
    try:
        _run(channel, task, given, function_of)
    except EOFError:
        pass


def _run(channel, task, given, function_of):
    if task.get("function"):
        given = dict((str(name), value) for name, value in given.items())
        function_of(task)(channel, **given)
        return
    source, filename = task["source"], task["filename"]
    if str is bytes:
        source, filename = source.encode("utf-8"), filename.encode("utf-8")
    code = compile(source + type(source)("\n"), filename, "exec", 0, True)
    _execute(code, {"channel": channel, "__name__": "__channelexec__", "__file__": filename})


def _execute(code, namespace):
    """Execute code; Jython has no ``exec`` in a function that has another one in it."""
    exec(code, namespace)


__all__ = [
    "Channel",
    "DataFormatError",
    "DumpError",
    "ExecModel",
    "LoadError",
    "NoPlugin",
    "RemoteError",
    "TimeoutError",
    "begin",
    "dumps",
    "get_execmodel",
    "loads",
    "opcode",
    "rinfo",
    "run",
]
