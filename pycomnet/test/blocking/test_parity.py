"""Functions without Deferreds take what those that return Deferreds take."""

import importlib
import inspect
import pkgutil

from twisted.trial import unittest

import pycomnet.blocking.ext

#: Modules whose functions and methods are those of the module without ``.blocking``.
MODULES = {"pycomnet.blocking", "pycomnet.blocking.xdeploy", "pycomnet.blocking.ext.proxy"} | {
    module.name
    for module in pkgutil.iter_modules(pycomnet.blocking.ext.__path__, "pycomnet.blocking.ext.")
}


def parameters(function):
    """Name -> (kind, default); None for what passes its arguments on."""
    found = inspect.signature(function).parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in found):
        return None
    return {
        each.name: (each.kind, each.default)
        for each in found
        if each.name not in ("self", "timeout")
    }


def pairs():
    """Each function and method: its name, that without Deferreds, that with Deferreds."""
    for name in sorted(MODULES):
        module = importlib.import_module(name)
        other = importlib.import_module(name.replace(".blocking", ""))
        for public in module.__all__:
            here, there = getattr(module, public), getattr(other, public, None)
            if here is there or there is None:
                continue
            if inspect.isfunction(here):
                yield f"{name}.{public}", here, there
            elif inspect.isclass(here):
                for method, function in inspect.getmembers(here, inspect.isfunction):
                    twin = getattr(there, method, None)
                    if not method.startswith("_") and inspect.isfunction(twin):
                        yield f"{name}.{public}.{method}", function, twin


class ParityTests(unittest.TestCase):
    def test_each_function_takes_the_arguments_of_its_twin_with_deferreds(self):
        compared = 0
        for name, here, there in pairs():
            expected = parameters(there)
            if parameters(here) is None or expected is None:
                continue
            compared += 1
            self.assertEqual(parameters(here), expected, name)
        self.assertGreater(compared, 40)

    def test_signatures_are_of_what_is_called(self):
        """What help() and an editor show has the timeout, and no Deferred."""
        shown = inspect.signature(pycomnet.blocking.Gateway.call)
        self.assertEqual(
            str(shown),
            "(self, function: 'str | Callable[..., Any]', /, *args: 'Any', "
            "timeout: 'float | None' = None, **kwargs: 'Any') -> 'Any'",
        )
        shown = inspect.signature(pycomnet.blocking.Channel.receive)
        self.assertEqual(list(shown.parameters).count("timeout"), 1)
        for name, here, _ in pairs():
            self.assertNotIn("Deferred", str(inspect.signature(here).return_annotation), name)

    def test_completion_knows_each_public_name(self):
        """Names that are loaded on first use are in dir(), too."""
        for module in (
            *MODULES,
            "pycomnet",
            "pycomnet.aio",
            "pycomnet.execnet",
            "pycomnet.xdeploy",
        ):
            found = importlib.import_module(module)
            self.assertLessEqual(set(found.__all__), set(dir(found)), module)
