"""The stubs of the code that runs in bare interpreters: each module has one, and none is sent."""

from __future__ import annotations

import zlib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.far import package

ROOT = Path(pycomnet.__file__).parent


def modules() -> list[Path]:
    """The modules that a far side may run."""
    return sorted([*ROOT.glob("wire/*.py"), *ROOT.glob("far/**/*.py")])


def sent() -> dict[str, bytes]:
    """What the bootstrap message has: module -> source."""
    data = zlib.decompress(package.package()[1])
    found = {}
    while data:
        head, _, data = data.partition(b"\n")
        module, length = head.decode("ascii").split()
        found[module] = data[: int(length)]
        data = data[int(length) :]
    return found


class StubTests(SynchronousTestCase):
    """``.pyi`` files beside the modules; stubtest compares their content."""

    def test_each_module_has_a_stub(self) -> None:
        """A type checker knows the types of each module, although its code has no annotations."""
        without = [path for path in modules() if not path.with_suffix(".pyi").exists()]
        self.assertEqual([path.name for path in without], ["__init__.py"] * len(without))

    def test_each_stub_has_a_module(self) -> None:
        """No stub stays behind when a module is renamed."""
        stubs = [*ROOT.glob("wire/*.pyi"), *ROOT.glob("far/**/*.pyi")]
        self.assertTrue(stubs)
        self.assertEqual([path for path in stubs if not path.with_suffix(".py").exists()], [])

    def test_no_stub_is_sent(self) -> None:
        """A bootstrap message has modules' sources and nothing else."""
        sources = {}
        for path in modules():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            sources[name.removesuffix(".__init__")] = path.read_bytes()
        found = sent()
        self.assertIn("far.forkserver.server", found)
        self.assertEqual(found, {name: sources.get(name) for name in found})
