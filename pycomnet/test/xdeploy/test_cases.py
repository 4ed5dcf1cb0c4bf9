"""What goes wrong with other programs that make environments, case by case.

==== ============================================== ===========================================
case what happens                                   test
==== ============================================== ===========================================
1    a Python without ensurepip                     ``test_bare_python_without_network``
2    several programs make the same at once; one    ``test_sixteen_creators_build_once``
     of them dies with the lock                     ``test_dead_creator_holds_nobody_up``
3    the same requirements in another order         ``test_asks_no_index_again``
4    the far machine reaches no index               ``test_bare_python_without_network``
5    a far Python of another kind; a package        ``test_another_python_gets_its_wheels``
     without a wheel for it                         ``test_missing_wheel_is_named``
6    a path with blanks, or too long for ``#!``     ``test_scripts_of_difficult_paths_start``
7    a build that fails, a full disk, a creator     ``test_compiler_error_arrives_whole``
     that is killed                                 ``test_full_disk_leaves_nothing_half``
                                                    ``test_half_a_wheel_is_not_found``
8    a project with ``.git``, an sdist > 100 MiB    ``test_large_project_is_installed``
9    a build with requirements of its own           ``test_unfit_wheel_is_built_there``
==== ============================================== ===========================================
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

#: Where these tests are.
SYSTEM = "system/test_xdeploy.py"


class TableTests(SynchronousTestCase):
    """The table above."""

    def test_names_are_those_of_tests(self) -> None:
        """Each case has a test, and each test that the table names is there."""
        text = (Path(__file__).parent.parent / SYSTEM).read_text()
        cases = re.findall(r"^(\d+)  ", __doc__ or "", re.M)
        self.assertEqual(cases, [str(number) for number in range(1, 10)])
        for name in re.findall(r"``(test_\w+)``", __doc__ or ""):
            self.assertRegex(text, rf"def {name}\b")
