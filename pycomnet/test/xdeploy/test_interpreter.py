"""The tags of wheels for an interpreter, from the facts that its far side sends."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import patch

from packaging import tags
from packaging.markers import default_environment
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.xdeploy import interpreter as far
from pycomnet.xdeploy import interpreter as near
from pycomnet.xdeploy.interpreter import FarInterpreter, own_interpreter


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a CPython 3.11 on Linux."""
    return {
        "implementation": "cpython",
        "version": [3, 11, 2],
        "suffix": ".cpython-311-x86_64-linux-gnu.so",
        "free_threaded": False,
        "debug": False,
        "platform": "linux-x86_64",
        "narrow": False,
        "libc": ["glibc", "2.36"],
        "mac": ["", ""],
        "executable": "/usr/bin/python3",
        "markers": {"platform_python_implementation": "CPython"},
        **changes,
    }


def interpreter(**changes: Any) -> FarInterpreter:
    """An interpreter with these facts."""
    return FarInterpreter.of(facts(**changes))


class TagTests(SynchronousTestCase):
    """:meth:`FarInterpreter.tag_texts` and what uses it."""

    def test_own_tags_are_those_of_packaging(self) -> None:
        """For this interpreter they are those that packaging finds."""
        mine = set(own_interpreter().tag_texts())
        theirs = {str(tag) for tag in tags.sys_tags()}
        self.assertEqual(theirs - mine, set())
        # Newer versions of packaging have one more kind.
        self.assertEqual({tag for tag in mine - theirs if "-none-any" not in tag}, set())

    def test_own_markers_are_those_of_packaging(self) -> None:
        """For this interpreter they have the values that packaging finds."""
        self.assertEqual(own_interpreter().markers, default_environment())
        self.assertTrue(own_interpreter().is_like_this_one())

    def test_another_is_not_like_this_one(self) -> None:
        """Another version is not like this one."""
        found = far.facts()
        found["markers"] = {**found["markers"], "python_full_version": "3.99.1"}
        self.assertFalse(FarInterpreter.of(found).is_like_this_one())

    def test_wheels_for_its_glibc_and_older_ones(self) -> None:
        """Wheels for its C library and for older ones."""
        python = interpreter()
        for platform, takes in (
            ("manylinux_2_36_x86_64", True),
            ("manylinux_2_37_x86_64", False),
            ("manylinux2014_x86_64", True),
            ("manylinux1_x86_64", True),
            ("musllinux_1_2_x86_64", False),
            ("manylinux2014_aarch64", False),
            ("linux_x86_64", True),
            ("any", True),
        ):
            abi = "none" if platform == "any" else "cp311"
            self.assertEqual(
                python.supports_wheel(f"a-1-cp311-{abi}-{platform}.whl"), takes, platform
            )

    def test_its_abi_the_stable_one_and_none(self) -> None:
        """Its own, the stable one of it and of older versions, and none."""
        python = interpreter()
        for tag, takes in (
            ("cp311-cp311", True),
            ("cp311-abi3", True),
            ("cp38-abi3", True),
            ("cp312-abi3", False),
            ("cp310-cp310", False),
            ("py3-none", True),
            ("pp39-pypy39_pp73", False),
        ):
            self.assertEqual(python.supports_wheel(f"a-1-{tag}-linux_x86_64.whl"), takes, tag)

    def test_abi_had_an_m_before_3_8(self) -> None:
        """Before 3.8 the ABI had an m."""
        python = interpreter(version=[3, 6, 15])
        self.assertTrue(python.supports_wheel("a-1-cp36-cp36m-linux_x86_64.whl"))
        self.assertFalse(python.supports_wheel("a-1-cp36-cp36-linux_x86_64.whl"))

    def test_free_threaded_builds_have_an_abi_of_their_own(self) -> None:
        """Free-threaded builds have an ABI of their own, and no stable one."""
        python = interpreter(version=[3, 13, 0], free_threaded=True)
        self.assertTrue(python.supports_wheel("a-1-cp313-cp313t-linux_x86_64.whl"))
        self.assertFalse(python.supports_wheel("a-1-cp313-cp313-linux_x86_64.whl"))
        self.assertFalse(python.supports_wheel("a-1-cp313-abi3-linux_x86_64.whl"))

    def test_free_threaded_builds_with_an_older_packaging(self) -> None:
        """Releases of packaging that find a stable ABI for them do no harm."""
        own = [*tags.cpython_tags((3, 13), ["cp313"], ["linux_x86_64"])]
        python = interpreter(version=[3, 13, 1], free_threaded=True)
        self.assertIn("abi3", {tag.abi for tag in own})
        near.tags_of.cache_clear()
        self.addCleanup(near.tags_of.cache_clear)
        with patch("packaging.tags.cpython_tags", return_value=own):
            self.assertNotIn("abi3", {tag.abi for tag in near.tags_of(python)})

    def test_pypy_abi_has_two_versions(self) -> None:
        """PyPy's ABI has two versions."""
        python = interpreter(
            implementation="pypy", version=[3, 9, 16], suffix=".pypy39-pp73-x86_64-linux-gnu.so"
        )
        self.assertTrue(python.supports_wheel("a-1-pp39-pypy39_pp73-manylinux_2_17_x86_64.whl"))
        self.assertTrue(python.supports_wheel("a-1-py3-none-any.whl"))
        self.assertFalse(python.supports_wheel("a-1-cp39-cp39-linux_x86_64.whl"))

    def test_musl_arm_32_bits_and_macos(self) -> None:
        """musl, ARM, 32 bits on a kernel of 64, macOS."""
        for changes, platform in (
            ({"libc": ["musl", "1.2"]}, "musllinux_1_1_x86_64"),
            ({"platform": "linux-aarch64"}, "manylinux2014_aarch64"),
            ({"narrow": True}, "manylinux1_i686"),
            ({"platform": "linux-aarch64", "narrow": True}, "manylinux_2_17_armv7l"),
            ({"platform": "macosx-12-arm64", "mac": ["12.3", "arm64"]}, "macosx_11_0_universal2"),
            ({"platform": "freebsd-13.2-RELEASE-amd64"}, "freebsd_13_2_RELEASE_amd64"),
        ):
            python = interpreter(**changes)
            self.assertTrue(python.supports_wheel(f"a-1-cp311-cp311-{platform}.whl"), platform)
        self.assertFalse(
            interpreter(platform="linux-aarch64").supports_wheel(
                "a-1-cp311-cp311-manylinux1_aarch64.whl"
            )
        )

    def test_built_here_needs_no_newer_libc(self) -> None:
        """What is built here is used where the C library is not older."""
        own = far.facts()
        plain = f"a-1-{tags.interpreter_name()}{tags.interpreter_version()}-none"
        name = f"{plain}-{own['platform'].replace('-', '_')}.whl"
        here = FarInterpreter.of(own)
        older = FarInterpreter.of({**own, "libc": ["glibc", "2.5"]})
        self.assertTrue(here.supports_wheel_built_here(name))
        self.assertTrue(older.supports_wheel(name))
        self.assertFalse(older.supports_wheel_built_here(name))
        self.assertTrue(older.supports_wheel_built_here("a-1-py3-none-any.whl"))
        unknown = FarInterpreter.of({**own, "libc": ["", ""]})
        self.patch(near, "own_interpreter", lambda: unknown)
        self.assertFalse(unknown.supports_wheel_built_here(name))

    def test_key_holds_for_another_kernel_only(self) -> None:
        """What was resolved holds for another kernel, and not for another C library."""
        one = interpreter(markers={"platform_release": "6.1"})
        self.assertEqual(one.key, interpreter(markers={"platform_release": "6.2"}).key)
        self.assertNotEqual(one.key, interpreter(libc=["glibc", "2.17"]).key)


class MacTests(SynchronousTestCase):
    """macOS's version."""

    def mac(self, *answers: str) -> list[str]:
        """What is found where Python and then a new one say these versions."""
        machine = ("", "", ""), "x86_64"
        self.answers = list(answers)
        with (
            patch("platform.mac_ver", lambda: (self.answers.pop(0), *machine)),
            patch.object(far, "asked_mac_version", lambda: self.answers.pop(0)),
        ):
            return far.mac()

    def test_told_version(self) -> None:
        """It is what Python is told."""
        self.assertEqual(self.mac("12.3"), ["12.3", "x86_64"])

    def test_old_sdk(self) -> None:
        """A Python of an old SDK is told 10.16 by each newer one, which is asked again."""
        self.assertEqual(self.mac("10.16", "13.1"), ["13.1", "x86_64"])
        self.assertEqual(self.mac("10.16", ""), ["10.16", "x86_64"])

    def test_it_is_asked_for_its_own_version(self) -> None:
        """By an interpreter with the variable for it; what it prints is the version."""
        asked: list[Any] = []

        class Process:
            def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
                asked.extend([command[0], env["SYSTEM_VERSION_COMPAT"]])

            def communicate(self) -> tuple[bytes, None]:
                return b"13.1\n", None

        with patch("subprocess.Popen", Process):
            self.assertEqual(far.asked_mac_version(), "13.1")
        self.assertEqual(asked, [sys.executable, "0"])


class CheckTests(SynchronousTestCase):
    """Which Pythons can make environments."""

    def test_this_python_is_accepted(self) -> None:
        """This one can."""
        far.check()

    def test_old_python_is_refused(self) -> None:
        """An old one says that it can't."""
        self.patch(sys, "version_info", (2, 7, 18))
        self.assertRaisesRegex(far.VenvRefused, "python=python3", far.check)

    def test_missing_module_is_named(self) -> None:
        """One that lacks a module names it."""
        with patch.dict(sys.modules, {"venv": None}):
            self.assertRaisesRegex(far.VenvRefused, "venv", far.check)
