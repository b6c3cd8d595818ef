"""The learner: what is skipped, what is refused, what is measured, what is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_steps import distance, policy, take
from learner_trees import batch, fan

from laurel.algorithms import Algorithm, clone, dapo, dr_grpo, grpo, rloo
from laurel.credit import WholeReturn
from laurel.errors import ConfigurationError, LearnerError
from laurel.learner import Learner, OptimiserSettings, UpdateReport
from laurel.learner.batching import shuffled_minibatches
from laurel.objectives import PolicyGradient, SamplerCorrection, TokenBatch
from laurel.policy import Policy, pack
from laurel.tree import Ending, Outcome, Segment, Source, Tree


@dataclass(frozen=True)
class Recording:
    """`PolicyGradient` that keeps what it was shown."""

    seen: list[TokenBatch]
    corrects_reuse = True

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.seen.append(batch)
        return PolicyGradient()(batch)


def recording(**step: int) -> tuple[Algorithm, list[TokenBatch]]:
    base = dapo(**step) if step else rloo()
    objective = Recording([])
    return replace(base, objective=objective, regularisers=(), credit=WholeReturn()), objective.seen


def test_one_update_per_batch_has_ratios_of_exactly_one() -> None:
    algorithm, seen = recording()
    take(batch(), algorithm, dtype=torch.float32, budget=50)
    assert len(seen) > 1
    assert all(torch.equal(tokens.log_probs, tokens.old_log_probs) for tokens in seen)
    assert not any(tokens.old_log_probs.requires_grad for tokens in seen)
    assert all(tokens.reference_log_probs is None for tokens in seen)


@pytest.mark.parametrize(
    ("step", "expected"),
    [({}, [True]), ({"epochs": 2}, [False, True, True]), ({"minibatches": 2}, [False, True, True])],
)
def test_only_several_updates_cost_a_pass_before_the_first(
    step: dict[str, int], expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, algorithm = policy(torch.float32), grpo(**step)
    with_gradient: list[bool] = []
    score = made.token_scores

    def counted(*arguments: Any, **settings: Any) -> Any:
        with_gradient.append(torch.is_grad_enabled())
        return score(*arguments, **settings)

    monkeypatch.setattr(made, "token_scores", counted)
    Learner(made, algorithm, OptimiserSettings()).update(batch(), algorithm.credit(batch()), step=1)
    assert with_gradient == expected


def test_old_log_probs_stay_those_of_the_start_over_several_updates() -> None:
    algorithm, seen = recording(epochs=2, minibatches=2)
    trees = batch()
    made = policy()
    packed = pack(trees, [tree.flat.policy for tree in trees], made.device)
    with torch.no_grad():
        start = sorted(made.token_scores(packed).log_probs.tolist())
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=1e-2))
    report = learner.update(trees, algorithm.credit(trees), step=3)
    assert learner.version == 4 and len(seen) == 4
    for epoch in (seen[:2], seen[2:]):
        old = sorted(value for tokens in epoch for value in tokens.old_log_probs.tolist())
        assert old == pytest.approx(start, abs=1e-12)
    assert torch.allclose(seen[0].log_probs, seen[0].old_log_probs, atol=1e-12)
    assert not torch.allclose(seen[3].log_probs, seen[3].old_log_probs, atol=1e-4)
    moved = max(float((tokens.log_probs - tokens.old_log_probs).detach().abs().max()) for tokens in seen)
    assert report.metrics["greatest_log_ratio"].mean == pytest.approx(moved, abs=1e-12)


def test_the_rows_of_a_batch_are_numbered_by_rollout() -> None:
    algorithm, seen = recording()
    trees = batch()
    take(trees, algorithm, budget=1)
    numbers = torch.cat([tokens.rollout for tokens in seen])
    assert sorted(set(numbers.tolist())) == list(range(sum(len(tree.leaves) for tree in trees)))
    assert len(numbers) == sum(int(tree.flat.policy.sum()) for tree in trees)


def test_minibatches_are_whole_trees_shuffled_by_seed_step_and_epoch() -> None:
    def orders(seed: int, step: int) -> list[list[int]]:
        return list(shuffled_minibatches(8, 2, 2, [seed, step]))

    first = orders(0, 1)
    assert [len(chosen) for chosen in first] == [4, 4, 4, 4]
    assert sorted(first[0] + first[1]) == sorted(first[2] + first[3]) == list(range(8))
    assert first == orders(0, 1)
    assert len({str(orders(seed, step)) for seed in range(3) for step in range(3)}) == 9
    assert first[:2] != first[2:]


def parameters_of(made: Policy) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in made.trainable_parameters().items()}


@pytest.mark.parametrize(
    ("trees", "reason"),
    [
        ([], "no experience"),
        ([fan("failed", [None, None], seed=0)], "every rollout failed"),
        ([fan("same", [0.5, 0.5], seed=0), fan("failed", [None, None], seed=1)], "every advantage is 0"),
    ],
)
def test_a_step_without_gradient_is_skipped_and_changes_nothing(trees: list[Tree], reason: str) -> None:
    made, algorithm = policy(torch.float32), grpo()
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=0.1))
    learner.update(batch(), algorithm.credit(batch()), step=1)
    before = parameters_of(made)
    moments = {name: tensor.clone() for name, tensor in learner.state()[0].items()}
    report = learner.update(trees, algorithm.credit(trees), step=2)
    assert report.skipped is not None and reason in report.skipped
    assert report.metrics["skipped_steps"].mean == 1
    assert report.metrics["distinct_tokens"].mean == sum(len(tree.flat) for tree in trees)
    assert learner.version == 1
    assert all(torch.equal(value, before[name]) for name, value in made.trainable_parameters().items())
    assert all(torch.equal(value, moments[name]) for name, value in learner.state()[0].items())


def test_groups_without_signal_still_count_in_the_denominator_but_are_not_computed() -> None:
    tree, same = fan("fan", [1.0, 0.0], seed=1), fan("same", [1.0, 1.0], seed=2)
    algorithm = dr_grpo(length=8)
    alone, beside = take([tree], algorithm), take([tree, same], algorithm)
    assert distance(2 * beside.gradient, alone.gradient) < 1e-12
    assert beside.report.metrics["computed_tokens"] == alone.report.metrics["computed_tokens"]


def test_a_regulariser_speaks_where_no_advantage_does() -> None:
    taken = take([fan("same", [1.0, 1.0], seed=2)], grpo(kl=0.1))
    assert taken.report.skipped is None
    assert float(taken.gradient.norm()) > 0


def test_a_minibatch_without_signal_is_counted_as_skipped() -> None:
    trees = [fan("fan", [1.0, 0.0], seed=1), fan("same", [1.0, 1.0], seed=2)]
    algorithm = grpo(minibatches=2)
    learner = Learner(policy(), algorithm, OptimiserSettings())
    report = learner.update(trees, algorithm.credit(trees), step=1)
    assert report.skipped is None
    assert (report.metrics["skipped_steps"].sum, report.metrics["skipped_steps"].count) == (1, 2)
    assert learner.version == 1


@dataclass(frozen=True)
class Poison:
    """An objective that is not finite, in value or only in gradient, for the tokens of one rollout."""

    rollout: int
    in_gradient_only: bool

    def __call__(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = -batch.advantages * batch.log_probs
        hit = batch.rollout == self.rollout
        if not self.in_gradient_only:
            return loss.masked_fill(hit, torch.nan), {}
        zero = batch.log_probs[hit] - batch.log_probs[hit].detach()
        return loss.index_put((hit.nonzero()[:, 0],), zero.sqrt(), accumulate=True), {}


@pytest.mark.parametrize("in_gradient_only", [False, True])
def test_a_loss_or_gradient_that_is_not_finite_names_its_rollouts_and_changes_nothing(in_gradient_only: bool) -> None:
    trees = [fan("good", [1.0, 0.0], seed=1), fan("bad", [1.0, 0.0], seed=2), fan("fine", [1.0, 0.0], seed=3)]
    made = policy(torch.float32)
    algorithm = replace(rloo(), objective=Poison(rollout=2, in_gradient_only=in_gradient_only))
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=0.1), tokens_per_microbatch=1)
    before = parameters_of(made)
    what = "gradient" if in_gradient_only else "loss"
    with pytest.raises(LearnerError, match=rf"{what} is not finite.*rollouts bad\.0\. The weights"):
        learner.update(trees, algorithm.credit(trees), step=1)
    assert all(torch.equal(value, before[name]) for name, value in made.trainable_parameters().items())
    assert all(value.grad is None for value in made.trainable_parameters().values())
    assert learner.state() == ({}, {"optimiser_steps": 0})


def test_a_weight_that_is_not_finite_is_refused() -> None:
    def broken(trees: Sequence[Tree], masks: Sequence[Any]) -> list[Any]:
        return [np.where(mask, np.inf, 0.0) for mask in masks]

    with pytest.raises(LearnerError, match="tree fan has a weight"):
        take(batch(), replace(rloo(), reduction=broken))


def test_metrics_are_sums_over_tokens() -> None:
    trees, made, algorithm = batch(), policy(), rloo()
    credits = algorithm.credit(trees)
    masks = [tree.flat.policy for tree in trees]
    with torch.no_grad():
        scores = made.token_scores(pack(trees, masks, made.device))
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=0.5, warmup_steps=10), tokens_per_microbatch=40)
    metrics = learner.update(trees, credits, step=1).metrics
    drawn = np.concatenate([tree.flat.sampler_log_probs[tree.flat.policy] for tree in trees])
    log_ratio = scores.log_probs.numpy() - drawn
    advantages = np.concatenate([c.advantages[c.mask] for c in credits])
    assert metrics["entropy"].count == metrics["scored_tokens"].mean == len(drawn)
    assert metrics["entropy"].sum == pytest.approx(float(scores.entropy.sum()), rel=1e-9)
    assert metrics["sampler_difference"].mean == pytest.approx(np.abs(log_ratio).mean(), rel=1e-9)
    assert metrics["greatest_sampler_difference"].sum == pytest.approx(np.abs(log_ratio).max(), rel=1e-9)
    assert metrics["kl_sampler"].mean == pytest.approx((np.exp(log_ratio) - 1 - log_ratio).mean(), rel=1e-9)
    assert metrics["advantage"].mean == pytest.approx(advantages.mean(), abs=1e-12)
    assert metrics["advantage_std"].mean == pytest.approx(advantages.std(), rel=1e-12)
    assert metrics["greatest_log_ratio"].mean == 0
    assert metrics["learning_rate"].mean == pytest.approx(0.05)
    assert metrics["weights_changed"].mean > 0.9
    assert metrics["policy_version_lag"].mean == 0
    assert metrics["distinct_tokens"].mean == sum(len(tree.flat) for tree in trees)
    assert metrics["computed_tokens"].mean == metrics["distinct_tokens"].mean


def test_the_age_of_tokens_is_measured_in_optimiser_steps() -> None:
    made, trees = policy(), batch()
    algorithm = rloo(sampler_correction=SamplerCorrection())
    learner = Learner(made, algorithm, OptimiserSettings())
    learner.update(trees, algorithm.credit(trees), step=1)
    learner.update(trees, algorithm.credit(trees), step=2)
    fresh = replace(trees[0], segments=tuple(_drawn_at(part, 2) for part in trees[0].segments))
    metrics = learner.update([fresh, trees[2]], algorithm.credit([fresh, trees[2]]), step=3).metrics
    new, old = int(fresh.flat.policy.sum()), int(trees[2].flat.policy.sum())
    assert metrics["policy_version_lag"].mean == pytest.approx(2 * old / (new + old))
    assert metrics["greatest_policy_version_lag"].mean == 2


def _drawn_at(part: Segment, version: int) -> Segment:
    return replace(part, policy_version=version) if part.source is Source.POLICY else part


def drawn_now(trees: Sequence[Tree], learner: Learner) -> list[Tree]:
    """The same trees as if the learner's present weights had drawn them."""
    return [replace(t, segments=tuple(_drawn_at(part, learner.version) for part in t.segments)) for t in trees]


def test_tokens_of_other_weights_are_refused_unless_the_objective_corrects_for_them() -> None:
    trees, algorithm = batch(), rloo()
    learner = Learner(policy(), algorithm, OptimiserSettings())
    learner.update(trees, algorithm.credit(trees), step=1)
    weights = {name: p.detach().clone() for name, p in learner.policy.trainable_parameters().items()}
    with pytest.raises(LearnerError, match="was drawn by the weights of version 0, but the learner is at version 1"):
        learner.update(trees, algorithm.credit(trees), step=2)
    for name, parameter in learner.policy.trainable_parameters().items():
        assert torch.equal(parameter, weights[name])
    fresh = drawn_now(trees, learner)
    assert learner.update(fresh, algorithm.credit(fresh), step=2).skipped is None


def test_demonstrations_have_no_sampler_to_differ_from() -> None:
    tokens = np.array([3, 4, 1])
    ended = Outcome(Ending.TERMINATED, "demonstration")
    tree = Tree("d", "d", (Segment(Source.PROMPT, [5, 6], -1), Segment(Source.POLICY, tokens, 0, outcome=ended)))
    metrics = take([tree], clone()).report.metrics
    assert not any("sampler" in name or "policy_version_lag" in name for name in metrics)
    assert metrics["loss"].mean > 0


def test_a_reference_is_asked_for_only_when_a_part_reads_it() -> None:
    with pytest.raises(ConfigurationError, match="compares the policy with a reference"):
        Learner(policy(), grpo(kl=0.1), OptimiserSettings())
    learner = Learner(policy(), grpo(), OptimiserSettings(), reference=policy().snapshot("unread"))
    assert learner.reference is None


@pytest.mark.parametrize("step", [{}, {"epochs": 2, "minibatches": 2}])
def test_the_divergence_from_the_reference_starts_at_exactly_zero(step: dict[str, int]) -> None:
    made, algorithm = policy(torch.float32), grpo(kl=0.1, **step)
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=1e-12), reference=made.snapshot("start"))
    report = learner.update(batch(), algorithm.credit(batch()), step=1)
    assert report.metrics["kl/reference"].mean == pytest.approx(0, abs=1e-9 if step else 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_six_updates_equal_three_saved_and_three_resumed_byte_for_byte(dtype: torch.dtype) -> None:
    algorithm = grpo(minibatches=2, kl=0.01)
    settings = OptimiserSettings(learning_rate=3e-3, schedule="linear", warmup_steps=2, weight_decay=0.01)

    def learner_over(made: Policy) -> Learner:
        reference = policy(dtype).snapshot("start")
        return Learner(made, algorithm, settings, total_steps=6, reference=reference, seed=5)

    def updates(learner: Learner, steps: range) -> list[UpdateReport]:
        return [learner.update(drawn_now(batch(), learner), algorithm.credit(batch()), step) for step in steps]

    straight = policy(dtype)
    through = learner_over(straight)
    expected = updates(through, range(6))

    halfway = policy(dtype)
    first = learner_over(halfway)
    updates(first, range(3))
    tensors, counters = first.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}

    fresh = policy(dtype, seed=9)
    with torch.no_grad():
        for name, parameter in fresh.trainable_parameters().items():
            parameter.copy_(halfway.trainable_parameters()[name])
    second = learner_over(fresh)
    second.load_state(saved, dict(counters))
    found = updates(second, range(3, 6))

    assert [report.metrics for report in found] == [report.metrics for report in expected[3:]]
    for name, parameter in straight.trainable_parameters().items():
        assert torch.equal(parameter, fresh.trainable_parameters()[name])
    for name, tensor in through.state()[0].items():
        assert torch.equal(tensor, second.state()[0][name])


def test_frozen_parameters_are_left_alone() -> None:
    made, algorithm = policy(torch.float32), rloo()
    frozen = made.model.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    before = frozen.clone()
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=0.1, weight_decay=1.0))
    learner.update(batch(), algorithm.credit(batch()), step=1)
    assert torch.equal(frozen, before)
    assert frozen.grad is None
    assert not any("layers.0.mlp.up_proj" in name for name in learner.state()[0])


def test_the_schedule_runs_over_all_optimiser_steps_of_the_run() -> None:
    algorithm = grpo(epochs=2)
    settings = OptimiserSettings(learning_rate=1.0, schedule="linear")
    with pytest.raises(ConfigurationError, match="total_steps"):
        Learner(policy(), algorithm, settings)
    learner = Learner(policy(), algorithm, settings, total_steps=2)
    reports = [learner.update(drawn_now(batch(), learner), algorithm.credit(batch()), step) for step in (1, 2)]
    rates = [report.metrics["learning_rate"] for report in reports]
    assert [rate.sum for rate in rates] == pytest.approx([1.0 + 0.75, 0.5 + 0.25])


def test_learning_raises_the_probability_of_what_was_rewarded() -> None:
    tree = fan("fan", [1.0, 0.0], seed=4)
    made, algorithm = policy(torch.float32), rloo()
    learner = Learner(made, algorithm, OptimiserSettings(learning_rate=0.01))

    def log_probability(leaf: int) -> float:
        with torch.no_grad():
            packed = pack([tree], [tree.flat.segment == leaf], made.device)
            return float(made.token_scores(packed).log_probs.sum())

    before = [log_probability(leaf) for leaf in (1, 2)]
    for step in range(5):
        learner.update(drawn_now([tree], learner), algorithm.credit([tree]), step)
    after = [log_probability(leaf) for leaf in (1, 2)]
    assert after[0] > before[0] and after[1] < before[1]
