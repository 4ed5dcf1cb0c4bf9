"""Registers a user's types at the far side, from the source of their module."""

import sys


def register_module(channel, name, text, filename):
    """Let a module register its types here.

    :param name: the module's name. If a module of that name can be imported here, it is used.
    :param text: its source.
    :param filename: for tracebacks.
    """
    name = str(name)
    module = sys.modules.get(name)
    if module is None:
        try:
            __import__(name)
            module = sys.modules[name]
        except ImportError:
            module = _made(name, text, filename)
    module.register(channel.gateway.register_type)


def _made(name, text, filename):
    module = type(sys)(name)
    if str is bytes:
        text, filename = text.encode("utf-8"), filename.encode("utf-8")  # it may have a coding line
    module.__file__ = filename
    sys.modules[name] = module
    try:
        exec(compile(text, filename, "exec", 0, True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
