"""Runs the test suite of execnet or of pytest-xdist on the drop-in, from a checkout.

    python tools/execnet_suites.py execnet ~/checkouts/execnet
    python tools/execnet_suites.py xdist ~/checkouts/pytest-xdist -n 2

This repository has none of their code: get a checkout, or unpack a source distribution. Further
arguments are passed to pytest. ``--peer`` runs the suite on execnet itself, to compare.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path

#: The source of a module ``execnet`` that is found before execnet itself, and loads the drop-in.
FOUND_FIRST = """import sys
del sys.modules["execnet"]
from pycomnet.xdist import stand_in
stand_in()
"""
#: Internals of execnet that its suite imports, and that the drop-in does not have.
INTERNALS = {
    "gateway_base": ("ChannelFactory", "Message", "Popen2IO"),
    "gateway_io": ("popen_args", "ssh_args", "vagrant_ssh_args"),
}
#: Patterns of the tests that are left out, and the reasons.
LEFT_OUT = {
    "execnet": {
        "*test_basics.py::test_serializer_api_version_error*": "patches a constant of the module",
        "*test_basics.py::test_subprocess_interaction*": "execnet's bootstrap line",
        "*test_basics.py::test_io_message*": "execnet's wire, from its module's source",
        "*test_basics.py::test_popen_io*": "execnet's pipes, from its module's source",
        "*test_basics.py::test_geterrortext?pypy3?": "PyPy as the near side, without pycomnet",
        "*test_basics.py::test_stdouterrin_setnull*": "execnet's pipes, in this process",
        "*test_basics.py::test_exectask*": "execnet's worker, in this process",
        "*test_basics.py::TestMessage*": "execnet's wire",
        "*test_basics.py::TestPureChannel*": "execnet's channels without a gateway",
        "*test_gateway.py::TestTracing*": "EXECNET_DEBUG: pycomnet has Twisted's log",
        "*test_gateway.py::*test_sshconfig_config_parsing*": "how execnet calls ssh",
        "*test_gateway.py::test_popen_args*": "how execnet calls Popen",
        "*test_xspec.py::*test_ssh_options_and_config*": "how execnet calls ssh",
        "*test_xspec.py::*test_vagrant_options*": "how execnet calls vagrant",
        "*test_xspec.py::*test_popen_with_sudo_python*": "how execnet calls Popen",
        "*test_termination.py::*no_error?pypy3*": "PyPy as the near side, without pycomnet",
        "*test_termination.py::*trykill*pypy3*": "PyPy as the near side, without pycomnet",
    },
    "xdist": {},
}


def pytest_configure(config: object) -> None:
    """As a plugin: define the internals, which only tests that are left out use."""
    import execnet

    for name, missing in INTERNALS.items():
        module = sys.modules.get(f"execnet.{name}")
        if module is None:
            module = sys.modules[f"execnet.{name}"] = types.ModuleType(f"execnet.{name}")
            setattr(execnet, name, module)
        for each in missing:
            setattr(module, each, None)


def pytest_collection_modifyitems(config: object, items: list[object]) -> None:
    """As a plugin: leave tests out."""
    patterns = LEFT_OUT[os.environ["SUITE"]]
    kept, left = [], []
    for item in items:
        node: str = item.nodeid  # type: ignore[attr-defined]
        # The suite itself skips tests of eventlet and gevent where these are not installed.
        skipped = any(name in node and find_spec(name) is None for name in ("eventlet", "gevent"))
        out = not skipped and any(fnmatch.fnmatchcase(node, pattern) for pattern in patterns)
        (left if out else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)  # type: ignore[attr-defined]


def main() -> int:
    """Run a suite; the exit status is pytest's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", choices=sorted(LEFT_OUT))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--peer", action="store_true", help="run it on execnet itself")
    options, rest = parser.parse_known_args()
    tests = options.checkout / "testing"
    if not tests.is_dir():
        parser.error(f"there is no {tests}")
    plugins = [] if options.peer else ["-p", "pycomnet.xdist", "-p", "execnet_suites"]
    if options.suite == "execnet":
        plugins += ["-p", "no:xdist"]
    with tempfile.TemporaryDirectory() as directory:
        path = [directory, os.path.dirname(os.path.abspath(__file__))]
        # An empty plugin replaces pytest-twisted where that is installed. Its reactor would handle
        # SIGTERM in each pytest that a test starts, and so prevent crashes that the test expects.
        (Path(directory) / "pytest_twisted.py").write_text("")
        if not options.peer:
            # For the processes that tests start.
            (Path(directory) / "execnet.py").write_text(FOUND_FIRST)
        return run(options, [*plugins, *rest], path)


def run(options: argparse.Namespace, arguments: list[str], path: list[str]) -> int:
    """Run pytest in the checkout.

    :param path: directories in which Python looks first.
    """
    path += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {
        **os.environ,
        "SUITE": options.suite,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "pytest", "-q", *arguments, "testing"]
    return subprocess.run(command, cwd=options.checkout, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
