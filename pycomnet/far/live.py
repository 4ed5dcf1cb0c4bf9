"""The base of objects that can't leave their process: a connection, and all that refers to one."""


class Live(object):
    """Refuses to be pickled or copied, with an error that says why.

    A copy would have no connection of its own, and would disturb the original's.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol):
        raise TypeError(
            "a %s can't be pickled or copied: it belongs to this process and its connection. "
            "Pass on what it was made from (a spec, an address, a name), or send a channel over "
            "another channel of its gateway" % type(self).__name__
        )
