"""The check finds rewards that cannot tell right from wrong, and names the tasks."""

import pytest

from laurel.errors import RewardError
from laurel.rewards import Score, check_reward, exact_match, in_process, numeric_answer, try_reward, weighted
from laurel.tasks import Task

TASKS = [Task("a", "1+1?", "2"), Task("b", "2+2?", "4"), Task("c", "4-2?", "2"), Task("d", "capital?", "Paris")]
SUMS = TASKS[:3]


def kinds(report):
    return sorted((surprise.probe.task.id, surprise.probe.kind) for surprise in report.surprises)


def test_a_sound_reward_passes():
    report = check_reward(TASKS, exact_match())
    assert report.passed and report.probes == {
        "gold": 4,
        "empty": 4,
        "another task's gold": 4,
        "a changed digit": 3,
    }


def test_a_reward_that_likes_everything_is_found():
    report = check_reward(SUMS, in_process(lambda task, text: 1.0))
    assert not report.passed
    assert {kind for _, kind in kinds(report)} == {"empty", "another task's gold", "a changed digit"}


def test_a_format_that_never_matches_is_found():
    report = check_reward(SUMS, numeric_answer(marker="####"))
    assert kinds(report) == [("a", "gold"), ("b", "gold"), ("c", "gold")]
    assert "a: gold '2' scored 0, wanted 1" in str(report)
    assert check_reward(SUMS, numeric_answer(marker="####"), gold="#### {reference}").passed


def test_failures_are_listed_with_their_reason():
    report = check_reward(TASKS, numeric_answer())
    assert {task for task, _ in kinds(report)} == {"d"}
    assert "holds no number: 'Paris'" in str(report)


def test_a_reward_is_tried_on_gold_and_empty_answers_without_a_verdict():
    tasks = [*SUMS[:2], Task("e", "anything")]

    @in_process
    def length(task, text):
        return float(len(text)) if task.id != "b" else float("nan")

    tried = try_reward(tasks, length, gold="#{reference}")
    said = [(probe.task.id, probe.kind, probe.text) for probe, _ in tried]
    assert said[:2] == [("a", "gold", "#2"), ("b", "gold", "#4")] and [text for _, _, text in said[2:]] == [""] * 3
    values = [result.value if isinstance(result, Score) else "failed" for _, result in tried]
    assert values == [2.0, "failed", 0.0, "failed", 0.0]


def test_full_marks_of_a_combination_are_its_positive_weights():
    reward = weighted({"right": (exact_match(), 1.0), "again": (numeric_answer(), 0.5)})
    assert check_reward(SUMS, reward).passed
    assert not check_reward(SUMS, reward, full_marks=2.0).passed


def test_long_reports_are_cut():
    tasks = [Task(str(number), "q", str(number)) for number in range(30)]
    assert "and 20 more" in str(check_reward(tasks, in_process(lambda task, text: 0.0)))


def test_two_ways_of_writing_one_answer_are_not_held_against_the_reward():
    assert check_reward([Task("a", "q", "1,000"), Task("b", "q", "1000"), Task("c", "q", "7")], numeric_answer()).passed


def test_nothing_to_check_is_an_error():
    with pytest.raises(RewardError, match="No task has a reference"):
        check_reward([Task("a", "q")], exact_match())


def test_a_reward_that_always_fails_is_not_asked_about_everything():
    asked = []

    def broken(task, text):
        asked.append(text)
        raise ValueError("no sandbox")

    tasks = [Task(str(number), "q", str(number)) for number in range(30)]
    report = check_reward(tasks, in_process(broken))
    assert not report.passed and report.probes == {"gold": 16} and len(asked) == 16
    assert "0: gold '0' failed: ValueError: no sandbox" in str(report)


def test_a_reward_that_fails_on_some_is_asked_about_everything():
    def picky(task, text):
        if int(task.id) < 15:
            raise ValueError("not this one")
        return float(text == task.reference)

    tasks = [Task(str(number), "q", str(number)) for number in range(30)]
    report = check_reward(tasks, in_process(picky))
    assert report.probes["gold"] == report.probes["empty"] == 30
    assert {task for task, kind in kinds(report) if kind == "gold"} == {str(number) for number in range(15)}
