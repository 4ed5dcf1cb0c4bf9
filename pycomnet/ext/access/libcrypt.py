"""crypt_r(3) of the system's libcrypt: yescrypt, and SHA-crypt at the speed of C.

Python has no module ``crypt`` any more. The function is called by ctypes, which releases the
interpreter lock meanwhile.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import hmac
from typing import Any

#: Bytes for its ``struct crypt_data``: libxcrypt's takes 32 KiB, and the old glibc's 128.
DATA_SIZE = 1 << 18
#: prefix -> the cheapest setting, to see whether this libcrypt knows it.
_PROBES = {
    "$5$": "$5$rounds=1000$probe$",
    "$6$": "$6$rounds=1000$probe$",
    "$y$": "$y$j75$F5Jx5fExrKuPp53xLKQ..1$",
    "$gy$": "$gy$j75$F5Jx5fExrKuPp53xLKQ..1$",
}


@functools.cache
def _crypt_r() -> Any:
    name = ctypes.util.find_library("crypt")
    if name is None:
        return None
    try:
        function = ctypes.CDLL(name).crypt_r
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p]
    function.restype = ctypes.c_char_p
    return function


def crypt(password: bytes, setting: str) -> str | None:
    """Hash a password; None if libcrypt is not there or does not know the setting.

    :param setting: a hash, or its beginning.
    """
    function = _crypt_r()
    if function is None or b"\0" in password:
        return None
    data = ctypes.create_string_buffer(DATA_SIZE)
    found = function(password, setting.encode(), data)
    ctypes.memset(data, 0, DATA_SIZE)
    if found is None or found[:1] == b"*":  # its words for an error
        return None
    return str(found.decode("ascii", "replace"))


@functools.cache
def knows(prefix: str) -> bool:
    """Whether libcrypt can compute hashes that begin so: ``$y$``, ``$6$`` ..."""
    probe = _PROBES.get(prefix, f"{prefix}probe$")
    return crypt(b"x", probe) is not None


def verify(password: bytes, hashed: str) -> bool:
    """Whether a password has a hash."""
    found = crypt(password, hashed)
    return found is not None and hmac.compare_digest(found.encode(), hashed.encode())
