"""Runs the near side's requests, and reports the errors that they raise."""

import sys

from ..wire.frames import ERROR, NORMAL
from .bytecode import bytecode
from .channel import RemoteError, error_payload
from .path import own_imports

#: How many sources have their code cached, to save compiling them again, and their characters.
CACHE_SIZE = 256
CACHE_CHARACTERS = 4000000
#: The first line of a traceback.
FIRST_LINE = "Traceback (most recent call last):\n"
_cache = {}
#: the keys of the cache, the oldest first: (source, filename, line, whether it is a function)
_sources = []


class Execution(object):
    """One ``exec`` or ``call``.

    :param channel: the channel of the request.
    :param request: its map (docs/protocol.rst, "Remote execution").
    """

    def __init__(self, channel, payload):
        self.channel = channel
        self.payload = payload
        self._finished = None

    def run(self, finished):
        """Run it and close the channel, with its error if it raised.

        :param finished: called when it has run, before the near side is told: so the near side's
            next request finds this thread free.
        """
        self._finished = finished
        channel = self.channel
        is_call = channel.stream.purpose == "call"
        try:
            request = channel.decode(self.payload)
            self.payload = None
            channel.runs = not is_call
            result = self._run(request, is_call)
            channel.runs = False
            if channel.link.io.is_replaced():
                channel.link.lose_io()  # no result could ever be sent
            flush_output()
            self._finish()
            if is_call:
                channel.close_with(result)
            else:
                channel.close_as(NORMAL, b"")
        except:  # noqa: E722 - Java's exceptions have another base class
            if channel.link.forked:
                raise  # as in any other program
            if not (channel.link.closed and isinstance(sys.exc_info()[1], EOFError)):
                self._failed()
        finally:
            self._finish()

    def _finish(self):
        finished, self._finished = self._finished, None
        if finished is not None:
            finished()

    def _failed(self):
        error = error_map()
        channel = self.channel
        link = channel.link
        if channel.runs and not channel.stream.sending and not link.closed:
            self._show(error["formatted"])
        channel.runs = False
        flush_output()
        self._finish()
        channel.close_as(ERROR, error_payload(link, error))

    def _show(self, text):
        """Print what was raised after the channel was closed: nobody may read it from there.

        Errors that only report the end of a channel or of the process are not printed.
        """
        if isinstance(sys.exc_info()[1], (EOFError, RemoteError, KeyboardInterrupt, SystemExit)):
            return
        try:
            sys.stderr.write(text.encode("utf-8") if str is bytes else text)
        except Exception:
            pass

    def _run(self, request, is_call):
        kwargs = keywords(request.get("kwargs") or {})
        if not (request.get("import") or request.get("function") or request.get("code")):
            code = _compile(request, False)
            namespace = {"__name__": "__channelexec__", "__file__": code.co_filename}
            namespace["channel"] = self.channel
            namespace.update(kwargs)
            exec(code, namespace)
            return None
        function = function_of(request)
        if is_call:
            return function(*(request.get("args") or ()), **kwargs)
        function(self.channel, **kwargs)


def function_of(request):
    """The function of a request, which has its name, its source or its code."""
    where = request.get("import")
    if where is not None:
        return _import(where)
    if request.get("code") is not None:
        return _function(request)
    code = _compile(request, True)
    namespace = {"__name__": "__channelexec__", "__file__": code.co_filename}
    exec(code, namespace)
    return namespace[request["function"]]


def keywords(kwargs):
    """Received keyword arguments, in a form that this Python accepts."""
    if str is bytes:  # Python 2 wants str keys
        return dict((str(key), value) for key, value in kwargs.items())
    return kwargs


def _import(where):
    module, _, path = where.partition(":")
    __import__(module)
    value = sys.modules[module]
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _function(request):
    """The function of a code object; only an equal Python can have sent that."""
    here = bytecode()
    if request["bytecode"] != here:
        raise ValueError(
            "the code of a function for %s can't run on %s" % (request["bytecode"], here)
        )
    import marshal

    code = marshal.loads(request["code"])
    namespace = {"__name__": "__channelexec__", "__file__": code.co_filename}
    defaults, keywords = request.get("defaults") or ((), {})
    function = type(_function)(code, namespace, str(request["name"]), tuple(defaults))
    if keywords:
        function.__kwdefaults__ = keywords
    namespace[code.co_name] = function
    return function


def _compile(request, is_function):
    source = request["source"]
    filename = request.get("filename") or "<remote_exec>"
    line = request.get("line") or 1
    key = (source, filename, line, is_function)
    code = _cache.get(key)
    if code is None:
        flags = 0
        if is_function:
            # A nested function is indented. A block around it leaves the strings in it unchanged.
            if source[:1].isspace():
                source = "if 1:\n" + source
                line -= 1
            flags = _annotations_flag()
        elif str is bytes:
            source = source.encode("utf-8")  # it may have a coding line
        # Line 0 is possible (a nested function on line 1) and harmless.
        text = "\n" * (line - 1) + source
        code = compile(text, _distinct(filename), "exec", flags, True)
        if _cache.setdefault(key, code) is code:
            _sources.append(key)
            _forget_oldest()
    return code


def warm_up():
    """Speed up the first request: CPython's first compilation creates some hundred types."""
    compile("", "<nothing>", "exec")


def _distinct(filename):
    """A unique name for a source: texts without a file of their own get a number."""
    global _numbered
    if filename[:1] == "<":
        _numbered += 1
        filename = "<%s %d>" % (filename[1:-1], _numbered)
    return filename.encode("utf-8", "replace") if str is bytes else filename


_numbered = 0


def _forget_oldest():
    size = sum([len(key[0]) for key in list(_sources)])
    while len(_sources) > 1 and (len(_sources) > CACHE_SIZE or size > CACHE_CHARACTERS):
        key = _sources.pop(0)
        code = _cache.pop(key, None)
        size -= len(key[0])
        linecache = sys.modules.get("linecache")
        if linecache is not None and code is not None:
            linecache.cache.pop(code.co_filename, None)


def _show_sources(linecache):
    """Let tracebacks show the lines of sources that were sent."""
    files = {}
    for key in list(_sources):
        code = _cache.get(key)
        if code is None:
            continue
        kept = files.setdefault(code.co_filename, {})
        for at, text in enumerate(key[0].splitlines(), key[2]):
            kept[at] = text + "\n"
    for filename, lines in files.items():
        text = [lines.get(at, "\n") for at in range(1, max(lines or [0]) + 1)]
        linecache.cache[filename] = (len(text), None, text, filename)


def _annotations_flag():
    # The annotations of a function that was sent may name what is not here.
    with own_imports:
        import __future__

    feature = getattr(__future__, "annotations", None)
    return feature.compiler_flag if feature is not None else 0


def error_map(info=None):
    """The map of the exception that is being handled, or of a ``sys.exc_info()`` triple."""
    kind, value, tb = info or sys.exc_info()
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", kind.__name__)
    if module not in ("builtins", "exceptions", "__builtin__", "", None):
        name = ("%s.%s" % (module, name)).replace("_pycomnet.", "pycomnet.", 1)
    try:
        message = str(value)
    except BaseException:
        message = "<the exception's own __str__ raised>"
    if isinstance(message, bytes):
        message = message.decode("utf-8", "replace")
    return {
        "code": "remote",
        "type": name,
        "message": message,
        "formatted": _formatted(kind, value, tb),
    }


def _formatted(kind, value, tb):
    here = error_map.__code__.co_filename
    while tb is not None and tb.tb_frame.f_code.co_filename == here:
        tb = tb.tb_next
    try:
        with own_imports:  # formatting imports more modules when it needs them
            import linecache
            import traceback

            _show_sources(linecache)
            lines = traceback.format_exception(kind, value, tb)
            if tb is None and lines[0] != FIRST_LINE:
                # All frames are ours: the code could not be compiled or found.
                lines.insert(0, FIRST_LINE)
            text = "".join(lines)
    except BaseException as error:
        text = _plainly_formatted(kind, value, tb, type(error).__name__)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text


def _plainly_formatted(kind, value, tb, problem):
    """A traceback without source lines, if Python's own formatting fails.

    :param problem: the error of that.
    """
    lines = ["Traceback (most recent call last; its lines can't be shown: %s):\n" % problem]
    while tb is not None:
        code = tb.tb_frame.f_code
        lines.append(
            '  File "%s", line %d, in %s\n' % (code.co_filename, tb.tb_lineno, code.co_name)
        )
        tb = tb.tb_next
    try:
        message = str(value)
    except BaseException:
        message = "<the exception's own __str__ raised>"
    lines.append("%s: %s\n" % (kind.__name__, message) if message else "%s\n" % kind.__name__)
    return "".join(lines)


def flush_output():
    """Send what has been printed so far."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
