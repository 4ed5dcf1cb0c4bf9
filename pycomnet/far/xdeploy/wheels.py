"""The store of unpacked wheels: each is received once, and linked into environments.

``wheels/SHA256/`` has ``site/``, what goes to ``site-packages``; ``data/SCHEME/`` for what goes
elsewhere; and ``wheel.json``, which lists all with the rows of its RECORD.
"""

import base64
import hashlib
import os
import posixpath
import stat
import zipfile

from .directory import clear, write_json
from .interpreter import VenvRefused
from .scripts import entry_scripts

#: What a wheel may put elsewhere than into ``site-packages`` (the wheel's ``.data`` directory).
SCHEMES = ("scripts", "data", "headers", "purelib", "platlib")
#: Bytes that are read at a time.
PIECE = 1 << 20


def receive(directory, digest, size, pieces, progress):
    """Receive a wheel and unpack it. The caller has the wheel's lock.

    :param pieces: gives its bytes.
    :param progress: called with the number of bytes of each piece.
    :raises VenvRefused: the bytes are not those of the hash.
    """
    place = directory.fresh(digest)
    try:
        path = os.path.join(place, "wheel.whl")
        found = hashlib.sha256()
        left = size
        with open(path, "wb") as file:
            while left > 0:
                piece = next(pieces)
                left -= len(piece)
                found.update(piece)
                file.write(piece)
                progress(len(piece))
        if found.hexdigest() != digest:
            raise VenvRefused(
                "a wheel was to have the hash %s, and has %s" % (digest, found.hexdigest())
            )
        unpack(path, place)
        os.remove(path)
        directory.put(place, "wheels", digest)
    except BaseException:
        clear(place)
        raise


def add(directory, path):
    """Put a wheel of this machine into the store; return its hash."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(PIECE), b""):
            found.update(piece)
    digest = found.hexdigest()
    with directory.lock("wheel-" + digest):
        if not directory.has_wheel(digest):
            place = directory.fresh(digest)
            try:
                unpack(path, place)
                directory.put(place, "wheels", digest)
            except BaseException:
                clear(place)
                raise
    return digest


def unpack(path, place):
    """Unpack a wheel: its files, and ``wheel.json``.

    :param place: the directory to unpack it in.
    :raises VenvRefused: it is not a valid wheel, or would write elsewhere.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = _unpack(archive, place)
    except (VenvRefused, OSError):
        raise  # such as no room on the disk
    except Exception as problem:  # what is no zip file, and how, has many kinds of errors
        raise VenvRefused("a wheel can't be unpacked: %s: %s" % (type(problem).__name__, problem))
    write_json(os.path.join(place, "wheel.json"), about)


def _unpack(archive, place):
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    tops = set(info.filename.partition("/")[0] for info in infos)
    dist_infos = [top for top in tops if top.endswith(".dist-info")]
    if len(dist_infos) != 1:
        raise VenvRefused("a wheel has one .dist-info directory, not %d" % len(dist_infos))
    dist_info = dist_infos[0]
    tags = _headers(archive.read(dist_info + "/WHEEL"))
    if not tags.get("wheel-version", "1.0").startswith("1."):
        raise VenvRefused("wheels of version %s are not known here" % tags["wheel-version"])
    metadata = _headers(archive.read(dist_info + "/METADATA"))
    data = dist_info[: -len(".dist-info")] + ".data/"
    about = {
        "name": metadata["name"],
        "version": metadata["version"],
        "dist_info": dist_info,
        "pure": tags.get("root-is-purelib", "true").lower() == "true",
        "files": [],
        "data": [],
        "code": {},
        "entry_points": "",
    }
    signed = (dist_info + "/RECORD", dist_info + "/RECORD.jws", dist_info + "/RECORD.p7s")
    seen = set()
    for info in infos:
        name = info.filename
        _check_name(name)
        if name in seen:
            raise VenvRefused("a wheel has the file %r twice" % (name,))
        seen.add(name)
        # Code is compiled here, and replaces what a wheel brings.
        if name in signed or name == dist_info + "/INSTALLER" or "/__pycache__/" in "/" + name:
            continue
        if name.startswith(data):
            scheme, _, rest = name[len(data) :].partition("/")
            if scheme not in SCHEMES or not rest:
                raise VenvRefused("a wheel has %s: there is no scheme %s" % (name, scheme))
            row = _extract(archive, info, os.path.join(place, "data", scheme), rest)
            about["data"].append([scheme] + row)
        else:
            about["files"].append(_extract(archive, info, os.path.join(place, "site"), name))
    entry_points = dist_info + "/entry_points.txt"
    if entry_points in archive.namelist():
        about["entry_points"] = archive.read(entry_points).decode("utf-8")
        entry_scripts(about["entry_points"])  # what is wrong is wrong now
    installer = os.path.join(place, "site", dist_info, "INSTALLER")
    with open(installer, "wb") as file:
        file.write(b"pycomnet\n")
    about["files"].append([dist_info + "/INSTALLER", record_hash(b"pycomnet\n"), 9])
    return about


def _check_name(name):
    parts = name.split("/")
    if (
        name.startswith("/")
        or "\\" in name
        or "\0" in name
        or any(part in ("", ".", "..") for part in parts)
        or posixpath.normpath(name) != name
    ):
        raise VenvRefused("a wheel has the file %r, which leads out of it" % (name,))


def _extract(archive, info, root, name):
    """Write a file; return its name, hash and size, as a row of RECORD has them."""
    path = os.path.join(root, *name.split("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    found = hashlib.sha256()
    size = 0
    with archive.open(info) as source, open(path, "wb") as file:
        for piece in iter(lambda: source.read(PIECE), b""):
            found.update(piece)
            size += len(piece)
            file.write(piece)
        if (info.external_attr >> 16) & 0o111:
            # Who may read it may run it. The umask can only be read by setting it, for all threads.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            os.chmod(path, mode | (mode & 0o444) >> 2)
    return [name, _as_record(found), size]


def record_hash(data):
    """The hash of bytes, as RECORD has it."""
    return _as_record(hashlib.sha256(data))


def _as_record(found):
    text = base64.urlsafe_b64encode(found.digest()).decode("ascii").rstrip("=")
    return "sha256=" + text


def _headers(data):
    """The headers of METADATA or WHEEL, with names in lower case; the first of each name."""
    from email.parser import HeaderParser

    found = {}
    for name, value in HeaderParser().parsestr(data.decode("utf-8")).items():
        found.setdefault(name.lower(), str(value))
    return found
