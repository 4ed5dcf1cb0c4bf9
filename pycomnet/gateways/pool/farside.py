# ruff: noqa: UP031, UP036
# mypy: ignore-errors
"""The far side's loop: works on items and sends their results.

The scheduler sends this module. It first sends ``None``; or, if it can't begin, the list
``[type, message, traceback]`` of the error, and ends. Then each value that it receives is a chunk,
a list whose first element is the list of items. It replies with ``[seconds, values, failures]``: a
value for each finished item and, by its index, ``[type, message, traceback]`` for each that raised.
If there are fewer values than items, the limit on a reply's time or size was reached, and the other
items are given back. In the common subset of Python 2.7 and 3.
"""

import os
import sys
import time

#: Seconds and characters after which a reply is sent, even if items are left.
MOST_SECONDS = 0.2
MOST_TEXT = 100000
#: the time in seconds by a monotonic clock, if this Python has one
now = getattr(time, "monotonic", time.time)
#: The number of values after which the fast codec is imported, which takes a while.
FAST_CODEC_AFTER = 100


def serve(channel, target):
    """Report readiness, and work until the channel ends.

    :param target: the function for all items, and their form: a map of the parameters of
        :func:`find`, and ``as_json``. Or None: each item is a call for :class:`CallItems`.
    """
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    try:
        if target is None:
            work = CallItems(channel)
        else:
            work = Texts(find(target["where"], target["source"], target["filename"]), target)
    except BaseException:
        channel.send(failure(*user_error()))
        return
    channel.send(None)
    for chunk in channel:
        channel.send(answer(work, work.learn(*chunk), chunk[0]))


class Texts(object):  # noqa: UP004
    """Works on items that are text or JSON, all for the same function."""

    def __init__(self, function, target):
        self.function = function
        self.apply = self.json if target["as_json"] else self.text

    def learn(self, items):
        """What works on an item of this chunk."""
        return self.apply

    def text(self, item):
        """Work on an item; return the result as text."""
        result = result_of(self.function(item))
        return result if isinstance(result, type(item)) else type(item)(result)

    def json(self, item):
        """Work on an item; return it and the result as JSON."""
        import json

        result = json.dumps(result_of(self.function(json.loads(item))))
        return result if isinstance(result, type(item)) else result.decode("ascii")

    def failure(self, kind, value, tb):
        """The report of an item that raised."""
        return failure(kind, value, tb)


class CallItems(object):  # noqa: UP004
    """Works on encoded calls: ``[number, args, kwargs]``, where the number stands for a function.

    A chunk also has the requests (docs/protocol.rst, "Remote execution") of functions that are new
    to this channel, by their numbers, and whether the earlier functions are to be forgotten.
    """

    def __init__(self, channel):
        package = type(channel).__module__.rpartition(".")[0]
        self.worker = sys.modules[package + ".execute"]
        self.wire = package.rpartition(".")[0] + ".wire"
        self.codec = sys.modules[self.wire + ".values"].PureCodec()
        self.functions = {}
        self.done = 0

    def learn(self, items, functions, forget):
        """What works on an item of this chunk."""
        if forget:
            self.functions.clear()
        self.functions.update(functions)
        self.done += len(items)
        if self.done > FAST_CODEC_AFTER:
            self.done = -1 << 60
            __import__(self.wire + ".codec")
            self.codec = sys.modules[self.wire + ".codec"].make_codec()
        return self.call

    def call(self, item):
        """The result's encoding."""
        number, args, kwargs = self.codec.decode(item)
        function = self.functions[number]
        if isinstance(function, dict):
            # If it can't be imported or compiled, each of its items fails.
            function = self.functions[number] = self.worker.function_of(function)
        if kwargs:
            result = function(*args, **self.worker.keywords(kwargs))
        else:
            result = function(*args)
        return self.codec.encode(result_of(result))

    def failure(self, kind, value, tb):
        """The report of an item that raised: as for a call of its own."""
        error = self.worker.error_map((kind, value, tb))
        return [error["type"], error["message"], error["formatted"]]


def find(where, source, filename):
    """Find the function.

    :param where: ``module:function``; the module's own name if there is source.
    :param source: the module's text, bytes, or None to import it.
    :param filename: the file of that text.
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
    refuse_generators(where, value)
    return value


def refuse_generators(where, function):
    """Refuse a function that returns no result, but an iterator."""
    import inspect

    if inspect.isgeneratorfunction(function) or getattr(
        inspect, "isasyncgenfunction", inspect.isgeneratorfunction
    )(function):
        raise TypeError(
            "%s is a generator function: it gives many values for an item, not a result; "
            "return a list of them" % where
        )


def result_of(result):
    """A function's final result: that of an async function is awaited."""
    kind = type(result).__name__
    if kind in ("generator", "async_generator"):
        raise TypeError(
            "the function returned a generator: it must return a result, such as a list of items"
        )
    if hasattr(result, "__await__"):
        problem, result = run_in_loop(result)
        if problem is not None:
            raise problem
    return result


if sys.version_info[0] > 2:
    # Python 2 can't compile this, and has no async functions. An error is passed out of the event
    # loop, so that its traceback has no frames of that.
    _ASYNC = """
async def outcome_of(awaitable):
    try:
        return None, await awaitable
    except BaseException as problem:
        return problem, None
"""
    exec(compile(_ASYNC, result_of.__code__.co_filename, "exec"), globals())


def run_in_loop(awaitable):
    """The error or the result of something to be awaited, in an event loop of its own."""
    import asyncio

    if hasattr(asyncio, "run"):
        return asyncio.run(outcome_of(awaitable))  # noqa: F821
    loop = asyncio.new_event_loop()  # Python 3.6
    try:
        return loop.run_until_complete(outcome_of(awaitable))  # noqa: F821
    finally:
        loop.close()


def module_of(name, source, filename):
    """The module of a file's text; it is created once."""
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


def answer(work, apply, items):
    """Work on as many items as time and size allow, at least on one; return the reply."""
    begun = now()
    values = []
    failures = {}
    size = 0
    for item in items:
        try:
            value = apply(item)
            size += len(value)
        except BaseException:
            value = None
            failures[len(values)] = failed = work.failure(*user_error())
            size += len(failed[2])
            if isinstance(sys.exc_info()[1], KeyboardInterrupt):
                # It may be the gateway's end; what is left is given back in any case.
                values.append(value)
                break
        values.append(value)
        if size > MOST_TEXT or now() - begun > MOST_SECONDS:
            break
    return [now() - begun, values, failures]


def user_error():
    """The exception that is being handled, with its traceback from the user's first frame on."""
    kind, value, tb = sys.exc_info()
    ours = user_error.__code__.co_filename
    while tb is not None and tb.tb_frame.f_code.co_filename == ours:
        tb = tb.tb_next
    return kind, value, tb


def failure(kind, value, tb):
    """An exception's type, message and traceback."""
    import traceback

    try:
        message = str(value)
    except BaseException:
        message = "(its __str__ raises)"
    try:
        formatted = "".join(traceback.format_exception(kind, value, tb))
    except BaseException:
        formatted = "%s: %s\n" % (kind.__name__, message)
    texts = [kind.__name__, message, formatted]
    if str is bytes:
        return [text.decode("utf-8", "replace") if type(text) is str else text for text in texts]
    return texts


if __name__ == "__channelexec__":
    serve(channel, target)  # noqa: F821
