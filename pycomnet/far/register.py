"""Types of the user's that are sent to the far side, by the source of the module they are in."""

import sys


def register_module(channel, name, text, filename):
    """Have a module register its types here.

    :param name: the module's name; one of that name that can be imported here is used as it is.
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
