"""A gateway in a virtual environment of its own."""

import tempfile

from pycomnet.blocking import Group, xdeploy


def where():
    import os
    import sys

    return sys.prefix, os.getcwd()


with Group() as group, tempfile.TemporaryDirectory() as directory:
    gateway = group.makegateway("popen")
    requirements = ""  # such as "requests>=2\nattrs"
    worker = xdeploy.create_venv_gateway(gateway, "work", requirements, directory=directory)
    prefix, stands_in = worker.call(where)
    assert prefix == stands_in
    assert prefix.startswith(directory)

    again = xdeploy.create_venv_gateway(gateway, "work", requirements, directory=directory)
    assert again.call(where) == (prefix, stands_in)  # at once: it was there
    assert [venv.name for venv in xdeploy.list(gateway, directory=directory)] == ["work"]
