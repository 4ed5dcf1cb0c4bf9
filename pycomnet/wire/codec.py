"""Chooses the value codec: the one in Rust if it is installed, else the pure one."""

from .values import MAX_ITEMS, PureCodec


def make_codec(
    channel_type=None, dump_channel=None, load_channel=None, pure=False, max_items=MAX_ITEMS
):
    """Return the fastest codec here; for the parameters see :class:`~.values.PureCodec`.

    :param pure: use the one in pure Python in any case.
    """
    if not pure:
        try:
            from .rust import RustCodec
        except ImportError:
            pass
        else:
            return RustCodec(channel_type, dump_channel, load_channel, max_items)
    return PureCodec(channel_type, dump_channel, load_channel, max_items)
