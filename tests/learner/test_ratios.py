"""Stale experience: how far the policy moved since, and credit that corrects for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_trees import batch, dialogue, fan

from laurel.algorithms import Algorithm, Sampled, Step, ppo
from laurel.credit import GeneralisedAdvantage, VTrace
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner import Learner, OptimiserSettings
from laurel.learner.ratios import sampler_log_ratios
from laurel.objectives import ClippedRatio, PolicyGradient, SamplerCorrection, TokenLoss, TokenMean
from laurel.policy import Policy, critic_for, tiny
from laurel.tree import Ending, Source, Tree


def policy(seed: int = 0) -> Policy:
    return tiny(alphabet="abcdefghij", hidden_size=16, layers=1, heads=2, context_length=64, seed=seed)


def off_policy(objective: TokenLoss | None = None, rule: VTrace | None = None, step: Step | None = None) -> Algorithm:
    return Algorithm(
        "v_trace", "V-trace", "arXiv 1802.01561", "rho A log pi", Sampled(), rule or VTrace(),
        objective or PolicyGradient(), TokenMean(), step=step or Step(),
    )  # fmt: skip


def learner(algorithm: Algorithm, made: Policy | None = None, budget: int | None = None) -> Learner:
    made = made or policy()
    optimiser = OptimiserSettings(learning_rate=1e-2)
    return Learner(made, algorithm, optimiser, critic=critic_for(made), tokens_per_microbatch=budget)


def as_drawn_by(made: Policy, trees: list[Tree]) -> list[Tree]:
    """The trees with the log-probabilities of this policy on their drawn tokens."""
    blank = [
        replace(
            tree,
            segments=tuple(
                s if s.source is not Source.POLICY else replace(s, sampler_log_probs=np.zeros(len(s), np.float32))
                for s in tree.segments
            ),
        )
        for tree in trees
    ]
    drawn = []
    for tree, now in zip(blank, sampler_log_ratios(made, blank, together=1000, uncut=1000), strict=True):
        segments = [
            segment
            if segment.source is not Source.POLICY
            else replace(segment, sampler_log_probs=np.nan_to_num(now[start:end]).astype(np.float32))
            for segment, start, end in zip(tree.segments, tree.flat.starts, tree.flat.ends, strict=True)
        ]
        drawn.append(replace(tree, segments=tuple(segments)))
    return drawn


@pytest.mark.parametrize("budget", [1, 20, 1000])
def test_log_ratios_are_those_of_the_two_policies(budget: int) -> None:
    before, now = policy(1), policy(2)
    trees = as_drawn_by(before, [*batch(), fan("one failed", [1.0, None, 0.0], seed=7)])
    same = sampler_log_ratios(before, trees, together=budget, uncut=budget)
    moved = sampler_log_ratios(now, trees, together=budget, uncut=budget)
    for tree, none, ratio in zip(trees, same, moved, strict=True):
        known = ~np.isnan(ratio)
        assert (known <= tree.flat.policy).all() and np.abs(none[known]).max() < 1e-5
        assert np.abs(ratio[known]).max() > 0.05
    assert np.isnan(moved[-1][trees[-1].flat.segment == 2]).all(), "what failed is not scored"


def test_on_policy_credit_is_that_of_lambda_returns() -> None:
    made = learner(off_policy())
    trees = as_drawn_by(made.policy, batch())
    plain = learner(replace(off_policy(), credit=GeneralisedAdvantage()), made.policy)
    for ours, theirs in zip(made.credit(trees), plain.credit(trees), strict=True):
        np.testing.assert_allclose(ours.advantages, theirs.advantages, atol=1e-5)
        np.testing.assert_allclose(ours.value_targets, theirs.value_targets, atol=1e-5)  # type: ignore[arg-type]


def test_stale_experience_is_learned_from_with_its_ratios() -> None:
    made = learner(off_policy(rule=VTrace(rho_cap=1.5)))
    trees = as_drawn_by(policy(5), [dialogue("talk", seed=2), fan("fan", [1.0, 0.0], seed=1)])
    credits = made.credit(trees)
    ratios = sampler_log_ratios(made.policy, trees, together=1000, uncut=1000)
    leaf = int(trees[1].flat.ends[1]) - 1  # the last token of a rollout that scored 1, before a critic that says 0
    assert credits[1].advantages[leaf] == pytest.approx(min(1.5, np.exp(ratios[1][leaf])), rel=1e-5)
    made.update(trees, credits, 1)
    assert made.version == 1
    credits = made.credit(trees)  # the same batch once more: one version old now
    assert np.abs(sampler_log_ratios(made.policy, trees, together=1000, uncut=1000)[0] - ratios[0])[4:10].max() > 1e-4
    report = made.update(trees, credits, 2)
    assert made.version == 2 and report.metrics["greatest_policy_version_lag"].mean == 1
    plain = learner(ppo(epochs=1))
    plain.update(trees, plain.credit(trees), 1)
    with pytest.raises(LearnerError, match=r"(?s)version 0.*values=.vtrace"):
        plain.update(trees, plain.credit(trees), 2)


@pytest.mark.parametrize("values", ["vtrace", "retrace"])
def test_ppo_learns_from_stale_experience_by_the_name_of_its_values(values: Any) -> None:
    made = learner(ppo(values=values, epochs=2))
    trees = as_drawn_by(policy(5), batch())
    ratios = sampler_log_ratios(made.policy, trees, together=1000, uncut=1000)
    credits, said = made.credit(trees), made.values(trees)
    for tree, credit, ratio, value in zip(trees, credits, ratios, said, strict=True):
        for rollout in tree.rollouts:
            last = int(tree.flat.ends[rollout.leaf]) - 1
            if credit.mask[last] and rollout.outcome is not None and rollout.outcome.ending is Ending.TERMINATED:
                weight = np.exp(ratio[last])
                weight = min(1.0, weight) if values == "vtrace" else weight
                paid = rollout.reward - sum(s.reward for s in rollout.segments[:-1])
                expected = weight * (paid - value[tree.flat.parent[last]])
                assert credit.advantages[last] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for step in (1, 2, 3):
        made.update(trees, made.credit(trees), step)  # older and older
    assert made.version == 6


def test_a_batch_is_used_again_with_a_ratio_from_the_start_of_the_update() -> None:
    made = learner(off_policy(ClippedRatio(), step=Step(epochs=3)))
    trees = as_drawn_by(policy(5), batch())
    report = made.update(trees, made.credit(trees), 1)
    assert made.version == 3 and torch.isfinite(torch.tensor(report.metrics["loss"].mean))


def test_what_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="once is right"):
        off_policy(SamplerCorrection().around(PolicyGradient()))
    made = learner(off_policy())
    written = replace(batch()[0], segments=tuple(replace(s, sampler_log_probs=None) for s in batch()[0].segments))
    with pytest.raises(LearnerError, match="Tree fan: nobody recorded how likely"):
        made.credit([written])
