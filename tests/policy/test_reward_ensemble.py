"""An ensemble of reward models: by hand, recorded in parts, failing where a member fails."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noisy_heads import opinionated

from laurel.errors import ConfigurationError
from laurel.policy import (
    LearnedReward,
    Policy,
    RewardEnsemble,
    disagreement,
    mean_rewards,
    pessimistic,
    reward_model_for,
    tiny,
)
from laurel.rewards import Grader
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Outcome, Score, Segment, Source, Tree

TASK = Task("t", "ab>", "a")


def policy(context_length: int = 16) -> Policy:
    return tiny(alphabet="abcd>", hidden_size=16, layers=1, heads=2, context_length=context_length)


def member(seed: int, *, context_length: int = 16) -> LearnedReward:
    return LearnedReward(opinionated(reward_model_for(policy(context_length)), seed), writer=policy())


def tree() -> Tree:
    done = Outcome(Ending.TERMINATED, "end")
    answers = [Segment(Source.POLICY, policy().encode_answer(t), 0, text=t, outcome=done) for t in ("a", "bcda")]
    return Tree("t", "t", (Segment(Source.PROMPT, policy().encode_prompt("ab>"), -1), *answers))


def asked() -> list[tuple[Task, object]]:
    return [(TASK, rollout) for rollout in tree().rollouts]


def test_by_hand() -> None:
    rewards = np.array([[1.0, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(disagreement(rewards), [1, 0])
    np.testing.assert_allclose(pessimistic(rewards, weight=0.5), [1.5, 2])


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_of_two_members_weight_one_is_the_lower(first: float, second: float) -> None:
    assert pessimistic(np.array([[first], [second]]), weight=1)[0] == pytest.approx(min(first, second), abs=1e-12)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=5), st.floats(0, 3))
def test_never_above_the_mean(rewards: list[float], weight: float) -> None:
    assert pessimistic(np.array(rewards)[:, None], weight=weight)[0] <= np.mean(rewards) + 1e-12


def test_a_score_says_what_it_is_made_of() -> None:
    members = (member(0), member(1), member(2))
    offsets = mean_rewards(members, asked())  # type: ignore[arg-type]
    with Grader(RewardEnsemble(members, 0.5, offsets)) as grader:
        (graded,), metrics = grader.grade([tree()], {"t": TASK})
    said = np.array([[result.value for result in m.score_rollouts(asked())] for m in members])  # type: ignore
    np.testing.assert_allclose(said.mean(1), offsets, atol=1e-6)
    wanted = pessimistic(said - np.array(offsets)[:, None], weight=0.5)
    np.testing.assert_allclose([rollout.reward for rollout in graded.rollouts], wanted, atol=1e-6)
    assert metrics["reward/ensemble_disagreement"].mean > 0
    assert metrics["reward/ensemble_mean"].mean == pytest.approx(0, abs=1e-6)


def test_a_constant_is_no_disagreement_once_it_is_taken_off() -> None:
    same = member(0)
    ensemble = RewardEnsemble((same, same), 1.0, (0.0, 5.0))
    score = ensemble(TASK, tree().rollouts[0])
    assert isinstance(score, Score) and score.parts["ensemble_disagreement"] == pytest.approx(2.5)
    agreed = RewardEnsemble((same, same), 1.0, (5.0, 5.0))(TASK, tree().rollouts[0])
    assert isinstance(agreed, Score) and agreed.parts["ensemble_disagreement"] == pytest.approx(0)


def test_what_one_member_cannot_read_fails() -> None:
    members = (member(0), member(1, context_length=6))
    first, second = RewardEnsemble(members, 1.0, (0.0, 0.0)).score_rollouts(asked())  # type: ignore[arg-type]
    assert isinstance(first, Score)
    assert second == Failed("member 1 of the ensemble: 8 tokens do not fit in the reward model's 6")
    with pytest.raises(ConfigurationError, match="Member 1 can read none"):
        mean_rewards(members, asked()[1:])  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "pessimism", "offsets"), [(1, 0.0, 1), (2, -1.0, 2), (2, 0.0, 3)])
def test_what_is_no_ensemble_is_refused(count: int, pessimism: float, offsets: int) -> None:
    with pytest.raises(ConfigurationError, match="is none"):
        RewardEnsemble((member(0),) * count, pessimism, (0.0,) * offsets)
