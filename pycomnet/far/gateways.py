"""Makes gateways at the far side: starts a process here, and connects it to a channel.

Code that runs in a worker can do this::

    from _pycomnet.far.gateways import gatewaymaker
    gatewaymaker(channel)

and the near side makes a gateway of each: ``ChannelGateway(channel.receive())``.
"""

import os
import sys

from .path import own_imports

with own_imports:
    import re
    import shlex
    import subprocess
    import threading

    from .package import bootstrap_message, code
    from .preamble import TOO_LONG, Preamble, died_early

#: Bytes that are read at a time.
READ = 65536
#: Seconds that a process has to end once its channel is closed.
GRACE = 6.0
KEYS = ("python", "id", "chdir", "nice", "execmodel", "ssh_config")


def gatewaymaker(channel):
    """For each spec that comes on the channel, start a far side and send a raw channel to it.

    A spec is as at the near side: ``popen`` or ``ssh=...``, with the keys ``python``, ``id``,
    ``chdir``, ``nice``, ``execmodel``, ``ssh_config`` and ``env:NAME``. If one fails, the channel
    that is sent for it is closed with the error.
    """
    for spec in channel:
        carried = channel.gateway.newchannel(raw=True)
        channel.send(carried)
        try:
            argv, config = read_spec(spec)
        except ValueError as error:
            carried.close(str(error))
        else:
            start(channel.gateway, argv, config, carried)


def makegateway(gateway, spec):
    """Start a far side here; return a raw channel to it.

    :param gateway: makes the channel: ``channel.gateway``.
    :param spec: the text of a spec.
    """
    argv, config = read_spec(spec)
    return start(gateway, argv, config)


def start(gateway, argv, config, channel=None):
    """Start an interpreter; return a raw channel to it.

    :param argv: the command that starts it, so that it waits for the bootstrap message.
    :param config: its configuration, for ``far/main.py``.
    :param channel: the raw channel, if there is one already.
    """
    if channel is None:
        channel = gateway.newchannel(raw=True)
    thread = threading.Thread(target=_carry, args=(channel, argv, config))
    thread.daemon = True
    thread.start()
    return channel


def read_spec(spec):
    """Parse a spec's text; return the command, and the interpreter's configuration."""
    parts = spec.split("//")
    transport, _, target = parts.pop(0).partition("=")
    values = {}
    env = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key.startswith("env:"):
            env[key[4:]] = value
        elif key not in KEYS or not equals:
            raise ValueError("spec %r: no key %r; there are: %s" % (spec, key, ", ".join(KEYS)))
        else:
            values[key] = value
    config = {
        "id": values.get("id", "far"),
        "execmodel": values.get("execmodel"),
        "chdir": values.get("chdir"),
        "nice": niceness(spec, values.get("nice", "0")),
        "update": env,
    }
    if transport == "popen" and not target:
        python = shlex.split(values["python"]) if "python" in values else own_interpreter()
        return python + ["-c", code()], config
    if transport == "ssh" and target:
        words = shlex.split(values.get("python", "python3")) + ["-c", code()]
        argv = ["ssh", "-T"]
        if "ssh_config" in values:
            argv += ["-F", values["ssh_config"]]
        return argv + shlex.split(target) + [" ".join(["exec"] + [quote(w) for w in words])], config
    raise ValueError("spec %r: popen or ssh=... can be made here" % (spec,))


def own_interpreter():
    """The command of this interpreter, with the options with which it was started."""
    return [sys.executable] + getattr(subprocess, "_args_from_interpreter_flags", list)()


def niceness(spec, text):
    """The increment of the niceness, from a spec's text."""
    if not re.match("[+-]?[0-9]{1,2}$", text) or abs(int(text)) > 39:
        raise ValueError("spec %r: nice: expected a whole number from -39 to 39" % (spec,))
    return int(text)


def quote(word):
    """Quote a word for a shell."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _carry(channel, argv, config):
    """Start a process, and forward bytes between it and a channel until one of them ends."""
    try:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except OSError as error:
        channel.close("can't start %r: %s" % (str(argv[0]), error))
        return
    thread = threading.Thread(target=_feed, args=(channel, process, bootstrap_message(config)))
    thread.daemon = True
    try:
        thread.start()
    except Exception as error:  # a limit of threads or of memory
        process.kill()
        process.wait()
        channel.close("can't start a thread for %r: %s" % (str(argv[0]), error))
        return
    preamble = Preamble()
    try:
        while True:
            data = os.read(process.stdout.fileno(), READ)
            if not data:
                break
            if not preamble.begun:
                data = preamble.feed(data)
                if preamble.too_long:
                    process.kill()
                    break
                if preamble.begun and preamble.shown():
                    sys.stdout.write(preamble.text() + "\n")
            if data:
                channel.send(data)
    except (EOFError, OSError):
        pass  # the channel is closed
    finally:
        status = _end(process)
        words = "%s ended with status %s" % (argv[0], status)
        if preamble.too_long:
            words = "%s: %s" % (argv[0], TOO_LONG)
        channel.close(words if preamble.begun else died_early(words, preamble.text()))


def _feed(channel, process, first):
    try:
        data = first
        while data:
            while data:
                data = data[os.write(process.stdin.fileno(), data) :]
            data = channel.receive()
    except (EOFError, OSError, IOError):
        pass
    finally:
        try:
            process.stdin.close()
        except (OSError, IOError):
            pass
        if channel.isclosed():
            _end(process)


def _end(process):
    """Wait for a process to end; kill it if it takes too long. Return its status."""
    timer = threading.Timer(GRACE, process.kill)
    timer.daemon = True
    timer.start()
    try:
        return process.wait()
    finally:
        timer.cancel()
