"""Finds an environment that is there, or waits until it may be made.

This module is sent alone, as it is run each time; so it imports as little as it can. If there is no
such environment, it imports ``deploy`` from the package that the near side offers, which makes it.
A name's file is text for the same reason: its lines are compared, and nothing is parsed.
"""

import errno
import os
import stat
import sys
import threading

#: What ``flock`` fails with where a file system has no locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
#: The file in an environment that says what it is made of.
ABOUT = "xdeploy.json"


def default_root():
    """The directory that is used unless the near side names another."""
    data = os.environ.get("XDG_DATA_HOME")
    if not data or not os.path.isabs(data):
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "pycomnet", "xdeploy")


def absolute(root):
    """The directory that a request means."""
    return os.path.abspath(os.path.expanduser(root)) if root else default_root()


def make_directory(root, part):
    """Make a part of the directory, and before it the directory, if they are not there.

    They are for this user alone, as requirements may have passwords in them, and who can open a
    lock can keep it. Whatever the user's umask is, nobody else may write to their parents. Nothing
    is made in a directory that others may write to.

    :returns: whether both are private.
    """
    if not os.path.isabs(root):
        raise OSError(errno.ENOENT, "this user has no home directory")
    _make_parents(os.path.dirname(root))
    for path in (root, os.path.join(root, part)):
        try:
            os.mkdir(path, 0o700)
        except OSError:
            if not os.path.isdir(path):
                raise
        if not is_private(path):
            return False
    return True


def _make_parents(path):
    if os.path.isdir(path):
        return
    _make_parents(os.path.dirname(path))
    try:
        os.mkdir(path, 0o755)
    except OSError:
        if not os.path.isdir(path):  # else another one has made it meanwhile
            raise


def is_private(path):
    """Whether a directory belongs to this user, and nobody else may write to it or replace it."""
    found = os.stat(path)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        return False
    return all(map(_is_safe, {os.path.dirname(path), os.path.dirname(os.path.realpath(path))}))


def _is_safe(path):
    """Whether nobody else may replace what is in a directory, or the directory.

    Where others may write, as in ``/tmp``, they may not if it is sticky.
    """
    while True:
        found = os.stat(path)
        if found.st_uid not in (0, os.geteuid()):
            return False
        sticky, anyone, group = (found.st_mode & bit for bit in (0o1000, 0o002, 0o020))
        if not sticky and (anyone or (group and not _is_own_group(found.st_gid))):
            return False
        parent = os.path.dirname(path)
        if parent == path:
            return True
        path = parent


def _is_own_group(gid):
    """Whether a group has this user alone, as many systems give one to each user."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and not group.gr_mem


def base_executable():
    """The interpreter that environments are made of: not that of an environment."""
    executable = getattr(sys, "_base_executable", None) or sys.executable
    if sys.prefix != sys.base_prefix and executable == sys.executable:
        # Before Python 3.8, and PyPy: it is where the environment's configuration says.
        for name in (os.path.basename(executable), "python3", "pypy3"):
            found = os.path.join(sys.base_exec_prefix, "bin", name)
            if os.path.exists(found):
                return found
        return os.path.realpath(executable)
    return executable


def stamp(executable):
    """What changes when an interpreter is replaced by another one: text; empty if it is gone."""
    try:
        path = os.path.realpath(executable)
        found = os.stat(path)
    except OSError:
        return ""
    return "%s %d %d" % (path, found.st_size, found.st_mtime_ns)


def record_of(request, identity, about):
    """The text of a name's file.

    :param about: what else is kept with it: text without line breaks.
    """
    executable = base_executable()
    lines = [request["key"], _words(request), executable, stamp(executable), identity, about]
    return "".join([line.replace("\n", "\0") + "\n" for line in lines])


def _words(request):
    python = request["python"]
    return "default" if python is None else "named " + "\t".join(python)


def read_record(path):
    """The lines of a name's file, or None if there is none."""
    try:
        with open(path, "rb") as file:
            lines = file.read().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return None
    return [line.replace("\0", "\n") for line in lines[:6]] if len(lines) == 7 else None


def name_path(root, name):
    """The path of a name's file."""
    return os.path.join(root, "names", name)


def lock_path(root, name):
    """The path of a lock's file."""
    return os.path.join(root, "locks", name)


class Lock(object):
    """A lock that ends with its holder.

    :param path: its file.
    :param shared: whether others may have it at the same time, if they share it, too.
    """

    def __init__(self, path, shared):
        import fcntl

        self._lock = fcntl.flock
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._now, self._free = fcntl.LOCK_NB, fcntl.LOCK_UN
        self._shared = shared
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            self.release()
            raise OSError(errno.EPERM, "not a regular file that this user owns", path)

    def take(self, wait=False):
        """Take it; return False if another has it."""
        try:
            self._lock(self._fd, self._kind if wait else self._kind | self._now)
        except BlockingIOError:
            return False
        except OSError as problem:
            self.release()
            if problem.errno not in NO_LOCKS:
                raise
            raise OSError(
                problem.errno,
                "this file system has no locks (flock); directory= names another place",
                self.path,
            )
        except BaseException:
            self.release()
            raise
        if not self._shared:
            self.note(os.getpid())
        return True

    def note(self, pid):
        """Let those who wait be told this process: it has the lock, or has its descriptor."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d" % pid, 0)
        except OSError:
            pass  # on a full disk nobody can be told who has it

    def holder(self):
        """The process that has it alone, if it is known; else None."""
        text = os.pread(self._fd, 20, 0)
        return int(text) if text.isdigit() else None

    def fileno(self):
        """Its descriptor: a program that has it open keeps the lock if this process is killed."""
        return self._fd

    def release(self):
        """Give it back, whoever else has its descriptor."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            try:
                self._lock(fd, self._free)
            except OSError:
                pass  # a file system without locks
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()


def waits(channel):
    """What to call while another has a lock: it returns when the lock may be free.

    The kernel wakes a thread then. That has the near side reply, for which this thread waits: so it
    also ends when the near side does, and nobody polls. Many that wait for one lock are woken at
    once, as their threads share it for a moment.
    """
    told = []

    def wait(lock):
        if not told:
            told.append(True)
            channel.send({"waiting": lock.holder()})
        thread = threading.Thread(target=_tell_when_free, args=(channel, lock.path))
        thread.daemon = True
        thread.start()
        channel.receive()

    return wait


def _tell_when_free(channel, path):
    with Lock(path, True) as lock:
        lock.take(True)
    tell_free(channel)


def tell_free(channel):
    """Say that what this end waits for is over; then the near side replies."""
    try:
        channel.send({"free": True})
    except (EOFError, IOError):
        pass  # the near side has ended the channel


def find(channel, request):
    """Report the environment of a request if it is there.

    :returns: the lock on its use; None if it is not there.
    """
    root = absolute(request["root"])
    record = None if request["upgrade"] else read_record(name_path(root, request["name"]))
    if record is None or not is_private(root):
        return None
    key, words, executable, known, identity, _ = record
    if key != request["key"] or words != _words(request) or known != stamp(executable):
        return None
    if request["python"] is None and executable != base_executable():
        return None
    return report(channel, root, identity, False)


def report(channel, root, identity, made):
    """Report an environment as ready.

    :param made: whether it was made just now.
    :returns: the lock on its use; None if it is not there.
    """
    path = os.path.join(root, "environments", identity)
    use = Lock(lock_path(root, "use-" + identity), True)
    use.take(True)
    try:
        try:
            with open(os.path.join(path, ABOUT), "rb") as file:
                about = file.read()
            os.stat(os.path.join(path, "bin", "python"))
        except OSError:
            use.release()
            return None
        ready = {
            "about": about,
            "identity": identity,
            "made": made,
            "path": path,
            "root": root,
            "PATH": os.environ.get("PATH", os.defpath),
        }
        channel.send({"ready": ready})
    except BaseException:  # such as a near side that has given up meanwhile
        use.release()
        raise
    return use


def serve(channel, request):
    """Answer a request for an environment, and hold that until the near side ends the channel.

    :param request: a map: ``name``, ``key`` (which identifies the requirements), ``python`` (the
        interpreter that the user named, or None), ``root`` (the directory, or None), ``upgrade``
        (whether to resolve the requirements in any case), ``about`` (text that is kept with the
        name), ``look`` (whether only to find it, as another interpreter would make it), ``compile``
        (whether modules are compiled when it is made),
        ``package`` (the name of the package that makes environments).
    """
    can = sys.version_info >= (3, 6) and not sys.platform.startswith("java")
    use = find(channel, request) if can else None
    if use is None and request["look"]:
        channel.send({"absent": True})
        return
    if use is None:
        root = absolute(request["root"])
        if not can:
            _module(request, "interpreter").prepare(request["root"])
        lock = None
        try:
            if make_directory(root, "locks"):
                lock = Lock(lock_path(root, "name-" + request["name"]), False)
        except (ImportError, OSError):
            _module(request, "directory").prepare(request["root"])  # it says what is wrong
            raise
        if lock is None:
            raise _module(request, "directory").not_private(root)
        wait = waits(channel)
        with lock:
            while use is None and not lock.take():
                wait(lock)
                use = find(channel, request)
            if use is None:
                # Another one may have made it meanwhile.
                use = find(channel, request) or _module(request, "deploy").create(channel, request)
    if use is not None:
        with use:
            for _ in channel:
                pass  # the near side ends it when a gateway uses the environment


def _module(request, name):
    full = "%s.%s" % (request["package"], name)
    __import__(full)
    return sys.modules[full]


if __name__ == "__channelexec__":
    serve(channel, request)  # noqa: F821
