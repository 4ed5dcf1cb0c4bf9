from typing import NoReturn, SupportsIndex

class Live:
    __slots__ = ()
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn: ...
