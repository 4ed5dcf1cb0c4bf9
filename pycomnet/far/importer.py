"""Starts a far side on another machine: reads the package from standard input and imports it.

The interpreter there is started with only this module, as the argument of ``-c``
(:func:`pycomnet.far.package.code`); so it imports no other. It reads the bootstrap message, which
has the package and the configuration, and calls ``far/main.py``. Compiled code is cached beside the
user's other caches, as compiling takes longer than all the rest.
"""

import os
import sys
import zlib

NAME = "_pycomnet"


if sys.platform.startswith("java"):
    # Java's own streams read ahead, and Jython's os has no descriptors.
    import jarray
    from jnr.posix import POSIXFactory

    _posix = POSIXFactory.getNativePOSIX()

    def read_some(size):
        """Some bytes of standard input."""
        array = jarray.zeros(size, "b")
        count = _posix.read(0, array, size)
        return bytes(bytearray(array[: max(count, 0)]))

else:

    def read_some(size):
        """Some bytes of standard input."""
        return os.read(0, size)


def read(size):
    """Read exactly ``size`` bytes of standard input."""
    data = b""
    while len(data) < size:
        piece = read_some(size - len(data))
        if not piece:
            os._exit(3)  # the process that started this is gone
        data += piece
    return data


class Importer(object):
    """Finds and loads the package's modules.

    :param files: name -> source text, bytes: ``far`` and ``far.main``; a name that others begin
        with is a package.
    :param cache: the directory for compiled code, or None.
    """

    def __init__(self, files, cache):
        self.files = files
        self.cache = cache

    def _path(self, fullname):
        if fullname == NAME:
            return ""
        if fullname.startswith(NAME + "."):
            path = fullname[len(NAME) + 1 :]
            if path in self.files:
                return path
        return None

    def find_spec(self, fullname, path=None, target=None):
        """Python 3's question."""
        if self._path(fullname) is None:
            return None
        kind = type(sys.__spec__)  # ModuleSpec; importlib.machinery takes time to import
        spec = kind(fullname, self, origin=self.get_filename(fullname))
        spec.has_location = True
        if self.is_package(fullname):
            spec.submodule_search_locations = []
        return spec

    def find_module(self, fullname, path=None):
        """Python 2's question."""
        return None if self._path(fullname) is None else self

    def is_package(self, fullname):
        """Whether it is a package."""
        path = self._path(fullname)
        return not path or any(name.startswith(path + ".") for name in self.files)

    def get_filename(self, fullname):
        """The name in tracebacks. It has no brackets: else ``linecache`` would ask no loader."""
        path = fullname.replace(".", "/")
        return path + ("/__init__.py" if self.is_package(fullname) else ".py")

    def get_source(self, fullname):
        """For tracebacks."""
        source = self.files.get(self._path(fullname), b"")
        return source if str is bytes else source.decode("utf-8")

    def create_module(self, spec):
        """Let Python create the module as usual."""

    def exec_module(self, module):
        """Python 3's way to load."""
        exec(self._code(module.__name__), module.__dict__)

    def load_module(self, fullname):
        """Python 2's way to load."""
        module = type(os)(fullname)
        sys.modules[fullname] = module
        module.__file__ = self.get_filename(fullname)
        module.__loader__ = self
        module.__package__ = fullname.rpartition(".")[0]
        if self.is_package(fullname):
            module.__path__ = []
            module.__package__ = fullname
        exec(self._code(fullname), module.__dict__)
        return module

    def _code(self, fullname):
        import marshal

        place = None
        if self.cache is not None:
            place = os.path.join(self.cache, fullname)
            try:
                with open(place, "rb") as file:
                    return marshal.loads(file.read())
            except (IOError, OSError, ValueError, EOFError, TypeError):
                pass
        source = self.files.get(self._path(fullname), b"")
        code = compile(source, self.get_filename(fullname), "exec", 0, True)
        if place is not None:
            other = "%s.%d" % (place, os.getpid())
            try:
                with open(other, "wb") as file:
                    file.write(marshal.dumps(code))
                os.rename(other, place)
            except (IOError, OSError, ValueError):
                self.cache = None
                try:
                    os.remove(other)  # incomplete, as the disk is full
                except OSError:
                    pass
        return code


def cache_directory(name):
    """The directory for compiled code, or None. No other user can write to it."""
    if sys.dont_write_bytecode or not hasattr(os, "fork"):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    version = "%s-%x" % (
        getattr(getattr(sys, "implementation", None), "name", "py"),
        sys.hexversion,
    )
    path = os.path.join(home, "pycomnet", "%s-%s" % (name, version))
    try:
        if not os.path.isdir(path):
            os.makedirs(path, 0o700)
        for each in (path, os.path.dirname(path)):
            found = os.lstat(each)
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                return None
    except (OSError, IOError):
        return None
    return path


def begin():
    """Read the package and the configuration, and start as configured."""
    name, size, config_size = read(44).decode("ascii").split()
    blob = read(int(size))
    data = zlib.decompress(blob)
    files = {}
    while data:
        head, _, data = data.partition(b"\n")
        module, length = head.decode("ascii").split()
        files[module] = data[: int(length)]
        data = data[int(length) :]
    importer = Importer(files, cache_directory(name))
    sys.meta_path.insert(0, importer)
    package = __import__(NAME)
    package.blob = name, blob
    for module in ("wire.values", "far.main"):
        __import__("%s.%s" % (NAME, module))
    config = package.wire.values.PureCodec().decode(read(int(config_size)))
    package.far.main.main(config)


if __name__ == "__main__":
    begin()
