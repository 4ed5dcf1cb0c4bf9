# ruff: noqa: SIM105, SIM115, UP024, UP031
# mypy: ignore-errors
"""At the far side: run a program as ``__main__``, as the interpreter itself would.

``pycomnet run`` sends this module with the program's source. The module sends one value at the end:
the program's exit status. It is in the common subset of Python 2.7 and 3, as all code that is sent.
"""

import os
import sys
import types


def run_program(channel, source, filename, argv, directory, module, layout, stdin=False):
    """Run the program, do what an interpreter does at its end, and send the exit status.

    :param source: the program, bytes; None to run a module.
    :param filename: for tracebacks, and ``__file__`` unless it begins with ``<``.
    :param argv: ``sys.argv``.
    :param directory: the first entry of ``sys.path``.
    :param module: the name of the module to run, or None.
    :param layout: None if no files are sent. Else files come on the channel before the program
        starts, and this is a map: ``script`` is the program's own path among them, and ``whole``
        says whether they are all that lies beside it.
    :param stdin: whether its standard input comes on the channel, as blocks of bytes.
    """
    sent = None
    if layout is not None:
        sent = _take_files(channel)
        filename = os.path.join(sent, *_native(layout["script"]).split("/"))
        _write(filename, source, 0o600)
        directory = os.path.dirname(filename)
        argv = [filename] + argv[1:]  # noqa: RUF005
    is_file = module is None and not filename.startswith("<")
    if is_file and not (layout["whole"] if layout is not None else os.path.isfile(filename)):
        sys.meta_path.insert(0, _NoNewProcesses(filename))
    if sys.path[:1] == [""]:
        del sys.path[0]
    sys.path.insert(0, directory)
    sys.argv = [_native(argument) for argument in argv]
    output = _Descriptor()
    if stdin:
        _take_input(channel)
    _in_forked_children(_use_descriptors)
    pid = os.getpid()
    status = _run(source, _native(filename), _native(module))
    status = _finish(status)
    if sent is not None and os.getpid() == pid:
        import shutil

        shutil.rmtree(sent, True)
    if os.getpid() != pid:
        _flush()
        os._exit(status)  # a child that the program forked; the connection is its parent's
    output.close()  # first: it was written before a last line without an end
    _flush()
    channel.send(status)


def _take_files(channel):
    """Write the files that come to a new temporary directory. Returns its path."""
    import tempfile

    root = os.path.realpath(tempfile.mkdtemp(prefix="pycomnet-"))
    while True:
        item = channel.receive()
        if item is None:
            return root
        name, mode, data = item
        _write(os.path.join(root, *_native(name).split("/")), data, mode)


def _write(path, data, mode):
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(directory)
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode | 0o600)


class _NoNewProcesses(object):  # noqa: UP004
    """Prevents multiprocessing from starting interpreters: they would look for the program's file.

    Without the file they end at once, and a pool would replace them for ever.
    """

    def __init__(self, filename):
        self._filename = filename

    def find_spec(self, name, path=None, target=None):
        """Python 3 calls it on each import. In Python 2 multiprocessing only forks."""
        if name in (
            "multiprocessing.popen_spawn_posix",
            "multiprocessing.popen_spawn_win32",
            "multiprocessing.popen_forkserver",
        ):
            raise ImportError(
                "multiprocessing can't start an interpreter here, as that would read the script "
                "and what it imports from files, and not all of them are on this machine: send "
                "the script's directory with 'pycomnet run --send DIR', or use "
                "multiprocessing.get_context('fork'); the script is %s" % self._filename
            )


def _native(text):
    """Text as a ``str``: in Python 2 names and arguments are bytes."""
    if str is bytes and text is not None and not isinstance(text, str):
        return text.encode("utf-8")
    return text


def _run(source, filename, module):
    try:
        if module is not None:
            import runpy

            runpy.run_module(module, None, "__main__", True)
        else:
            main = types.ModuleType("__main__")
            main.__builtins__ = sys.modules["builtins" if str is not bytes else "__builtin__"]
            if not filename.startswith("<"):
                main.__file__ = filename
            sys.modules["__main__"] = main
            _remember(filename, source)
            exec(compile(source, filename, "exec", 0, True), main.__dict__)
    except SystemExit:
        return _exit_status(sys.exc_info()[1])
    except BaseException:
        _show(*sys.exc_info())
        return 130 if isinstance(sys.exc_info()[1], KeyboardInterrupt) else 1
    return 0


def _remember(filename, source):
    """Let tracebacks show the program's lines, though its file may be elsewhere."""
    import io
    import linecache

    try:
        # Decode as the compiler does: coding line, byte order mark, any line ends.
        import tokenize

        encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
        text = io.TextIOWrapper(io.BytesIO(source), encoding).read()
    except (AttributeError, SyntaxError, UnicodeError):
        text = source if str is bytes else source.decode("utf-8", "replace")
    lines = text.splitlines(True)
    linecache.cache[filename] = (len(text), None, lines, filename)


def _exit_status(problem):
    """The exit status that an interpreter gives for a SystemExit."""
    code = problem.code
    if code is None:
        return 0
    try:
        return int(code) & 0xFF if isinstance(code, (int, type(1 << 70))) else _complain(code)
    except Exception:
        return 1


def _complain(code):
    _flush()
    sys.stderr.write("%s\n" % (code,))
    return 1


def _show(kind, value, tb):
    """Print the traceback, starting at the program's own first line."""
    import traceback

    _flush()
    here = _run.__code__.co_filename
    while tb is not None and _is_ours(tb.tb_frame.f_code.co_filename, here):
        tb = tb.tb_next
    try:
        if sys.excepthook is sys.__excepthook__:
            # Not the hook itself: it finds only source lines that are in files.
            traceback.print_exception(kind, value, tb)
        else:
            sys.excepthook(kind, value, tb)
    except BaseException:
        traceback.print_exc()


def _is_ours(filename, here):
    return filename == here or os.path.basename(filename) in ("runpy.py", "<frozen runpy>")


def _finish(status):
    """Do what an interpreter does at its end: wait for threads, run the exit functions."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # noqa: SLF001 - as an interpreter does
        if "atexit" in sys.modules:
            sys.modules["atexit"]._run_exitfuncs()  # noqa: SLF001
    except KeyboardInterrupt:
        return status or 130
    except BaseException:
        if str is not bytes:
            _show(*sys.exc_info())
    return status


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _in_forked_children(function):
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _use_descriptors():
    """In a forked child: write to the descriptors, since the connection is the parent's."""
    sys.stdout = open(1, "w", 1, "utf-8", "surrogateescape", "\n", False)
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", "\n", False)


def _take_input(channel):
    """Make descriptor 0 a pipe, and write the blocks from the channel to it."""
    import threading

    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    if str is bytes:
        sys.stdin = os.fdopen(0, "r")
    else:
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    parent = os.getpid()

    def close_in_child():
        # Else the program would not see the end of its input while a child of it runs.
        if os.getpid() != parent:
            os.close(write)

    _in_forked_children(close_in_child)
    thread = threading.Thread(target=_copy_input, args=(channel, write))
    thread.daemon = True
    thread.start()


def _copy_input(channel, write):
    is_read = True
    try:
        for data in channel:
            while data and is_read:
                try:
                    data = data[os.write(write, data) :]
                except OSError:
                    is_read = False  # drop the rest: other gateways wait for this one
    except (EOFError, channel.RemoteError):
        pass  # the program has ended, or the near side has
    os.close(write)


class _Descriptor(object):  # noqa: UP004
    """Descriptor 1: what child processes and C code write there is standard output, too.

    A thread copies it to ``sys.stdout``. At the end the thread copies what has been written, and
    does not wait for processes that still run and could write more.
    """

    def __init__(self):
        self._thread = None
        self._out = sys.stdout
        try:
            import threading

            self._saved = os.dup(1)
            self._read, write = os.pipe()
            self._over, self._end = os.pipe()
            os.dup2(write, 1)
            os.close(write)
        except (ImportError, AttributeError, OSError, NotImplementedError):
            return  # Jython has no descriptors
        self._thread = threading.Thread(target=self._copy)
        self._thread.daemon = True
        self._thread.start()

    def _copy(self):
        import select

        out = getattr(self._out, "buffer", self._out)
        timeout = None
        while True:
            try:
                ready = select.select([self._read, self._over], [], [], timeout)[0]
            except (OSError, select.error):
                continue
            if self._read in ready:
                data = os.read(self._read, 65536)
                if not data:
                    return
                out.write(data)
                out.flush()
            elif not ready:
                return
            if self._over in ready:
                timeout = 0
                if self._read not in ready:
                    return

    def close(self):
        """Restore descriptor 1, and copy what is left."""
        if self._thread is not None:
            os.dup2(self._saved, 1)
            os.close(self._end)
            self._thread.join()


if __name__ == "__channelexec__":
    run_program(channel, source, filename, argv, directory, module, layout, stdin)  # noqa: F821
