"""What the end of a rollout attends to: as transformers computes it, on trees, and paid out step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import laurel
from laurel.algorithms import Sampled
from laurel.credit import ProcessScores, redistributed
from laurel.environments import NumberGuessing
from laurel.errors import ConfigurationError
from laurel.learner import EnsembleSettings, LabelledReward
from laurel.policy import HindsightReward, LearnedReward, Policy, reward_model_for, tiny
from laurel.policy.importance import attention_importance, step_importance
from laurel.preferences import RewardTeacher
from laurel.rewards import from_environment
from laurel.runs import Run
from laurel.tasks import Task
from laurel.tree import Ending, Failed, Outcome, Segment, Source, Tree


def tree() -> Tree:
    """Two turns with an answer between, and a second rollout that shares the first turn."""
    done = Outcome(Ending.TERMINATED, "end")
    return Tree(
        "t",
        "t",
        (
            Segment(Source.PROMPT, np.array([1, 2, 3]), -1, text="abc"),
            Segment(Source.POLICY, np.array([4, 5]), 0, text="de"),
            Segment(Source.ENVIRONMENT, np.array([6]), 1, text="f"),
            Segment(Source.POLICY, np.array([1, 4]), 2, text="ad", outcome=done),
            Segment(Source.POLICY, np.array([2, 2, 2]), 1, text="bbb", outcome=done),
        ),
    )


def path(made: Tree, leaf: int) -> list[int]:
    return [token for index in made.path(leaf) for token in made.segments[index].tokens.tolist()]


def test_it_is_the_attention_that_transformers_computes(
    policy: Policy, directories: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    """Of every architecture: sliding windows, capped scores, shared key heads, other scales."""
    name = request.node.callspec.params["policy"]
    stock = AutoModelForCausalLM.from_pretrained(directories(name), attn_implementation="eager").eval()
    given = tree()
    for leaf, weights in zip(given.leaves, attention_importance(policy, given), strict=True):
        with torch.no_grad():
            seen = stock(torch.tensor([path(given, leaf)]), output_attentions=True).attentions
        wanted = np.mean([layer[0, :, -1].mean(0).double().numpy() for layer in seen], axis=0)
        np.testing.assert_allclose(weights, wanted, atol=1e-5)
        assert weights.sum() == pytest.approx(1, abs=1e-6)


def test_steps_have_the_sum_of_their_tokens() -> None:
    weights = np.array([0.1, 0.1, 0.1, 0.2, 0.2, 0.1, 0.05, 0.15])
    np.testing.assert_allclose(step_importance(tree(), 3, weights), [0.4, 0.2])
    np.testing.assert_allclose(step_importance(tree(), 4, weights), [0.4, 0.3])


def fitted() -> LearnedReward:
    policy = tiny(alphabet="abcdef", hidden_size=16, layers=2, heads=2, context_length=16)
    model = reward_model_for(policy)
    with torch.no_grad():
        model.head.copy_(torch.linspace(-1, 1, model.head.numel())[None])
    return LearnedReward(model, writer=policy)


def test_a_learned_reward_is_paid_step_by_step_and_keeps_its_sum() -> None:
    learned, given, task = fitted(), tree(), Task("t", "abc")
    asked = [(task, rollout) for rollout in reversed(given.rollouts)]
    whole = [score.value for score in learned.score_rollouts(asked)]  # type: ignore[union-attr]
    found = HindsightReward(learned).score_rollouts(asked)
    importance = [
        step_importance(given, leaf, w)
        for leaf, w in zip((3, 4), attention_importance(learned.model.trunk, given), strict=True)
    ]
    for score, total, weights in zip(found, whole, reversed(importance), strict=True):
        assert not isinstance(score, Failed) and score.value == 0 and score.parts["whole"] == total
        shares = [score.parts["step 1"], score.parts["step 2"]]
        np.testing.assert_allclose(shares, redistributed(total, weights), rtol=1e-6)
        assert sum(shares) == pytest.approx(total)


def test_a_model_of_other_tokens_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="other tokens"):
        HindsightReward(LearnedReward(fitted().model))


def test_a_run_learns_from_the_steps(tmp_path: Path) -> None:
    """Two turns, labels from a teacher who knows the game, and what the ensemble says paid by turns."""
    game = NumberGuessing(low=1, high=3, turns=2, higher="+", lower="-")
    policy = tiny(alphabet="gues 123:+-", hidden_size=16, layers=1, heads=2, context_length=32)
    members = EnsembleSettings(members=2, steps=3)
    reward = LabelledReward(
        RewardTeacher(from_environment()), labels=8, labels_per_round=4, ensemble=members, redistribute=True
    )
    laurel.train(
        policy=policy,
        tasks=game.tasks(20),
        environment=game,
        reward=reward,
        algorithm=replace(laurel.rloo(), source=Sampled(), credit=ProcessScores("", "rewards")),
        limits=laurel.Limits(max_new_tokens=2, max_turns=2),
        steps=3,
        prompts_per_step=4,
        samples_per_prompt=4,
        run=tmp_path / "run",
    )
    with Run.open(tmp_path / "run") as run:
        rollouts = [rollout for step in run.steps() for made in run.trees(step) for rollout in made.rollouts]
    for rollout in rollouts:
        assert rollout.outcome is not None and not isinstance(rollout.outcome.score, Failed)
        parts = rollout.outcome.score.parts  # type: ignore[union-attr]
        turns = [name for name in parts if name.startswith("step ")]
        assert sum(parts[name] for name in turns) == pytest.approx(parts["whole"], abs=1e-9)
    assert any("step 2" in r.outcome.score.parts for r in rollouts)  # type: ignore[union-attr]
