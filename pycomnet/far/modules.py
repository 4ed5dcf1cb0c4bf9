"""Imports modules that the near side offers, and requests their sources over the connection.

The near side names the top-level modules that it has (docs/protocol.rst, "Modules"). One request
lists what is directly in a package; sources that were never compiled here are requested together.
Compiled code is cached in files beside the user's other caches, by its source's hash: all workers
of a machine share it, and so do later programs.
"""

import os
import sys
import zlib

from .importer import Importer, cache_directory

#: Kinds of modules (docs/protocol.rst, "Modules").
MODULE, PACKAGE, NAMESPACE, UNSENDABLE = range(4)


class Finder(Importer):
    """Finds modules that are offered, and loads them.

    :param link: the connection.
    :ivar names: the top-level names that are looked for here first; ``last`` has those that are
        looked for here if no other finder has them.
    """

    def __init__(self, link):
        Importer.__init__(self, {}, None)
        self._link = link
        self.names = set()
        self.last = set()
        #: full name -> kind, file name, hash
        self._known = {}
        #: packages whose content is known
        self._listed = set()
        #: sources that have been received and not been used yet
        self._sources = {}
        self._cached = None

    def offer(self, offered):
        """Add modules that the near side offers, a map of the protocol. Needs the link's lock."""
        unless = _native(offered.get("unless"))
        if unless and os.path.exists(unless):
            return
        if not self.names and not self.last:
            sys.meta_path.insert(0, self)
            sys.meta_path.append(Last(self))
        self.names.update(_native(name) for name in offered.get("first") or ())
        self.last.update(_native(name) for name in offered.get("last") or ())
        for name, entries in (offered.get("lists") or {}).items():
            self._learn(_native(name), entries)

    # -- finding ---------------------------------------------------------------------------------

    def _path(self, fullname):
        """For Importer: not None if the module is to be loaded from here."""
        if fullname.partition(".")[0] not in self.names:
            return None
        found = self.look_up(fullname)
        return fullname if found is not None and found[0] != UNSENDABLE else None

    def look_up(self, fullname):
        """Find a module: its kind, file name and hash; None if there is none."""
        parent = fullname.rpartition(".")[0]
        if fullname not in self._known:
            if parent and not self._ours(parent):
                return None  # a part of a package from elsewhere
            # A package's listing has all that is directly in it.
            if (parent or fullname) not in self._listed:
                self._list(parent or fullname)
        return self._known.get(fullname)

    def _ours(self, package):
        return package in self._known and self._known[package][0] in (PACKAGE, NAMESPACE)

    def _list(self, name):
        self._learn(name, self._ask({"list": name}, name))

    def _learn(self, name, entries):
        """Keep the reply to ``list``."""
        for entry in entries:
            self._known[_native(entry[0])] = (entry[1], _native(entry[2]), bytes(entry[3] or b""))
        self._listed.add(name)

    def _ask(self, question, name):
        """Ask the near side; return its reply.

        :raises ImportError: there is no reply.
        """
        link = self._link
        try:
            channel = link.open("module", link.encode(question))
            return channel.receive()
        except EOFError as error:
            text = "%s has to come from the near side: %s" % (name, error)
            if link.forked:
                text += "; import it before forking"
            raise _import_error(text, name)
        except channel.RemoteError as error:
            raise _import_error(error.message, name)

    def is_package(self, fullname):
        """Whether it is a package."""
        return self._known[fullname][0] in (PACKAGE, NAMESPACE)

    def get_filename(self, fullname):
        """The file's name at the near side."""
        return self._known[fullname][1]

    def find_spec(self, fullname, path=None, target=None):
        """Python 3's question."""
        if self._path(fullname) is None:
            return None
        kind = type(sys.__spec__)
        filename = self.get_filename(fullname)
        if self._known[fullname][0] == NAMESPACE:
            spec = kind(fullname, None)
            spec.submodule_search_locations = [filename]
            return spec
        spec = kind(fullname, self, origin=filename)
        spec.has_location = True
        if self.is_package(fullname):
            spec.submodule_search_locations = [_directory(filename)]
        return spec

    # -- loading ---------------------------------------------------------------------------------

    def load_module(self, fullname):
        """Python 2's way to load."""
        module = sys.modules.get(fullname)
        if module is not None:
            is_new = False
        else:
            is_new = True
            module = sys.modules[fullname] = type(os)(fullname)
        kind, filename, _ = self._known[fullname]
        module.__file__ = filename
        module.__loader__ = self
        module.__package__ = fullname.rpartition(".")[0]
        if kind != MODULE:
            module.__path__ = [filename if kind == NAMESPACE else _directory(filename)]
            module.__package__ = fullname
        try:
            if kind != NAMESPACE:
                exec(self._code(fullname), module.__dict__)
        except:  # Java's exceptions have another base
            if is_new:
                sys.modules.pop(fullname, None)
            raise
        return module

    def get_code(self, fullname):
        """For ``runpy``."""
        return self._code(fullname)

    def get_source(self, fullname):
        """For tracebacks."""
        if fullname not in self._known:
            raise _import_error("the near side has offered no module %s" % fullname, fullname)
        source = self._source(fullname)
        self._sources[fullname] = source  # tracebacks ask for it again, line by line
        return source if str is bytes else _decoded(source)

    def _source(self, fullname):
        source = self._sources.pop(fullname, None)
        if source is None:
            # The other modules of this package that were never compiled here will be needed soon.
            parent = fullname.rpartition(".")[0] or fullname
            names = [fullname]
            for name in sorted(self._known):
                together = name == parent or name.rpartition(".")[0] == parent
                if together and name != fullname and self._may_be_needed(name):
                    names.append(name)
            answer = self._ask({"source": names}, fullname)
            for name, text in answer.items():
                self._sources[_native(name)] = bytes(text)
            source = self._sources.pop(fullname)
        return source

    def _may_be_needed(self, name):
        if name in sys.modules or name in self._sources or self._known[name][0] > PACKAGE:
            return False
        place = self._place(name)
        return place is None or not os.path.exists(place)

    def _place(self, fullname):
        """The file for its compiled code, or None."""
        if self._cached is None:
            self._cached = (cache_directory("modules"),)
        directory = self._cached[0]
        if directory is None:
            return None
        key = "%s\n%s\n%d" % (fullname, self._known[fullname][1], sys.flags.optimize)
        if not isinstance(key, bytes):
            key = key.encode("utf-8", "replace")
        # Importing hashlib takes longer than all the rest of a gateway's first import. Two modules
        # with the same name here only replace each other's file, whose hash is checked.
        numbers = zlib.crc32(key) & 0xFFFFFFFF, zlib.adler32(key) & 0xFFFFFFFF
        return os.path.join(directory, "%08x%08x" % numbers)

    def _code(self, fullname):
        import marshal

        digest = self._known[fullname][2]
        place = self._place(fullname)
        if place is not None:
            try:
                with open(place, "rb") as file:
                    data = file.read()
                if data[: len(digest)] == digest:
                    return marshal.loads(data[len(digest) :])
            except (IOError, OSError, ValueError, EOFError, TypeError):
                pass
        code = compile(self._source(fullname), self.get_filename(fullname), "exec", 0, True)
        if place is not None:
            _keep(place, digest + marshal.dumps(code))
        return code

    # -- data ------------------------------------------------------------------------------------

    def get_data(self, path):
        """Read a file of a package: for ``pkgutil.get_data`` and ``__loader__``.

        :param path: as from ``os.path.join(os.path.dirname(__file__), ...)``.
        """
        package, rest = self._of_package(path)
        return self.read(package, rest)

    def _of_package(self, path):
        best = None
        path = path.replace("\\", "/")
        for name, (kind, filename, _) in list(self._known.items()):
            if kind == PACKAGE:
                begin = _directory(filename).replace("\\", "/") + "/"
                if path.startswith(begin) and (best is None or len(begin) > len(best[1])):
                    best = name, begin
        if best is None:
            raise IOError(2, "no file of an offered package", path)
        return best[0], path[len(best[1]) :]

    def read(self, package, path):
        """Read a file of a package.

        :param path: relative to the package, with ``/``.
        """
        return bytes(self._ask_file({"data": [package, path]}, package, path))

    def listing(self, package, path):
        """List a directory of a package: pairs of a name and whether it is a directory."""
        found = self._ask_file({"names": [package, path]}, package, path)
        return [(_native(name), is_directory) for name, is_directory in found]

    def _ask_file(self, question, package, path):
        try:
            return self._ask(question, package)
        except ImportError as error:
            raise IOError(2, "%s" % error, "%s/%s" % (package, path))

    def get_resource_reader(self, fullname):
        """For ``importlib.resources``."""
        if self._known.get(fullname, (MODULE,))[0] != PACKAGE:
            return None
        from .resources import ResourceReader

        return ResourceReader(self, fullname)


class Last(object):
    """The last finder: for modules offered only if no other finder has them, and for errors.

    :param finder: the :class:`Finder`.
    """

    def __init__(self, finder):
        self._finder = finder

    def _admit(self, fullname):
        """Look a module up in the finder.

        :raises ImportError: the near side has it, but can't send it.
        """
        finder = self._finder
        top = fullname.partition(".")[0]
        if top in finder.last:
            if "." not in fullname:
                finder.names.add(top)
            elif top not in finder.names:
                return
        elif top not in finder.names:
            return
        found = finder.look_up(fullname)
        if found is not None and found[0] == UNSENDABLE:
            raise _import_error(
                "%s can't be sent: %s is not Python source; install it where this runs"
                % (fullname, found[1]),
                fullname,
            )

    def find_spec(self, fullname, path=None, target=None):
        """Python 3's question."""
        self._admit(fullname)
        return self._finder.find_spec(fullname, path)

    def find_module(self, fullname, path=None):
        """Python 2's question."""
        self._admit(fullname)
        return self._finder.find_module(fullname, path)


def _keep(place, data):
    """Write a file of the cache atomically."""
    other = "%s.%d" % (place, os.getpid())
    try:
        with open(other, "wb") as file:
            file.write(data)
        os.rename(other, place)
    except (IOError, OSError):
        try:
            os.remove(other)  # incomplete, as the disk is full
        except OSError:
            pass


def _import_error(text, name):
    if str is bytes:
        return ImportError(text.encode("utf-8") if not isinstance(text, str) else text)
    return ImportError(text, name=name)


def _directory(filename):
    """The directory of a file at the near side, which may have another path separator."""
    return filename[: max(filename.rfind("/"), filename.rfind("\\"))]


def _native(text):
    """A name as this Python has it: Python 2's names are bytes."""
    if str is bytes and text is not None and not isinstance(text, str):
        return text.encode("utf-8")
    return text


def _decoded(source):
    import importlib.util

    try:
        return importlib.util.decode_source(source)
    except (SyntaxError, UnicodeError):
        return source.decode("utf-8", "replace")
