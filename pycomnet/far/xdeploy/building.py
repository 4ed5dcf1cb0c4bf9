"""Builds a wheel of an sdist, offline, in an environment of what the build requires (PEP 517)."""

import hashlib
import os
import subprocess
import tarfile
import threading

from .directory import clear
from .interpreter import VenvRefused
from .lookup import tell_free
from .processgroup import ProcessGroup
from .wheels import add

#: The most bytes of a build's output that an error has: its begin and its end.
MAX_OUTPUT = 1 << 20

#: The program that builds: it calls the backend's hook, in the sdist's directory.
HOOK = """\
import importlib, os, sys
backend, target, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path[:0] = paths
module, _, names = backend.partition(":")
found = importlib.import_module(module)
for name in filter(None, names.split(".")):
    found = getattr(found, name)
name = found.build_wheel(target, {}, None)
with open(os.path.join(target, "built"), "w") as file:
    file.write(name)
"""


class HookFailed(Exception):
    """A build failed.

    :ivar name: what was built.
    :ivar status: the exit status.
    :ivar output: what was written.
    """

    def __init__(self, name, status, output):
        Exception.__init__(self, "%s: status %d" % (name, status))
        self.name = name
        self.status = status
        self.output = output


def build_sdist(creation, build, identity, place, lock):
    """Receive an sdist, and build its wheel; return that one's hash in the store.

    :param build: a map of the near side's plan.
    :param identity: the environment of what the build requires.
    :param place: an empty directory.
    :param lock: the caller's lock on it. The build has it as well: if this process is killed,
        nobody else uses the directory before the build has ended, too.
    :raises HookFailed: the backend failed.
    """
    directory = creation.directory
    name, digest, size = build["sdist"]
    try:
        path = os.path.join(place, os.path.basename(name))
        receive_file(creation.channel, path, digest, size)
        source = unpack(path, os.path.join(place, "source"))
        target = os.path.join(place, "wheel")
        os.mkdir(target)
        python = directory.path("environments", identity, "bin", "python")
        with directory.lock("use-" + identity, shared=True):
            argv = hook_argv(python, source, target, build["backend"], build["paths"])
            output = os.path.join(target, "output")
            run(argv, source, name, output, creation.channel, held=(lock,))
        with open(os.path.join(target, "built")) as file:
            built = file.read()
        return add(directory, os.path.join(target, os.path.basename(built)))
    finally:
        clear(place)


def receive_file(channel, path, digest, size):
    """Receive a file.

    :raises VenvRefused: the bytes are not those of the hash.
    """
    found = hashlib.sha256()
    with open(path, "wb") as file:
        while size > 0:
            piece = channel.receive()
            size -= len(piece)
            found.update(piece)
            file.write(piece)
    if found.hexdigest() != digest:
        raise VenvRefused(
            "an sdist was to have the hash %s, and has %s" % (digest, found.hexdigest())
        )


def unpack(path, target):
    """Unpack an sdist; return the directory in it."""
    os.mkdir(target)
    if path.endswith(".zip"):
        import zipfile

        with zipfile.ZipFile(path) as archive:
            archive.extractall(target)  # it takes ".." and absolute names out itself
    else:
        with tarfile.open(path) as archive:
            _extract(archive, target)
    tops = os.listdir(target)
    if len(tops) != 1:
        raise VenvRefused("an sdist has one directory, and %s has %d" % (path, len(tops)))
    return os.path.join(target, tops[0])


def _extract(archive, target):
    """Extract all but what leads out of the directory, and devices."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(target, filter="data")
        return
    root = os.path.realpath(target)
    for member in archive:
        path = os.path.realpath(os.path.join(root, member.name))
        inside = path == root or path.startswith(root + os.sep)
        if member.issym() or member.islnk():
            base = os.path.dirname(path) if member.issym() else root
            goal = os.path.realpath(os.path.join(base, member.linkname))
            inside = inside and (goal == root or goal.startswith(root + os.sep))
        elif not (member.isfile() or member.isdir()):
            continue
        if not inside:
            raise VenvRefused("an sdist has %r, which leads out of it" % (member.name,))
        # Files are ours, whoever is root, and we can write where others are still to come.
        runs = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        archive.extract(member, root, set_attrs=False)
        if not (member.issym() or member.islnk()):
            os.chmod(path, runs)


def hook_argv(python, source, target, backend, backend_path):
    """What to run to build the wheel of a directory.

    :param python: the interpreter with what the build requires.
    :param target: the directory for the wheel, and for a file ``built`` with its name.
    :param backend: the backend's module, perhaps with a colon and an object in it.
    :param backend_path: the directories to import it from, relative to the sdist's.
    """
    return [python, "-I", "-c", HOOK, backend, target] + import_paths(source, backend_path)


def run(argv, directory, name, output, channel, more=None, without=(), held=()):
    """Run a program that builds, until it ends or the near side ends the channel.

    :param argv: the interpreter and its arguments.
    :param directory: its working directory.
    :param name: what is built, for the error.
    :param output: the file for what it writes.
    :param channel: the conversation. The near side has nothing to send, until it is told that the
        program has ended, and replies.
    :param more: variables that are set for it; ``without``: those that it does not have.
    :param held: locks that it has as well, until it has ended; those who wait are told so.
    :raises HookFailed: it failed.
    :raises EOFError: the near side has ended the channel; then the program is killed, and what it
        started.
    """
    environment = dict(os.environ)
    environment["PATH"] = os.path.dirname(argv[0]) + os.pathsep + environment.get("PATH", "")
    for variable in ("PYTHONPATH", "PYTHONHOME") + tuple(without):
        environment.pop(variable, None)
    environment.update(more or {})
    with open(output, "w+b") as file:
        group = ProcessGroup(
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno() for lock in held],
        )
        watcher = threading.Thread(target=_tell_when_ended, args=(channel, group))
        try:
            for lock in held:
                lock.note(group.process.pid)
            watcher.start()
            channel.receive()
        except BaseException:
            group.kill()
            group.wait()
            raise
        watcher.join()
        status = group.wait()
        if status:
            raise HookFailed(name, status, read_output(file))


def _tell_when_ended(channel, group):
    group.wait()
    tell_free(channel)


def read_output(file):
    """What a program has written to a file; the begin and the end, if it is much.

    The place in the file is left alone: what the program has started may still write there.
    """
    fd = file.fileno()
    size, half = os.fstat(fd).st_size, MAX_OUTPUT // 2
    if size <= MAX_OUTPUT:
        return os.pread(fd, size, 0).decode("utf-8", "replace")
    begin = os.pread(fd, half, 0).decode("utf-8", "replace")
    end = os.pread(fd, half, size - half).decode("utf-8", "replace")
    return "%s\n... %d bytes in all ...\n%s" % (begin, size, end)


def import_paths(source, backend_path):
    """The directories to import the backend from."""
    root = os.path.realpath(source)
    paths = [os.path.realpath(os.path.join(source, each)) for each in backend_path]
    for each in paths:
        if each != root and not each.startswith(root + os.sep):
            raise VenvRefused("backend-path leads out of the sdist: %s" % each)
    return paths
