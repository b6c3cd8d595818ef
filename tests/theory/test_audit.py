"""Every named method against the exact gradient, by listing every batch that it can sample.

The expected gradient of a method is E sum_t A'_t grad log pi(a_t|s_t), where A' is what a token gets on average over
everything that its siblings may be. The tests derive A' on paper for two samples (i, and its sibling j) and compare.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from laurel.algorithms import (
    METHODS,
    Algorithm,
    Sampled,
    cispo,
    clone,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    ppo,
    reinforce,
    reinforce_plus_plus,
    remax,
    rloo,
    step_ppo,
    turn_ppo,
)
from laurel.credit import EveryToken, GreedyBaseline, LeaveOneOut, RewardToGo, SiblingMean, Standardised, WholeReturn
from laurel.errors import ConfigurationError
from laurel.objectives import ConstantLength, EntropyBonus, KLPenalty, PolicyGradient, TokenMean, reads_rollouts
from laurel.theory import (
    Experience,
    World,
    audit,
    example_dialogue,
    example_logits,
    example_world,
    gradient_distribution,
    group_tree,
    groups,
    kl_divergence,
    path_log_probs,
    return_gradient,
    score_function_gradient,
    single_turn,
)
from laurel.tree import Sampling, Source, Tree

WORLDS = {"single turn": example_world(), "dialogue": example_dialogue()}


@pytest.fixture(params=WORLDS)
def world(request) -> World:
    return WORLDS[request.param]


def expected(world: World, credit, objective, reduction, samples: int = 2, prompts: int = 1, **tables) -> np.ndarray:
    logits = example_logits(world)
    drawn = groups(world, tables.get("behaviour", logits), samples, prompts=prompts)
    return gradient_distribution(drawn, logits, credit=credit, losses=(objective,), reduction=reduction, **tables).mean


def paired(world: World, advantage: Callable[[float, float, int, int], float]) -> np.ndarray:
    """E over (i, j) of advantage(R_i, R_j, |i|, |j|) summed over the tokens of i: the gradient derived on paper."""
    chances = path_log_probs(world, example_logits(world)).exp().tolist()
    rows = []
    for path in world.paths:
        terms = [
            chance * advantage(sum(path.rewards), sum(other.rewards), len(path.tokens), len(other.tokens))
            for chance, other in zip(chances, world.paths, strict=True)
        ]
        rows.append([sum(terms)] * len(path.tokens))
    return score_function_gradient(world, example_logits(world), rows)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_reinforce_is_exact(world, samples, baseline):
    assert audit(reinforce(baseline=baseline), world, samples=samples).bias < 1e-10


def test_reward_to_go_is_exact_with_less_noise():
    world = example_dialogue()
    exact = return_gradient(world, example_logits(world))
    np.testing.assert_allclose(expected(world, RewardToGo(), PolicyGradient(), ConstantLength()), exact, atol=1e-10)
    discounted = expected(world, RewardToGo(discount=0.5), PolicyGradient(), ConstantLength())
    assert np.abs(discounted - exact).max() > 1e-3

    def noise(credit) -> float:
        logits = example_logits(world)
        return gradient_distribution(
            groups(world, logits, 1), logits, credit=credit, losses=(PolicyGradient(),), reduction=ConstantLength()
        ).variance

    assert noise(RewardToGo()) < noise(WholeReturn())


@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_is_exact(world, samples):
    report = audit(rloo(), world, samples=samples)
    assert report.bias < 1e-10
    assert report.scale == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("samples", [2, 3])
def test_sibling_mean_is_short_by_one_in_g(world, samples):
    report = audit(dr_grpo(length=1), world, samples=samples)
    assert report.scale == pytest.approx(1 - 1 / samples, abs=1e-10)
    assert report.cosine == pytest.approx(1, abs=1e-10)


def test_the_length_of_dr_grpo_only_scales(world):
    assert audit(dr_grpo(length=8), world).scale == pytest.approx(0.5 / 8, abs=1e-10)


def test_standardised_is_biased_as_derived(world):
    # Two samples: (R_i - R_j)/2 over |R_i - R_j|/2 is the sign; 1/sqrt(2) of it with ddof 1.
    exact = return_gradient(world, example_logits(world))
    sign = paired(world, lambda own, other, *_: float(np.sign(own - other)))
    given = expected(world, Standardised(epsilon=0), PolicyGradient(), ConstantLength())
    np.testing.assert_allclose(given, sign, atol=1e-10)
    given = expected(world, Standardised(epsilon=0, ddof=1), PolicyGradient(), ConstantLength())
    np.testing.assert_allclose(given, sign / np.sqrt(2), atol=1e-10)
    cosine = (sign * exact).sum() / np.linalg.norm(sign) / np.linalg.norm(exact)
    assert 0.9 < cosine < 0.999  # close to the exact direction, and not it


def test_grpo_is_biased_as_derived(world):
    epsilon = 1e-6

    def advantage(own: float, other: float, length: int, _: int) -> float:
        return (own - other) / 2 / (abs(own - other) / 2 + epsilon) / length

    given = expected(world, grpo().credit, grpo().objective, grpo().reduction)
    np.testing.assert_allclose(given, paired(world, advantage), atol=1e-10)


def test_dapo_is_biased_as_derived(world):
    def advantage(own: float, other: float, length: int, other_length: int) -> float:
        return 2 / (length + other_length) * (own - other) / 2 / (abs(own - other) / 2 + 1e-6)

    given = expected(world, dapo().credit, dapo().objective, dapo().reduction)
    np.testing.assert_allclose(given, paired(world, advantage), atol=1e-10)


def test_on_policy_a_bound_on_the_ratio_changes_nothing(world):
    # One step per batch: every ratio is 1, so GSPO is GRPO, and CISPO is DAPO without its sampling.
    for bounded, plain in ((gspo(), grpo()), (cispo(), dapo())):
        given = expected(world, bounded.credit, bounded.objective, bounded.reduction)
        same = expected(world, plain.credit, plain.objective, plain.reduction)
        np.testing.assert_allclose(given, same, atol=1e-10)


@pytest.mark.parametrize("group_baseline", [False, True])
def test_reinforce_plus_plus_is_biased_as_derived(world, group_baseline):
    # Two samples, one prompt. Over their tokens the mean is m = (n R + n' R') / (n + n'), the squared deviation
    # n n' (R - R')^2 / (n + n')^2: A = (R - R') n' / (n + n') over it = sign(R - R') sqrt(n' / n). Subtracting the
    # sibling mean first changes nothing with a single prompt. Token mean: each token weighs 1 / (n + n'), two samples.
    method = reinforce_plus_plus(group_baseline=group_baseline, epsilon=0.0)
    given = expected(world, method.credit, method.objective, method.reduction)

    def advantage(own: float, other: float, length: int, other_length: int) -> float:
        return 2 / (length + other_length) * float(np.sign(own - other)) * np.sqrt(other_length / length)

    np.testing.assert_allclose(given, paired(world, advantage), atol=1e-10)


def test_one_scale_for_the_step_is_nearer_to_the_exact_direction_than_one_per_prompt():
    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: answer[0] + 0.2 * answer[1])
    exact = return_gradient(world, example_logits(world))

    def cosine(method) -> float:
        given = expected(world, method.credit, PolicyGradient(), ConstantLength(), samples=2, prompts=2)
        return float((given * exact).sum() / np.linalg.norm(given) / np.linalg.norm(exact))

    assert cosine(grpo()) < cosine(reinforce_plus_plus(group_baseline=True)) < 1


def test_figures_with_two_samples_on_the_example_world():
    reports = {method.name: audit(method) for method in (rloo(), dr_grpo(length=1), grpo(), dapo())}
    assert reports["rloo"].scale == pytest.approx(1.0, abs=1e-10)
    assert reports["dr_grpo"].scale == pytest.approx(0.5, abs=1e-10)
    assert reports["grpo"].cosine == pytest.approx(0.958, abs=5e-4)
    assert reports["dapo"].cosine == pytest.approx(0.963, abs=5e-4)
    # A baseline pays: less noise per unit of signal with more siblings.
    assert audit(rloo(), samples=3).variance < reports["rloo"].variance
    assert str(reports["grpo"]).startswith("grpo")


@pytest.mark.parametrize(
    ("middle", "cosine"), [(0.01, 0.870), (0.3067, 0.976), (0.5, 1.0), (0.6933, 0.976), (0.9, 0.908)]
)
def test_the_cosine_of_standardised_pairs_is_a_matter_of_the_task(middle, cosine):
    # Three equally likely answers of returns 0, x, 1, mean m = (1 + x)/3: the exact gradient is (-m, x - m, 1 - m)/3.
    # A standardised pair keeps the sign of its difference, on average -2/3, 0 and 2/3: the direction is (-1, 0, 1).
    # Their cosine is 1 / sqrt(2 (m^2 + (x - m)^2 + (1 - m)^2)), and the squares sum to 2/3 (x^2 - x + 1).
    world = single_turn(vocabulary=3, horizon=1, score=lambda answer: [0.0, middle, 1.0][answer[0]])
    logits = torch.zeros(1, 3, dtype=torch.float64)
    found = audit(replace(grpo(epsilon=0.0), reduction=ConstantLength()), world, logits)
    assert found.cosine == pytest.approx(np.sqrt(3) / (2 * np.sqrt(middle**2 - middle + 1)), abs=1e-10)
    assert found.cosine == pytest.approx(cosine, abs=5e-4)


def test_standardised_pairs_of_right_and_wrong_are_not_tilted(world):
    binary = single_turn(vocabulary=3, horizon=2, score=lambda answer: float(answer in ((0, 1), (2,))), end=2)
    found = audit(replace(grpo(epsilon=0.0), reduction=ConstantLength()), binary)
    assert found.cosine == pytest.approx(1, abs=1e-10) and found.scale == pytest.approx(1, abs=1e-10)


def test_the_printed_table_is_what_the_audit_says():
    page = (Path(__file__).parents[2] / "docs" / "credit.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    printed = {
        name.split("`")[1]: (scale, cosine)
        for names, scale, cosine in (row for row in rows if len(row) == 3 and row[1].replace(".", "").isdigit())
        for name in names.split(",")
    }
    said = {}
    for name, method in METHODS.items():
        if estimates_the_return(method()):
            found = audit(method(length=1) if name == "dr_grpo" else method())
            said[name] = (f"{found.scale:.3f}", f"{found.cosine:.3f}")
    assert printed == said


@pytest.mark.parametrize("prompts", [1, 2])
def test_several_prompts_per_step_average(prompts):
    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: float(answer == (1, 0)))
    exact = return_gradient(world, example_logits(world))
    given = expected(world, LeaveOneOut(), PolicyGradient(), ConstantLength(), prompts=prompts)
    np.testing.assert_allclose(given, exact, atol=1e-10)


def test_cloning_climbs_the_likelihood_of_the_demonstrator(world):
    logits = example_logits(world).requires_grad_()
    expert = -0.5 * example_logits(world)
    given = expected(world, EveryToken(), clone().objective, ConstantLength(), samples=1, behaviour=expert)
    likelihood = (path_log_probs(world, expert).exp() * path_log_probs(world, logits)).sum()
    (exact,) = torch.autograd.grad(likelihood, logits)
    np.testing.assert_allclose(given, exact, atol=1e-10)
    same = expected(world, EveryToken(), clone().objective, ConstantLength(), samples=1)
    np.testing.assert_allclose(same, 0, atol=1e-10)


def test_cloning_by_tokens_is_the_same_where_lengths_are():
    world, expert = example_dialogue(), -0.5 * example_logits(example_dialogue())
    by_token = expected(world, EveryToken(), clone().objective, TokenMean(), samples=1, behaviour=expert)
    summed = expected(world, EveryToken(), clone().objective, ConstantLength(), samples=1, behaviour=expert)
    np.testing.assert_allclose(3 * by_token, summed, atol=1e-10)


def visits(world: World, logits: torch.Tensor) -> torch.Tensor:
    """How often each state is visited per rollout, [S]."""
    chances = path_log_probs(world, logits.detach()).exp()
    counts = torch.zeros(len(world.states), dtype=torch.float64)
    for chance, path in zip(chances, world.paths, strict=True):
        for state in path.states:
            counts[state] += chance
    return counts


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_a_kl_penalty_in_the_loss_holds_each_state_near_and_ignores_where_it_leads(world, estimator):
    logits = example_logits(world).requires_grad_()
    reference = torch.log_softmax(-0.5 * example_logits(world), -1)
    given = expected(world, WholeReturn(), KLPenalty(0.3, estimator), ConstantLength(), samples=1, reference=reference)
    table = torch.log_softmax(logits, -1)
    if estimator == "k2":
        per_state = (table.exp() * (table - reference)).sum(-1)
    else:
        per_state = (reference.exp() * (reference - table)).sum(-1)
    (local,) = torch.autograd.grad(-0.3 * (visits(world, logits) * per_state).sum(), logits)
    np.testing.assert_allclose(given, local, atol=1e-10)
    (whole,) = torch.autograd.grad(-0.3 * kl_divergence(world, logits, reference), logits)
    assert np.abs(given - whole.numpy()).max() > 1e-3  # the stated bias is there


def test_the_entropy_bonus_is_exact_at_the_visited_states(world):
    logits = example_logits(world).requires_grad_()
    given = expected(world, WholeReturn(), EntropyBonus(0.3), ConstantLength(), samples=1)
    table = torch.log_softmax(logits, -1)
    total = 0.3 * (visits(world, logits) * -(table.exp() * table).sum(-1)).sum()
    (exact,) = torch.autograd.grad(total, logits)
    np.testing.assert_allclose(given, exact, atol=1e-10)


def test_variance_is_that_of_the_listed_gradients():
    # One token, two choices, R = 1 for token 0: the gradient is (1 - p, -(1 - p)) with chance p, else 0.
    world = single_turn(vocabulary=2, horizon=1, score=lambda answer: float(answer == (0,)))
    logits = torch.log(torch.tensor([[0.25, 0.75]], dtype=torch.float64))
    given = gradient_distribution(
        groups(world, logits, 1), logits, credit=WholeReturn(), losses=(PolicyGradient(),), reduction=ConstantLength()
    )
    np.testing.assert_allclose(given.mean, [[0.1875, -0.1875]])
    assert given.variance == pytest.approx(2 * 0.75**2 * 0.25 * 0.75)


def test_a_greedy_baseline_is_exact(world):
    # The most likely rollout first, marked as drawn greedily, then two sampled ones: it shifts, and is not learned.
    logits = example_logits(world)
    greedy = world.paths[int(path_log_probs(world, logits).argmax())]
    batches = []
    for batch in groups(world, logits, 2):
        (sampled,) = batch.trees
        both = group_tree(world, (greedy,)).segments
        marked = [replace(s, sampling=Sampling(top_k=1)) if s.source is Source.POLICY else s for s in both]
        moved = [replace(s, parent=s.parent + len(marked) - 1 if s.parent else 0) for s in sampled.segments[1:]]
        tree = Tree("t", "t", (*marked, *moved))
        batches.append(Experience(batch.probability, (tree,), (*greedy.states, *batch.states)))
    given = gradient_distribution(
        batches, logits, credit=GreedyBaseline(), losses=(PolicyGradient(),), reduction=ConstantLength()
    )
    np.testing.assert_allclose(given.mean, return_gradient(world, logits), atol=1e-10)


def test_too_many_batches_say_so():
    with pytest.raises(ConfigurationError, match="batches"):
        list(groups(example_world(), example_logits(example_world()), 9))


def test_a_group_of_one_teaches_nothing_without_a_baseline_of_its_own():
    given = expected(example_world(), SiblingMean(), PolicyGradient(), ConstantLength(), samples=1)
    assert not given.any()


@pytest.mark.parametrize("make", [ppo, turn_ppo])
def test_a_method_with_a_critic_is_audited_with_exact_values(make, world):
    found = audit(replace(make(), reduction=ConstantLength()), world, samples=1)
    assert found.bias < 1e-10
    plain = audit(reinforce(), world, samples=1)
    assert found.variance < plain.variance


@pytest.mark.parametrize("samples", [1, 2])
def test_the_greedy_rollout_is_a_baseline_without_bias(world, samples):
    found = audit(remax(), world, samples=samples)
    assert found.bias < 1e-10
    assert found.variance > 0


def estimates_the_return(algorithm: Algorithm) -> bool:
    source = algorithm.source
    return isinstance(source, Sampled) and source.needs_reward and not reads_rollouts(algorithm.objective)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_audited_or_says_why_not(name):
    said = ""
    try:
        assert audit(METHODS[name]()).cosine > 0.95
    except ConfigurationError as refused:
        said = str(refused)
    if estimates_the_return(METHODS[name]()):
        assert not said
    elif said:  # what recovers a reward may improve the policy by an estimator of the return
        assert f"'{name}'" in said and "nothing to compare it with" in said and "What to do" in said


@pytest.mark.parametrize("settings", [{}, {"reading": "rewards"}, {"separator": None}, {"part": ""}], ids=str)
@pytest.mark.parametrize("world", [example_world(), example_dialogue()], ids=["single turn", "dialogue"])
def test_a_scorer_of_steps_that_knows_the_values_gives_the_exact_direction(world, settings):
    algorithm = replace(step_ppo(**settings), reduction=ConstantLength())  # without the mean over tokens' scale
    found = audit(algorithm, world)
    assert (found.scale, found.bias) == pytest.approx((1, 0), abs=1e-10)
