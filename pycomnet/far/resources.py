"""Data files of packages that the near side offers, for ``importlib.resources``."""

import io


class ResourceReader(object):
    """The resource reader of a package, for ``importlib.resources``.

    :param finder: the :class:`~.modules.Finder`.
    :param package: the package's full name.
    """

    def __init__(self, finder, package):
        self._finder = finder
        self._package = package

    def files(self):
        """The package's directory."""
        return Resource(self._finder, self._package, "", True)

    def open_resource(self, resource):
        """Open a file for reading."""
        return io.BytesIO(self._finder.read(self._package, resource))

    def resource_path(self, resource):
        """There is no local file: the caller makes a copy if it needs one."""
        raise FileNotFoundError(resource)  # Python 2 does not come here

    def is_resource(self, name):
        """Whether it is a file of the package."""
        return (name, False) in self._finder.listing(self._package, "")

    def contents(self):
        """The names in the package's directory."""
        return [name for name, _ in self._finder.listing(self._package, "")]


class Resource(object):
    """A file or a directory of a package (``importlib.resources.abc.Traversable``).

    :param path: relative to the package, with ``/``.
    :param is_directory: whether it is a directory; None if that is not known yet.
    """

    def __init__(self, finder, package, path, is_directory=None):
        self._finder = finder
        self._package = package
        self._path = path
        self._is_directory = is_directory

    def __repr__(self):
        return "<Resource %s of %s>" % (self._path or ".", self._package)

    @property
    def name(self):
        """The last part of its path."""
        return (self._path or self._package).rpartition("/")[2]

    def _kind(self):
        """True for a directory, False for a file, None if it does not exist."""
        if self._is_directory is None:
            directory, _, name = self._path.rpartition("/")
            try:
                found = dict(self._finder.listing(self._package, directory))
            except (IOError, OSError):
                return None
            self._is_directory = found.get(name)
        return self._is_directory

    def is_dir(self):
        """Whether it is a directory."""
        return self._kind() is True

    def is_file(self):
        """Whether it is a file."""
        return self._kind() is False

    def iterdir(self):
        """Iterate over what is in the directory."""
        for name, is_directory in self._finder.listing(self._package, self._path):
            yield Resource(self._finder, self._package, self._below(name), is_directory)

    def _below(self, *names):
        return "/".join([part for part in (self._path,) + names if part])

    def joinpath(self, *names):
        """A file or directory in it."""
        names = [part for name in names for part in str(name).split("/")]
        return Resource(self._finder, self._package, self._below(*names)) if names else self

    __truediv__ = joinpath

    def open(self, mode="r", *args, **kwargs):
        """Open it for reading."""
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, *args, **kwargs)

    def read_bytes(self):
        """Its content."""
        return self._finder.read(self._package, self._path)

    def read_text(self, encoding=None, errors=None):
        """Its content, decoded."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")
