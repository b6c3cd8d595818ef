"""What an algorithm reads of a score and would not find there is refused before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import laurel
from laurel.algorithms import Algorithm, Sampled
from laurel.credit import ProcessScores
from laurel.errors import ConfigurationError, RewardError
from laurel.learner import LabelledReward
from laurel.preferences import RewardTeacher
from laurel.rewards import GradingSettings, Reward, Score, exact_match, gives_parts, in_process, step_scores, weighted
from laurel.tasks import Task, TaskSet

TASKS = TaskSet("letters", tuple(Task(letter, letter, letter) for letter in "abcd"))
ASKED: list[list[str]] = []


@in_process
def one_more(task: Task, steps: Sequence[str]) -> list[float]:
    return [0.5] * (len(steps) + 1)


@in_process
def no_number(task: Task, steps: Sequence[str]) -> list[float]:
    return [math.nan] * len(steps)


@in_process
def remembers(task: Task, steps: Sequence[str]) -> list[float]:
    ASKED.append(list(steps))
    return [0.5] * len(steps)


def process(part: str) -> Algorithm:
    return replace(laurel.rloo(), source=Sampled(step_separator="b"), credit=ProcessScores(part))


def train(run: Path, algorithm: Algorithm, reward: Reward, **more: Any) -> None:
    policy = laurel.policy.tiny(alphabet="abcd", hidden_size=16, layers=1, heads=2, context_length=12)
    laurel.train(policy=policy, tasks=TASKS, algorithm=algorithm, reward=reward, steps=1, run=run, **more)


@pytest.mark.parametrize(
    ("part", "reward", "message"),
    [
        ("", step_scores(one_more), "task a, on an answer of 2 steps: .* 3 numbers for an answer of 2 steps"),
        ("", step_scores(no_number), "task a, on an answer of 2 steps: step 1"),
        ("p", weighted({"p": (step_scores(one_more), 0.0)}), "3 numbers for an answer of 2 steps"),
        ("p", weighted({"q": (step_scores(remembers), 0.0)}), r"from the part 'p', and the reward \(q\)"),
        ("", weighted({"q": (step_scores(remembers), 0.0)}), "from the reward as a whole"),
        ("", exact_match(), r"from the reward as a whole, and the reward \(without parts\)"),
    ],
)
def test_scores_of_steps_that_do_not_fit(part: str, reward: Reward, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path / "run", process(part), reward)
    assert not (tmp_path / "run").exists()


def test_a_scorer_that_fits_is_tried_on_two_steps_and_then_used(tmp_path: Path) -> None:
    ASKED.clear()
    small = {"prompts_per_step": 2, "samples_per_prompt": 3, "limits": laurel.Limits(max_new_tokens=4)}
    train(tmp_path / "run", process(""), step_scores(remembers), **small)
    assert ASKED[0] == ["ab", "a"] and len(ASKED) == 1 + 2 * 3


def test_a_part_that_no_score_would_have(tmp_path: Path) -> None:
    bounded = laurel.rloo(constraint=laurel.Budget("polite", at_least=0.5, rate=0.1))
    with pytest.raises(ConfigurationError, match=r"'polite', which is no part of the reward \(it has none\)"):
        train(tmp_path / "run", bounded, exact_match())
    reward = weighted({"polite": (exact_match(), 1.0), "p": (step_scores(remembers), 0.0)})
    zero = GradingSettings(truncated_reward="zero")
    for algorithm, what in ((bounded, "the part 'polite'"), (process("p"), "the scores of steps")):
        with pytest.raises(ConfigurationError, match=f"'zero' gives a score without parts, and 'rloo' reads {what}"):
            train(tmp_path / "run", algorithm, reward, grading=zero)


@in_process
def own(task: Task, text: str) -> Score:
    ASKED.append([text])
    return Score(1.0, {"right": 1.0})


@gives_parts("right", "polite")
@in_process
def says_so(task: Task, text: str) -> Score:
    ASKED.append([text])
    return Score(1.0, {"right": 1.0, "polite": 0.5})


@in_process
def breaks(task: Task, text: str) -> Score:
    raise ValueError("not today")


@pytest.mark.parametrize(
    ("part", "reward", "message"),
    [
        ("polite", own, r"'polite', which is no part of the reward \(right\)(.|\n)*Score that the reward returns"),
        ("brief", says_so, r"'brief', which is no part of the reward \(right, polite\)"),
        ("a/polite", weighted({"a": (own, 1.0)}), r"'a/polite', which is no part of the reward \(a, a/right\)"),
        ("a/brief", weighted({"a": (says_so, 1.0)}), r"'a/brief', which is no part of the reward \(a\)"),
        ("a/polite", weighted({"a": (exact_match(), 1.0)}), r"'a/polite', which is no part of the reward \(a\)"),
    ],
)
def test_a_budget_on_a_part_that_ones_own_reward_does_not_give(
    part: str, reward: Reward, message: str, tmp_path: Path
) -> None:
    bounded = laurel.rloo(constraint=laurel.Budget(part, at_least=0.5, rate=0.1))
    with pytest.raises(ConfigurationError, match=message):
        train(tmp_path / "run", bounded, reward)
    assert not (tmp_path / "run").exists()


SMALL: dict[str, Any] = {
    "prompts_per_step": 2,
    "samples_per_prompt": 3,
    "limits": laurel.Limits(max_new_tokens=4),
}


def test_ones_own_reward_is_asked_once_unless_it_says_which_parts_it_gives(tmp_path: Path) -> None:
    cases: list[tuple[str, Reward]] = [("right", own), ("polite", says_so), ("a/right", weighted({"a": (own, 1)}))]
    for number, (part, reward) in enumerate(cases):
        ASKED.clear()
        bounded = laurel.rloo(constraint=laurel.Budget(part, at_least=0.5, rate=0.1))
        train(tmp_path / str(number), bounded, reward, **SMALL)
        assert len(ASKED) == (6 if reward is says_so else 7)
    ASKED.clear()
    train(tmp_path / "plain", laurel.rloo(), own, **SMALL)
    assert len(ASKED) == 6, "nobody reads its parts"


def test_a_reward_that_fails_when_it_is_tried_is_left_to_the_run(tmp_path: Path) -> None:
    bounded = laurel.rloo(constraint=laurel.Budget("right", at_least=0.5, rate=0.1))
    with pytest.raises(RewardError, match="not today"):
        train(tmp_path / "run", bounded, breaks, grading=GradingSettings(failures_in_a_row=1), **SMALL)
    assert (tmp_path / "run").exists()


def test_a_setting_deep_inside_an_algorithm_is_finite(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"algorithm.regularisers\[0\].coefficient is nan"):
        train(tmp_path / "run", laurel.grpo(entropy=math.nan), exact_match())


@pytest.mark.parametrize(
    "reward",
    [
        step_scores(remembers),
        weighted({"steps": (step_scores(remembers), 1.0)}),
        weighted({"steps": (step_scores(remembers), 0.0), "right": (exact_match(), 0.0)}),
        LabelledReward(RewardTeacher(exact_match()), labels=4, redistribute=True),
    ],
)
def test_a_reward_of_which_nothing_is_read_is_refused(reward: Reward, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Every answer would earn 0(.|\n)*'grpo' reads neither(.|\n)*step_ppo"
    ):
        train(tmp_path / "run", laurel.grpo(), reward)
    assert not (tmp_path / "run").exists()


def test_what_no_environment_pays_is_no_reward(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="what the environment pays, and there is none"):
        train(tmp_path / "run", laurel.grpo(), laurel.rewards.from_environment())


def test_parts_that_are_read_or_paid_beside_make_a_reward(tmp_path: Path) -> None:
    both = weighted({"right": (exact_match(), 1.0), "steps": (step_scores(remembers), 0.0)})
    train(tmp_path / "beside", laurel.grpo(), both)
    train(tmp_path / "read", process(""), step_scores(remembers))
    bounded = weighted({"right": (exact_match(), 0.0)})
    train(tmp_path / "bounded", laurel.grpo(constraint=laurel.Budget("right", at_least=0.5, rate=0.1)), bounded)
