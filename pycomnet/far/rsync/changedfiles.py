"""Files whose owner, mode and time are set: open ones, or by name where the system can't."""

import os


class OpenFile(object):
    """A file or directory that is open: its own attributes are set, whatever has its name by then.

    :param descriptor: its descriptor.
    :param target: what the system's functions take to set its attributes: the descriptor, or its
        path in ``/proc`` if it could not be opened to read.
    """

    def __init__(self, descriptor, target):
        self._descriptor = descriptor
        self._target = target

    def status(self):
        """Its status."""
        return os.fstat(self._descriptor)

    def chmod(self, mode):
        """Set its mode."""
        os.chmod(self._target, mode)

    def chown(self, owner, group):
        """Set its owner and group."""
        os.chown(self._target, owner, group)

    def utime(self, time):
        """Set the time of its last change, in nanoseconds."""
        os.utime(self._target, ns=(time, time))

    def close(self):
        """Close it."""
        os.close(self._descriptor)


class NamedFile(object):
    """A file or directory by its name: another one may get the name at any moment.

    :param directory: where it is.
    :param chmod: sets the mode of what has a name: name, mode.
    """

    def __init__(self, directory, name, chmod):
        self._directory = directory
        self._name = name
        self._chmod = chmod

    def status(self):
        """Its status; None if it has gone."""
        return self._directory.status(self._name)

    def chmod(self, mode):
        """Set its mode."""
        self._chmod(self._name, mode)

    def chown(self, owner, group):
        """Set its owner and group."""
        self._directory.chown(self._name, owner, group)

    def utime(self, time):
        """Set the time of its last change, in nanoseconds."""
        self._directory.utime(self._name, time)

    def close(self):
        """Nothing to do."""
