"""What a bare interpreter is sent: its first lines, and the package of the far side's source."""

import base64
import hashlib
import os
import sys
import zlib

from ..wire.values import PureCodec
from .path import FIRST_LINE

_known = []


def package():
    """The package: its name, which identifies the content, and its bytes.

    It is made from the files beside this one, or is the package that this far side itself was sent.
    """
    if not _known:
        root = sys.modules[__name__.partition(".")[0]]
        found = getattr(root, "blob", None)
        _known.append(found if found is not None else _pack(root.__path__[0]))
    return _known[0]


def _pack(path):
    pieces = []
    for folder in ("wire", "far", "far/forkserver"):
        for name in sorted(os.listdir(os.path.join(path, folder))):
            base, _, ending = name.partition(".")
            if ending != "py":
                continue
            with open(os.path.join(path, folder, name), "rb") as file:
                source = file.read()
            module = folder.replace("/", ".")
            if base != "__init__":
                module = "%s.%s" % (module, base)
            pieces.append(("%s %d\n" % (module, len(source))).encode("ascii") + source)
    data = b"".join(pieces)
    return hashlib.sha256(data).hexdigest()[:20], zlib.compress(data, 9)


def code():
    """The argument of ``-c`` for the interpreter: text with no quotes but ``"``."""
    if len(_known) < 2:
        package()
        _known.append(_first_lines())
    return _known[1]


def _first_lines():
    root = sys.modules[__name__.partition(".")[0]]
    loader = getattr(root, "__loader__", None)
    if hasattr(root, "blob"):
        source = loader.get_source(root.__name__ + ".far.importer")
    else:
        with open(os.path.join(root.__path__[0], "far", "importer.py"), "rb") as file:
            source = file.read().decode("utf-8")
    source = source.partition('"""\n\n')[2].encode("utf-8")
    text = base64.b64encode(zlib.compress(source, 9)).decode("ascii")
    return '%s;import binascii,zlib;exec(zlib.decompress(binascii.a2b_base64("%s")))' % (
        FIRST_LINE,
        text,
    )


def bootstrap_message(config):
    """The bootstrap message, which follows on standard input.

    :param config: a map, for ``far/main.py``.
    """
    name, blob = package()
    payload = PureCodec().encode(config)
    head = "%s %011d %011d" % (name, len(blob), len(payload))
    return head.encode("ascii") + blob + payload
