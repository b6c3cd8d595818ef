"""Objectives over whole rollouts in the learner: exact gradients under any split, sums over paths, a kept reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from learner_trees import VOCABULARY, batch, dialogue, fan, segment

from laurel.algorithms import Algorithm, Compared, dpo, grpo, ipo, kto, orpo, simpo
from laurel.credit import Preferred
from laurel.errors import LearnerError
from laurel.learner import Learner, OptimiserSettings, UpdateReport
from laurel.learner.batching import Microbatch, pieces
from laurel.learner.rollouts import RolloutLayout
from laurel.objectives import DirectPreference, EntropyBonus, RolloutBatch, dpo_loss, kto_loss, needs_constant
from laurel.policy import Policy, Reference, tiny
from laurel.tree import MISMATCHED, Ending, Outcome, Source, Tree


def policy(seed: int = 0) -> Policy:
    """In float64, with norms that do not round in between."""
    made = tiny(alphabet="abcdefghij", hidden_size=16, layers=2, heads=2, context_length=64, seed=seed)
    assert made.vocabulary_size == VOCABULARY
    made.model.to(torch.float64)
    for parent in list(made.model.modules()):
        for name, module in parent.named_children():
            if type(module).__name__.endswith("RMSNorm"):
                norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
                norm.weight = module.weight
                setattr(parent, name, norm)
    return made


@dataclass(frozen=True)
class Taken:
    gradient: torch.Tensor
    loss: float
    report: UpdateReport


def learner_of(algorithm: Algorithm, *, budget: int | None = 10_000, made: Policy | None = None) -> Learner:
    settings = OptimiserSettings(learning_rate=1e-3, betas=(0.0, 0.9), maximum_gradient_norm=None)
    reference = policy(seed=1).snapshot("other") if algorithm.needs_reference else None
    return Learner(made or policy(), algorithm, settings, reference=reference, tokens_per_microbatch=budget)


def take(trees: Sequence[Tree], algorithm: Algorithm, *, budget: int = 10_000) -> Taken:
    """One update of a fresh policy; with a first beta of 0 AdamW's first moment is the gradient."""
    learner = learner_of(algorithm, budget=budget)
    report = learner.update(trees, algorithm.credit(trees), step=1)  # type: ignore[operator]
    moments = learner.state()[0]
    gradient = torch.cat([moments[f"first_moment.{name}"].flatten() for name in learner.policy.trainable_parameters()])
    return Taken(gradient, report.metrics["loss"].mean, report)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def judged(id: str, scores: Sequence[float], *, seed: int, mismatched: bool = False) -> Tree:
    """Answers that somebody wrote and judged, and one to another prompt."""
    made = fan(id, [*scores, *([0.0] if mismatched else [])], seed=seed)
    segments = [replace(s, sampler_log_probs=None, sampling=None, policy_version=None) for s in made.segments]
    if mismatched:
        segments[-1] = replace(segments[-1], outcome=Outcome(Ending.TERMINATED, "mismatched", MISMATCHED))
    return replace(made, segments=tuple(segments))


def thumbs() -> list[Tree]:
    return [
        judged("up", [1.0], seed=1, mismatched=True),
        judged("down", [0.0], seed=2, mismatched=True),
        judged("both", [1.0, 0.0], seed=3, mismatched=True),
        judged("up too", [1.0], seed=4, mismatched=True),
    ]


ALGORITHMS: dict[str, Algorithm] = {
    "dpo": dpo(),
    "conservative": dpo(label_smoothing=0.1),
    "robust": dpo(label_smoothing=0.1, robust=True),
    "normalised": dpo(beta=2.0, per_token=True),
    "ipo": ipo(),
    "orpo": orpo(),
    "simpo": simpo(),
    "kto": kto(),
    "dpo with entropy": replace(dpo(), regularisers=(EntropyBonus(0.1),)),
}


def experience(name: str) -> list[Tree]:
    return thumbs() if name == "kto" else batch()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_split_and_no_order_changes_the_gradient(name: str) -> None:
    trees, algorithm = experience(name), ALGORITHMS[name]
    whole = take(trees, algorithm)
    assert float(whole.gradient.norm()) > 0 and whole.report.metrics["microbatches"].mean == 1
    for budget, order in ((30, 1), (1, 1), (20, -1)):
        cut = take(trees[::order], algorithm, budget=budget)
        assert cut.report.metrics["microbatches"].mean > 1
        assert distance(cut.gradient, whole.gradient) < 1e-12
        assert cut.loss == pytest.approx(whole.loss, rel=1e-12)
        for metric in (metric for metric in whole.report.metrics if metric.startswith("preference/")):
            assert cut.report.metrics[metric].mean == pytest.approx(whole.report.metrics[metric].mean, abs=1e-12)


@pytest.mark.parametrize("name", ["dpo", "spin"])
def test_no_pass_holds_more_than_the_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group as wide as one likes takes the memory of one pass; what siblings share is computed again in each."""
    tree = fan("wide", list(np.linspace(0, 1, 12)), seed=1)
    algorithm = dpo() if name == "dpo" else replace(dpo(), objective=DirectPreference(0.1, against_old=True))
    whole = take([tree], algorithm)
    held: list[int] = []
    scores = Policy.token_scores

    def counted(self: Policy, packed: Any, **settings: Any) -> Any:
        held.append(len(packed.tokens))
        return scores(self, packed, **settings)

    monkeypatch.setattr(Policy, "token_scores", counted)
    budget = max(len(tree.segments[0]) + len(segment) for segment in tree.segments[1:]) + 5
    cut = take([tree], algorithm, budget=budget)
    assert max(held) <= budget < len(tree.flat)
    assert cut.report.metrics["microbatches"].mean > 2
    assert distance(cut.gradient, whole.gradient) < 1e-12
    assert cut.loss == pytest.approx(whole.loss, rel=1e-12)


def row_log_prob(made: Any, tree: Tree, leaf: int) -> torch.Tensor:
    """log p of a rollout's policy tokens, from a row of its own through the stock model."""
    made.model.set_attn_implementation("sdpa")
    parts = [tree.segments[index] for index in tree.path(leaf)]
    row = torch.tensor(np.concatenate([part.tokens for part in parts]))[None]
    written = torch.tensor(np.concatenate([np.full(len(part), part.source is Source.POLICY) for part in parts]))
    table = made.model(input_ids=row).logits[0].log_softmax(-1)
    places = torch.nonzero(written).flatten()
    return table[places - 1, row[0, places]].sum()


def gradient_of(made: Policy, loss: torch.Tensor) -> torch.Tensor:
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in made.trainable_parameters().values()])  # type: ignore[union-attr]


def test_the_gradient_of_dpo_by_hand_over_forked_dialogues() -> None:
    """Every rollout as a row of its own, the turn that two of them share counted in both."""
    made, other, trees = policy(), policy(seed=1), [dialogue("talk", seed=2), fan("pair", [0.0, 1.0], seed=3)]
    total = torch.zeros((), dtype=torch.float64)
    for tree in trees:
        with torch.no_grad():
            references = [row_log_prob(other, tree, leaf) for leaf in tree.leaves]
        ratios = [row_log_prob(made, tree, leaf) - ref for leaf, ref in zip(tree.leaves, references, strict=True)]
        scores = [rollout.reward for rollout in tree.rollouts]
        pairs = [(i, j) for i in range(len(scores)) for j in range(len(scores)) if scores[i] > scores[j]]
        losses = [dpo_loss(ratios[i], ratios[j], beta=0.1) for i, j in pairs]
        total = total + torch.stack(losses).mean() / len(trees)
    taken = take(trees, dpo())
    assert distance(taken.gradient, gradient_of(made, total)) < 1e-12
    assert taken.loss == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize("budget", [10_000, 1])
def test_the_gradient_of_kto_by_hand(budget: int) -> None:
    """z is the mean over the mismatched answers of the whole step and has no gradient, however the step is cut."""
    made, other, trees = policy(), policy(seed=1), thumbs()
    ratios: list[torch.Tensor] = []
    good: list[bool] = []
    mismatched: list[float] = []
    for tree in trees:
        for leaf in tree.leaves:
            with torch.no_grad():
                reference = row_log_prob(other, tree, leaf)
            ratio = row_log_prob(made, tree, leaf) - reference
            outcome = tree.segments[leaf].outcome
            assert outcome is not None
            if outcome.failed:
                mismatched.append(ratio.item())
            else:
                ratios.append(ratio)
                good.append(outcome.score.value > 0.5)  # type: ignore[union-attr]
    z = torch.tensor(max(0.0, float(np.mean(mismatched))), dtype=torch.float64)
    assert z > 0  # otherwise this test would not see it
    loss = kto_loss(torch.stack(ratios), torch.tensor(good), z, beta=0.1).mean()
    taken = take(trees, kto(), budget=budget)
    assert distance(taken.gradient, gradient_of(made, loss)) < 1e-12
    assert taken.loss == pytest.approx(loss.item(), rel=1e-12)
    assert taken.report.metrics["preference/divergence"].mean == pytest.approx(z.item(), rel=1e-12)
    assert taken.report.metrics["scored_tokens"].mean < sum(int(tree.flat.policy.sum()) for tree in trees)


def test_kto_without_answers_to_other_prompts_is_refused() -> None:
    trees = [judged("up", [1.0], seed=1), judged("down", [0.0], seed=2)]
    with pytest.raises(LearnerError, match="answers to other prompts, and there are none"):
        take(trees, kto())


def test_metrics_are_averages_over_prompts() -> None:
    trees = [judged("pair", [1.0, 0.0], seed=1), judged("tie", [0.5, 0.5], seed=2), judged("other", [0.0, 1.0], seed=3)]
    report = take(trees, dpo()).report
    made, other = policy(), policy(seed=1)
    margins = []
    for tree in (trees[0], trees[2]):
        ratios = [(row_log_prob(made, tree, leaf) - row_log_prob(other, tree, leaf)).item() for leaf in tree.leaves]
        best = int(np.argmax([rollout.reward for rollout in tree.rollouts]))
        margins.append(0.1 * (ratios[best] - ratios[1 - best]))
    assert report.metrics["preference/margin"].mean == pytest.approx(np.mean(margins), rel=1e-12)
    assert report.metrics["preference/accuracy"].mean == np.mean([margin > 0 for margin in margins])
    difference = report.metrics["preference/chosen"].mean - report.metrics["preference/rejected"].mean
    assert difference == pytest.approx(np.mean(margins), rel=1e-12)


def test_ties_are_neither_computed_nor_counted() -> None:
    pair, tie = judged("pair", [1.0, 0.0], seed=1), judged("tie", [0.5, 0.5], seed=2)
    alone, beside = take([pair], dpo()), take([pair, tie], dpo())
    assert torch.equal(alone.gradient, beside.gradient)
    assert alone.report.metrics["computed_tokens"] == beside.report.metrics["computed_tokens"]
    learner = learner_of(dpo())
    report = learner.update([tie], dpo().credit([tie]), step=1)  # type: ignore[call-arg,arg-type]
    assert report.skipped is not None and "no answer was the better" in report.skipped and learner.version == 0


class Counting:
    """Counts the passes of a reference."""

    def __init__(self, learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
        assert learner.reference is not None
        self.passes = 0
        score = learner.reference.token_scores

        def counted(*arguments: Any, **settings: Any) -> Any:
            self.passes += 1
            return score(*arguments, **settings)

        monkeypatch.setattr(learner.reference, "token_scores", counted)


def test_the_reference_sees_every_answer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = [judged("one", [1.0, 0.0], seed=1), judged("two", [0.0, 1.0], seed=2)]
    learner = learner_of(dpo())
    count = Counting(learner, monkeypatch)
    fresh = learner_of(dpo())
    for step in range(1, 4):
        again = [replace(tree, id=f"{step}") for tree in trees[:: -1 if step == 2 else 1]]
        learner.update(again, dpo().credit(again), step)  # type: ignore[call-arg,arg-type]
        fresh.load_state(
            {name: t.clone() for name, t in fresh.state()[0].items() if "kept" not in name},
            {"optimiser_steps": step - 1},
        )
        fresh.update(again, dpo().credit(again), step)  # type: ignore[call-arg,arg-type]
    assert count.passes == 1
    for name, value in learner.policy.trainable_parameters().items():
        assert torch.allclose(value, fresh.policy.trainable_parameters()[name], atol=1e-12)


def test_what_the_reference_said_goes_into_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = [judged("one", [1.0, 0.0], seed=1)]
    first = learner_of(dpo())
    first.update(trees, dpo().credit(trees), 1)  # type: ignore[call-arg,arg-type]
    tensors, counters = first.state()
    kept = {name for name in tensors if name.startswith("kept_reference.")}
    assert tensors["kept_reference.log_probs"].shape == (2,) and len(kept) == 2
    second = learner_of(dpo(), made=first.policy)
    count = Counting(second, monkeypatch)
    second.load_state({name: tensor.clone() for name, tensor in tensors.items()}, counters)
    second.update(trees, dpo().credit(trees), 2)  # type: ignore[call-arg,arg-type]
    assert count.passes == 0 and second.version == 2


@dataclass(frozen=True)
class Recording:
    """Keeps what it was shown."""

    seen: list[RolloutBatch]
    whole_rollouts: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def __call__(self, rollouts: RolloutBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.seen.append(rollouts)
        return rollouts.prompt_means(rollouts.log_probs, torch.arange(len(rollouts.log_probs))), {}


def test_what_an_objective_is_shown() -> None:
    seen: list[RolloutBatch] = []
    algorithm = replace(dpo(), objective=Recording(seen), credit=Preferred())  # type: ignore[arg-type]
    tree, made, other = dialogue("talk", seed=2), policy(), policy(seed=1)
    take([tree], algorithm)
    (shown,) = seen
    assert shown.lengths.tolist() == [11, 8, 7] and shown.prompts.tolist() == [0, 0, 0] and shown.prompt_count == 1
    scores = np.array([1.0, 0.0, 0.25])
    assert shown.advantages.tolist() == pytest.approx((scores - scores.mean()).tolist())
    expected = [row_log_prob(made, tree, leaf).item() for leaf in tree.leaves]
    assert shown.log_probs.tolist() == pytest.approx(expected, rel=1e-12)
    assert shown.reference_log_probs is not None and not shown.reference_log_probs.requires_grad
    assert shown.reference_log_probs.tolist() == pytest.approx(
        [row_log_prob(other, tree, leaf).item() for leaf in tree.leaves], rel=1e-12
    )
    assert not needs_constant(algorithm.objective)


def test_names_follow_from_the_tokens_alone() -> None:
    def names(tree: Tree) -> tuple[bytes, ...]:
        (piece,) = pieces(tree, tree.flat.policy, 0, 10_000)
        return RolloutLayout.of(Microbatch((piece,)).pieces).names

    tree = dialogue("talk", seed=2)
    assert names(replace(tree, id="other")) == names(tree) and len(set(names(tree))) == 3
    assert names(tree.split(1, 2)) == names(tree)
    draw = np.random.default_rng(0)
    changed = replace(tree.segments[5], tokens=segment(draw, Source.POLICY, 0, 7).tokens)
    other = names(replace(tree, segments=(*tree.segments[:5], changed)))
    assert other[:2] == names(tree)[:2] and other[2] != names(tree)[2]


def test_a_method_over_tokens_is_untouched_by_all_this() -> None:
    learner = learner_of(grpo(kl=0.1))
    assert isinstance(learner.reference, Reference) and not [n for n in learner.state()[0] if "kept" in n]
    assert isinstance(dpo().source, Compared)
