"""Identifies an interpreter's bytecode: code objects are sent only between equal ones."""

import sys


def bytecode():
    """The implementation, its minor version, and the magic number of its compiled files."""
    implementation = getattr(sys, "implementation", None)
    magic = None
    # importlib itself takes it from there; importing that takes longer.
    external = sys.modules.get("_frozen_importlib_external")
    if external is not None:
        magic = getattr(external, "MAGIC_NUMBER", None)
    if magic is None:
        try:
            import imp

            magic = imp.get_magic()
        except Exception:  # Jython has none
            magic = b""
    if implementation is not None:
        name = implementation.name
    else:
        name = "jython" if sys.platform.startswith("java") else "python"
    if "__pypy__" in sys.builtin_module_names:
        name = "pypy"
    numbers = "".join(["%02x" % number for number in bytearray(magic)])
    return "%s-%d.%d-%s" % (name, sys.version_info[0], sys.version_info[1], numbers)
