"""What execnet's users take from its module of this name."""

from pycomnet.execnet.channel import Channel
from pycomnet.execnet.errors import (
    MAIN_THREAD_ONLY_DEADLOCK_TEXT,
    DataFormatError,
    DumpError,
    HostNotFound,
    LoadError,
    RemoteError,
    TimeoutError,
    geterrortext,
)
from pycomnet.execnet.farclasses import ExecModel, dumpformat, get_execmodel
from pycomnet.execnet.workerpool import Reply, WorkerPool

Unserializer = dumpformat.Unserializer
dump, dumps = dumpformat.dump, dumpformat.dumps
dumps_internal = dumpformat.dumps_internal
load, loads = dumpformat.load, dumpformat.loads
opcode = dumpformat.opcode

__all__ = [
    "MAIN_THREAD_ONLY_DEADLOCK_TEXT",
    "Channel",
    "DataFormatError",
    "DumpError",
    "ExecModel",
    "HostNotFound",
    "LoadError",
    "RemoteError",
    "Reply",
    "TimeoutError",
    "Unserializer",
    "WorkerPool",
    "dump",
    "dumps",
    "dumps_internal",
    "get_execmodel",
    "geterrortext",
    "load",
    "loads",
    "opcode",
]
