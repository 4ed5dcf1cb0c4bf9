"""The facts of this interpreter from which the near side chooses wheels for it."""

import os
import sys

from .lookup import base_executable


class VenvRefused(Exception):
    """What was asked for can't be done here; the message says why, and what to do."""


def prepare(root):
    """Refuse where no environment can be made; for ``lookup``."""
    check()


def check():
    """Refuse where no environment can be made.

    :raises VenvRefused: this Python is too old, or its system has no locks that end with who has
        them.
    """
    if sys.platform.startswith("java"):
        raise VenvRefused(
            "Jython has no virtual environments; start the gateway with python=python3"
        )
    if sys.version_info < (3, 6):
        raise VenvRefused(
            "environments are made by Python 3.6 or newer, and this is %d.%d (%s); "
            "start the gateway with python=python3" % (sys.version_info[:2] + (sys.executable,))
        )
    for name in ("fcntl", "venv"):
        try:
            __import__(name)
        except ImportError:
            raise VenvRefused(
                "environments need Python's module %s, which %s does not have"
                % (name, sys.executable)
            )


def mark(executable=None):
    """What environments of this interpreter have in common: a list.

    Unlike hosts may have one home: what was built on one of them may not run on another.
    """
    import sysconfig
    from importlib.machinery import EXTENSION_SUFFIXES

    return [
        executable or base_executable(),
        sys.implementation.name,
        "%d.%d" % sys.version_info[:2],
        (EXTENSION_SUFFIXES or [""])[0],
        sysconfig.get_platform(),
        list(libc()),
    ]


def facts():
    """The facts: a map, for the near side (xdeploy/interpreter.py)."""
    import importlib.util
    import platform
    import sysconfig

    variables = sysconfig.get_config_vars()
    implementation = sys.implementation.name
    version = platform.python_version()
    return {
        "implementation": implementation,
        "implementation_version": _version(sys.implementation.version),
        "version": list(sys.version_info[:3]),
        "suffix": variables.get("EXT_SUFFIX") or variables.get("SO") or "",
        "free_threaded": bool(variables.get("Py_GIL_DISABLED")),
        "debug": bool(variables.get("Py_DEBUG")),
        "platform": sysconfig.get_platform(),
        "narrow": sys.maxsize <= 2**32,
        "libc": list(libc()),
        "mac": mac(),
        "executable": base_executable(),
        "pip": importlib.util.find_spec("pip") is not None,
        "markers": {
            "implementation_name": implementation,
            "implementation_version": _version(sys.implementation.version),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_python_implementation": platform.python_implementation(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "python_full_version": version,
            "python_version": ".".join(version.split(".")[:2]),
            "sys_platform": sys.platform,
        },
    }


def mac():
    """macOS's version and architecture; two empty texts elsewhere."""
    import platform

    version, _, machine = platform.mac_ver()
    if version == "10.16":
        # A Python that was built with an old SDK is told this, whatever the version is.
        version = asked_mac_version() or version
    return [version, machine]


def asked_mac_version():
    """macOS's version, as it is told to programs that were built with a new SDK."""
    import subprocess

    code = "import platform; print(platform.mac_ver()[0])"
    environment = dict(os.environ, SYSTEM_VERSION_COMPAT="0")
    try:
        asked = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], env=environment, stdout=subprocess.PIPE
        )
        return asked.communicate()[0].decode("ascii", "replace").strip()
    except OSError:
        return ""


def _version(info):
    """A version as text, as the marker ``implementation_version`` has it (PEP 508)."""
    text = "%d.%d.%d" % (info.major, info.minor, info.micro)
    if info.releaselevel != "final":
        text += info.releaselevel[0] + str(info.serial)
    return text


def libc():
    """The C library: ``("glibc", "2.36")``, ``("musl", "1.2")``, or two empty texts."""
    if not sys.platform.startswith("linux"):
        return "", ""
    text = ""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        pass
    if not text:
        text = _asked_glibc()
    if text.startswith("glibc "):
        return "glibc", text.split()[1]
    return _musl()


def _asked_glibc():
    """The version that the C library reports, where the system's configuration has none."""
    try:
        import ctypes

        ask = ctypes.CDLL(None).gnu_get_libc_version
        ask.restype = ctypes.c_char_p
        return "glibc %s" % ask().decode("ascii")
    except (ImportError, AttributeError, OSError):
        return ""


def _musl():
    """musl's version, which its loader prints when it is run."""
    import glob
    import re
    import subprocess

    for loader in sorted(glob.glob("/lib/ld-musl-*.so.1")):
        try:
            ran = subprocess.Popen([loader], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            text = ran.communicate()[1].decode("utf-8", "replace")
        except OSError:
            continue
        found = re.search(r"Version (\d+\.\d+)", text)
        if found:
            return "musl", found.group(1)
    return "", ""
