"""Learning values: the loss by hand, what is read where, fits with known answers, and what a resumed critic does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_trees import batch, dialogue, fan

from laurel.algorithms import Algorithm, Credit, grpo, ppo, turn_ppo
from laurel.credit import GeneralisedAdvantage
from laurel.errors import ConfigurationError, LearnerError, PolicyError
from laurel.learner import CriticSettings, Learner, OptimiserSettings, explained_variance, value_loss
from laurel.policy import Policy, critic_for, tiny
from laurel.tree import Ending, Outcome, Score, Tree


def policy(seed: int = 0) -> Policy:
    return tiny(alphabet="abcdefghij", hidden_size=16, layers=1, heads=2, context_length=64, seed=seed)


def learner(
    algorithm: Algorithm | None = None, *, rate: float = 1e-2, budget: int = 10_000, seed: int = 0, **settings: object
) -> Learner:
    made = policy()
    optimiser = OptimiserSettings(learning_rate=rate, betas=(0.0, 0.9), maximum_gradient_norm=None)
    fitted = CriticSettings(optimiser=optimiser, **settings)  # type: ignore[arg-type]
    return Learner(
        made,
        algorithm or ppo(epochs=1),
        optimiser,
        critic=critic_for(made, kind=fitted.kind),
        critic_settings=fitted,
        seed=seed,
        tokens_per_microbatch=budget,
    )


def set_constant(made: Learner, value: float) -> None:
    """Make the critic say `value` everywhere."""
    with torch.no_grad():
        made.critic.trainable_parameters()["value_head.bias"].fill_(value)


def drawn_now(made: Learner, trees: Sequence[Tree]) -> list[Tree]:
    """The trees as if the policy, as it is now, had drawn them."""
    return [
        replace(
            tree,
            segments=tuple(
                s if s.policy_version is None else replace(s, policy_version=made.version) for s in tree.segments
            ),
        )
        for tree in trees
    ]


def test_value_loss_by_hand() -> None:
    values = torch.tensor([0.5, 2.0, 2.0, -1.0], requires_grad=True)
    targets, before = torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(value_loss(values, targets, before), torch.tensor([0.125, 0.5, 0.5, 8.0]))
    # Clipped at 0.3: the clipped values are 0.3, 0.3, 0.3 and -0.3; the worse of the two errors counts.
    clipped = value_loss(values, targets, before, clip=0.3)
    torch.testing.assert_close(clipped, torch.tensor([0.49 / 2, 0.5, 2.7**2 / 2, 8.0]))
    (gradient,) = torch.autograd.grad(clipped.sum(), values)
    # Nearer than before and beyond the clip: no gradient. Beyond the target, or away from it: pulled back.
    torch.testing.assert_close(gradient, torch.tensor([0.0, 1.0, 0.0, -4.0]))


def test_explained_variance_by_hand() -> None:
    targets = np.array([0.0, 1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == 1.0
    assert explained_variance(np.zeros(4), targets) == 0.0
    assert explained_variance(np.array([0.0, 1.0, 2.0, 1.0]), targets) == pytest.approx(1 - 0.75 / 1.25)
    assert np.isnan(explained_variance(np.zeros(2), np.ones(2)))


def test_credit_reads_the_critic_and_keeps_what_it_said() -> None:
    made, trees = learner(), batch()
    set_constant(made, 0.25)
    for tree, credit in zip(trees, made.credit(trees), strict=True):
        assert credit.values is not None and credit.value_targets is not None
        assert (credit.values[credit.mask] == 0.25).all() and (credit.values[~credit.mask] == 0).all()
        # At decay 1 the advantage is the return that follows minus the value before, whatever the critic says.
        np.testing.assert_allclose(credit.advantages[credit.mask], credit.value_targets[credit.mask] - 0.25)
        leaf = tree.rollouts[0].leaf
        last = int(tree.flat.ends[leaf]) - 1
        assert credit.value_targets[last] == pytest.approx(tree.rollouts[0].reward)


def test_values_are_read_at_the_parent() -> None:
    made, trees = learner(), [dialogue("talk", seed=2)]
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = made.critic.trainable_parameters()["value_head.weight"]
        weight.copy_(torch.randn(weight.shape, generator=noise))
    (values,) = made.values(trees)
    (credit,) = made.credit(trees)
    flat = trees[0].flat
    assert values.shape == (len(flat),)
    for token in np.flatnonzero(credit.mask):
        assert credit.values[token] == values[flat.parent[token]]  # type: ignore[index]
    starts = flat.starts[[1, 5]]  # two answers to one prompt: the same value before both
    assert credit.values[starts[0]] == credit.values[starts[1]] == values[3]  # type: ignore[index]


@pytest.mark.parametrize("algorithm", [ppo(epochs=1, decay=0.5, discount=0.9), turn_ppo(epochs=1, discount=0.9)])
def test_truncated_bootstraps_and_terminated_does_not(algorithm: Algorithm) -> None:
    made = learner(algorithm)
    set_constant(made, 2.0)
    tree = fan("fan", [1.0, 1.0], seed=1)
    first, second = tree.leaves
    cut = tree.with_outcomes({second: Outcome(Ending.TRUNCATED, "length", Score(1.0))})
    (credit,) = made.credit([cut])
    last = [int(cut.flat.ends[leaf]) - 1 for leaf in (first, second)]
    assert credit.value_targets is not None
    assert credit.value_targets[last[0]] == pytest.approx(1.0)
    assert credit.value_targets[last[1]] == pytest.approx(1.0 + 0.9 * 2.0)
    assert credit.advantages[last[0]] == pytest.approx(1.0 - 2.0)
    assert credit.advantages[last[1]] == pytest.approx(1.0 + 0.9 * 2.0 - 2.0)


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_a_fit_finds_the_mean_return(kind: str) -> None:
    made = learner(kind=kind, prefit_updates=60, rate=2e-2)
    trees = [fan("good", [1.0, 0.0, 1.0, 1.0], seed=1), fan("bad", [0.0, 0.0, 0.0, 0.0], seed=3)]
    losses = []
    for step in range(1, 61):
        metrics = made.update(trees, made.credit(trees), step).metrics
        losses.append(metrics["critic/loss"].mean)
    assert metrics["critic/explained_variance"].mean > 0.5
    assert losses[0] > 2 * losses[-1]
    good, bad = made.values(trees)
    assert bad[4] < 0.5 < good[4]


def gradient(budget: int, trees: Sequence[Tree]) -> torch.Tensor:
    """Of the critic's first step (with betas of 0 the first moment is the gradient), under a head that is not 0."""
    made = learner(budget=budget)
    with torch.no_grad():
        made.critic.trainable_parameters()["value_head.weight"].fill_(0.5)
    made.update(trees, made.credit(trees), 1)
    moments = made.state()[0]
    names = made.critic.trainable_parameters()
    return torch.cat([moments[f"critic.optimiser.first_moment.{name}"].flatten() for name in names])


@pytest.mark.parametrize("budget", [1, 12, 40])
def test_any_split_gives_the_same_gradient(budget: int) -> None:
    whole = gradient(10_000, batch())
    assert (gradient(budget, batch()) - whole).norm() < 1e-5 * whole.norm()


def test_the_first_updates_are_the_critics_alone() -> None:
    made = learner(prefit_updates=2)
    trees = batch()
    start = {name: tensor.clone() for name, tensor in made.policy.tensors().items()}
    for step in (1, 2, 3):
        report = made.update(trees, made.credit(trees), step)
        same = all(torch.equal(start[name], tensor) for name, tensor in made.policy.tensors().items())
        assert same == (step <= 2) == (made.version == 0)
        assert (report.skipped is not None) == (step <= 2)
        assert np.isfinite(report.metrics["critic/loss"].mean)
    with pytest.raises(ConfigurationError, match="the policy never learns"):
        Learner(
            policy(),
            ppo(),
            OptimiserSettings(),
            critic=critic_for(policy()),
            critic_settings=CriticSettings(prefit_updates=3),
            total_steps=3,
        )


def test_a_critic_is_fitted_by_settings_of_its_own() -> None:
    made = policy()
    fitted = CriticSettings(
        optimiser=OptimiserSettings(learning_rate=2e-2, schedule="linear"), epochs=3, minibatches=2, prefit_updates=1
    )
    ours = Learner(
        made,
        ppo(epochs=1, minibatches=1),
        OptimiserSettings(learning_rate=1e-3),
        critic=critic_for(made),
        critic_settings=fitted,
        total_steps=3,
    )
    trees = batch()
    for step in (1, 2, 3):
        report = ours.update(drawn_now(ours, trees), ours.credit(trees), step)
        assert report.metrics["critic/loss"].count == 3 * 2
    assert ours.version == 2 and ours.state()[1]["critic_optimiser_steps"] == 3 * 3 * 2
    assert report.metrics["learning_rate"].mean == 1e-3, "the policy's rate does not follow the critic's schedule"
    # The critic's own schedule has ended: its weights stand still, and another fit changes nothing.
    before = {name: tensor.clone() for name, tensor in ours.critic.tensors().items()}
    ours.update(drawn_now(ours, trees), ours.credit(trees), 4)
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.critic.tensors().items())


def test_a_value_clip_holds_values_near_what_they_were() -> None:
    trees = [fan("fan", [5.0, 5.0, 5.0], seed=1)]
    free, held = learner(epochs=40), learner(epochs=40, clip=0.1)
    for made in (free, held):
        metrics = made.update(trees, made.credit(trees), 1).metrics
    mask = made.credit(trees)[0].mask
    before = trees[0].flat.parent[mask]
    assert "critic/clipped" in metrics and metrics["critic/clipped"].mean > 0.5
    assert np.abs(held.values(trees)[0][before]).max() < 1.0 < np.abs(free.values(trees)[0][before]).max()


def test_a_resumed_critic_goes_on_bit_for_bit() -> None:
    trees = batch()
    whole, first, second = learner(), learner(), learner()
    for step in (1, 2, 3):
        whole.update(drawn_now(whole, trees), whole.credit(trees), step)
    for step in (1, 2):
        first.update(drawn_now(first, trees), first.credit(trees), step)
    tensors, state = first.state()
    second.policy.load_tensors(first.policy.tensors())
    second.load_state({name: tensor.clone() for name, tensor in tensors.items()}, state)
    second.update(drawn_now(second, trees), second.credit(trees), 3)
    ours, theirs = second.state()[0], whole.state()[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(name.startswith("critic.weights.value_head") for name in ours)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes its credit from a critic"):
        Learner(policy(), ppo(), OptimiserSettings())
    stranger = tiny(alphabet="xyz", hidden_size=16, layers=1, heads=2, context_length=64)
    with pytest.raises(PolicyError, match="reads other tokens"):
        Learner(policy(), ppo(), OptimiserSettings(), critic=critic_for(stranger))
    made, trees = learner(), batch()
    with pytest.raises(LearnerError, match="no value targets"):
        made.update(trees, grpo().credit(trees), 1)  # type: ignore[call-arg]
    made = learner()
    credits = made.credit(trees)
    broken = replace(credits[1], value_targets=np.full(len(trees[1].flat), np.nan))
    with pytest.raises(LearnerError, match="talk: a value target is not finite"):
        made.update(trees, [credits[0], broken, *credits[2:]], 1)
    plain = Learner(policy(), grpo(), OptimiserSettings())
    with pytest.raises(LearnerError, match="has no critic"):
        made.load_state(*plain.state())
    for wrong in ({"kind": "borrowed"}, {"clip": 0.0}, {"prefit_updates": -1}, {"epochs": 0}):
        with pytest.raises(ConfigurationError, match="critic:"):
            CriticSettings(**wrong)  # type: ignore[arg-type]


def test_a_rule_that_standardises_keeps_its_targets() -> None:
    made = learner(replace(ppo(epochs=1), credit=GeneralisedAdvantage(standardise=True)))
    credits: list[Credit] = made.credit(batch())
    together = np.concatenate([credit.advantages[credit.mask] for credit in credits])
    assert together.mean() == pytest.approx(0, abs=1e-9) and together.std() == pytest.approx(1, abs=1e-6)
    assert all(credit.value_targets is not None and credit.values is not None for credit in credits)
