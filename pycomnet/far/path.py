"""Keeps the far side from importing its own modules from the working directory.

An interpreter that is started with ``-c`` looks for modules in its working directory first, whose
``struct.py`` or ``token.py`` may be anything. So :data:`FIRST_LINE` removes that from ``sys.path``.
:func:`give_back` puts it back before the far side runs the user's code, which so finds what it
finds in plain Python. What the far side itself imports after that, it imports with
``with own_imports:``.
"""

import sys

try:
    from _thread import get_ident
except ImportError:  # Python 2
    from thread import get_ident

#: What an interpreter runs before it imports anything. It has no quotes, for shells.
FIRST_LINE = "import sys;sys._pycomnet_path=sys.path[:1];sys.path[:]=filter(len,sys.path)"

_ELSEWHERE = "no module %s but in the working directory"


class OwnImports(object):
    """A finder that ignores the working directory, for the threads in a ``with`` block of it.

    Other threads, which import at the same time, are not affected. It stands before Python's own
    finder.
    """

    def __init__(self):
        self._threads = {}
        self._find = None

    def __enter__(self):
        me = get_ident()
        self._threads[me] = self._threads.get(me, 0) + 1

    def __exit__(self, *info):
        me = get_ident()
        left = self._threads[me] - 1
        if left:
            self._threads[me] = left
        else:
            del self._threads[me]

    def install(self):
        """Add it to the finders."""
        names = [getattr(finder, "__name__", "") for finder in sys.meta_path]
        at = len(names)
        if "PathFinder" in names:
            at = names.index("PathFinder")
            self._find = sys.meta_path[at].find_spec
        sys.meta_path.insert(at, self)

    def _is_for(self, path):
        return path is None and bool(self._threads) and get_ident() in self._threads

    def find_spec(self, name, path=None, target=None):
        """Python 3's question."""
        if not self._is_for(path) or self._find is None:
            return None
        found = self._find(name, _safe_path(), target)
        if found is None and self._find(name, [""], target) is not None:
            raise ImportError(_ELSEWHERE % name)
        return found

    def find_module(self, name, path=None):
        """Python 2's question."""
        if not self._is_for(path) or name in sys.builtin_module_names:
            return None
        import imp

        for path in (_safe_path(), [""]):
            try:
                found = imp.find_module(name, path)
            except ImportError:
                continue
            if path != [""]:
                return _Found(found)
            _Found(found).close()
            raise ImportError(_ELSEWHERE % name)
        return None


class _Found(object):
    """Loads a module that Python 2 has found."""

    def __init__(self, found):
        self._found = found

    def load_module(self, name):
        """Python 2's way to load."""
        import imp

        try:
            return imp.load_module(name, *self._found)
        finally:
            self.close()

    def close(self):
        """Close its file."""
        if self._found[0] is not None:
            self._found[0].close()


def _safe_path():
    return [entry for entry in sys.path if entry]


#: ``with own_imports:`` is for what the far side itself imports.
own_imports = OwnImports()


def give_back(safe=False):
    """Put the working directory back into ``sys.path``, if Python had put it there.

    :param safe: put it there although Python did not, as only our own option kept Python from it.
    """
    before = sys.__dict__.pop("_pycomnet_path", None)
    if before is not None and ("" in before or safe):
        sys.path.insert(0, "")
        own_imports.install()
