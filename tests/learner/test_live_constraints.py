"""Constraints through the real learner: what credit sees, what the loss minimises, how coefficients move and return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_trees import batch, fan

from laurel.algorithms import Algorithm, Credit, grpo, reinforce, rloo
from laurel.credit import GeneralisedAdvantage
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner import Learner, OptimiserSettings
from laurel.objectives import Budget, DualAscent, KLPenalty, KLReward, Proportional
from laurel.policy import Policy, critic_for, tiny
from laurel.tree import Score, Source, Tree

BETA = 0.3


def policy(seed: int = 0) -> Policy:
    made = tiny(alphabet="abcdefghij", hidden_size=16, layers=2, heads=2, context_length=64, seed=seed)
    made.model.to(torch.float64)
    return made


def learner(algorithm: Algorithm, *, seed: int = 1, learning_rate: float = 1e-3, **settings: Any) -> Learner:
    """Over policy 0, its reference the policy of `seed`."""
    reference = policy(seed).snapshot("other") if algorithm.needs_reference else None
    optimiser = OptimiserSettings(learning_rate=learning_rate)
    return Learner(policy(), algorithm, optimiser, reference=reference, **settings)


def in_reward(algorithm: Algorithm, **settings: Any) -> Algorithm:
    return replace(algorithm, penalties=(KLReward(BETA, **settings),))


def log_ratios(tree: Tree, rollout: int) -> np.ndarray:
    """log pi - log ref of the policy tokens of one rollout, from rows of logits of the stock model."""
    segments = tree.rollouts[rollout].segments
    row = torch.tensor(np.concatenate([segment.tokens for segment in segments]))
    wrote = np.concatenate([np.full(len(segment), segment.source is Source.POLICY) for segment in segments])
    scores = []
    for made in (policy(0), policy(1)):
        made.model.set_attn_implementation("sdpa")
        with torch.no_grad():
            scores.append(made.model(input_ids=row[None]).logits[0].log_softmax(-1))
    places = np.flatnonzero(wrote)
    now, other = (table[places - 1, row[places]].numpy() for table in scores)
    return np.asarray(now - other)


def test_credit_sees_the_log_ratio_of_every_rollout() -> None:
    """Leave-one-out over R - beta sum of log-ratios, on a fan with a failed sibling."""
    tree = fan("fan", [1.0, 0.0, None, 0.5], seed=1)
    (credit,) = learner(in_reward(rloo())).credit([tree])
    assert credit.reference_log_ratios is not None
    earned = []
    for rollout in (0, 1, 3):
        mine = tree.flat.segment == tree.leaves[rollout]
        np.testing.assert_allclose(credit.reference_log_ratios[mine], log_ratios(tree, rollout), atol=1e-6)
        earned.append(tree.rollouts[rollout].reward - BETA * log_ratios(tree, rollout).sum())
    for index, rollout in enumerate((0, 1, 3)):
        others = [value for place, value in enumerate(earned) if place != index]
        found = credit.advantages[tree.flat.segment == tree.leaves[rollout]]
        np.testing.assert_allclose(found, earned[index] - np.mean(others), atol=1e-6)
    failed = tree.flat.segment == tree.leaves[2]
    assert np.isnan(credit.reference_log_ratios[failed]).all() and not credit.mask[failed].any()


def test_a_critic_sees_when_each_penalty_came() -> None:
    """Decay 0 without values: a token's advantage is its own penalty, and the score with the last one."""
    tree = fan("fan", [1.0, 0.0], seed=2)
    algorithm = replace(in_reward(rloo()), credit=GeneralisedAdvantage(decay=0.0))
    made = policy()
    asked = Learner(
        made, algorithm, OptimiserSettings(), reference=policy(1).snapshot("other"), critic=critic_for(made)
    )
    values = asked.values([tree])[0]
    (credit,) = asked.credit([tree])
    for rollout, leaf in enumerate(tree.leaves):
        mine = np.flatnonzero(tree.flat.segment == leaf)
        rewards = -BETA * log_ratios(tree, rollout)
        rewards[-1] += tree.rollouts[rollout].reward
        after = np.append(values[mine[:-1]], 0.0)
        np.testing.assert_allclose(credit.advantages[mine], rewards + after - values[tree.flat.parent[mine]], atol=1e-6)


def test_at_the_reference_itself_nothing_is_taken_off() -> None:
    plain, penalised = learner(rloo()).credit(batch()), learner(in_reward(rloo()), seed=0).credit(batch())
    for one, other in zip(plain, penalised, strict=True):
        assert np.array_equal(one.advantages, other.advantages)
        assert other.reference_log_ratios is not None
        assert np.array_equal(other.reference_log_ratios[other.mask], np.zeros(int(other.mask.sum())))


@pytest.mark.parametrize("estimator", ["k1", "exact"])
@pytest.mark.parametrize("budget", [21, 1])
def test_no_split_changes_the_penalty(estimator: str, budget: int) -> None:
    algorithm = in_reward(rloo(), estimator=estimator)
    whole = learner(algorithm).credit(batch())
    cut = learner(algorithm, tokens_per_microbatch=budget).credit(batch())
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one.advantages, other.advantages, atol=1e-10)


def test_trees_are_left_as_they_are_and_the_update_needs_no_reference() -> None:
    trees, asked = batch(), learner(in_reward(rloo()))
    credits = asked.credit(trees)
    assert all(segment.token_rewards is None for tree in trees for segment in tree.segments)
    report = asked.update(trees, credits, 1)
    seen = np.concatenate([c.reference_log_ratios[c.mask] for c in credits if c.reference_log_ratios is not None])
    assert report.metrics["kl/reference"].mean == pytest.approx(float((np.expm1(-seen) + seen).mean()))
    assert report.metrics["kl/coefficient"].mean == BETA


def gradient(algorithm: Algorithm, trees: Sequence[Tree], **settings: Any) -> torch.Tensor:
    made = policy()
    reference = policy(1).snapshot("other")
    optimiser = OptimiserSettings(learning_rate=1e-3, betas=(0.0, 0.9), maximum_gradient_norm=None)
    taught = Learner(made, algorithm, optimiser, reference=reference, **settings)
    taught.update(trees, taught.credit(trees), 1)
    moments = taught.state()[0]
    return torch.cat([moments[f"first_moment.{name}"].flatten() for name in made.trainable_parameters()])


def test_the_exact_penalty_in_the_loss_against_rows_of_logits() -> None:
    """beta / N sum_t sum_v pi (log pi - log ref) over the tokens of each rollout, nothing earned."""
    tree = fan("fan", [0.0, 0.0], seed=3)
    algorithm = replace(reinforce(), regularisers=(KLPenalty(BETA, "exact"),))
    made, other = policy(), policy(1)
    for one in (made, other):
        one.model.set_attn_implementation("sdpa")
    total = torch.zeros((), dtype=torch.float64)
    for rollout in tree.rollouts:
        prompt, answer = rollout.segments
        row = torch.tensor(np.concatenate([prompt.tokens, answer.tokens]))[None]
        now = made.model(input_ids=row).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        with torch.no_grad():
            then = other.model(input_ids=row).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
        total = total + BETA / 2 * (now.exp() * (now - then)).sum()
    total.backward()  # type: ignore[no-untyped-call]
    by_hand = torch.cat([p.grad.flatten() for p in made.trainable_parameters().values() if p.grad is not None])
    found = gradient(algorithm, [tree])
    assert float((found - by_hand).norm() / by_hand.norm()) < 1e-5
    assert float((gradient(algorithm, batch()) - gradient(algorithm, batch(), tokens_per_microbatch=1)).norm()) < 1e-9


def scored(tree: Tree, part: str, values: Sequence[float]) -> Tree:
    """The same tree with a part of the score on every rollout."""
    outcomes = {}
    for leaf, value in zip(tree.leaves, values, strict=True):
        outcome = tree.segments[leaf].outcome
        assert outcome is not None and isinstance(outcome.score, Score)
        outcomes[leaf] = replace(outcome, score=replace(outcome.score, parts={part: value}))
    return tree.with_outcomes(outcomes)


def test_a_budget_is_a_second_reward_with_the_price_of_the_moment() -> None:
    tree = scored(fan("fan", [1.0, 0.0], seed=4), "rude", [0.8, 0.2])
    asked = learner(replace(rloo(), penalties=(Budget("rude", at_most=0.1, rate=0.5, coefficient=2.0),)))
    (credit,) = asked.credit([tree])
    # Returns 1 - 2 * 0.8 and 0 - 2 * 0.2: the ruder answer is now the worse one.
    for leaf, expected in zip(tree.leaves, (-0.2, 0.2), strict=True):
        np.testing.assert_allclose(credit.advantages[tree.flat.segment == leaf], expected, atol=1e-12)
    metrics = asked.update([tree], [credit], 1).metrics
    assert metrics["budget/rude"].mean == pytest.approx(0.5)
    assert metrics["budget/rude/coefficient"].mean == 2.0
    assert asked.state()[1]["coefficient.budget/rude"] == pytest.approx(2.0 + 0.5 * (0.5 - 0.1))


def test_coefficients_follow_their_own_measurement() -> None:
    algorithm = replace(
        rloo(),
        regularisers=(KLPenalty(0.1, "k3", Proportional(1e-6)),),
        penalties=(Budget("answer_tokens", at_least=1e3, rate=1e-3),),
    )
    trees, asked = batch(), learner(algorithm)
    report = asked.update(trees, asked.credit(trees), 1)
    assert report.metrics["kl/coefficient"].mean == 0.1
    lengths = report.metrics["budget/answer_tokens"].mean
    state = asked.state()[1]
    assert state["coefficient.kl"] == pytest.approx(0.1 * 1.02)  # far above its target
    assert state["coefficient.budget/answer_tokens"] == pytest.approx(1e-3 * (1e3 - lengths))


def test_a_coefficient_that_is_controlled_reaches_the_loss() -> None:
    """The policy hardly moves between two updates, the price does, and with it the loss."""
    trees = [fan("fan", [0.5, 0.5], seed=5)]
    moved = replace(rloo(), regularisers=(KLPenalty(0.1, "k2", DualAscent(0.0, 1.0)),))
    asked = learner(moved, learning_rate=1e-9)
    first = asked.update(trees, asked.credit(trees), 1).metrics
    expected = 0.1 + first["kl/reference"].mean
    fresh = [replace(t, segments=tuple(_drawn_at(s, 1) for s in t.segments)) for t in trees]
    second = asked.update(fresh, asked.credit(fresh), 2).metrics
    assert second["kl/coefficient"].mean == pytest.approx(expected)
    assert second["loss"].mean / first["loss"].mean == pytest.approx(expected / 0.1, rel=1e-4)


def _drawn_at(segment: Any, version: int) -> Any:
    return replace(segment, policy_version=version) if segment.source is Source.POLICY else segment


def test_an_update_without_gradient_still_measures_what_credit_looked_at() -> None:
    tree = fan("same", [0.5, 0.5], seed=6)
    algorithm = replace(grpo(), penalties=(Budget("answer_tokens", at_most=0.0, rate=0.1),))
    asked = learner(algorithm)
    report = asked.update([tree], asked.credit([tree]), 1)
    assert report.skipped is not None
    lengths = report.metrics["budget/answer_tokens"].mean
    assert asked.state()[1]["coefficient.budget/answer_tokens"] == pytest.approx(0.1 * lengths)


def test_coefficients_are_saved_and_belong_to_their_algorithm() -> None:
    algorithm = in_reward(rloo(), control=Proportional(0.05))
    asked, trees = learner(algorithm), batch()
    asked.update(trees, asked.credit(trees), 1)
    tensors, state = asked.state()
    other = learner(algorithm)
    other.load_state(tensors, state)
    assert other.state()[1] == state and state["coefficient.kl"] != BETA
    for one, two in zip(asked.credit(trees), other.credit(trees), strict=True):
        # The policies differ (its weights are loaded elsewhere); the price does not.
        assert one.advantages.shape == two.advantages.shape
    with pytest.raises(LearnerError, match=r"controls \['coefficient.kl'\], this one none"):
        learner(in_reward(rloo())).load_state(tensors, state)
    with pytest.raises(LearnerError, match="no coefficient, this one"):
        other.load_state(tensors, {"optimiser_steps": 1})


def test_two_constraints_of_one_name_must_agree() -> None:
    algorithm = replace(in_reward(rloo(), estimator="exact"), regularisers=(KLPenalty(0.2, "exact"),))
    with pytest.raises(ConfigurationError, match="two constraints 'kl' that do not agree"):
        learner(algorithm)


def test_a_measurement_that_is_not_finite_stops_the_run() -> None:
    algorithm = in_reward(rloo(), control=DualAscent(0.1, 0.1))
    asked, trees = learner(algorithm), batch()
    credits = asked.credit(trees)
    infinite = [Credit(c.advantages, c.mask, reference_log_ratios=np.full(len(c.mask), -1e4)) for c in credits]
    with pytest.raises(LearnerError, match="'kl' follows is inf"), np.errstate(over="ignore"):
        asked.update(trees, infinite, 1)


def test_a_penalty_in_the_reward_needs_a_reference() -> None:
    assert in_reward(rloo()).needs_reference
    with pytest.raises(ConfigurationError, match="compares the policy with a reference"):
        Learner(policy(), in_reward(rloo()), OptimiserSettings())
