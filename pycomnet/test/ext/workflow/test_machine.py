"""What a run does next, by what is kept of it."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import from_map
from pycomnet.ext.workflow import machine, walk
from pycomnet.ext.workflow.definition import Definition, check_tasks
from pycomnet.ext.workflow.records import StepRecord
from pycomnet.ext.workflow.stepcalls import call_error
from pycomnet.ext.workflow.valuetext import shown
from pycomnet.test.ext.workflow.kit import Drive, call

BAD = {"code": "bad", "type": "", "message": "no"}
ALL = ["*"]


class ReviewedTests(SynchronousTestCase):
    """What may have run, what came in time, and how much is walked."""

    def test_signal_that_came_in_time_counts_though_it_is_taken_late(self) -> None:
        """A signal that is there wins over a timeout that has passed meanwhile."""
        drive = Drive([{"signal": "go", "timeout": 60}]).go()
        drive.crash()
        drive.run.signals["go"] = ["yes"]
        drive.go(61)
        self.assertEqual((drive.run.state, drive.run.result), ("done", "yes"))

    def test_step_is_undone_in_its_own_task(self) -> None:
        """What undoes a step of an inner task is called by that task's name, as going forward."""
        inner = [call("a", compensate=[call("u")])]
        drive = Drive([{"task": "inner"}, call("b")], 1, {"a": 1, "b": BAD}, {"inner": inner}).go()
        self.assertEqual(drive.interfaces, ["a", "b", "u"])
        (undo,) = drive.under_way.values()
        self.assertEqual(undo.task, "inner")

    def test_call_that_had_begun_may_have_run(self) -> None:
        """A run that was failed as it could not go on: what was being called is not begun anew."""
        drive = Drive([call("a", name="pay")]).go()
        drive.run.state = "failed"
        self.assertEqual(machine.unsure_steps(drive.run), ["pay"])
        drive.run.steps["pay"].memory = "m"
        self.assertEqual(machine.unsure_steps(drive.run), [])
        machine.reset_failed(drive.run, drive.definition, drive.now)
        kept = drive.run.steps["pay"]
        self.assertEqual((kept.memory, kept.unsure, kept.state), ("m", True, "retrying"))

    def test_undoing_walks_once(self) -> None:
        """What is to be undone is collected once, however much it is."""
        walked = []
        real = walk.Walk._step
        self.patch(walk.Walk, "_step", lambda *args: walked.append(1) or real(*args))
        steps = [
            {"map": [call("a", compensate=[call("u")])], "over": "${input}", "concurrency": 1},
            call("b"),
        ]
        drive = Drive(steps, list(range(100)), {"a": 1, "u": 1}).go()
        walked.clear()
        drive.run.cancelling = True
        drive.go()
        self.assertEqual(drive.run.state, "cancelled")
        self.assertEqual(drive.interfaces.count("u"), 100)
        self.assertLess(len(walked), 1_000)

    def test_undoing_goes_on_after_a_crash(self) -> None:
        """What was undone is not undone again, though it is collected anew."""
        undo = {"compensate": [call("u")]}
        drive = Drive([call("a", **undo), call("c", **undo), call("b")], 1, {"a": 1, "c": 2})
        drive.answers["b"] = BAD
        drive.answers["u"] = [None]
        drive.go()
        drive.crash().go()
        self.assertEqual(drive.run.state, "failed")
        self.assertEqual([args for name, args in drive.calls if name == "u"], [2, 1])

    def test_reset_looks_at_each_record_once(self) -> None:
        """A retry of a run with very many failed steps is quick."""
        drive = Drive([call("a")]).go()
        for number in range(20_000):
            path = f"m[{number}]/a"
            drive.run.steps[path] = StepRecord(path, "call", "failed", 1.0)
        drive.run.state = "failed"
        begun = time.process_time()
        machine.reset_failed(drive.run, drive.definition, drive.now)
        self.assertLess(time.process_time() - begun, 5)


class ChainTests(SynchronousTestCase):
    """Steps one after the other."""

    def test_result_is_the_next_ones_arguments(self) -> None:
        """The first step has the run's input, each other what the one before gave."""
        answers = {"a": lambda n: n + 1, "b": lambda n: n * 10, "c": str}
        drive = Drive([call("a"), call("b"), call("c")], 1, answers).go()
        self.assertEqual(drive.calls, [("a", 1), ("b", 2), ("c", 20)])
        self.assertEqual((drive.run.state, drive.run.result), ("done", "20"))

    def test_expressions_see_input_steps_and_context(self) -> None:
        """Arguments are made of the input, results by name, and the run."""
        args = {
            "who": "${input.name}",
            "first": "${steps.one.x}",
            "text": "${context.run}-${context.task}",
        }
        steps = [call("a", name="one"), call("b", args=args)]
        drive = Drive(steps, {"name": "n"}, {"a": {"x": [1]}, "b": None}).go()
        self.assertEqual(drive.calls[1][1], {"who": "n", "first": [1], "text": "r-main"})

    def test_what_fails_fails_the_run(self) -> None:
        """An error that nothing takes ends the run, and names the step."""
        drive = Drive([call("a"), call("b", name="pay"), call("c")], 1, {"a": 1, "b": BAD}).go()
        self.assertEqual(drive.run.state, "failed")
        self.assertEqual(drive.run.error, {**BAD, "step": "pay"})
        self.assertEqual(drive.interfaces, ["a", "b"])

    def test_bad_expression_fails_its_step(self) -> None:
        """An expression that has no value for these data is an error with a code."""
        drive = Drive([call("a", args="${sum(input)}")], "text").go()
        self.assertEqual(drive.run.error["code"], "expression")  # type: ignore[index]

    def test_wait_passes_on_what_came_before(self) -> None:
        """A wait lasts so long, says when it is due, and changes no data."""
        drive = Drive([{"wait": 60}, call("a")], 7, {"a": 1}).go()
        self.assertEqual(drive.due, 1060.0)
        drive.go(59)
        self.assertEqual(drive.calls, [])
        drive.go(1)
        self.assertEqual(drive.calls, [("a", 7)])

    def test_until_a_time(self) -> None:
        """``until`` takes a time, also by an expression."""
        drive = Drive([{"until": "${input}"}, {"value": "over"}], "1970-01-01T00:20:00Z").go()
        self.assertEqual(drive.due, 1200.0)
        self.assertEqual(drive.go(200).run.result, "over")

    def test_task_within_a_task(self) -> None:
        """Another task sees its own input and no steps of the outer one."""
        more = {"inner": [call("a", args={"got": "${input}", "none": "${steps.x}"})]}
        steps = [{"value": 1, "name": "x"}, {"task": "inner", "args": [1, 2]}, call("b")]
        drive = Drive(steps, None, {"a": 5, "b": 6}, more).go()
        self.assertEqual(drive.calls, [("a", {"got": [1, 2], "none": None}), ("b", 5)])

    def test_fail_ends_with_its_error(self) -> None:
        """``fail`` has a code and a message, which may have expressions."""
        steps = [{"fail": {"code": "no-stock", "message": "none of ${input.what}"}}]
        drive = Drive(steps, {"what": "tea"}).go()
        self.assertEqual(drive.run.error["code"], "no-stock")  # type: ignore[index]
        self.assertEqual(drive.run.error["message"], "none of tea")  # type: ignore[index]


class BranchTests(SynchronousTestCase):
    """Steps that hold others."""

    def test_parallel_begins_all_and_waits_for_all(self) -> None:
        """All branches are under way at once; the result has each by its name."""
        steps = [{"parallel": {"x": [call("a")], "y": [call("b"), call("c")]}}, call("d")]
        drive = Drive(steps, 1, {}).go()
        self.assertEqual(drive.interfaces, ["a", "b"])
        drive.answers.update(b=2, c=3)
        drive.go()
        self.assertEqual(drive.interfaces, ["a", "b", "c"])
        drive.answers.update(a=1, d=None)
        drive.go()
        self.assertEqual(drive.calls[-1], ("d", {"x": 1, "y": 3}))

    def test_branch_that_fails_cancels_the_others(self) -> None:
        """The join ends with the error, no call of another branch goes on, and the catch runs."""
        steps = [
            {
                "parallel": [[call("a")], [call("b"), call("c")]],
                "catch": [{"errors": ["bad"], "then": [call("d", args="${error.code}")]}],
            }
        ]
        drive = Drive(steps, 1, {"b": BAD, "d": "mended"}).go()
        self.assertEqual(drive.cancelled, ["a"])
        self.assertEqual(drive.calls[-1], ("d", "bad"))
        self.assertEqual(drive.run.result, "mended")

    def test_first_step_before_a_parallel_fails(self) -> None:
        """The caller gets that error, and the parallel never begins."""
        drive = Drive([call("a"), {"parallel": [[call("b")], [call("c")]]}], 1, {"a": BAD}).go()
        self.assertEqual((drive.run.state, drive.interfaces), ("failed", ["a"]))

    def test_map_is_bounded_and_ordered(self) -> None:
        """So many items at a time; the results are in the items' order."""
        steps = [{"map": [call("a", args=["${item}", "${index}"])], "concurrency": 2}]
        drive = Drive(steps, ["p", "q", "r"]).go()
        self.assertEqual(drive.calls, [("a", ["p", 0]), ("a", ["q", 1])])
        second = next(path for path in drive.under_way if "[1]" in path)
        machine.step_done(drive.run, second, "Q", drive.now)
        del drive.under_way[second]
        drive.go()
        self.assertEqual(len(drive.calls), 3)
        drive.answers["a"] = lambda args: args[0].upper()
        self.assertEqual(drive.go().run.result, ["P", "Q", "R"])

    def test_map_tolerates_so_many(self) -> None:
        """Items that fail are in the result as errors, up to the number that is tolerated."""
        steps = [{"map": [call("a")], "over": "${input}", "tolerate": 1}]
        fails = {"a": lambda n: BAD if n < 2 else n}
        drive = Drive(steps, [1, 2, 3], fails).go()
        self.assertEqual(drive.run.result[1:], [2, 3])
        self.assertEqual(drive.run.result[0]["error"]["code"], "bad")
        self.assertEqual(Drive(steps, [0, 1, 3], fails).go().run.state, "failed")

    def test_map_over_no_list(self) -> None:
        """What is no list fails the step."""
        drive = Drive([{"map": [call("a")]}], "text").go()
        self.assertEqual(drive.run.error["code"], "expression")  # type: ignore[index]

    def test_choice_takes_the_first_that_holds(self) -> None:
        """The first condition that holds decides; else the default; else nothing is done."""
        steps: list[Any] = [
            {
                "choice": [
                    {"when": "${input > `10`}", "then": [{"value": "large"}]},
                    {"when": "${input > `5`}", "then": [{"value": "middle"}]},
                ],
                "default": [{"value": "small"}],
            }
        ]
        self.assertEqual(
            [Drive(steps, n).go().run.result for n in (20, 7, 1)], ["large", "middle", "small"]
        )
        del steps[0]["default"]
        self.assertEqual(Drive(steps, 1).go().run.result, 1)


class FailureTests(SynchronousTestCase):
    """Retries, timeouts and deadlines."""

    def test_retries_with_growing_delays(self) -> None:
        """Each attempt waits longer; then the error counts."""
        retry = {"attempts": 3, "delay": 1, "backoff": 3, "jitter": 0}
        drive = Drive([call("a", retry=retry)], 1, {"a": BAD}).go()
        self.assertEqual(drive.due, 1001.0)
        self.assertEqual(drive.go(1).due, 1004.0)
        self.assertEqual(drive.run.steps["1"].attempts, 2)
        self.assertEqual(drive.go(3).run.state, "failed")
        self.assertEqual(len(drive.calls), 3)

    def test_retries_only_errors_that_are_named(self) -> None:
        """With ``errors``, others fail at once."""
        retry = {"errors": ["other", "ValueError"]}
        drive = Drive([call("a", retry=retry)], 1, {"a": BAD}).go()
        self.assertEqual(drive.run.state, "failed")
        typed = {"code": "remote", "type": "builtins.ValueError", "message": ""}
        drive = Drive([call("a", retry=retry)], 1, {"a": typed}).go()
        self.assertEqual(drive.run.state, "running")

    def test_what_may_have_run_is_not_repeated(self) -> None:
        """What may have run is tried again only if it may run twice, or its code is named."""
        for code in ("deadline", "interrupted", "unknown"):
            late = {"code": code, "type": "", "message": ""}
            for retry, safe, state in (
                ({}, False, "failed"),
                ({"errors": ["*"]}, False, "failed"),
                ({}, True, "running"),
                ({"errors": ["*"]}, True, "running"),
                ({"errors": [code]}, False, "running"),
            ):
                drive = Drive([call("a", retry=retry)], 1, {"a": late})
                drive.safe = safe
                self.assertEqual(drive.go().run.state, state, (code, retry, safe))

    def test_catch_goes_on_with_its_result(self) -> None:
        """What a catch gives is the step's result."""
        steps = [call("a", name="s", catch=[{"errors": ALL, "then": [call("b")]}]), call("c")]
        drive = Drive(steps, 1, {"a": BAD, "b": "instead", "c": None}).go()
        self.assertEqual(drive.calls[-1], ("c", "instead"))
        self.assertEqual(drive.run.state, "done")

    def test_catch_of_another_error(self) -> None:
        """An error that no clause names goes on."""
        steps = [call("a", catch=[{"errors": ["other"], "then": []}])]
        self.assertEqual(Drive(steps, 1, {"a": BAD}).go().run.state, "failed")

    def test_timeout_of_what_holds_steps(self) -> None:
        """When its time is over, calls in it are cancelled, and its catch runs; its own timeout
        counts from when it begins."""
        caught = [{"errors": ["deadline"], "then": [{"value": "late"}]}]
        steps = [{"wait": 5}, {"parallel": [[call("a")]], "timeout": 10, "catch": caught}]
        drive = Drive(steps, 1).go().go(5)
        self.assertEqual(drive.due, 1015.0)
        drive.go(10)
        self.assertEqual(drive.cancelled, ["a"])
        self.assertEqual(drive.run.result, "late")

    def test_signal_comes_or_is_late(self) -> None:
        """A signal's data are the result; without it the timeout fails the step."""
        steps = [{"signal": "go", "timeout": 10}]
        drive = Drive(steps).go()
        self.assertEqual(drive.due, 1010.0)
        drive.run.signals["go"] = ["now", "again"]
        self.assertEqual(drive.go().run.result, "now")
        late = Drive(steps).go().go(10)
        self.assertEqual(late.run.error["code"], "deadline")  # type: ignore[index]

    def test_deadline_of_the_run(self) -> None:
        """When a run's time is over it fails, whatever catches."""
        task = {"steps": [call("a", catch=[{"errors": ALL, "then": []}])], "deadline": 30}
        drive = Drive(task).go()
        self.assertEqual(drive.due, 1030.0)
        drive.go(30)
        self.assertEqual(drive.run.error["code"], "deadline")  # type: ignore[index]
        self.assertEqual(drive.cancelled, ["a"])

    def test_cancelled_run(self) -> None:
        """A run that is cancelled ends so, and its call is cancelled."""
        drive = Drive([call("a", catch=[{"errors": ALL, "then": []}])]).go()
        drive.run.cancelling = True
        drive.go()
        self.assertEqual((drive.run.state, drive.cancelled), ("cancelled", ["a"]))

    def test_suspended_run_leaves_memory(self) -> None:
        """A suspended run can be parked, also before an expression."""
        drive = Drive([{"signal": "go"}, {"value": "${last}"}])
        drive.go()
        drive.run.signals["go"] = [1]
        drive.run.suspended = True
        drive.go()
        decision = machine.advance(drive.run, drive.now)
        self.assertTrue(decision.parkable)
        drive.run.suspended = False
        self.assertEqual(drive.go().run.result, 1)

    def test_suspended_run_begins_nothing(self) -> None:
        """A suspended run keeps what its calls return, and begins no other until it goes on."""
        drive = Drive([call("a"), call("b")], 1, {"b": 2}).go()
        drive.run.suspended = True
        drive.answers["a"] = 1
        drive.go()
        self.assertEqual(drive.interfaces, ["a"])
        self.assertEqual(drive.run.shown_state, "suspended")
        drive.run.suspended = False
        self.assertEqual(drive.go().run.state, "done")


class BoundTests(SynchronousTestCase):
    """What a run may have at most."""

    def test_steps_in_all_rounds_are_bounded(self) -> None:
        """Maps in maps end with an error when there are too many steps."""
        self.patch(walk, "MOST_RECORDS", 50)
        steps = [{"map": [{"map": [call("a")], "over": "${input}"}], "over": "${input}"}]
        drive = Drive(steps, list(range(20)), {"a": 1}).go()
        self.assertEqual(drive.run.error["code"], "too-long")  # type: ignore[index]
        self.assertLess(len(drive.calls), 50)


class CompensationTests(SynchronousTestCase):
    """What was done is undone."""

    def test_undoes_in_reverse_what_was_done(self) -> None:
        """The last is undone first, with its result; what was not done is not undone."""
        steps = [
            call("a", name="pay", compensate=[call("refund", args="${result.id}")]),
            {
                "parallel": [
                    [call("b", compensate=[call("unship", args="${steps.pay.id}")])],
                    [call("x", compensate=[call("unx")])],
                ]
            },
            call("c", compensate=[call("never")]),
        ]
        answers = {"a": {"id": 7}, "b": 1, "x": 1, "c": BAD, "refund": 0, "unship": 0, "unx": 0}
        drive = Drive(steps, 1, answers).go()
        self.assertEqual(drive.calls[4:], [("unx", 1), ("unship", 7), ("refund", 7)])
        self.assertEqual(drive.run.state, "failed")
        self.assertEqual(drive.run.error["step"], "3")  # type: ignore[index]

    def test_undoes_what_may_have_been_done(self) -> None:
        """A step of which nobody knows whether it ran is undone as well."""
        late = {"code": "deadline", "type": "", "message": ""}
        steps = [call("a", compensate=[call("undo")])]
        self.assertEqual(Drive(steps, 1, {"a": late, "undo": 0}).go().interfaces, ["a", "undo"])
        self.assertEqual(Drive(steps, 1, {"a": BAD, "undo": 0}).go().interfaces, ["a"])

    def test_undoes_what_an_attempt_before_may_have_done(self) -> None:
        """That a later attempt was refused says nothing of the one before."""
        late = {"code": "interrupted", "type": "", "message": ""}
        retry = {"errors": ["interrupted"]}
        steps = [call("a", retry=retry, compensate=[call("undo")])]
        drive = Drive(steps, 1, {"a": [late, BAD], "undo": 0}).go().go(100.0)
        self.assertEqual(drive.interfaces, ["a", "a", "undo"])

    def test_caught_failure_undoes_nothing(self) -> None:
        """What a catch took is no reason to undo anything."""
        steps = [call("a", compensate=[call("u")]), call("b", catch=[{"errors": ALL, "then": []}])]
        drive = Drive(steps, 1, {"a": 1, "b": BAD, "u": 1}).go()
        self.assertEqual((drive.run.state, drive.interfaces), ("done", ["a", "b"]))

    def test_undoing_goes_on_when_a_part_fails(self) -> None:
        """A compensation that fails is noted, and the others run."""
        steps = [call("a", compensate=[call("u")]), call("b", compensate=[call("v")]), call("c")]
        drive = Drive(steps, 1, {"a": 1, "b": 1, "c": BAD, "u": 1, "v": BAD}).go()
        self.assertEqual(drive.interfaces[3:], ["v", "u"])
        self.assertEqual(drive.run.error["compensation"][0]["step"], "2~/1")  # type: ignore[index]

    def test_cancelled_run_is_undone(self) -> None:
        """A run that is cancelled is undone, and a crash in the midst undoes nothing twice."""
        steps = [
            call("a", compensate=[call("u")]),
            call("b", compensate=[call("v")]),
            {"signal": "s"},
        ]
        drive = Drive(steps, 1, {"a": 1, "b": 1, "v": 1}).go()
        drive.run.cancelling = True
        drive.go()
        self.assertEqual(drive.run.state, "compensating")
        drive.crash().answers["u"] = 1
        drive.go()
        self.assertEqual(drive.run.state, "cancelled")
        self.assertEqual(drive.interfaces, ["a", "b", "v", "u", "u"])  # u was in flight


class CrashTests(SynchronousTestCase):
    """What is kept is all that counts."""

    def test_goes_on_at_every_point(self) -> None:
        """A run that loses its memory after each step ends as one that does not; no step that was
        done is done again."""
        steps = [
            call("a", name="one"),
            {"parallel": {"x": [call("b"), call("c")], "y": [{"wait": 1}]}},
            {"map": [call("d", args="${item}")], "over": "${input.list}", "tolerate": 1},
            {"choice": [{"when": "${steps.one}", "then": [call("e", args="${steps.one}")]}]},
            call("f", catch=[{"errors": ["bad"], "then": [call("g")]}]),
        ]
        input = {"list": [1, 2, 3]}
        answers = {
            "a": 1,
            "b": 2,
            "c": 3,
            "d": lambda n: BAD if n == 2 else n,
            "e": lambda n: n,
            "f": BAD,
            "g": lambda error: error["code"],
        }
        whole = Drive(steps, input, answers).go().go(1)
        self.assertEqual(whole.run.result, "bad")
        broken = Drive(steps, input, {})
        while not broken.run.ended:
            broken.go(1)
            made = list(broken.under_way.items())
            if made:
                path, one = made[0]
                broken.answers = {one.step["interface"]: answers[one.step["interface"]]}
                broken.under_way = {path: one}
                broken._answer(path)
                broken.answers = {}
            broken.crash()
        self.assertEqual(broken.run.result, "bad")
        done = [path for path, one in broken.run.steps.items() if one.kind == "call"]
        self.assertEqual(
            sorted(done), sorted(p for p, o in whole.run.steps.items() if o.kind == "call")
        )

    def test_call_that_was_under_way_is_made_again_and_says_so(self) -> None:
        """After a crash, a call that had begun is one that may have run."""
        drive = Drive([call("a")], 5).go().crash().go()
        self.assertTrue(drive.under_way["1"].again)
        self.assertEqual(drive.run.steps["1"].attempts, 1)

    def test_error_of_a_call_of_the_method_says_that_it_has_run(self) -> None:
        """A code that means "not run" leaves it open whether an attempt before has run. If it is of
        a call that the method made itself, the method has run, and has failed."""
        for nested in (False, True):
            drive = Drive([call("a", retry={"attempts": 3})]).go()
            record = drive.run.steps["1"]
            record.memory, record.unsure = "m", True
            problem = from_map({"code": "forbidden", "message": "no", "nested": nested})
            drive.answers["a"] = call_error(problem, sent=True)
            drive.go()
            self.assertEqual((record.state, record.unsure), ("retrying", not nested))

    def test_long_number_is_an_argument(self) -> None:
        """The history shows arguments as text, also those of which Python makes none."""
        drive = Drive([call("a")], 10**5000).go()
        self.assertEqual(drive.run.steps["1"].shown, f"<an int of {(10**5000).bit_length()} bits>")
        refused = (
            {"map": [call("a")], "over": "${input}"},
            {"wait": "${input}"},
            {"until": "${input}"},
            {"fail": {"code": "no", "message": "${[input]}"}},
            call("a", args="all ${input}"),
            {"value": "${length(input)}"},
            call("a", args="${join(',', [input])}"),
        )
        for step in refused:
            drive = Drive([call("pay", compensate=[call("refund")]), step], 10**5000)
            drive.answers.update(pay=10**5000, refund=0)
            drive.go()
            self.assertEqual((drive.run.state, drive.interfaces), ("failed", ["pay", "refund"]))
        self.assertEqual(shown([True, -1.5, 1 << 64]), f"[True, -1.5, {1 << 64}]")
        self.assertEqual([shown(one) for one in (True, -1.5, -7)], ["True", "-1.5", "-7"])

    def test_retry_goes_on_from_what_failed(self) -> None:
        """After ``retry``, steps that are done are not repeated, and clocks start anew; a mended
        definition is used."""
        steps = [call("a"), {"parallel": [[call("b")], [call("c")]], "timeout": 10}, call("d")]
        drive = Drive(steps, 1, {"a": 1, "b": 2, "c": BAD}).go(5)
        self.assertEqual(drive.run.state, "failed")
        mended = check_tasks({"main": [steps[0], steps[1], call("e", args='${steps."2"}')]})
        drive.now += 100
        removed = machine.reset_failed(drive.run, Definition.of("main", mended), drive.now)
        self.assertEqual(removed, ["2", "2/1/1"])
        drive.answers.update(c=3, e="end")
        drive.go()
        self.assertEqual(drive.interfaces, ["a", "b", "c", "c", "e"])
        self.assertEqual(drive.calls[-1], ("e", [2, 3]))
        self.assertEqual(drive.run.result, "end")

    def test_retry_leaves_what_was_caught(self) -> None:
        """A failure that a catch took is not repeated; one within a catch is."""
        steps = [call("a", catch=[{"errors": ALL, "then": [call("b")]}]), call("c")]
        drive = Drive(steps, 1, {"a": BAD, "b": 1, "c": BAD}).go()
        self.assertEqual(machine.reset_failed(drive.run, drive.definition, 1.0), ["2"])
        drive = Drive(steps, 1, {"a": BAD, "b": BAD}).go()
        self.assertEqual(machine.reset_failed(drive.run, drive.definition, 1.0), ["1", "1!0/1"])
