"""What is offered to a far side, and what it is refused however it asks."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import types
import zipfile
import zipimport
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any
from unittest.mock import patch  # of sys.path and sys.modules only

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import CodeNotSendable, RemoteError
from pycomnet.far import rsync
from pycomnet.gateways import modulefiles, modules
from pycomnet.gateways.modules import PROGRAM, ModuleOffer, ModuleRefused, ModuleSource
from pycomnet.test.kit import Pair


class Tree(SynchronousTestCase):
    """A test with a directory of modules on the path."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).resolve()
        self.write("offeredpkg/__init__.py", "x = 1\n")
        self.write("offeredpkg/one.py", "one = 1\n")
        self.write("offeredpkg/data/text.txt", "text")
        self.write("offeredpkg/sub/__init__.py", "")
        self.write("offeredpkg/sub/deep.py", "deep = 1\n")
        self.write("offeredpkg/bare/inner.py", "inner = 1\n")
        self.write("offeredmod.py", "mod = 1\n")
        self.write("secret.py", "secret = 1\n")
        self.write("secret.txt", "secret")
        self.patch(sys, "path", [str(self.top), *sys.path])

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def refused(self, offer: ModuleOffer, question: Any) -> str:
        """The message of a refusal."""
        return str(self.assertRaises(ModuleRefused, offer.answer, question))


class Answers(Tree):
    """What there is."""

    def test_package_lists_its_modules_without_importing(self) -> None:
        """A package tells of all that is directly in it, with hashes of the sources."""
        (self.top / "offeredpkg" / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"elf")
        suffix = EXTENSION_SUFFIXES[0]
        (self.top / "offeredpkg" / f"quick{suffix}").write_bytes(b"elf")
        found = {
            entry[0]: entry[1:]
            for entry in ModuleOffer.of(["offeredpkg"]).answer({"list": "offeredpkg"})
        }
        self.assertEqual(
            {name: entry[0] for name, entry in found.items() if "fast" not in name},
            {
                "offeredpkg": 1,
                "offeredpkg.bare": 2,
                "offeredpkg.data": 2,
                "offeredpkg.one": 0,
                "offeredpkg.quick": 3,
                "offeredpkg.sub": 1,
            },
        )
        self.assertEqual(
            found["offeredpkg.one"][1:],
            [str(self.top / "offeredpkg" / "one.py"), hashlib.sha256(b"one = 1\n").digest()],
        )
        self.assertNotIn("offeredpkg", sys.modules)  # nothing of it was imported

    def test_missing_module_lists_nothing(self) -> None:
        """Of a module that isn't there nothing is told."""
        offer = ModuleOffer.of(["offeredpkg"])
        for name in ("offeredpkg.nope", "offeredpkg.one.nope", "offeredpkg.nope.nope"):
            self.assertEqual(offer.answer({"list": name}), [])

    def test_sources_come_together_while_there_is_room(self) -> None:
        """Sources come together, the first in any case, the others while there is room."""
        offer = ModuleOffer.of(["offeredpkg"])
        names = ["offeredpkg.one", "offeredpkg", "offeredpkg.sub.deep", "offeredpkg.nope"]
        self.assertEqual(
            offer.answer({"source": names}),
            {
                "offeredpkg.one": b"one = 1\n",
                "offeredpkg": b"x = 1\n",
                "offeredpkg.sub.deep": b"deep = 1\n",
            },
        )
        self.patch(modules, "MAX_SOURCES", 9)
        self.assertEqual(list(offer.answer({"source": names})), ["offeredpkg.one"])

    def test_package_files_are_given_up_to_a_length(self) -> None:
        """Files of a package, and what is in its directories."""
        offer = ModuleOffer.of(["offeredpkg"])
        self.assertEqual(offer.answer({"data": ["offeredpkg", "data/text.txt"]}), b"text")
        self.assertEqual(offer.answer({"data": ["offeredpkg.data", "text.txt"]}), b"text")
        self.assertEqual(offer.answer({"names": ["offeredpkg", "data"]}), [["text.txt", False]])
        self.assertIn(["sub", True], offer.answer({"names": ["offeredpkg", ""]}))
        self.patch(modulefiles, "MAX_FILE", 3)
        self.assertIn(
            "longer than 3", self.refused(offer, {"data": ["offeredpkg.data", "text.txt"]})
        )

    def test_package_in_a_zip_file_is_offered(self) -> None:
        archive = self.top / "archive.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("zippedpkg/__init__.py", "z = 1\n")
            file.writestr("zippedpkg/inner.py", "i = 1\n")
            file.writestr("zippedpkg/d.txt", "data")
        self.patch(sys, "path", [str(archive), *sys.path])
        offer = ModuleOffer.of(["zippedpkg"])
        names = [entry[0] for entry in offer.answer({"list": "zippedpkg"})]
        self.assertEqual(names, ["zippedpkg", "zippedpkg.inner"])
        self.assertEqual(
            offer.answer({"source": ["zippedpkg.inner"]}), {"zippedpkg.inner": b"i = 1\n"}
        )
        self.assertEqual(offer.answer({"data": ["zippedpkg", "d.txt"]}), b"data")
        self.assertIn("no path within", self.refused(offer, {"data": ["zippedpkg", "../x"]}))

    def test_directory_offers_its_modules_and_packages_first(self) -> None:
        """Of a directory: modules and packages first, other directories last."""
        self.write("no-module.py", "")
        offer = ModuleOffer.of([self.top])
        self.assertEqual(sorted(offer.roots), ["offeredmod", "offeredpkg", "secret"])
        self.write("folder/part.py", "part = 1\n")
        offer = ModuleOffer.of([f"{self.top}{os.sep}"])
        self.assertEqual(offer.as_map(ModuleOffer({}))["last"], ["folder"])
        self.assertNotIn("folder", offer.as_map(ModuleOffer({}))["first"])
        self.assertEqual(offer.answer({"source": ["folder.part"]}), {"folder.part": b"part = 1\n"})

    def test_own_package_comes_with_its_list(self) -> None:
        """Once to each far side; a user's package, which may be large, does not."""
        own = ModuleOffer.far_package("_pycomnet_rsync", rsync)
        users = ModuleOffer.of(["offeredpkg"])
        asked = own.answer({"list": "_pycomnet_rsync"})
        self.assertIn("_pycomnet_rsync.receive", [entry[0] for entry in asked])
        self.assertEqual(own.as_map(users)["lists"], {"_pycomnet_rsync": asked})
        self.assertNotIn("lists", own.as_map(users.and_also(own)))
        self.assertNotIn("lists", users.as_map(ModuleOffer({})))


class Hostile(Tree):
    """What a far side asks for that may want to know more than it was offered."""

    def test_module_not_offered_is_refused(self) -> None:
        """Modules that were not offered: on the path, of the library, imported here."""
        offer = ModuleOffer.of(["offeredpkg"])
        for name in (
            "secret",
            "os",
            "pycomnet.auth.tokens",
            "offeredpkgx",
            "__main__",
            "offeredmod",
        ):
            for question in ({"list": name}, {"source": [name]}, {"data": [name, "x"]}):
                self.assertIn("was not offered", self.refused(offer, question))

    def test_malformed_module_name_is_refused(self) -> None:
        """Names that are no names."""
        offer = ModuleOffer.of(["offeredpkg"])
        for name in (
            "", ".", "..", "offeredpkg.", "offeredpkg..one", "offeredpkg/one", "../secret",
            "offeredpkg.../secret", "offeredpkg.one\0", "/etc/passwd", "offeredpkg.\\one",
            "x" * 99999 + "!",
        ):  # fmt: skip
            message = self.refused(offer, {"list": name})
            self.assertIn("is no module's name", message)
            self.assertLess(len(message), 1000)

    def test_path_out_of_the_package_is_refused(self) -> None:
        """Paths that lead out of a package."""
        offer = ModuleOffer.of(["offeredpkg"])
        for path in (
            "../secret.txt", "..", ".", "data/../../secret.txt", "/etc/passwd", "data//text.txt",
            "data/./text.txt", "data\\text.txt", "data/text.txt\0", "//etc/passwd", "data/..",
            str(self.top / "secret.txt"),
        ):  # fmt: skip
            for key in ("data", "names"):
                message = self.refused(offer, {key: ["offeredpkg", path]})
                self.assertIn("is no path within the package", message)
        self.assertIn("has no file", self.refused(offer, {"data": ["offeredpkg", "nope"]}))
        self.assertIn("is no file", self.refused(offer, {"data": ["offeredpkg", "data"]}))
        self.assertIn("is no package", self.refused(offer, {"data": ["offeredpkg.one", "x"]}))

    def test_symbolic_link_out_of_the_offer_is_refused(self) -> None:
        """Symbolic links that lead out: files, directories, modules and packages."""
        package = self.top / "offeredpkg"
        (package / "link.txt").symlink_to(self.top / "secret.txt")
        (package / "linked").symlink_to(self.top)
        (package / "linkmod.py").symlink_to(self.top / "secret.py")
        (package / "inside.txt").symlink_to(package / "data" / "text.txt")
        offer = ModuleOffer.of(["offeredpkg"])
        for question in (
            {"data": ["offeredpkg", "link.txt"]},
            {"data": ["offeredpkg", "linked/secret.txt"]},
            {"names": ["offeredpkg", "linked"]},
            {"source": ["offeredpkg.linkmod"]},
            {"list": "offeredpkg.linked"},
            {"source": ["offeredpkg.linked.secret"]},
        ):
            self.assertIn("leads out of what was offered", self.refused(offer, question))
        self.assertEqual(offer.answer({"data": ["offeredpkg", "inside.txt"]}), b"text")
        names = [entry[0] for entry in offer.answer({"list": "offeredpkg"})]
        self.assertNotIn("offeredpkg.linkmod", names)
        self.assertNotIn("offeredpkg.linked", names)

    def test_offered_directory_gives_no_data_outside_packages(self) -> None:
        """An offered directory is modules: no data outside packages, no links that lead out."""
        self.write("scripts/script.py", "")
        self.write("scripts/private/letter.txt", "dear")
        self.write("scripts/private/part.py", "")
        (self.top / "scripts" / "outside.py").symlink_to(self.top / "secret.py")
        (self.top / "scripts" / "everything").symlink_to(self.top)
        offer = ModuleOffer.of([self.top / "scripts"])
        self.assertEqual(sorted(offer.roots), ["private", "script"])
        for question in ({"data": ["private", "letter.txt"]}, {"names": ["private", ""]}):
            self.assertIn("has no __init__.py", self.refused(offer, question))

    def test_malformed_question_is_refused(self) -> None:
        """Whatever else comes."""
        offer = ModuleOffer.of(["offeredpkg"])
        questions: tuple[Any, ...] = (
            None, 5, [], {}, {"list": 5}, {"list": ["offeredpkg"]}, {"data": "offeredpkg"},
            {"data": ["offeredpkg"]}, {"data": ["offeredpkg", 5]}, {"names": []}, {"source": "os"},
        )  # fmt: skip
        for question in questions:
            self.assertIn("not a valid request", self.refused(offer, question))
        self.assertIn("no source", self.refused(offer, {"source": [5]}))


class Asking(Tree):
    """The channels that questions come on."""

    def setUp(self) -> None:
        super().setUp()
        self.pair = Pair()
        self.source = ModuleSource()
        self.source.offer = ModuleOffer.of(["offeredpkg"])
        self.pair.near.purposes["module"] = self.source.accept

    def ask(self, question: Any) -> Any:
        """What comes back, a Deferred."""
        far = self.pair.far
        return far.open("module", far.encode(question)).receive()

    def test_each_question_has_its_answer_in_turn(self) -> None:
        """Each question has its answer or its error, in turn."""
        waiting = [self.ask({"source": ["offeredpkg.one"]}), self.ask(5), self.ask({"list": "os"})]
        self.pair.pump()
        self.assertEqual(self.successResultOf(waiting[0]), {"offeredpkg.one": b"one = 1\n"})
        for failed, words in zip(
            waiting[1:], ("not a valid request", "was not offered"), strict=True
        ):
            self.assertIn(words, self.failureResultOf(failed, RemoteError).getErrorMessage())

    def test_next_answer_waits_until_one_is_taken(self) -> None:
        """Answers that are not taken are one, not as many as are asked for."""
        (self.top / "offeredpkg" / "large").write_bytes(bytes(3 << 20))
        read = []
        answer = ModuleOffer.answer

        def noted(offer: ModuleOffer, question: Any) -> Any:
            read.append(question)
            return answer(offer, question)

        self.patch(ModuleOffer, "answer", noted)
        far = self.pair.far
        question = far.encode({"data": ["offeredpkg", "large"]})
        cores = [far.open("module", question) for _ in range(20)]
        self.pair.pump()
        self.assertEqual(len(read), 1)
        cores[0].close()  # it does not want it any more
        self.pair.pump()
        self.assertEqual(len(read), 2)


class Offering(Tree):
    """What can be offered, and what is told of what can't."""

    def refusal(self, *names: Any) -> str:
        """The message of the error."""
        return str(self.assertRaises(CodeNotSendable, ModuleOffer.of, names))

    def test_what_cannot_be_offered_is_refused_with_the_reason(self) -> None:
        """No module, none with source, no directory, part of a package."""
        self.assertIn("there is none of that name here", self.refusal("there_is_no_such"))
        self.assertIn("has no Python source", self.refusal("sys"))
        self.assertIn("offer 'offeredpkg'", self.refusal("offeredpkg.sub"))
        self.assertIn("expected the name of a top-level module", self.refusal("a b"))
        self.assertIn("is none", self.refusal(self.top / "nope"))
        self.assertIn("is none", self.refusal(str(self.top / "offeredmod.py")))

    def test_single_name_needs_no_list(self) -> None:
        """One name need not be in a list."""
        self.assertEqual(list(ModuleOffer.of("offeredmod").roots), ["offeredmod"])

    def main(self, path: str | None) -> Any:
        """Have another ``__main__``."""
        main = types.ModuleType("__main__")
        if path is not None:
            main.__file__ = path
        return patch.dict(sys.modules, {"__main__": main})

    def test_main_of_a_directory_or_zip_gets_a_name(self) -> None:
        """The ``__main__.py`` of a zip file or directory has a name of its own there."""
        source = 'def f(): pass\nif __name__ == "__main__":\n    f()\n'
        path = self.write("app/__main__.py", source)
        spec = importlib.util.spec_from_file_location("__main__", path)
        archive = self.top / "app.pyz"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("__main__.py", source)
        zipped = zipimport.zipimporter(str(archive)).find_spec("__main__")
        for found in (spec, zipped):
            assert found is not None and found.origin is not None
            with self.main(found.origin):
                sys.modules["__main__"].__spec__ = found
                offer = ModuleOffer.of(["__main__"])
                self.assertEqual((list(offer.roots), offer.main), ([PROGRAM], PROGRAM))
                answer = offer.answer({"source": [PROGRAM]})
                self.assertEqual(answer, {PROGRAM: source.encode()})
        with self.main(str(path)):
            offer = ModuleOffer.of([path.parent])
            self.assertEqual((list(offer.roots), offer.main), ([PROGRAM], PROGRAM))
        unguarded = self.write("open/__main__.py", "start()\n")
        with self.main(str(unguarded)):
            sys.modules["__main__"].__spec__ = importlib.util.spec_from_file_location(
                "__main__", unguarded
            )
            self.assertIn('if __name__ == "__main__":', self.refusal("__main__"))

    def test_guarded_program_is_offered_under_its_files_name(self) -> None:
        """The program itself goes under its file's name, if it is guarded."""
        guarded = self.write("prog.py", 'def f(): pass\nif __name__ == "__main__":\n    f()\n')
        with self.main(str(guarded)):
            offer = ModuleOffer.of(["__main__"])
            self.assertEqual((list(offer.roots), offer.main), (["prog"], "prog"))

            def function() -> None: ...

            function.__module__, function.__qualname__ = "__main__", "function"
            sys.modules["__main__"].function = function  # type: ignore[attr-defined]
            self.assertEqual(offer.where(function), "prog:function")
        with self.main(str(self.write("unguarded.py", "start()\n"))):
            self.assertIn('if __name__ == "__main__":', self.refusal("__main__"))
        with self.main(str(self.write("no-name.py", ""))):
            self.assertIn("'no-name' is no module's name", self.refusal("__main__"))
        with self.main(None):
            self.assertIn("put what is needed into a module", self.refusal("__main__"))
