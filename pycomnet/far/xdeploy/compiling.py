"""Compiles the modules of wheels in the store, for this interpreter: once for all environments."""

import importlib.util
import os
import posixpath
import subprocess
import sys

from .directory import read_json
from .interpreter import VenvRefused
from .lookup import base_executable

#: The most modules that are compiled in this process, and not by others beside each other.
MOST_HERE = 60

#: The program that compiles: the paths come on standard input, each with that of its code. What is
#: no valid code is left out.
PROGRAM = """\
import py_compile, sys, warnings
warnings.simplefilter("ignore")
names = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\\0")
for path, code in zip(names[::2], names[1::2]):
    try:
        py_compile.compile(path, code, doraise=True, optimize=0)
    except (py_compile.PyCompileError, ValueError, RecursionError):
        pass
"""


def code_key():
    """What identifies the form of compiled code."""
    magic = "".join(["%02x" % number for number in bytearray(importlib.util.MAGIC_NUMBER)])
    return "%s-%s" % (sys.implementation.cache_tag, magic)


def read_wheels(directory, digests, compiled, progress):
    """What the store knows of wheels.

    Another process may compile the same at the same time: files are written atomically.

    :param compiled: whether to compile those that have not been.
    :param progress: called before modules are compiled, with their number.
    :returns: a list, in the order of ``digests``.
    """
    key = code_key()
    found = []
    paths = []
    for digest in digests:
        about = read_json(directory.path("wheels", digest, "wheel.json"))
        if about is None:
            raise VenvRefused("the store has no wheel %s" % digest)
        found.append(about)
        if compiled and key not in about["code"]:
            site = directory.path("wheels", digest, "site")
            paths += [os.path.join(site, name) for name in modules(about)]
    if paths and sys.implementation.cache_tag is not None:
        progress(len(paths))
        _compile(paths)
    for digest, about in zip(digests, found):
        if compiled and key not in about["code"]:
            about["code"][key] = [
                name
                for name in map(code_name, modules(about))
                if os.path.exists(directory.path("wheels", digest, "site", name))
            ]
            directory.write(about, "wheels", digest, "wheel.json")
    return found


def modules(about):
    """The names of the modules of a wheel."""
    return [name for name, _, _ in about["files"] if name.endswith(".py")]


def code_name(name):
    """The name of the compiled code of a module."""
    top, base = posixpath.split(name)
    tag = sys.implementation.cache_tag
    return posixpath.join(top, "__pycache__", "%s.%s.pyc" % (base[: -len(".py")], tag))


def _compile(paths):
    count = min(_processors(), len(paths) // MOST_HERE + 1)
    if count == 1:
        _compile_here(paths)
        return
    processes = []
    try:
        for number in range(count):
            process = subprocess.Popen(
                [base_executable(), "-I", "-S", "-c", PROGRAM], stdin=subprocess.PIPE
            )
            processes.append((process, paths[number::count]))
        for process, share in processes:
            names = [each for path in share for each in (path, code_name(path))]
            text = "\0".join(names).encode("utf-8", "surrogateescape")
            try:
                process.stdin.write(text)
                process.stdin.close()
            except BrokenPipeError:
                pass  # its status says why
        statuses = [process.wait() for process, _ in processes]
    except BaseException:
        for process, _ in processes:
            process.kill()
            process.wait()
        raise
    if any(statuses):
        # Perhaps for want of room on the disk: then this raises that.
        _compile_here(paths)


def _compile_here(paths):
    import py_compile
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            try:
                # Whatever this process's options are: they are not those of who imports it.
                py_compile.compile(path, code_name(path), doraise=True, optimize=0)
            except (py_compile.PyCompileError, ValueError, RecursionError):
                pass


def _processors():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
