"""Translates execnet's specs to pycomnet's, and its errors back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from pycomnet.errors import EndpointError, GatewayNotStarted, PycomnetError, SpecError
from pycomnet.execnet.errors import HostNotFound
from pycomnet.execnet.xspec import XSpec
from pycomnet.gateways.spec import Spec, split_command

#: Keys of pycomnet's specs that are passed on unchanged.
PASSED_ON = (
    *("ca", "cert", "fork", "keepalive", "key", "max_items", "max_value"),
    *("token", "token_file", "trusted"),
)
#: Seconds within which ``vagrant ssh-config`` has to answer.
VAGRANT_TIMEOUT = 60.0


@contextlib.contextmanager
def pycomnet_spec(spec: XSpec) -> Iterator[Spec]:
    """Convert an execnet spec. The gateway has to be made within the ``with`` block.

    :raises ValueError: the spec names no kind of gateway, or is wrong in another way.
    """
    _check_keys(spec)
    options: dict[str, Any] = {
        "id": spec.id,
        "nice": int(spec.nice) if spec.nice else None,
        "env": {name: str(value) for name, value in spec.env.items()},
    }
    options |= {key: value for key in PASSED_ON if (value := getattr(spec, key)) is not None}
    if spec.execmodel is not None:
        options["execmodel"] = spec.execmodel
    if spec.dont_write_bytecode:
        options["env"]["PYTHONDONTWRITEBYTECODE"] = "1"
    if spec.python:
        options["python"] = split_command(spec.python)
    with contextlib.ExitStack() as stack:
        if spec.popen or (spec.socket is True and spec.installvia):
            options["via"] = spec.via or spec.installvia
            text = "popen"
            _check_python(options)
        elif spec.ssh:
            options |= {"ssh_config": spec.ssh_config, "via": spec.via}
            text = f"ssh={spec.ssh}"
        elif spec.vagrant_ssh:
            options["ssh_config"] = stack.enter_context(_vagrant_config(spec.vagrant_ssh))
            text = f"ssh={spec.vagrant_ssh}"
        elif spec.socket:
            text = f"socket={_endpoint(spec)}"
        else:
            raise ValueError(f"no gateway type found for {str(spec)!r}")
        try:
            parsed = Spec.parse(text, **options)
        except SpecError as problem:
            raise ValueError(str(problem)) from None
        with execnet_errors(spec):
            yield parsed


def _check_keys(spec: XSpec) -> None:
    """Refuse settings that would have no effect, or a misleading one."""
    for key in ("ssh", "vagrant_ssh"):
        host = getattr(spec, key)
        if host is not None and (not isinstance(host, str) or not host):
            raise ValueError(f"{spec!r}: {key} needs a host: {key}=HOST")
    if spec.vagrant_ssh and spec.vagrant_ssh.startswith("-"):
        raise ValueError(f"{spec!r}: the name of a vagrant machine does not begin with -")
    if spec.vagrant_ssh and (spec.via or spec.ssh_config):
        raise ValueError(
            f"{spec!r}: vagrant_ssh has ssh_config from vagrant, and starts here: leave out via "
            "and ssh_config, or use ssh=HOST//ssh_config=FILE//via=ID"
        )
    if isinstance(spec.socket, str) and (spec.via or spec.installvia):
        raise ValueError(
            f"{spec!r}: socket=HOST:PORT is connected to from here: leave out via and installvia, "
            "or use socket//installvia=ID"
        )
    if spec.socket is True and not spec.installvia:
        raise ValueError(f"{spec!r}: socket needs an address, or installvia=ID")


def _check_python(options: dict[str, Any]) -> None:
    command = options.get("python")
    if command and not options["via"] and shutil.which(command[0]) is None:
        raise FileNotFoundError(2, "No such file or directory", command[0])


def _endpoint(spec: XSpec) -> str:
    """The endpoint string of a gateway service.

    :raises ValueError: there are no credentials for it.
    """
    address = str(spec.socket)
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        simple = port.isdigit()
    else:
        simple = bool(colon) and port.isdigit() and ":" not in host
    if simple:
        _check_host(host, int(port))
        host = host.replace(":", "\\:")  # as Twisted's endpoints have it
    if spec.token is None and spec.token_file is None and spec.cert is None:
        raise ValueError(
            f"{spec!r}: execnet's socket servers let anybody run code, so they are not used here: "
            "start `twistd pycomnet-gateway` there, and give its token: "
            "socket=HOST:PORT//token_file=FILE"
        )
    return f"tcp:{host}:{port}" if simple else address


def _check_host(host: str, port: int) -> None:
    """Check that a host's name can be resolved.

    :raises pycomnet.execnet.HostNotFound: it can't.
    """
    try:
        socket.getaddrinfo(host, port)
    except OSError as problem:
        raise HostNotFound(f"{host}: {problem}") from None


@contextlib.contextmanager
def execnet_errors(spec: XSpec) -> Iterator[None]:
    """Convert the errors of a gateway that could not be started to those of execnet."""
    try:
        yield
    except GatewayNotStarted as problem:
        if spec.ssh or spec.vagrant_ssh or spec.socket:
            raise HostNotFound(str(problem)) from None
        raise OSError(str(problem)) from None
    except (EndpointError, SpecError) as problem:
        raise ValueError(str(problem)) from None
    except PycomnetError as problem:
        raise OSError(str(problem)) from None


@contextlib.contextmanager
def _vagrant_config(machine: str) -> Iterator[str]:
    """Write ssh's options for a vagrant machine to a file, which exists in the ``with`` block."""
    try:
        done = subprocess.run(
            ["vagrant", "ssh-config", machine],
            capture_output=True,
            text=True,
            timeout=VAGRANT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        words = getattr(problem, "stderr", None) or str(problem)
        raise HostNotFound(f"`vagrant ssh-config {machine}` failed: {words}") from None
    handle, path = tempfile.mkstemp(prefix="ssh-config-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(done.stdout)
        yield path
    finally:
        os.remove(path)
