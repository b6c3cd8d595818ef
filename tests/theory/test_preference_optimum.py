"""C1, C2 and a part of C9: what DPO converges to on answers that can be listed, and what the learner makes of it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from laurel.algorithms import dpo, ipo, spin
from laurel.errors import ConfigurationError
from laurel.learner import Learner, OptimiserSettings
from laurel.objectives import RolloutBatch, dpo_loss, ipo_loss, robust_dpo_loss
from laurel.policy import Policy, pack, tiny
from laurel.theory import (
    bradley_terry,
    example_logits,
    example_world,
    fitted_rewards,
    optimal_path_probs,
    path_log_probs,
    path_returns,
    population_loss,
    preference_optimum,
    regularised_value,
    thurstone,
    tilted,
    total_variation,
)
from laurel.tree import Ending, FloatArray, Outcome, Score, Segment, Source, Tree

BETA = 0.3
WORLD = example_world()
REFERENCE = np.exp(np.asarray(path_log_probs(WORLD, example_logits(WORLD))))
REWARDS = np.asarray(path_returns(WORLD))


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
def test_c1_dpo_reaches_the_optimum_of_rlhf(beta: float) -> None:
    """All pairs of the seven answers of a world, Bradley-Terry preferences, the same beta on both sides."""
    table = bradley_terry(REWARDS)
    found = preference_optimum(REFERENCE, table, partial(dpo_loss, beta=beta))
    assert total_variation(found, tilted(REFERENCE, REWARDS, beta)) < 1e-8
    assert total_variation(found, optimal_path_probs(WORLD, example_logits(WORLD), beta)) < 1e-8


def test_c1_the_greatest_value_is_beta_log_z() -> None:
    best = tilted(REFERENCE, REWARDS, BETA)
    z = float(REFERENCE @ np.exp(REWARDS / BETA))
    assert regularised_value(best, REFERENCE, REWARDS, BETA) == pytest.approx(BETA * np.log(z), abs=1e-12)
    draw = np.random.default_rng(0)
    for _ in range(50):
        other = draw.dirichlet(np.ones(len(best)))
        assert regularised_value(other, REFERENCE, REWARDS, BETA) < BETA * np.log(z)


def test_c1_the_optimum_is_that_of_the_policys_own_table() -> None:
    """The same through the logits of the world, by gradient descent on what the objective sees."""
    table = bradley_terry(REWARDS)
    logits = example_logits(WORLD).requires_grad_()
    start = path_log_probs(WORLD, logits).detach()
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-14, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = population_loss(path_log_probs(WORLD, logits) - start, table, partial(dpo_loss, beta=BETA))
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = np.exp(np.asarray(path_log_probs(WORLD, logits).detach()))
    assert total_variation(found, tilted(REFERENCE, REWARDS, BETA)) < 1e-8


def test_c1_without_bradley_terry_dpo_is_still_rlhf_and_both_miss_the_optimum() -> None:
    """Answers that are judged with noises of their own: the reward model is wrong, and DPO is that reward model."""
    table = thurstone(REWARDS, np.linspace(0.2, 3.0, len(REWARDS)))
    direct = preference_optimum(REFERENCE, table, partial(dpo_loss, beta=BETA))
    in_stages = tilted(REFERENCE, fitted_rewards(table), BETA)
    assert total_variation(direct, in_stages) < 1e-8
    assert total_variation(direct, tilted(REFERENCE, REWARDS, BETA)) > 0.1
    # The control: a reward that is judged with equal noise is nearer, and the fit of Bradley-Terry tables is exact.
    assert np.allclose(fitted_rewards(bradley_terry(REWARDS)), REWARDS - REWARDS.mean(), atol=1e-9)


def certain(rewards: FloatArray) -> FloatArray:
    table = (rewards[:, None] > rewards[None, :]).astype(np.float64)
    return np.where(rewards[:, None] == rewards[None, :], 0.5, table)


DISTINCT = np.linspace(0.0, 1.0, len(REWARDS))


def test_c2_certain_preferences_have_no_optimum_for_dpo_and_one_for_ipo() -> None:
    table = certain(DISTINCT)
    with pytest.raises(ConfigurationError, match="no minimum at a finite distance"):
        preference_optimum(REFERENCE, table, partial(dpo_loss, beta=BETA))
    bounded = preference_optimum(REFERENCE, table, partial(ipo_loss, tau=BETA))
    # IPO's table p - 1/2 has a least-squares fit: log-ratio(i) = (mean_j p[i, j] - 1/2) / tau, up to a constant.
    wins = (table.sum(1) - 0.5) / len(table)
    assert total_variation(bounded, tilted(REFERENCE, wins - 0.5, BETA)) < 1e-8
    assert bounded.max() < 0.9
    smoothed = preference_optimum(REFERENCE, table, partial(dpo_loss, beta=BETA, label_smoothing=0.1))
    assert smoothed.min() > 0


def test_c2_dpo_puts_all_mass_on_one_answer_at_fixed_beta() -> None:
    """The nearer preferences are to certain, the more; the regularisation does not hold, whatever beta is."""
    for beta in (0.3, 2.0):
        masses = []
        for doubt in (1e-1, 1e-2, 1e-5):
            table = np.clip(certain(DISTINCT), doubt, 1 - doubt)
            np.fill_diagonal(table, 0.5)
            masses.append(float(preference_optimum(REFERENCE, table, partial(dpo_loss, beta=beta))[-1]))
        assert masses[0] < masses[1] < masses[2] and masses[2] > 0.99
        assert tilted(REFERENCE, DISTINCT, beta)[-1] < 0.7  # what RLHF with the true reward would do


# The learner itself: a transformer, one prompt, three answers of one letter, and every pair in its proportion.

ANSWERS = ("a", "b", "c")
WINS = {("b", "a"): (3, 1), ("c", "b"): (3, 1), ("c", "a"): (9, 1)}  # Bradley-Terry with rewards 0, log 3, log 9


def double(made: Policy) -> Policy:
    """In float64 throughout: stock norms compute in float32."""
    made.model.to(torch.float64)
    for parent in list(made.model.modules()):
        for name, module in parent.named_children():
            if type(module).__name__.endswith("RMSNorm"):
                norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
                norm.weight = module.weight
                setattr(parent, name, norm)
    return made


def pair(policy: Policy, better: str, worse: str, name: str) -> Tree:
    segments = [Segment(Source.PROMPT, policy.encode_prompt("ab"), -1)]
    for answer, score in ((better, 1.0), (worse, 0.0)):
        outcome = Outcome(Ending.TERMINATED, "pair", Score(score))
        segments.append(Segment(Source.POLICY, policy.encode_answer(answer), 0, text=answer, outcome=outcome))
    return Tree(name, name, tuple(segments))


@torch.no_grad()
def among_answers(policy: Policy) -> FloatArray:
    """pi(answer) renormalised over the three: pairs say nothing of what nobody compared."""
    segments = [Segment(Source.PROMPT, policy.encode_prompt("ab"), -1)]
    segments += [Segment(Source.POLICY, policy.encode_answer(answer), 0) for answer in ANSWERS]
    tree = Tree("all", "all", tuple(segments))
    log_probs = policy.token_scores(pack([tree], [tree.flat.policy])).log_probs.reshape(3, 2).sum(1)
    return np.asarray(torch.softmax(log_probs, 0))


def learned(
    proportions: dict[tuple[str, str], tuple[int, int]], *, steps: int, identity: bool = False
) -> tuple[FloatArray, FloatArray]:
    """(before, after) of the learner's own optimiser steps on the whole table of pairs."""
    policy = double(tiny(alphabet="abc", hidden_size=16, layers=1, heads=2, context_length=8))
    before = among_answers(policy)
    trees: list[Tree] = []
    for (one, other), (won, lost) in proportions.items():
        trees += [pair(policy, one, other, f"{one}>{other}.{n}") for n in range(won)]
        trees += [pair(policy, other, one, f"{other}>{one}.{n}") for n in range(lost)]
    algorithm = ipo(tau=0.5, per_token=False) if identity else dpo(beta=0.5)
    settings = OptimiserSettings(learning_rate=1e-2, schedule="cosine", maximum_gradient_norm=None)
    learner = Learner(policy, algorithm, settings, total_steps=steps, reference=policy.snapshot("start"))
    credits = learner.credit(trees)
    for step in range(1, steps + 1):
        learner.update(trees, credits, step)
    return before, among_answers(policy)


def test_c1_the_learners_own_steps_reach_it_too() -> None:
    before, after = learned(WINS, steps=300)
    rewards = np.log([1.0, 3.0, 9.0])
    expected = tilted(before, rewards, 0.5)
    assert total_variation(before, expected) > 0.3
    assert total_variation(after, expected) < 1e-7


def test_c2_the_learners_own_steps_go_on_where_preferences_are_certain() -> None:
    sure = dict.fromkeys(WINS, (1, 0))
    _, after = learned(sure, steps=150)
    assert after[2] > 0.999
    before, held = learned(sure, steps=150, identity=True)
    # IPO at tau = 1/2: log-ratios are (wins / 3 - 1/2) / tau, with half a win against oneself.
    assert total_variation(held, tilted(before, np.array([0.5, 1.5, 2.5]) / 3, 0.5)) < 1e-4
    assert held[2] < 0.8


@pytest.mark.parametrize("strength", [0.1, 2.0])
def test_c9_the_gradient_of_spin_is_zero_exactly_where_the_policy_is_the_data(strength: float) -> None:
    """Every pair of a demonstrated and a drawn answer, with its probability, through the method's own objective."""
    objective = spin(strength=strength).objective
    data = np.array([0.5, 0.2, 0.2, 0.1])
    for policy in (data, np.array([0.25, 0.25, 0.25, 0.25]), np.array([0.1, 0.2, 0.2, 0.5])):
        logits = torch.log(torch.from_numpy(policy)).requires_grad_()
        table = torch.log_softmax(logits, 0)
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        chances = torch.from_numpy(np.outer(data, policy).flatten())
        batch = RolloutBatch(
            log_probs=table[pairs.flatten()],
            lengths=torch.ones(32, dtype=torch.float64),
            advantages=torch.tensor([0.5, -0.5], dtype=torch.float64).repeat(16),
            prompts=torch.arange(16).repeat_interleave(2),
            prompt_count=16,
            reference_log_probs=table.detach()[pairs.flatten()],
        )
        loss, _ = objective(batch)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad((chances * loss).sum(), logits)
        assert np.allclose(gradient, -strength / 2 * (data - policy), atol=1e-15)
        assert (float(gradient.abs().max()) < 1e-15) == (policy is data)


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_ipo_stays_where_its_paper_says_when_one_of_two_answers_always_wins(tau: float) -> None:
    """arXiv 2310.12036: from a uniform reference pi(winner) = sigmoid(1 / (2 tau)), where DPO goes to 1.

    By hand: against a uniform opponent the winner wins 3/4 of the time and the loser 1/4, a tie with itself counting
    half; the policy is proportional to exp(that / tau).
    """
    table = np.array([[0.5, 1.0], [0.0, 0.5]])
    found = preference_optimum(np.full(2, 0.5), table, partial(ipo_loss, tau=tau))
    assert found[0] == pytest.approx(1 / (1 + np.exp(-1 / (2 * tau))), abs=1e-10)


def test_the_conservative_form_stops_at_the_smoothed_odds() -> None:
    """Mitchell 2023: with flips e the optimal margin is log((1 - e) / e), where plain DPO has none."""
    table = np.array([[0.5, 1.0], [0.0, 0.5]])
    for smoothing in (0.1, 0.25):
        found = preference_optimum(np.full(2, 0.5), table, partial(dpo_loss, beta=BETA, label_smoothing=smoothing))
        margin = BETA * np.log(found[0] / found[1])
        assert margin == pytest.approx(np.log((1 - smoothing) / smoothing), abs=1e-9)


def test_the_robust_form_undoes_known_flips() -> None:
    """Chowdhury et al. 2024: on labels of which a share e is flipped its optimum is DPO's on the unflipped ones."""
    flips, clean = 0.2, bradley_terry(np.array([0.0, 0.5, 1.5]))
    noisy = (1 - flips) * clean + flips * (1 - clean)
    reference = np.array([0.2, 0.5, 0.3])
    wanted = preference_optimum(reference, clean, partial(dpo_loss, beta=BETA))
    found = preference_optimum(reference, noisy, partial(robust_dpo_loss, beta=BETA, label_smoothing=flips))
    assert total_variation(found, wanted) < 1e-8
