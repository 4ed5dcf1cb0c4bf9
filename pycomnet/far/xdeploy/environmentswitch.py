"""Switches this process to another environment, which has all that its own has."""

import fcntl
import os
import site
import sys


def switch_environment(old, new, lock):
    """Let what is imported from now on come from another environment.

    Modules that are imported already stay. Processes that are started get the new one.

    :param old: the directory of the environment that this process runs in.
    :param new: that of the other one.
    :param lock: the file of the lock on its use.
    """
    fcntl.flock(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH)
    begin = old + os.sep

    def moved(path):
        return new + path[len(old) :] if path == old or path.startswith(begin) else path

    sites = [path for path in sys.path if path.startswith(begin)]
    sys.path[:] = [moved(path) for path in sys.path]
    for path in sites:
        if os.path.basename(path) in ("site-packages", "dist-packages"):
            site.addsitedir(moved(path))  # for its .pth files
    for name in ("executable", "prefix", "exec_prefix"):
        setattr(sys, name, moved(getattr(sys, name)))
    sys.path_importer_cache.clear()
    os.environ["VIRTUAL_ENV"] = new
    paths = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([moved(path) for path in paths])
    if os.getcwd() == os.path.realpath(old):
        os.chdir(new)
