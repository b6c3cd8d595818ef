"""Process scores by hand: as values and as rewards, with turns, forks, limits and failures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credit import LeaveOneOut, ProcessScores, RewardToGo
from laurel.errors import ConfigurationError, TreeError
from laurel.theory import random_tree
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree


def steps(*scores: float) -> dict[str, float]:
    return {f"step {number}": score for number, score in enumerate(scores, start=1)}


def outcome(value: float, *scores: float, ending: Ending = Ending.TERMINATED) -> Outcome:
    return Outcome(ending, "stop", Score(value, steps(*scores)))


def said(parent: int, length: int = 1, *, reward: float = 0.0, end: Outcome | None = None, name: str = "t.0"):
    return Segment(Source.POLICY, np.arange(length) + 5, parent, reward=reward, outcome=end, rollout_id=name)


def two_samples(first: Outcome, second: Outcome) -> Tree:
    """prompt -+- step (2 tokens) - step (1 token): the first sample
    +- step (1 token): the second"""
    prompt = Segment(Source.PROMPT, [1, 1], -1)
    return Tree("t", "t", (prompt, said(0, 2), said(1, end=first), said(0, end=second, name="t.1")))


def advantages(rule: ProcessScores, tree: Tree) -> list[float]:
    """One per segment, after a look that all its tokens share it."""
    (credit,) = rule([tree])
    flat, found = tree.flat, []
    for start, end in zip(flat.starts, flat.ends, strict=True):
        assert len(set(credit.advantages[start:end])) == 1
        found.append(credit.advantages[start])
    return found


def test_values_hand_computed():
    tree = two_samples(outcome(1.0, 0.75, 0.25), outcome(0.5, 0.375))
    # The prompt is worth 0.5 to the first sample and 1 to the second: what the other earned. Ends are known.
    assert advantages(ProcessScores(), tree) == [0, 0.75 - 0.5, 1 - 0.75, 0.5 - 1]


def test_rewards_hand_computed():
    tree = two_samples(outcome(1.0, 0.75, 0.25), outcome(0.5, 0.375))
    # Together the samples earned 2 and 0.875; each is compared with the other.
    assert advantages(ProcessScores(reading="rewards"), tree) == [0, 2 - 0.875, 1.25 - 0.875, 0.875 - 2]


def test_a_truncated_rollout_bootstraps_with_its_last_score():
    tree = two_samples(outcome(0.0, 0.75, 0.25, ending=Ending.TRUNCATED), outcome(0.5, 0.375))
    assert advantages(ProcessScores(), tree) == [0, 0.75 - 0.5, 0.25 - 0.75, 0.5]


def test_turns_are_steps_and_what_the_environment_pays_belongs_to_the_turn_before():
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            said(0, 2),
            Segment(Source.ENVIRONMENT, [4, 4], 1, reward=0.5),
            said(2, 3, end=outcome(1.0, 0.75, 9.0)),
        ),
    )
    assert advantages(ProcessScores(), tree) == [0, 0.5 + 0.75, 0, 1 - 0.75]  # a single sample: V(prompt) is 0
    assert advantages(ProcessScores(reading="rewards"), tree) == [0, 0.75 + 0.5 + 9 + 1, 0, 9 + 1]


def test_a_step_that_forks_is_worth_the_mean_of_what_follows():
    tree = Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, [1], -1),
            said(0),
            said(1, end=outcome(1.0, 0.5, 0.0)),
            said(1, end=outcome(0.0, 0.5, 0.0), name="t.1"),
        ),
    )
    assert advantages(ProcessScores(), tree) == [0, 0.5, 0.5, -0.5]
    assert advantages(ProcessScores(reading="rewards"), tree) == [0, 0.5 + 0.5, 1, 0]


def test_failed_samples_leave_the_baseline_and_carry_no_loss():
    broken = Outcome(Ending.TERMINATED, "stop", Failed("the step scorer returned 2 numbers for the 1 steps"))
    tree = two_samples(outcome(1.0, 0.75, 0.25), broken)
    (credit,) = ProcessScores()([tree])
    np.testing.assert_array_equal(credit.mask, [False, False, True, True, True, False])
    assert advantages(ProcessScores(), tree) == [0, 0.75, 0.25, 0]


def test_scores_that_stand_on_segments():
    prompt, end = Segment(Source.PROMPT, [1], -1), Outcome(Ending.TERMINATED, "stop", Score(1.0))
    tree = Tree("t", "t", (prompt, said(0, reward=0.75), said(1, reward=0.25, end=end)))
    assert advantages(ProcessScores(None), tree) == [0, 0.75, 0.25]  # as values they are not earned
    assert advantages(ProcessScores(None, "rewards"), tree) == [0, 2, 1.25]
    (summed,) = RewardToGo()([tree])
    np.testing.assert_array_equal(summed.advantages, [0, 2, 1.25])


def test_scores_under_a_name():
    score = Score(1.0, {"right": 1.0, "process": 0.0, "process/step 1": 0.75, "process/step 2": 0.5})
    end = Outcome(Ending.TERMINATED, "stop", score)
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), said(0), said(1, end=end)))
    assert advantages(ProcessScores("process"), tree) == [0, 0.75, 0.25]


@given(st.integers(0, 10_000))
def test_without_scores_rewards_are_compared_as_leave_one_out_does(seed):
    # Plain groups: no steps paid, one step per sample.
    generator = np.random.default_rng(seed)
    ends = [outcome(float(value), 0.0) for value in generator.normal(size=generator.integers(2, 5))]
    samples = [said(0, int(generator.integers(1, 4)), end=end, name=f"t.{i}") for i, end in enumerate(ends)]
    tree = Tree("t", "t", (Segment(Source.PROMPT, [1], -1), *samples))
    (plain,) = LeaveOneOut()([tree])
    for reading in ("values", "rewards"):
        (credit,) = ProcessScores(reading=reading)([tree])
        np.testing.assert_allclose(credit.advantages, plain.advantages, atol=1e-12)


@given(st.integers(0, 10_000))
def test_only_live_policy_tokens_get_credit(seed):
    tree = random_tree(np.random.default_rng(seed), failing=0.3)
    for reading in ("values", "rewards"):
        (credit,) = ProcessScores(None, reading)([tree])
        assert np.isfinite(credit.advantages).all() and not credit.advantages[~credit.mask].any()
        assert (credit.mask <= tree.flat.policy).all()


@pytest.mark.parametrize("scores", [(0.5,), (0.5, 0.5, 0.5), ()])
def test_another_number_of_scores_names_the_rollout(scores):
    tree = two_samples(outcome(1.0, *scores), outcome(0.5, 0.375))
    with pytest.raises(TreeError, match=rf"Rollout t.0 has 2 steps and {len(scores)} scores"):
        ProcessScores()([tree])


def test_nonsense_is_refused():
    with pytest.raises(ConfigurationError, match="'value'"):
        ProcessScores(reading="value")
