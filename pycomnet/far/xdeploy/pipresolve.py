"""Resolves requirements by this machine's own pip and index (``far=True``)."""

import os
import sys

from .building import receive_file, run
from .directory import clear
from .wheels import add

#: Variables that give pip further sources of packages, or change which it takes from one.
SOURCES = (
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "PIP_CONSTRAINT",
    "PIP_PRE",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
)


def resolve(creation, plan):
    """Let pip find or build wheels, and put them into the store.

    The caller has the lock "making", until the wheels are used: else they might be removed before.

    :param plan: a map: ``requirements``, ``constraints``, ``sdists`` (files that are sent),
        ``pip`` (wheels of pip, if there is none here; they are sent), ``index`` (an address, or
        None).
    :returns: a plan as the near side would have made it.
    :raises HookFailed: pip failed.
    """
    directory, channel = creation.directory, creation.channel
    place = directory.scratch()
    try:
        files = plan["sdists"] + plan["pip"]
        paths = {}
        channel.send({"send": [digest for _, digest, _ in files]})
        for name, digest, size in files:
            paths[digest] = os.path.join(place, os.path.basename(name))
            receive_file(channel, paths[digest], digest, size)
        if plan["pip"]:
            # A wheel is a zip file, from which pip can run.
            pip = [os.path.join(paths[digest], "pip") for _, digest, _ in plan["pip"]][:1]
        else:
            pip = ["-m", "pip"]
        wanted = os.path.join(place, "requirements.txt")
        limits = os.path.join(place, "constraints.txt")
        with open(limits, "w") as file:
            file.write("".join([line + "\n" for line in plan["constraints"]]))
        with open(wanted, "w") as file:
            for line in plan["requirements"]:
                file.write(line + "\n")
            for _, digest, _ in plan["sdists"]:
                hashed = " --hash=sha256:" + digest if plan["hashed"] else ""
                file.write(paths[digest] + hashed + "\n")
        target = os.path.join(place, "wheels")
        os.mkdir(target)
        argv = [sys.executable] + pip + ["wheel", "--disable-pip-version-check", "--no-input"]
        argv += ["--wheel-dir", target, "--requirement", wanted, "--constraint", limits]
        if plan["index"] and os.path.isdir(plan["index"]):
            argv += ["--no-index", "--find-links", plan["index"]]
        # Others can see what a program is started with, and an address may have a password in it.
        more, without = {}, ()
        if plan["index"]:  # then it is the only source
            more = {"PIP_INDEX_URL": plan["index"], "PIP_CONFIG_FILE": os.devnull}
            without = SOURCES
        output = os.path.join(place, "output")
        run(argv, place, "the requirements", output, channel, more, without)
        wheels = []
        for name in sorted(os.listdir(target)):
            path = os.path.join(target, name)
            wheels.append([name, add(directory, path), os.path.getsize(path)])
        return {"wheels": wheels, "builds": []}
    finally:
        clear(place)
