"""The far side of a pool: the rules of its loop."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from pycomnet.gateways.pool import farside


class FarSide(TestCase):
    """The rules of the loop there."""

    def test_generator_functions_are_refused_by_name(self) -> None:

        def numbers() -> Any:
            yield 1

        error = self.assertRaises(TypeError, farside.refuse_generators, "m:numbers", numbers)
        self.assertIn("m:numbers is a generator function", str(error))
        self.assertRaises(TypeError, farside.result_of, numbers())

    def test_async_functions_error_has_its_own_frames(self) -> None:
        """What an async function raises has its own frames only."""

        async def fails() -> None:
            raise ValueError("no")

        class Work:
            failure = staticmethod(farside.failure)

        _, values, failures = farside.answer(Work(), farside.result_of, [fails()])
        self.assertEqual((values, failures[0][:2]), ([None], ["ValueError", "no"]))
        self.assertEqual(failures[0][2].count('File "'), 1, failures[0][2])
