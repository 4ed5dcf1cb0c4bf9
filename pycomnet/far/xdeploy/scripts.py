"""The scripts of a distribution: those that it has, and those that its entry points ask for."""

import re

#: The most bytes of a line ``#!...`` that every kernel takes; Linux had 127 until 5.1.
MAX_SHEBANG = 127

#: For what can't be in single quotes: it is put in double ones, between them.
SPECIAL = {"'": "'\"'\"'", "\\": "'\"\\\\\"'"}

SCRIPT = """\
# -*- coding: utf-8 -*-
import re
import sys
from %(module)s import %(top)s
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit(%(function)s())
"""


def shebang(python):
    """The first lines of a script that this interpreter runs.

    A path with blanks, or one that is too long for the kernel, is run by the shell, for which the
    rest of the file is not code; for Python the shell's line is a string.
    """
    line = "#!%s\n" % python
    size = len(line.encode("utf-8", "surrogateescape"))
    if not re.search(r"\s", python) and size <= MAX_SHEBANG:
        return line
    # For the shell nothing is special in single quotes but these. For Python a backslash needs
    # another one, and nothing else may have one.
    word = re.sub(r"['\\]", lambda found: SPECIAL[found.group()], python)
    return "#!/bin/sh\n'''exec' '%s' \"$0\" \"$@\"\n' '''\n" % word


def entry_scripts(text):
    """The scripts that ``entry_points.txt`` asks for: pairs of a name and its source.

    :param text: the file's text.
    """
    import configparser

    parser = configparser.ConfigParser(
        delimiters=("=",), interpolation=None, strict=False, default_section="\0"
    )
    parser.optionxform = str
    parser.read_string(text)
    found = []
    for section in ("console_scripts", "gui_scripts"):
        if parser.has_section(section):
            for name, value in parser.items(section):
                source = _script(value)
                if source is not None and re.match(r"[^/\\\0]+$", name) and name not in (".", ".."):
                    found.append((name, source))
    return found


def _script(value):
    """The source of the script for ``module:function [extras]``."""
    match = re.match(r"\s*([\w.]+)\s*:\s*([\w.]+)\s*(\[.*\])?\s*$", value)
    if match is None:
        return None
    module, function = match.group(1), match.group(2)
    return SCRIPT % {
        "module": module,
        "top": function.partition(".")[0],
        "function": function,
    }


def with_interpreter(data, python):
    """A script of a distribution, with this interpreter where it asks for Python.

    :param data: its bytes.
    """
    line, _, rest = data.partition(b"\n")
    if not re.match(b"#!pythonw?([ \t\r]|$)", line):
        return data
    return shebang(python).encode("utf-8", "surrogateescape") + rest
