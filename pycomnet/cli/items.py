# ruff: noqa: UP031
# mypy: ignore-errors
"""At the far side: call the mapped function with the items that come, and send what it returns.

``pycomnet map`` sends this module. It first sends ``None`` if the function is there, or the list
``[type, message, traceback]`` of why it is not, and ends. Then each value that comes is a list of
items, answered with ``[seconds, results]``: a result is a string, or such a list for an item whose
function raised. There may be fewer results than items: then the time or the size that an answer may
have was reached, and the rest is given back, for others to do. In the common subset of Python 2.7
and 3.
"""

import os
import sys
import time

#: Seconds and characters after which an answer is sent, whatever is left to do.
MOST_SECONDS = 0.2
MOST_TEXT = 100000
#: seconds by a clock that nobody sets, where this Python has one
now = getattr(time, "monotonic", time.time)


def serve(channel, where, source, filename, as_json):
    """Find the function, say so, and answer until the channel ends."""
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    try:
        function = find(where, source, filename)
    except (Exception, SystemExit):
        channel.send(failure())
        return
    apply = apply_json if as_json else apply_text
    channel.send(None)
    for items in channel:
        channel.send(answer(function, apply, items))


def find(where, source, filename):
    """The function.

    :param where: ``module:function``; the module's own name when there is source.
    :param source: the module's text, bytes, or None to import it.
    :param filename: where that was read.
    """
    name, _, path = where.partition(":")
    if source is None:
        __import__(name)
        value = sys.modules[name]
    else:
        value = module_of(name, source, filename)
    for part in path.split("."):
        value = getattr(value, part)
    if not callable(value):
        raise TypeError("%s is not a function, but of type %s" % (where, type(value).__name__))
    return value


def module_of(name, source, filename):
    """The module that a file holds; made once, whoever asks."""
    import linecache
    import types

    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == filename:
        return known
    if str is bytes:
        name, filename = name.encode("utf-8"), filename.encode("utf-8")
    module = types.ModuleType(name)
    module.__file__ = filename
    sys.path.insert(0, os.path.dirname(filename))
    text = source if str is bytes else source.decode("utf-8", "replace")
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    sys.modules[name] = module
    try:
        exec(compile(source, filename, "exec", 0, True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def apply_text(function, item):
    """The result as text."""
    result = function(item)
    return result if isinstance(result, type(item)) else type(item)(result)


def apply_json(function, item):
    """The item and the result as JSON."""
    import json

    result = json.dumps(function(json.loads(item)))
    return result if isinstance(result, type(item)) else result.decode("ascii")


def answer(function, apply, items):
    """The results of as many items as time and size allow, of one at least."""
    begun = now()
    results = []
    size = 0
    for item in items:
        try:
            result = apply(function, item)
            size += len(result)
        except (Exception, SystemExit):
            result = failure()
        results.append(result)
        if size > MOST_TEXT or now() - begun > MOST_SECONDS:
            break
    return [now() - begun, results]


def failure():
    """The exception that is dealt with: its type, what it says, and its traceback."""
    import traceback

    kind, value, tb = sys.exc_info()
    try:
        message = str(value)
    except Exception:
        message = "(its __str__ raises)"
    while tb is not None and tb.tb_frame.f_code.co_filename == failure.__code__.co_filename:
        tb = tb.tb_next
    lines = traceback.format_exception(kind, value, tb)
    texts = [kind.__name__, message, "".join(lines)]
    if str is bytes:
        texts = [t.decode("utf-8", "replace") for t in texts]
    return texts


if __name__ == "__channelexec__":
    serve(channel, where, source, filename, as_json)  # noqa: F821
