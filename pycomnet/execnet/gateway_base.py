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
)
from pycomnet.execnet.workerpool import Reply, WorkerPool
from pycomnet.far.execnet.dumpformat import (
    Unserializer,
    dump,
    dumps,
    dumps_internal,
    load,
    loads,
    opcode,
)
from pycomnet.far.execnet.execmodel import ExecModel, get_execmodel

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
    "load",
    "loads",
    "opcode",
]
