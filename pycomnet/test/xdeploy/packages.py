"""Wheels and sdists for tests: small, made here, and in no index."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

#: A build backend in the sdist itself: it needs nothing, and makes a wheel for any platform unless
#: ``backend.TAG`` says otherwise.
BACKEND = """\
import os, zipfile, base64, hashlib
NAME, VERSION, TAG, REQUIRES = {name!r}, {version!r}, {tag!r}, {requires!r}
FAILS = {fails!r}

def _metadata():
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    return "\\n".join(lines + ["Requires-Dist: " + each for each in REQUIRES]) + "\\n"

def get_requires_for_build_wheel(config_settings=None):
    return {asks!r}

def get_requires_for_build_sdist(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    top = os.path.join(directory, NAME + "-" + VERSION + ".dist-info")
    os.mkdir(top)
    for name, text in (("METADATA", _metadata()), ("WHEEL", _wheel())):
        with open(os.path.join(top, name), "w") as file:
            file.write(text)
    return os.path.basename(top)

def _wheel():
    return "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: " + TAG + "\\n"

def build_wheel(directory, config_settings=None, metadata_directory=None):
    {code}
    if FAILS:
        import sys
        print("first line of the compiler")
        print("x" * 70000)
        sys.exit("last line: error: no such header")
    name = NAME + "-" + VERSION + "-" + TAG + ".whl"
    top = NAME + "-" + VERSION + ".dist-info/"
    files = [(top + "METADATA", _metadata()), (top + "WHEEL", _wheel())]
    with open(NAME + ".py") as file:
        files.append((NAME + ".py", file.read()))
    files.append((top + "RECORD", "".join(each + ",,\\n" for each, _ in files)))
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for each, text in files:
            archive.writestr(each, text)
    return name

def build_sdist(directory, config_settings=None):
    import tarfile
    top = NAME + "-" + VERSION
    with tarfile.open(os.path.join(directory, top + ".tar.gz"), "w:gz") as archive:
        archive.add(".", top, filter=lambda info: None if ".git" in info.name else info)
    return top + ".tar.gz"
"""


def metadata(name: str, version: str, requires: tuple[str, ...] = (), python: str = "") -> str:
    """The text of METADATA."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if python:
        lines.append(f"Requires-Python: {python}")
    return "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires), ""])


def wheel(
    directory: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: tuple[str, ...] = (),
    python: str = "",
    tag: str = "py3-none-any",
    entry_points: str = "",
    wheel_version: str = "1.0",
    pure: bool = True,
    executable: tuple[str, ...] = (),
) -> Path:
    """Make a wheel.

    :param files: path in it -> content; by default a module of its name with ``VERSION``.
    :param executable: the paths of files that may be executed.
    """
    top = f"{name}-{version}.dist-info"
    if files is None:
        files = {f"{name}.py": f"VERSION = {version!r}\n"}
    content: dict[str, str | bytes] = dict(files)
    content[f"{top}/METADATA"] = metadata(name, version, requires, python)
    content[f"{top}/WHEEL"] = (
        f"Wheel-Version: {wheel_version}\nGenerator: test\n"
        f"Root-Is-Purelib: {str(pure).lower()}\nTag: {tag}\n"
    )
    if entry_points:
        content[f"{top}/entry_points.txt"] = entry_points
    rows = []
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.append(f"{each},sha256={digest},{len(data)}")
            info = zipfile.ZipInfo(each, (2020, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if each in executable else 0o100644) << 16
            archive.writestr(info, data)
        archive.writestr(f"{top}/RECORD", "\n".join([*rows, f"{top}/RECORD,,", ""]))
    return path


def project(
    directory: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    fails: bool = False,
    code: str = "pass",
    build_requires: tuple[str, ...] = (),
    asks: tuple[str, ...] = (),
    source: str | None = None,
) -> Path:
    """Make a project's directory, with a build backend of its own in it.

    :param tag: of the wheel that is built of it.
    :param fails: whether its build fails.
    :param asks: what its backend says that a build requires, beside ``build_requires``.
    :param code: a statement that runs when it is built.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.py").write_text(source or f"VERSION = {version!r}\n")
    backend = BACKEND.format(
        name=name,
        version=version,
        tag=tag,
        requires=list(requires),
        fails=fails,
        code=code,
        asks=list(asks),
    )
    (directory / "backend.py").write_text(backend)
    (directory / "pyproject.toml").write_text(
        f"[build-system]\nrequires = {list(build_requires)!r}\n"
        'build-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
    )
    return directory


def sdist(directory: Path, name: str, version: str = "1.0", **options: object) -> Path:
    """Make an sdist of a project; the options are those of :func:`project`."""
    source = project(directory / f".{name}", name, version, **options)  # type: ignore[arg-type]
    path = directory / f"{name}-{version}.tar.gz"
    top = f"{name}-{version}"
    with tarfile.open(path, "w:gz") as archive:
        text = metadata(name, version).encode()
        info = tarfile.TarInfo(f"{top}/PKG-INFO")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
        for each in sorted(source.iterdir()):
            archive.add(each, f"{top}/{each.name}")
            each.unlink()
    source.rmdir()
    return path
