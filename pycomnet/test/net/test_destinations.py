"""Where addresses lead: patterns, and what counts of an address of others."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import EndpointError
from pycomnet.net.destinations import destination, destination_pattern, foreign_address
from pycomnet.net.endpoints import client_endpoint, server_endpoint

PATTERN = "tls:*.example.org:*"
#: Addresses that look like one of the pattern, and lead elsewhere or are verified in another way.
OTHERS = (
    "tls:db.example.org:443:host=evil.example:hostname=evil.example",
    "tls:db.example.org:443:port=444",
    "tls:db.example.org:443:hostname=evil.example",
    "tls:db.example.org:443:trustRoots=/tmp/mallory.pem",
    "tls:db.example.org:443:caCertsDir=/tmp",
    "ssl:db.example.org:443:trustRoots=/tmp/a:caCertsDir=/tmp",
    "tls:db.example.org:443:certificate=/k.pem:privateKey=/k.pem",
    "tls:db.example.org:443:bindAddress=192.0.2.1",
    "tls:host=evil.example:port=443:hostname=db.example.org",
    "tls:evil.example:443:x.example.org",
    "tls:evil.example\\:443.example.org\\:1:1",
    "tcp:db.example.org:443",
    "unix:/tmp/db.example.org",
)
#: Those with a part that is there twice.
DOUBLED = (
    "tls:h:1:host=x",
    "tls:h:1:port=2",
    "tls:h:1:timeout=1:timeout=2",
    "tls:h:1:trustRoots=a:caCertsDir=b",
    "tcp:h:1:host=x",
    "tcp:h:1:port=2",
    "unix:/a:path=/b",
)


def fits(address: str, pattern: str = PATTERN, own: bool = False) -> bool:
    """Whether an address is one of a pattern."""
    try:
        return destination(address).fits(destination_pattern(pattern), own)
    except EndpointError:
        return False


class PatternTests(SynchronousTestCase):
    """Patterns mean servers, and not texts."""

    def test_pattern_means_what_is_connected_to_and_verified(self) -> None:
        """By whatever names the parts come."""
        for address in (
            "tls:db.example.org:443",
            "ssl:DB.Example.org:443",
            "tls:host=db.example.org:port=443",
            "tls:db.example.org:443:timeout=3",
            "tls:10.0.0.1:443:hostname=db.example.org",
        ):
            self.assertEqual(fits(address), "10.0.0.1" not in address, address)
        for address in OTHERS:
            self.assertFalse(fits(address), address)

    def test_files_of_ones_own_are_ones_own(self) -> None:
        """The program that names a server may say how it is verified; its name stays."""
        self.assertTrue(fits("tls:db.example.org:443:trustRoots=/ca.pem", own=True))
        self.assertFalse(fits("tls:db.example.org:443:hostname=evil.example", own=True))
        self.assertTrue(fits("tls:h:1:trustRoots=/ca", "tls:h:1:trustRoots=/ca"))

    def test_parts_that_are_left_out_are_any(self) -> None:
        """``*`` is any address; a kind is any of the kind."""
        for address in ("tls:a:1", "tcp:a:1", "unix:/a"):
            self.assertTrue(fits(address, "*"))
            self.assertEqual(fits(address, "tls:*"), address.startswith("tls"))
            self.assertEqual(fits(address, "unix:*"), address.startswith("unix"))
        self.assertRaises(EndpointError, destination_pattern, "tls")

    def test_path_that_leads_back_fits_no_pattern(self) -> None:
        """Nor does one that begins nowhere; the program's own may be written in any way."""
        pattern = "unix:/run/names/*"
        self.assertTrue(fits("unix:/run/names/a", pattern))
        for path in ("/run/names/../../tmp/evil", "/run/names/..", "run/names/a"):
            self.assertFalse(fits(f"unix:{path}", pattern), path)
            self.assertFalse(fits(f"unix:{path}", "*"), path)
            self.assertEqual(fits(f"unix:{path}", pattern, own=True), path.startswith("/"))


class ForeignTests(SynchronousTestCase):
    """Addresses of records."""

    def test_options_of_others_do_not_count(self) -> None:
        """Only where they lead, and how long that may take."""
        for given, counts in (
            ("tls:h:1:hostname=x:trustRoots=/a:certificate=/b:bindAddress=c", "tls:h:1"),
            ("tls:host=h:port=1:timeout=5", "tls:h:1:timeout=5"),
            ("tcp:h:1:bindAddress=192.0.2.1", "tcp:h:1"),
            ("unix:path=/a:mode=1", "unix:/a"),
            ("h:1", "tcp:h:1"),
            ("tor:x.onion:1:socksPort=2", "tor:x.onion:1"),
        ):
            self.assertEqual(foreign_address(given), counts)

    def test_timeout_is_a_number_of_seconds(self) -> None:
        """Which a reactor can wait."""
        for wrong in ("never", "nan", "1e308", "-1", "9" * 400):
            self.assertRaises(EndpointError, foreign_address, f"tcp:127.0.0.1:1:timeout={wrong}")

    def test_part_that_is_there_twice_is_refused(self) -> None:
        """Everywhere: one reader would take the one, another the other."""
        for address in DOUBLED:
            self.assertRaises(EndpointError, client_endpoint, Clock(), address)
            if "trustRoots" not in address:  # which does not count there
                self.assertRaises(EndpointError, foreign_address, address)
        for address in ("tcp:1:port=2", "tls:1:port=2:privateKey=k", "unix:/a:address=/b"):
            self.assertRaises(EndpointError, server_endpoint, Clock(), address)
