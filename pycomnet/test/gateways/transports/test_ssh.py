"""What ssh is started with, and what it says before Python begins."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import package
from pycomnet.gateways.limits import far_limits
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports import ssh, window_of
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.sshcommand import destination, ssh_command
from pycomnet.wire.frames import WIDE_WINDOW, WINDOW


class Destinations(SynchronousTestCase):
    """Destinations as everybody but ssh writes them."""

    def test_brackets_are_removed_and_port_becomes_an_option(self) -> None:
        """Brackets are taken off, a port becomes an option; options are left alone."""
        for text, expected in (
            ("host", "host"),
            ("me@host", "me@host"),
            ("root@[::1]", "root@::1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("root@[::1]:2222", "-p 2222 root@::1"),
            ("host:2222", "-p 2222 host"),
            ("me@host:2222", "-p 2222 me@host"),
            ("root@::1", "root@::1"),
            ("-p 2222 me@[::1]", "-p 2222 me@::1"),
            ("-vp 22 -J jump:22 -o Port=3 me@[::1] -v", "-vp 22 -J jump:22 -o Port=3 me@::1 -v"),
            ("-J[::2]:22 -4 [::1]", "-J[::2]:22 -4 ::1"),
        ):
            self.assertEqual(" ".join(destination(text.split())), expected)

    def test_command_has_the_parsed_destination(self) -> None:
        """It is what ssh is run with."""
        words = ssh_command(Spec.parse("ssh=root@[::1]:22"))
        self.assertEqual(words[:5], ("ssh", "-T", "-p", "22", "root@::1"))


class AloneTests(SynchronousTestCase):
    """An interpreter that has an ssh connection of its own."""

    def test_its_window_is_as_wide_as_the_near_sides(self) -> None:
        """Else what goes to it would wait for a round trip after each megabyte."""
        for more, expected in ("", WIDE_WINDOW), ("//trusted=no", WINDOW):
            spec = Spec.parse(f"ssh=host//fork=no{more}")
            request = GatewayRequest(spec, "a", len, lambda: None, MemoryReactorClock())
            configs: list[dict[str, Any]] = []

            def bootstrap_message(
                config: dict[str, Any], to: list[dict[str, Any]] = configs
            ) -> bytes:
                to.append(config)
                return b""

            self.patch(package, "bootstrap_message", bootstrap_message)
            ssh.gateway_transport(request)
            self.assertEqual(configs[0]["window"], expected)
            self.assertEqual(far_limits(spec, window_of(spec)).window, expected)


class Group:
    """Something that can be referred to weakly."""


class Banners(SynchronousTestCase):
    """What a host says before Python begins."""

    def test_banner_is_shown_once_for_host_and_group(self) -> None:
        """Once for each host and group; all that comes later, and what is new, is shown."""
        group, shown = Group(), []  # type: ignore[var-annotated]
        begun: list[bool] = []

        def output(id: str, target: str = "host", of: Any = group) -> Any:
            def show(text: str) -> None:
                shown.append((id, text))

            request = GatewayRequest(
                Spec.parse(f"ssh={target}"), id, show, lambda: of, MemoryReactorClock()
            )
            return ssh.show_preamble_once(request, lambda: bool(begun)).output

        first, second, other = output("a"), output("b"), output("c", "elsewhere")
        first("Welcome\r\nto this host\r\n")
        second("Welcome\r\nto this host\r\nPermission denied\r\n")
        first("Welcome\r\n")
        other("Welcome\r\n")
        output("d", of=Group())("Welcome\r\n")
        begun.append(True)
        second("Welcome\r\n")
        self.assertEqual(
            shown,
            [
                ("a", "Welcome\r\nto this host\r\n"),
                ("b", "Permission denied\r\n"),
                ("a", "Welcome\r\n"),
                ("c", "Welcome\r\n"),
                ("d", "Welcome\r\n"),
                ("b", "Welcome\r\n"),
            ],
        )
