"""What only lives where it is: a connection, and all that leads to one."""


class Live(object):
    """Refuses to be pickled or copied, in words.

    A copy would have no connection of its own, and what it does would disturb the other's.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol):
        raise TypeError(
            "a %s can't be pickled or copied: it belongs to this process and its connection. "
            "Pass on what it was made from (a spec, an address, a name), or send a channel over "
            "another channel of its gateway" % type(self).__name__
        )
