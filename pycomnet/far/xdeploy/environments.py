"""Makes environments: an empty one, and the wheels in it."""

import csv
import hashlib
import io
import json
import os
import posixpath
import re
import sys

from . import wheels
from .compiling import code_key, read_wheels
from .directory import clear, remove_tree, write_json
from .interpreter import VenvRefused, mark
from .lookup import ABOUT, base_executable
from .scripts import entry_scripts, shebang, with_interpreter

#: A change of what environments are made of needs another number.
FORMAT = 2


def identity_of(sources):
    """The identity of an environment of this interpreter.

    :param sources: what identifies each wheel: its hash, or what it is built of.
    """
    made_of = {"format": FORMAT, "wheels": sorted(sources), "interpreter": mark()}
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def make(directory, identity, digests, about, progress, compiled=True):
    """Make an environment. The caller has the identity's lock.

    :param digests: the hashes of its wheels, which are in the store.
    :param about: the description that is written into it.
    :param progress: called with what is done, how much of it, and of how much.
    :param compiled: whether to compile modules that the store has not compiled yet.
    :raises VenvRefused: two wheels are of the same distribution.
    """
    place = directory.fresh(identity)
    target = directory.path("environments", identity)
    try:
        layout = create(place, target)
        installed = {}
        found = read_wheels(
            directory, digests, compiled, lambda number: progress("compile", 0, number)
        )
        for number, digest in enumerate(digests):
            wheel = found[number]
            name = re.sub(r"[-_.]+", "-", wheel["name"]).lower()
            if name in installed:
                raise VenvRefused("two wheels are of the distribution %s" % name)
            installed[name] = wheel["version"]
            install(directory.path("wheels", digest), wheel, layout)
            progress("install", number + 1, len(digests))
        about = dict(about, identity=identity, wheels=sorted(digests), packages=installed)
        write_json(os.path.join(place, ABOUT), about)
        directory.put(place, "environments", identity)  # perhaps for one whose interpreter is gone
    except BaseException:
        clear(place)
        raise


class Layout(object):
    """Where the files of an environment go.

    :ivar place: its directory while it is made; ``target`` is the final one.
    :ivar python: its interpreter, by its final path.
    :ivar paths: scheme -> directory, relative to it.
    """

    def __init__(self, place, target):
        self.place = place
        self.target = target
        self.python = os.path.join(target, "bin", "python")
        site = os.path.relpath(_site_packages(place), place)
        self.paths = {"purelib": site, "platlib": site, "scripts": "bin", "data": ""}
        version = "python%d.%d" % sys.version_info[:2]
        self.headers = os.path.join("include", "site", version)
        #: directories that are there
        self.made = set()
        #: files that an empty environment has: its interpreter, what activates it
        self.own = set(
            os.path.join(top, name) for top, _, names in os.walk(place) for name in names
        )

    def directory(self, path):
        """Make the directory of a file of a wheel.

        :raises VenvRefused: the file is one that makes an environment.
        """
        if path in self.own:
            name = os.path.relpath(path, self.place)
            raise VenvRefused("a wheel has the file %s, which is the environment's" % name)
        parent = os.path.dirname(path)
        if parent not in self.made:
            os.makedirs(parent, exist_ok=True)
            self.made.add(parent)


def create(place, target):
    """Make an empty environment; return its :class:`Layout`."""
    import venv

    base = base_executable()

    class Builder(venv.EnvBuilder):
        """Makes it of the base interpreter, and for another path."""

        def ensure_directories(self, env_dir):
            """Make the directories, and tell where the interpreter is."""
            context = venv.EnvBuilder.ensure_directories(self, env_dir)
            context.executable = base
            context.python_dir, context.python_exe = os.path.split(base)
            context.env_exe = os.path.join(context.bin_path, context.python_exe)
            return context

        def setup_scripts(self, context):
            """Write the scripts that activate it: with its final path."""
            context.env_dir = target
            context.env_exe = os.path.join(target, "bin", context.python_exe)
            venv.EnvBuilder.setup_scripts(self, context)

    Builder(symlinks=True, prompt=os.path.basename(target)).create(place)
    return Layout(place, target)


def _site_packages(place):
    import sysconfig

    schemes = sysconfig.get_scheme_names()
    scheme = "venv" if "venv" in schemes else "posix_prefix"
    found = sysconfig.get_path("purelib", scheme, {"base": place, "platbase": place})
    os.makedirs(found, exist_ok=True)
    return found


def install(source, wheel, layout):
    """Install an unpacked wheel.

    :param source: its directory in the store.
    :param wheel: what the store knows of it.
    """
    rows = {}
    site = layout.paths["purelib" if wheel["pure"] else "platlib"]
    for name, digest, size in wheel["files"]:
        link(os.path.join(source, "site", name), os.path.join(layout.place, site, name), layout)
        rows[name] = (digest, size)
    for name in wheel["code"].get(code_key(), ()):
        link(os.path.join(source, "site", name), os.path.join(layout.place, site, name), layout)
        rows[name] = ("", "")
    for scheme, name, digest, size in wheel["data"]:
        if scheme == "headers":
            where = os.path.join(layout.headers, wheel["name"])
        else:
            where = layout.paths[scheme]
        path = os.path.join(layout.place, where, name)
        own = os.path.join(source, "data", scheme, name)
        if scheme == "scripts":
            with open(own, "rb") as file:
                text = file.read()
            digest, size = _write_script(path, with_interpreter(text, layout.python), layout)
        else:
            link(own, path, layout)
        rows[posixpath.relpath(os.path.join(where, name), site)] = (digest, size)
    for name, text in entry_scripts(wheel["entry_points"]):
        data = (shebang(layout.python) + text).encode("utf-8", "surrogateescape")
        path = os.path.join(layout.place, layout.paths["scripts"], name)
        digest, size = _write_script(path, data, layout)
        row = posixpath.relpath(os.path.join(layout.paths["scripts"], name), site)
        rows[row] = (digest, size)
    _write_record(os.path.join(layout.place, site), wheel["dist_info"], rows)


def link(source, target, layout):
    """Link a file of the store; copy it where the file system can't link.

    What another wheel has put there is replaced, as pip does it.
    """
    layout.directory(target)
    try:
        os.link(source, target)
    except FileExistsError:
        os.remove(target)
        link(source, target, layout)
    except OSError:
        import shutil

        shutil.copy2(source, target)


def _write_script(path, data, layout):
    """Write a script; return its hash and size as RECORD has them."""
    layout.directory(path)
    remove_tree(path)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o755)
    return wheels.record_hash(data), len(data)


def _write_record(site, dist_info, rows):
    name = dist_info + "/RECORD"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((row,) + rows[row] for row in sorted(rows))
    writer.writerow((name, "", ""))
    with open(os.path.join(site, name), "wb") as file:
        file.write(text.getvalue().encode("utf-8"))
