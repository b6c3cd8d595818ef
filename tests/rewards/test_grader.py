"""What comes back is a score or a failure with its reason, whatever a reward does; and a failure touches no other."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from laurel.errors import ConfigurationError, RewardError, TaskError
from laurel.rewards import (
    Failed,
    Grader,
    GradingSettings,
    Score,
    exact_match,
    in_process,
    math_answer,
    numeric_answer,
    weighted,
)
from laurel.tasks import Task
from laurel.tree import Ending, Outcome, Segment, Source, Tree
from tests.rewards import rewards_for_tests as made

LENIENT = {"failure_fraction": 1.0, "failures_in_a_row": 10_000}


def rollout_tree(name, task_id, texts, ending=Ending.TERMINATED, score=None):
    """One fan: a prompt and an answer per text."""
    segments = [Segment(Source.PROMPT, np.array([1, 2]), -1, text="q")]
    for index, text in enumerate(texts):
        outcome = Outcome(ending, "eos", score)
        tokens, log_probs = np.arange(1, 4), np.array([-0.5, -0.25, -1.0], np.float32)
        segments.append(
            Segment(
                Source.POLICY,
                tokens,
                0,
                text=text,
                sampler_log_probs=log_probs,
                outcome=outcome,
                rollout_id=f"{name}.{index}",
            )
        )
    return Tree(name, task_id, tuple(segments))


def grade(reward, texts, *, reference="42", data=None, **settings):
    """The results for some texts, and the metrics."""
    task = Task("t", "q", reference, data or {})
    with Grader(reward, GradingSettings(**{**LENIENT, "workers": 2, **settings})) as grader:
        trees, metrics = grader.grade([rollout_tree("s", "t", texts)], {"t": task})
    return [rollout.outcome.score for rollout in trees[0].rollouts], metrics


def closure_of(reward):
    """The same reward as something that no other process can import."""
    return lambda task, text: reward(task, text)


@pytest.mark.parametrize("wrap", [lambda reward: reward, closure_of], ids=["imported", "forked"])
def test_everything_that_can_go_wrong_has_its_reason(wrap):
    cases = {
        "fine": None,
        "nan": "returned nan",
        "text": "returned the text '1.0'",
        "none": "returned None",
        "list": "returned list",
        "raise": "ValueError: no sandbox at 0x… (line",
        "failed": "judge is offline",
        "exit": "exited with code 3",
        "sys.exit": "SystemExit: 4",
        "segfault": "ended by SIGSEGV",
        "hang": "did not answer within 1 s",
        "spin": "did not answer within 1 s",
        "print": None,
        "true": None,
    }
    results, metrics = grade(wrap(made.by_order), list(cases), timeout_seconds=1.0, retries=0)
    for (text, reason), result in zip(cases.items(), results, strict=True):
        if reason is None:
            assert result == Score(1.0), text
        else:
            assert isinstance(result, Failed) and reason in result.reason, (text, result)
    assert (metrics["grading_failed"].sum, metrics["grading_failed"].count) == (11, 14)


def test_two_hung_graders_do_not_turn_later_right_answers_into_failures():
    texts = ["hang", "hang"] + ["42"] * 30
    results, metrics = grade(made.by_order, texts, timeout_seconds=1.0, retries=1)
    assert all(isinstance(result, Failed) for result in results[:2])
    assert results[2:] == [Score(1.0)] * 30
    assert metrics["grading_retries"].sum == 2


def test_time_in_the_queue_does_not_count():
    results, _ = grade(made.slow, ["x"] * 5, timeout_seconds=0.9, workers=1, retries=0)
    assert results == [Score(1.0)] * 5  # one second of work on one worker


def test_a_killed_worker_is_replaced_and_the_others_stay():
    with Grader(made.process_id, GradingSettings(**LENIENT, workers=1)) as grader:
        task = {"t": Task("t", "q")}
        tree = rollout_tree("s", "t", ["x"])
        pids = []
        for kill in (False, True, False):
            trees, _ = grader.grade([tree], task)
            pids.append(int(trees[0].rollouts[0].outcome.score.value))
            if kill:
                os.kill(pids[-1], 9)
                time.sleep(0.1)
    assert pids[0] == pids[1] != pids[2]


@pytest.mark.parametrize("wrap", [lambda reward: reward, closure_of], ids=["imported", "forked"])
def test_what_a_killed_reward_started_dies_with_it(wrap, tmp_path):
    grade(wrap(made.starts_a_child_and_hangs), ["x"], data={"folder": str(tmp_path)}, timeout_seconds=1.0, retries=0)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while _alive(child):
        assert time.monotonic() < deadline, "the grandchild outlived its deadline"
        time.sleep(0.02)


def _alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_retry_can_help_and_is_counted(tmp_path):
    results, metrics = grade(made.second_time_lucky, ["x"], data={"folder": str(tmp_path)}, retries=1)
    assert results == [Score(1.0)]
    assert metrics["grading_retries"].sum == 1 and metrics["grading_failed"].sum == 0


def test_asynchronous_rewards():
    results, _ = grade(made.right_later, ["42", "41"])
    assert results == [Score(1.0), Score(0.0)]


def test_a_closure_sees_what_it_closed_over():
    bonus = 0.25
    results, _ = grade(lambda task, text: bonus + (text == task.reference), ["42", "41"])
    assert results == [Score(1.25), Score(0.25)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reward_of_the_rollout_sees_tokens_and_turns(workers):
    results, _ = grade(made.length_in_tokens, ["x", "y"], workers=workers)
    assert results == [Score(3.2), Score(3.2)]


def test_results_stand_in_order_whatever_the_timing():
    def hesitant(task, text):
        time.sleep(0.1 if text == "0" else 0.0)
        return float(text)

    results, _ = grade(hesitant, [str(number) for number in range(12)], workers=3)
    assert results == [Score(float(number)) for number in range(12)]


def test_workers_import_no_torch():
    results, _ = grade(made.knows_torch, ["x"])
    assert results == [Score(0.0)]


def test_parts_are_kept_and_become_metrics():
    reward = weighted({"right": (numeric_answer(), 1.0), "table": (made.by_order, 0.5)})
    results, metrics = grade(reward, ["42", "score", "41"])
    assert results[0] == Score(1.5, {"right": 1.0, "table": 1.0})
    assert results[1] == Score(0.25, {"right": 0.0, "table": 0.5, "table/a": 0.25})
    assert (metrics["reward/right"].sum, metrics["reward/right"].count) == (1, 3)
    assert (metrics["reward/table/a"].sum, metrics["reward/table/a"].count) == (0.25, 1)


def test_a_part_that_failed_fails_the_whole():
    reward = weighted({"right": (exact_match(), 1.0), "judge": (made.by_order, 0.5)})
    results, _ = grade(reward, ["failed"], retries=0)
    assert results == [Failed("judge: judge is offline")]


def test_what_failed_in_sampling_or_is_scored_is_not_graded():
    broken = rollout_tree("broken", "t", ["42"], Ending.FAILED, Failed("sandbox is gone"))
    done = rollout_tree("done", "t", ["42"], score=Score(0.125))
    with Grader(numeric_answer(), GradingSettings(**LENIENT)) as grader:
        trees, metrics = grader.grade([broken, done], {"t": Task("t", "q", "42")})
    assert [tree.rollouts[0].outcome.score for tree in trees] == [Failed("sandbox is gone"), Score(0.125)]
    assert metrics["grading_failed"].count == 0


@pytest.mark.parametrize(("choice", "expected"), [("grade", Score(1.0)), ("zero", Score(0.0)), ("leave_out", Failed)])
def test_truncated_rollouts(choice, expected):
    trees = [rollout_tree("s", "t", ["42"] * 10, Ending.TRUNCATED)]
    with Grader(exact_match(), GradingSettings(truncated_reward=choice, failures_in_a_row=1)) as grader:
        graded, metrics = grader.grade(trees, {"t": Task("t", "q", "42")})
    outcome = graded[0].rollouts[0].outcome
    assert outcome.ending is Ending.TRUNCATED
    assert isinstance(outcome.score, Failed) if expected is Failed else outcome.score == expected
    assert metrics["grading_failed"].sum == 0


def test_without_a_reward_the_environment_pays():
    tree = rollout_tree("s", "t", ["x"])
    with Grader(None) as grader:
        graded, _ = grader.grade([tree], {"t": Task("t", "q")})
    assert graded[0].rollouts[0].outcome.score == Score(0.0)


def test_the_budget_of_a_step_stops_early_with_the_commonest_reason():
    texts = ["nan"] + ["none"] * 200 + ["hang"] * 50
    started = time.monotonic()
    with pytest.raises(RewardError, match=r"returned None") as caught:
        grade(made.by_order, texts, failure_fraction=0.1, timeout_seconds=5.0, retries=0)
    # Several workers answer in any order, so that the example is one of the first texts and not always the same.
    assert re.search(r"example rollout s\.[1-9]\)", str(caught.value)) and "What to do" in str(caught.value)
    assert time.monotonic() - started < 5


def test_failures_in_a_row_are_counted_over_steps():
    trees = [rollout_tree("s", "t", ["nan"])]
    with Grader(made.by_order, GradingSettings(workers=0, failures_in_a_row=3)) as grader:
        for _ in range(2):
            grader.grade(trees, {"t": Task("t", "q")})
        with pytest.raises(RewardError, match="3 in a row"):
            grader.grade(trees, {"t": Task("t", "q")})


def test_a_success_ends_the_row():
    with Grader(made.by_order, GradingSettings(workers=0, failures_in_a_row=3)) as grader:
        for texts in (["nan"], ["nan", "fine"], ["nan"], ["nan"]):
            grader.grade([rollout_tree("s", "t", texts)], {"t": Task("t", "q")})


@pytest.mark.parametrize("choice", ["leave_out", "zero"])
def test_what_the_reward_was_not_asked_about_neither_ends_nor_lengthens_the_row(choice):
    settings = GradingSettings(workers=0, failures_in_a_row=3, truncated_reward=choice)
    cut = rollout_tree("cut", "t", ["nan"] * 5, Ending.TRUNCATED)
    broken = rollout_tree("s", "t", ["nan"])
    task = {"t": Task("t", "q")}
    with Grader(made.by_order, settings) as grader:
        grader.grade([broken, cut, broken], task)
        assert grader.state() == {"failures_in_a_row": 2}
        with pytest.raises(RewardError, match="3 in a row"):
            grader.grade([cut, broken], task)


def test_failures_in_sampling_spend_the_budget_too():
    trees = [rollout_tree("s", "t", ["x"] * 8, Ending.FAILED, Failed("sandbox is gone"))]
    with Grader(exact_match()) as grader, pytest.raises(RewardError, match="sandbox is gone"):
        grader.grade(trees, {"t": Task("t", "q", "x")})


def test_grading_goes_on_after_the_budget_was_spent():
    with Grader(made.by_order, GradingSettings(workers=2, timeout_seconds=0.5, retries=0)) as grader:
        with pytest.raises(RewardError):
            grader.grade([rollout_tree("s", "t", ["hang"] * 4)], {"t": Task("t", "q")})
        trees, _ = grader.grade([rollout_tree("s", "t", ["42"])], {"t": Task("t", "q")})
    assert trees[0].rollouts[0].outcome.score == Score(1.0)


def test_a_missing_task_and_a_rollout_without_an_end_are_named():
    with Grader(exact_match()) as grader:
        with pytest.raises(RewardError, match="Tree s has the task t"):
            grader.grade([rollout_tree("s", "t", ["x"])], {})
        open_tree = Tree("open", "t", (Segment(Source.PROMPT, np.array([1]), -1),))
        with pytest.raises(RewardError, match=r"open\.0 has not ended"):
            grader.grade([open_tree], {"t": Task("t", "q")})


@pytest.mark.parametrize(
    "reward",
    [lambda: 1.0, lambda text: 1.0, lambda task: 1.0, lambda prompt, completion: 1.0, lambda task, text, extra: 1.0, 3],
)
def test_an_unclear_signature_is_refused(reward):
    with pytest.raises(ConfigurationError, match="What to do"):
        Grader(reward)


def test_parameters_go_by_name():
    results, _ = grade(in_process(lambda text, task, weight=2.0: weight * (text == task.reference)), ["42"])
    assert results == [Score(2.0)]


def test_marked_rewards_run_here():
    results, _ = grade(in_process(lambda task, text: os.getpid()), ["x"])
    assert results == [Score(float(os.getpid()))]


def test_an_asynchronous_reward_cannot_wait_in_this_process():
    with pytest.raises(ConfigurationError, match="workers above 0"):
        grade(made.right_later, ["42"], workers=0)


def test_a_reward_that_needs_a_worker_is_refused_in_this_process():
    def symbolic(task, text):
        return 1.0

    symbolic.needs_worker = True
    for reward in (symbolic, weighted({"right": (exact_match(), 1.0), "same": (symbolic, 1.0)})):
        with pytest.raises(ConfigurationError, match="can hang or crash"):
            Grader(reward, GradingSettings(workers=0))


def test_math_answer_is_refused_in_this_process():
    pytest.importorskip("math_verify", reason="extra math")
    with pytest.raises(ConfigurationError, match="MathAnswer can hang or crash"):
        Grader(math_answer(), GradingSettings(workers=0))


def test_a_reward_that_no_process_can_load_is_said_so(monkeypatch, tmp_path):
    module = tmp_path / "loads_only_once.py"
    module.write_text("def reward(task, text):\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import loads_only_once

    module.write_text("raise ImportError('licence server')")
    with pytest.raises(RewardError, match="licence server"):
        grade(loads_only_once.reward, ["x"])


@pytest.mark.parametrize(
    "settings",
    [{"timeout_seconds": 0}, {"retries": -1}, {"workers": -1}, {"failure_fraction": 2.0}, {"truncated_reward": "x"}],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        GradingSettings(**settings)


@pytest.mark.parametrize("text", ["42", "hang"])
def test_the_death_of_the_nursery_is_one_error_with_a_hint(text):
    settings = GradingSettings(**LENIENT, workers=1, timeout_seconds=1.0)
    task = {"t": Task("t", "q")}
    with Grader(closure_of(made.by_order), settings) as grader:
        if text == "hang":  # the nursery is missed where a worker is to be ended, not only where one is to be started
            grader.grade([rollout_tree("s", "t", ["42"])], task)
        os.kill(grader._pool._starter._process, 9)
        time.sleep(0.1)
        with pytest.raises(RewardError, match=r"starts graders .* has died") as caught:
            grader.grade([rollout_tree("s", "t", [text])], task)
        assert "What to do" in str(caught.value) and not isinstance(caught.value.__context__, RewardError)


ORPHANS = """
import os, signal, sys, threading, time
import numpy as np
from laurel.rewards import Grader, GradingSettings
from tests.rewards import rewards_for_tests as made
from tests.rewards.test_grader import LENIENT, rollout_tree
from laurel.tasks import Task

settings = GradingSettings(**LENIENT, workers=2, timeout_seconds=60)
task = {"t": Task("t", "q")}
idle, hung = Grader(made.process_id, settings), Grader(lambda task, text: made.by_order(task, text), settings)
trees, _ = idle.grade([rollout_tree("s", "t", ["x", "y"])], task)
hung.grade([rollout_tree("s", "t", ["fine", "fine"])], task)
workers = [worker.process for grader in (idle, hung) for worker in grader._pool._workers]
print(*workers, hung._pool._starter._process, flush=True)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
hung.grade([rollout_tree("s", "t", ["hang", "spin"])], task)
"""


def test_no_process_outlives_a_run_that_is_killed():
    """Idle workers see the end of their connection; the nursery sees it too and ends its hung workers."""
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60)
    processes = [int(word) for word in done.stdout.split()]
    assert done.returncode == -9 and len(processes) >= 3, done.stderr
    deadline = time.monotonic() + 10
    while alive := [process for process in processes if _alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def test_failures_of_one_kind_are_counted_together():
    @in_process
    def breaks(task, text):
        raise TaskError(f"Row {text} has no answer.", hint="look at the file.")

    with pytest.raises(RewardError) as stopped:
        grade(breaks, ["1", "22", "333", "4", "55"], workers=0, failures_in_a_row=4)
    said = stopped.value.message
    assert "Commonest reason (5 times, for example rollout s.0)" in said
    assert "TaskError: Row 1 has no answer (line" in said and ".." not in said and said.endswith(".")
    assert str(stopped.value).count("What to do") == 1 and "look at the file" not in said
