"""What a remote service is, apart from this process and its connections."""

from __future__ import annotations

from typing import Any

import attrs

from pycomnet.errors import EndpointError
from pycomnet.net.addresslist import split_addresses
from pycomnet.net.destinations import foreign_address


@attrs.frozen
class ServiceReference:
    """Refers to a service. It can be sent, stored and compared. It has no credentials.

    :ivar interface: its interface; None for the only one at the address.
    :ivar address: where it is; None if a nameserver finds it.
    :ivar nameserver: the address of the nameserver that finds it, or several with commas.
    :ivar service: its name there; None for any instance.
    """

    interface: str | None
    address: str | None = None
    nameserver: str | None = None
    service: str | None = None

    def as_list(self) -> list[str | None]:
        """The reference as a value that can be sent.

        Its addresses have the destinations only: files of this machine mean nothing to others.
        """
        return [
            self.interface,
            _foreign(self.address),
            _all_foreign(self.nameserver),
            self.service,
        ]

    @classmethod
    def from_list(cls, value: Any) -> ServiceReference:
        """The reference that :meth:`as_list` made, perhaps in another process.

        Others may have written it: they must not decide which server is trusted.

        :raises ValueError: it is none.
        """
        if not isinstance(value, (list, tuple)) or len(value) < 4:
            raise ValueError("a reference to a service is a list of 4")
        interface, address, nameserver, service = value[:4]
        for each in (interface, address, nameserver, service):
            if each is not None and not isinstance(each, str):
                raise ValueError(f"a reference to a service has str, not {type(each).__name__}")
        if (address is None) is (nameserver is None):
            raise ValueError("a reference to a service has an address or a nameserver")
        if address is None and not interface:
            raise ValueError("a nameserver finds a service by its interface, which is missing")
        try:
            address, nameserver = _foreign(address), _all_foreign(nameserver)
        except EndpointError as problem:
            raise ValueError(f"a reference to a service has the wrong address: {problem}") from None
        return cls(interface, address, nameserver, service)


def _foreign(address: str | None) -> str | None:
    return None if address is None else foreign_address(address)


def _all_foreign(addresses: str | None) -> str | None:
    if addresses is None:
        return None
    return ",".join(dict.fromkeys(map(foreign_address, split_addresses(addresses))))
