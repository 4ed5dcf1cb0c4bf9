"""Lists the environments of this machine, and removes those that are not needed."""

import os

from .interpreter import check
from .lookup import waits


def listed(root):
    """What there is: a list of maps, one for each name."""
    directory = _directory(root)
    found = []
    for name, (identity, kept) in directory.names().items():
        about = directory.environment(identity)
        if about is not None:
            found.append(
                {
                    "name": name,
                    "identity": identity,
                    "path": directory.path("environments", identity),
                    "packages": about["packages"],
                    "requirements": kept.get("requirements", []),
                    "interpreter": about["interpreter"],
                }
            )
    return found


def remove(channel, root, name):
    """Remove a name, and send ``{"removed": ...}``, what :func:`removed` returns.

    If it is just being made, this waits, and the near side is told; it ends with the near side.
    """
    channel.send({"removed": removed(root, name, waits(channel))})


def removed(root, name, waits=None):
    """Remove a name, and its environment, if no other name means that and nobody uses it.

    :param waits: as for :meth:`VenvDirectory.lock`.
    :returns: whether there was such a name; and whether its environment is gone, too.
    """
    directory = _directory(root)
    with directory.lock("name-" + name, waits):
        identity = directory.remove_name(name)
    if identity is None:
        return [False, False]
    return [True, _remove_unnamed(directory, identity, [])]


def pruned(root):
    """Remove environments without a name, wheels in no environment, and what is incomplete.

    What is in use, or just being made, stays.

    :returns: a map of the numbers of ``environments`` and ``wheels`` that were removed, of the
        ``bytes`` that they had, and of ``busy``: whether something may have stayed as others were
        just being made.
    """
    directory = _directory(root)
    counts = {"environments": 0, "wheels": 0, "bytes": 0, "busy": False}
    busy = []
    wheels_of = {}  # of environments that were seen: they never change
    for identity in sorted(os.listdir(directory.path("environments"))):
        size = _size(directory.path("environments", identity), True)
        if _remove_unnamed(directory, identity, busy):
            counts["environments"] += 1
            counts["bytes"] += size
    for digest in sorted(os.listdir(directory.path("wheels"))):
        path = directory.path("wheels", digest)
        size = _size(path, False)
        if _remove_wheel(directory, digest, wheels_of, busy):
            counts["wheels"] += 1
            counts["bytes"] += size
    _remove_incomplete(directory, busy)
    counts["busy"] = bool(busy)
    return counts


def _directory(root):
    check()
    from .directory import VenvDirectory

    return VenvDirectory(root)


def _remove_unnamed(directory, identity, busy):
    """Remove an environment if nobody needs it; return whether it was removed.

    :param busy: gets what may have to stay as others are just being made.
    """
    from .directory import clear

    # What is being made may need another environment, to build something in it.
    making = directory.try_lock("making")
    if making is None:
        busy.append(identity)
        return False
    with making:
        use = directory.try_lock("use-" + identity)
        if use is None:
            return False
        with use:
            # Who makes it a name's takes the lock on its use before.
            if any(other == identity for other, _ in directory.names().values()):
                return False
            path = directory.path("environments", identity)
            if not os.path.isdir(path):
                return False
            gone = directory.take_away(path)
    clear(gone)
    return True


def _remove_wheel(directory, digest, wheels_of, busy):
    """Remove a wheel that is in no environment; return whether it was removed.

    :param wheels_of: identity -> the wheels of an environment, for those that were read before.
    """
    from .directory import clear

    lock = directory.try_lock("wheel-" + digest)
    if lock is None:
        return False
    with lock:
        # Who makes an environment has its lock from before the wheel is looked for.
        making = directory.try_lock("making")
        if making is None:
            busy.append(digest)
            return False
        with making:
            for identity in os.listdir(directory.path("environments")):
                if identity not in wheels_of:
                    about = directory.environment(identity)
                    if about is None:
                        continue
                    wheels_of[identity] = frozenset(about["wheels"])
                if digest in wheels_of[identity]:
                    return False
            gone = directory.take_away(directory.path("wheels", digest))
    clear(gone)
    return True


def _remove_incomplete(directory, busy):
    """Remove what creators have left that were killed; nobody may be making anything."""
    from .directory import remove_tree

    making = directory.try_lock("making")
    if making is None:
        busy.append("new")
        return
    with making:
        for name in os.listdir(directory.path("new")):
            remove_tree(directory.path("new", name))


def _size(path, unshared):
    """The bytes of the files in a directory.

    :param unshared: whether to count only those that are in no other place.
    """
    total = 0
    for place, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            if not unshared or found.st_nlink == 1:
                total += found.st_size
    return total
