"""Credit rules that read a critic against the exact gradient, by listing every rollout. Unread values are NaN."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from laurel.algorithms import Algorithm, Sampled, ppo
from laurel.credit import Credit, GeneralisedAdvantage, Retrace, TurnAdvantage, VTrace
from laurel.objectives import ConstantLength, PolicyGradient
from laurel.theory import (
    World,
    audit,
    example_dialogue,
    example_logits,
    example_world,
    gradient_distribution,
    groups,
    history_values,
    path_log_probs,
    return_gradient,
    single_turn,
    token_log_ratios,
    token_values,
)

WORLDS = {"single turn": example_world(), "dialogue": example_dialogue()}


@pytest.fixture(params=WORLDS)
def world(request) -> World:
    """The two example worlds; what a limit cuts off there is worth nothing more."""
    return WORLDS[request.param]


def critic(values: dict, beyond: float = 0.0) -> Callable:
    """A critic that knows the values of these histories; after everything else `beyond`, or NaN."""

    def read(trees):
        return [np.nan_to_num(token_values(tree, values), nan=beyond) for tree in trees]

    return read


def v_trace(rho_cap: float = float("inf"), c_cap: float = float("inf")) -> Algorithm:
    """Policy gradient with the credit of V-trace: a method for stale data, put together by hand."""
    return Algorithm(
        "v_trace", "", "", "", Sampled(), VTrace(rho_cap=rho_cap, c_cap=c_cap), PolicyGradient(), ConstantLength()
    )


def with_critic(rule, values: Callable, log_ratios: Callable | None = None) -> Callable:
    def credit(trees) -> list[Credit]:
        extra = () if log_ratios is None else (log_ratios(trees),)
        return rule(trees, values(trees), *extra)

    return credit


def expected(world: World, credit: Callable, samples: int = 1, behaviour: torch.Tensor | None = None) -> np.ndarray:
    logits = example_logits(world)
    drawn = groups(world, logits if behaviour is None else behaviour, samples)
    return gradient_distribution(
        drawn, logits, credit=credit, losses=(PolicyGradient(),), reduction=ConstantLength(), behaviour=behaviour
    ).mean


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("samples", [1, 2])
def test_with_exact_values_every_decay_is_exact(world, decay, samples):
    values = critic(history_values(world, example_logits(world)))
    given = expected(world, with_critic(GeneralisedAdvantage(decay=decay), values), samples)
    np.testing.assert_allclose(given, return_gradient(world, example_logits(world)), atol=1e-10)


def wrong(values: dict) -> dict:
    return {history: value + 0.5 * np.sin(7.0 * index + 1) for index, (history, value) in enumerate(values.items())}


def test_with_wrong_values_only_decay_one_is_exact(world):
    exact = return_gradient(world, example_logits(world))
    values = critic(wrong(history_values(world, example_logits(world))))
    unbiased = expected(world, with_critic(GeneralisedAdvantage(decay=1.0), values))
    np.testing.assert_allclose(unbiased, exact, atol=1e-10)
    biased = expected(world, with_critic(GeneralisedAdvantage(decay=0.0), values))
    assert np.abs(biased - exact).max() > 1e-2


def test_exact_values_cut_the_noise(world):
    logits = example_logits(world)
    noise = {}
    for decay in (0.0, 1.0):
        rule = with_critic(GeneralisedAdvantage(decay=decay), critic(history_values(world, logits)))
        noise[decay] = gradient_distribution(
            groups(world, logits, 1), logits, credit=rule, losses=(PolicyGradient(),), reduction=ConstantLength()
        ).variance
    assert noise[0.0] < noise[1.0]


def test_a_critic_read_one_token_late_has_no_gradient():
    # Fixed lengths, one final score: subtracting V(after the token) leaves nothing of its effect.
    world = single_turn(vocabulary=3, horizon=2, score=lambda answer: float(answer == (1, 0)) - answer[0] * answer[1])
    values = history_values(world, example_logits(world))
    values |= {path.tokens: sum(path.rewards) for path in world.paths}

    def late(trees):
        read = [token_values(tree, values) for tree in trees]
        shifted = []
        for tree, after in zip(trees, read, strict=True):
            rows = np.full(len(after), np.nan)
            for token, parent in enumerate(tree.flat.parent):
                if parent >= 0:
                    rows[parent] = after[token]
            shifted.append(rows)
        return shifted

    given = expected(world, with_critic(GeneralisedAdvantage(decay=1.0), late))
    np.testing.assert_allclose(given, 0, atol=1e-10)
    assert np.abs(return_gradient(world, example_logits(world))).max() > 0.05


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_bootstrapping_through_a_limit_is_exact(decay):
    # The same task, cut off after two of its three tokens: what is cut off is worth its value, so the gradient at the
    # first two tokens is that of the whole task. Taking the limit for the end would not give it.
    whole = single_turn(vocabulary=2, horizon=3, score=lambda answer: float(answer in ((1, 0, 1), (0, 0, 0))))
    cut = single_turn(vocabulary=3, horizon=2, score=lambda answer: 0.0, end=2)
    cut = World(2, cut.respond)
    values = history_values(whole, example_logits(whole))
    table = torch.stack([example_logits(whole)[whole.states[history]] for history in cut.states])
    exact = np.stack([return_gradient(whole, example_logits(whole))[whole.states[history]] for history in cut.states])
    given = gradient_distribution(
        groups(cut, table, 1),
        table,
        credit=with_critic(GeneralisedAdvantage(decay=decay), critic(values, beyond=np.nan)),
        losses=(PolicyGradient(),),
        reduction=ConstantLength(),
    ).mean
    np.testing.assert_allclose(given, exact, atol=1e-10)


def turn_values(world: World) -> dict:
    return history_values(world, example_logits(world))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_turn_advantages_are_exact_with_exact_values(decay):
    world = example_dialogue()
    given = expected(world, with_critic(TurnAdvantage(decay=decay), critic(turn_values(world), beyond=np.nan)))
    np.testing.assert_allclose(given, return_gradient(world, example_logits(world)), atol=1e-10)


def log_ratios(world: World, behaviour: torch.Tensor) -> Callable:
    """log pi - log mu of the tokens that mu drew."""
    return lambda trees: [token_log_ratios(tree, world, example_logits(world), behaviour) for tree in trees]


def expected_targets(world: World, rule: VTrace, values: dict, behaviour: torch.Tensor) -> dict:
    """E over mu of the target of every history, given that it was reached."""
    read, ratios = critic(values), log_ratios(world, behaviour)
    mass, worth = dict.fromkeys(values, 0.0), dict.fromkeys(values, 0.0)
    for experience, path in zip(groups(world, behaviour, 1), world.paths, strict=True):
        (credit,) = rule(experience.trees, read(experience.trees), ratios(experience.trees))
        targets = credit.value_targets[experience.trees[0].flat.policy]
        for history, target in zip(path.histories, targets, strict=True):
            mass[history] += experience.probability
            worth[history] += experience.probability * target
    return {history: worth[history] / mass[history] for history in values}


@pytest.mark.parametrize("rule", [VTrace, Retrace])
@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
def test_in_fresh_experience_they_are_the_lambda_return_and_keep_one_difference_more_in_full(world, rule, decay):
    logits = example_logits(world)
    read, nothing = critic(wrong(history_values(world, logits))), log_ratios(world, logits)
    for experience in groups(world, logits, 1):
        trees = experience.trees
        values = read(trees)
        (same,) = rule(decay=decay)(trees, values, nothing(trees))
        (gae,) = GeneralisedAdvantage(decay=decay)(trees, values)
        np.testing.assert_allclose(same.value_targets, gae.value_targets, atol=1e-12)
        drawn = np.flatnonzero(gae.mask)  # A + (1 - decay) A of the next decision
        onward = np.append(gae.advantages[drawn][1:], 0.0)
        np.testing.assert_allclose(same.advantages[drawn], gae.advantages[drawn] + (1 - decay) * onward, atol=1e-12)


def test_v_trace_without_bounds_is_unbiased_whatever_the_critic_says(world):
    exact = history_values(world, example_logits(world))
    behaviour = -0.4 * example_logits(world)
    rule = VTrace(rho_cap=float("inf"), c_cap=float("inf"))
    assert expected_targets(world, rule, wrong(exact), behaviour) == pytest.approx(exact, abs=1e-10)


def test_v_trace_with_bounds_settles_on_the_policy_in_between(world):
    # pi_rho(a|s) ~ min(rho_cap mu, pi): its values, and no others, are what the expected target maps to themselves.
    behaviour = -0.4 * example_logits(world)
    mu, pi = torch.softmax(behaviour, -1), torch.softmax(example_logits(world), -1)
    between = history_values(world, torch.log(torch.minimum(0.9 * mu, pi)))
    rule = VTrace(rho_cap=0.9, c_cap=0.7, decay=0.8)
    assert expected_targets(world, rule, between, behaviour) == pytest.approx(between, abs=1e-10)
    exact = history_values(world, example_logits(world))
    assert expected_targets(world, rule, exact, behaviour) != pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("decay", [0.0, 0.8, 1.0])
def test_the_values_of_the_policy_are_the_fixed_point_of_retrace_whatever_the_sampler(world, decay):
    exact = history_values(world, example_logits(world))
    for behaviour in (-0.4 * example_logits(world), 0.0 * example_logits(world), 2 * example_logits(world)):
        assert expected_targets(world, Retrace(decay=decay), exact, behaviour) == pytest.approx(exact, abs=1e-10)
        settled = wrong(exact)
        for _ in range(4):  # no rollout has more decisions
            settled = expected_targets(world, Retrace(decay=decay), settled, behaviour)
        assert settled == pytest.approx(exact, abs=1e-10)


def test_the_first_turn_of_v_trace_is_exact_and_later_ones_are_weighted_by_the_sampler(world):
    # With exact values and no bounds the advantage is right at each state; the states are visited as mu visits them.
    logits, behaviour = example_logits(world), -0.4 * example_logits(world)
    rule = VTrace(rho_cap=float("inf"), c_cap=float("inf"))
    values = critic(history_values(world, logits))
    given = expected(world, with_critic(rule, values, log_ratios(world, behaviour)), behaviour=behaviour)
    visits = {}
    for name, table in (("pi", logits), ("mu", behaviour)):
        visits[name] = np.zeros(len(world.states))
        for chance, path in zip(path_log_probs(world, table).exp().tolist(), world.paths, strict=True):
            visits[name][list(path.states)] += chance
    exact = return_gradient(world, logits) * (visits["mu"] / visits["pi"])[:, None]
    np.testing.assert_allclose(given, exact, atol=1e-10)


def test_the_audit_tells_v_trace_how_the_policy_moved(world):
    logits = example_logits(world)
    now = audit(v_trace(), world, samples=1)
    assert (now.scale, now.bias) == pytest.approx((1, 0), abs=1e-10)
    # Stale and uncorrected it is far off; corrected, only the states are still visited as the sampler visits them.
    old = -0.4 * logits
    stale = audit(ppo(bootstrap=False), world, samples=1, behaviour=old)
    seen = audit(v_trace(), world, samples=1, behaviour=old)
    assert seen.cosine > stale.cosine
    # With one token there is one state, and nothing is left of the age.
    short = single_turn(vocabulary=4, horizon=1, score=lambda answer: [0.0, 1.0, 0.3, -0.5][answer[0]])
    given = audit(v_trace(), short, samples=1, behaviour=-0.4 * example_logits(short))
    assert given.bias == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("values", ["gae", "vtrace", "retrace"])
def test_stale_experience_as_each_way_to_values_takes_it(world, values):
    """The expected gradient at each state, over the exact one there, with exact values and one rollout per prompt."""
    logits, behaviour = example_logits(world), 0.3 * example_logits(world)
    rule = ppo(values=values).credit
    read = critic(history_values(world, logits))
    ratios = None if values == "gae" else log_ratios(world, behaviour)
    given = expected(world, with_critic(rule, read, ratios), behaviour=behaviour)
    visits = np.zeros((2, len(world.states)))
    for row, table in enumerate((logits, behaviour)):
        for chance, path in zip(path_log_probs(world, table).exp().tolist(), world.paths, strict=True):
            visits[row][list(path.states)] += chance
    exact = return_gradient(world, logits) * (visits[1] / visits[0])[:, None]
    if values == "retrace":
        np.testing.assert_allclose(given, exact, atol=1e-10)
    else:  # "gae" judges actions as often as mu took them; "vtrace" those that pi likes better too
        assert np.abs(given - exact).max() > 1e-3


def test_the_bias_of_v_trace_is_that_of_its_bounded_weights():
    """One token: sum_a min(mu, pi)(a) (R(a) - V) grad log pi(a), where the exact gradient has pi(a)."""
    worth = torch.tensor([0.0, 1.0, 0.3, -0.5], dtype=torch.float64)
    single = single_turn(vocabulary=4, horizon=1, score=lambda answer: worth[answer[0]].item())
    logits, behaviour = example_logits(single), -0.4 * example_logits(single)
    pi, mu = torch.softmax(logits[0], -1), torch.softmax(behaviour[0], -1)
    kept = torch.minimum(mu, pi) * (worth - pi @ worth)
    rule = ppo(values="vtrace").credit
    read = critic(history_values(single, logits))
    given = expected(single, with_critic(rule, read, log_ratios(single, behaviour)), behaviour=behaviour)
    np.testing.assert_allclose(given[0], (kept - kept.sum() * pi).numpy(), atol=1e-10)


def test_the_audit_of_a_method_that_corrects_for_stale_experience(world):
    """One token: what the sampler visits is what the policy visits, and the correction is the whole story."""
    single = single_turn(vocabulary=4, horizon=1, score=lambda answer: [0.0, 1.0, 0.3, -0.5][answer[0]])
    old = -0.4 * example_logits(single)
    corrected = audit(ppo(values="retrace"), single, samples=1, behaviour=old)
    assert (corrected.scale, corrected.bias) == pytest.approx((1, 0), abs=1e-10)
    assert audit(ppo(values="vtrace"), single, samples=1, behaviour=old).bias > 0.01
    for values in ("gae", "vtrace", "retrace"):  # fresh, they are one method
        assert audit(ppo(values=values), world, samples=1) == audit(ppo(), world, samples=1)
