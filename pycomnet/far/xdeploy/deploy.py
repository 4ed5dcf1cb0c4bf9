"""Makes the environment that the near side asks for (docs/architecture/xdeploy.rst).

The conversation is on one channel. What comes from here are maps with one key: ``ready``,
``waiting``, ``free``, ``resolve``, ``send``, ``progress``, ``failed``.
"""

import time

from .interpreter import check, facts
from .lookup import record_of, report, waits

#: The most wheels that are asked for at a time: each has a lock, which is an open file.
BATCH = 32
#: Seconds between two reports of progress.
INTERVAL = 0.1


def create(channel, request):
    """Make an environment; the caller has the lock of its name.

    :param request: as for ``lookup``.
    :returns: the lock on its use; or None, if the near side was told that its build failed.
    """
    check()
    from .building import HookFailed

    creation = Creation(channel, request)
    try:
        return creation.make()
    except HookFailed as problem:
        # As a value, as it may be too long for an error.
        channel.send({"failed": [problem.name, problem.status, problem.output]})
        return None


class Creation(object):
    """A request."""

    def __init__(self, channel, request):
        from .directory import VenvDirectory

        self.channel = channel
        self.request = request
        self.directory = VenvDirectory(request["root"])
        self.told = 0.0

    def make(self):
        """Make the environment; return the lock on its use."""
        self.channel.send({"resolve": facts()})
        plan = self.channel.receive()
        if "requirements" not in plan:
            return self.make_planned(plan)
        from .pipresolve import resolve

        with self.lock("making", shared=True):
            return self.make_planned(resolve(self, plan))

    def lock(self, name, shared=False):
        """Take a lock. The near side is told when another process has it, and may stop waiting."""
        return self.directory.lock(name, waits(self.channel), shared)

    def progress(self, stage, done, total):
        """Report progress, not too often."""
        now = time.time()
        if done in (0, total) or abs(now - self.told) >= INTERVAL:
            self.told = now
            self.channel.send({"progress": [stage, done, total]})

    def make_planned(self, plan):
        """Make the environment of a plan.

        :param plan: a map: ``wheels``, the files as lists of a name, a hash and a size; ``builds``,
            the sdists, as maps of ``sdist`` (such a list), ``wheels`` (what its build requires),
            ``backend`` and ``paths`` (the backend, and where it is imported from).
        """
        directory, request = self.directory, self.request
        from .environments import identity_of

        sources = [digest for _, digest, _ in plan["wheels"]]
        for build in plan["builds"]:
            needed = sorted(digest for _, digest, _ in build["wheels"])
            sources.append("%s from %s" % (build["sdist"][1], identity_of(needed)))
        identity = identity_of(sources)
        while True:
            made = self.make_identity(identity, plan)
            # It may have been removed again before this has the lock on its use.
            making = self.lock("making", shared=True)
            with making, directory.lock("use-" + identity, shared=True):
                if directory.environment(identity) is not None:
                    directory.write_name(
                        request["name"], record_of(request, identity, request["about"])
                    )
                    return report(self.channel, directory.root, identity, made)

    def make_identity(self, identity, plan):
        """Make it, if it is not there; return whether it was made."""
        from .environments import make

        directory = self.directory
        # "making" keeps wheels from being removed between the question whether they are there and
        # their use.
        with self.lock("making", shared=True), self.lock("environment-" + identity):
            if directory.environment(identity) is not None:
                return False
            self.fetch(plan["wheels"])
            digests = [digest for _, digest, _ in plan["wheels"]]
            for build in plan["builds"]:
                digests.append(self.build(build))
            make(
                directory,
                identity,
                digests,
                {"interpreter": facts()["markers"]["python_full_version"]},
                self.progress,
                self.request["compile"],
            )
        return True

    def fetch(self, files):
        """Receive the wheels that the store does not have."""
        from .wheels import receive

        directory = self.directory
        sizes = dict((digest, size) for _, digest, size in files)
        missing = sorted(digest for digest in sizes if not directory.has_wheel(digest))
        left, done = sum([sizes[digest] for digest in missing]), [0]
        total = left

        def received(size):
            done[0] += size
            self.progress("send", done[0], total)

        while missing:
            batch, missing = missing[:BATCH], missing[BATCH:]
            locks = {}
            try:
                for digest in batch:
                    lock = self.lock("wheel-" + digest)
                    if directory.has_wheel(digest):
                        lock.release()
                        done[0] += sizes[digest]
                    else:
                        locks[digest] = lock
                wanted = [digest for digest in batch if digest in locks]
                self.channel.send({"send": wanted})
                for digest in wanted:
                    receive(directory, digest, sizes[digest], iter(self.channel), received)
                    locks.pop(digest).release()
            finally:
                for lock in locks.values():
                    lock.release()

    def build(self, build):
        """Build an sdist, if that has not been done; return the wheel's hash."""
        from .building import build_sdist
        from .directory import read_json
        from .environments import identity_of

        directory = self.directory
        name, digest, _ = build["sdist"]
        needed = sorted(each for _, each, _ in build["wheels"])
        identity = identity_of(needed)
        record = ("built", "%s-%s.json" % (digest, identity))
        with self.lock("built-" + digest) as lock:
            known = read_json(directory.path(*record)) or {}
            if directory.has_wheel(known.get("wheel", "none")):
                return known["wheel"]
            self.make_identity(identity, {"wheels": build["wheels"], "builds": []})
            place = directory.fresh("build-" + digest)
            self.channel.send({"send": [digest]})
            self.progress("build", 0, 1)
            wheel = build_sdist(self, build, identity, place, lock)
            directory.write({"wheel": wheel, "sdist": name}, *record)
            self.progress("build", 1, 1)
            return wheel
