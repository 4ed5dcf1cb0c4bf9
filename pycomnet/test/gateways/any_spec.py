"""The gateway suite for the spec that the environment variable PYCOMNET_TEST_SPEC names.

PYCOMNET_TEST_CASES names some of its cases, if it is not to be all. With PYCOMNET_TEST_MASTER each
test begins with a gateway of that spec, of the id ``master``, for specs with ``via=master``.
"""

from __future__ import annotations

import os
from typing import Any

from pycomnet.test.gateways import suite

#: Tests of a group that has nothing before them.
_EMPTY = (
    "test_gateways_are_found_by_given_or_made_ids",
    "test_cancelled_makegateway_frees_its_id",
    "test_terminate_ends_all_and_more_can_be_made",
    "test_second_terminate_does_nothing",
    "test_closed_group_makes_no_more_gateways",
)


def without(case: Any, names: tuple[str, ...]) -> Any:
    """The test case without some of its tests."""
    missing = [name for name in names if not hasattr(case, name)]
    assert not missing, f"{case.__name__} has none of these tests: {missing}"
    [base] = case.__bases__
    kept = {
        name: value
        for name, value in {**vars(base), **vars(case)}.items()
        if name not in (*names, "__dict__", "__weakref__")
    }
    return type(case.__name__, base.__bases__, kept)


def with_master(case: Any, master: str) -> Any:
    """The test case, with a gateway that others can be started from."""

    class WithMaster(case):  # type: ignore[misc]
        __doc__ = case.__doc__

        def setUp(self) -> Any:
            super().setUp()
            return self.group.makegateway(master, id="master")

    WithMaster.__name__ = WithMaster.__qualname__ = case.__name__
    return WithMaster


found = suite.cases("Any", os.environ["PYCOMNET_TEST_SPEC"], __name__)
chosen = os.environ.get("PYCOMNET_TEST_CASES", "").split()
if chosen:
    found = {f"Any{name}": found[f"Any{name}"] for name in chosen}
if "PYCOMNET_TEST_MASTER" in os.environ:
    master = os.environ["PYCOMNET_TEST_MASTER"]
    if "AnyGroups" in found:
        found["AnyGroups"] = without(found["AnyGroups"], _EMPTY)
    found = {name: with_master(case, master) for name, case in found.items()}
globals().update(found)
