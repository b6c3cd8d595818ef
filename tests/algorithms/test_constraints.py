"""The settings that hold a method: where they end up, what the equation says of them, and what is refused by name."""

from functools import partial

import pytest

from laurel.algorithms import (
    KL,
    METHODS,
    cispo,
    dapo,
    grpo,
    gspo,
    ppo,
    reinforce,
    reinforce_plus_plus,
    remax,
    rloo,
    turn_ppo,
)
from laurel.algorithms.constraints import held
from laurel.errors import ConfigurationError
from laurel.objectives import Budget, DualAscent, EntropyBonus, KLPenalty, KLReward, Proportional
from laurel.recipe import arguments


@pytest.mark.parametrize("method", [reinforce, rloo, remax, ppo, turn_ppo, reinforce_plus_plus])
def test_a_number_stands_in_the_reward_where_the_paper_has_it_there(method):
    algorithm = method(kl=0.05)
    assert algorithm.penalties == (KLReward(0.05),) and algorithm.regularisers == ()
    assert algorithm.needs_reference and not algorithm.needs_divergence
    assert "r_t -= 0.05 log(pi(o_t)/ref(o_t))" in algorithm.equation


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "gspo", "cispo"])
def test_a_number_stands_in_the_loss_elsewhere(name):
    algorithm = METHODS[name](kl=0.05)
    assert algorithm.regularisers == (KLPenalty(0.05, "k3"),) and algorithm.penalties == ()
    assert " - 0.05 k3(pi, ref)" in algorithm.equation


def test_the_variants_of_reinforce_plus_plus_have_it_where_their_paper_does():
    assert reinforce_plus_plus(group_baseline=True, kl=0.1).regularisers == (KLPenalty(0.1, "k2"),)
    assert reinforce_plus_plus(kl=KL(0.1, place="loss")).regularisers == (KLPenalty(0.1, "k2"),)


def test_every_choice_can_be_made_for_every_method():
    chosen = KL(0.05, place="reward", control="adaptive", target=0.02, rate=0.2)
    algorithm = grpo(kl=chosen, entropy=0.01)
    assert algorithm.penalties == (KLReward(0.05, "k1", Proportional(0.02, 0.2)),)
    assert algorithm.regularisers == (EntropyBonus(0.01),)
    assert "r_t -= beta log(pi(o_t)/ref(o_t)), where beta is 0.05 at first" in algorithm.equation
    assert "then beta <- beta (1 + 0.2 clip(KL(pi, ref)/0.02 - 1, +-0.2))" in algorithm.equation
    loss = rloo(kl=KL(0.05, place="loss", estimator="exact")).regularisers
    assert loss == (KLPenalty(0.05, "exact"),)


def test_the_exact_sum_in_the_reward_brings_its_half_in_the_loss():
    algorithm = rloo(kl=KL(0.05, estimator="exact"))
    assert algorithm.penalties == (KLReward(0.05, "exact"),)
    assert algorithm.regularisers == (KLPenalty(0.05, "exact"),)
    assert algorithm.needs_divergence


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "gspo", "cispo", "reinforce_plus_plus"])
def test_the_two_halves_are_refused_where_only_one_is_scaled(name):
    exact = KL(0.05, place="reward", estimator="exact")
    with pytest.raises(ConfigurationError, match=f"{name}(.|\\n)*not its other half(.|\\n)*'k1' in the reward"):
        METHODS[name](kl=exact)
    METHODS[name](kl=KL(0.05, place="loss", estimator="exact"))
    for fits in ("reinforce", "rloo", "remax", "trpo", "ppo", "turn_ppo", "vine_ppo", "step_ppo"):
        assert len(METHODS[fits](kl=exact).penalties) == len(METHODS[fits](kl=exact).regularisers) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl": "0.1"}, "kl='0.1'"),
        ({"kl": None}, "kl=None"),
        ({"kl": True}, "kl=True"),
        ({"constraint": "short"}, "constraint=.short"),
    ],
)
def test_what_python_users_mix_up_is_named(settings, message):
    with pytest.raises(ConfigurationError, match=f"{message}(.|\\n)*What to do"):
        rloo(**settings)


def test_a_multiplier_may_start_at_nothing():
    algorithm = grpo(kl=KL(control="lagrangian", target=0.03))
    assert algorithm.regularisers == (KLPenalty(0.0, "k3", DualAscent(0.03, 0.1)),)
    assert algorithm.needs_reference
    assert "beta <- max(0, beta + 0.1 (KL(pi, ref) - 0.03))" in algorithm.equation


def test_a_budget_is_part_of_the_equation():
    algorithm = dapo(constraint=Budget("answer_tokens", at_most=50, rate=0.001))
    assert algorithm.penalties == (Budget("answer_tokens", at_most=50, rate=0.001),)
    assert not algorithm.needs_reference
    assert "subject to E[answer_tokens] <= 50: R -= lambda answer_tokens" in algorithm.equation
    assert "lambda <- max(0, lambda + 0.001 (mean answer_tokens - 50))" in algorithm.equation
    least = rloo(constraint=Budget("polite", at_least=0.9, rate=1.0)).equation
    assert "E[polite] >= 0.9: R += lambda polite" in least and "lambda + 1 (0.9 - mean polite)" in least


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"coefficient": -0.1}, "KL coefficient must not be negative"),
        ({"coefficient": 0.1, "estimator": "k1"}, "estimator k1 has no effect inside a loss"),
        ({"coefficient": 0.1, "place": "reward", "estimator": "k3"}, "estimator k3 loses its gradient"),
        ({"coefficient": 0.1, "estimator": "k4"}, "kl: unknown estimator 'k4'"),
        ({"coefficient": 0.1, "place": "advantage"}, "kl: unknown place 'advantage'"),
        ({"coefficient": 0.1, "control": "pid"}, "kl: unknown control 'pid'"),
        ({"coefficient": 0.1, "control": "adaptive"}, "control 'adaptive' needs a 'target'"),
        ({"control": "lagrangian"}, "control 'lagrangian' needs a 'target'"),
        ({"coefficient": 0.1, "control": "adaptive", "target": 0.0}, "target of a coefficient must be above 0"),
        ({"control": "lagrangian", "target": -1.0}, "'target' must be above 0"),
        ({"control": "adaptive", "target": 0.02}, "'coefficient' is scaled, so it must start above 0"),
        ({"coefficient": 0.1, "control": "adaptive", "target": 0.1, "rate": 0.0}, "gain of a coefficient"),
        ({"coefficient": 0.1, "target": 0.02}, "'kl.target' would not be read: kl.control is 'fixed'"),
        ({"coefficient": 0.1, "rate": 0.5}, "'kl.rate' would not be read"),
        ({"estimator": "k2"}, "'kl.estimator' would not be read: kl is 0"),
        ({"place": "reward"}, "'kl.place' would not be read: kl is 0"),
        ({"estimator": "k1"}, "estimator k1 has no effect"),  # a wrong setting does not wait for kl to be turned on
    ],
)
def test_what_is_refused_names_the_key(settings, named):
    with pytest.raises(ConfigurationError, match=named):
        held(KL(**settings), 0.0)


def test_a_recipe_gives_the_same_settings_as_data():
    built = arguments("algorithm 'grpo'", grpo, {"kl": {"coefficient": 0.05, "control": "adaptive", "target": 0.02}})
    assert built["kl"] == KL(0.05, control="adaptive", target=0.02)
    assert arguments("algorithm 'grpo'", grpo, {"kl": 0.05})["kl"] == 0.05
    bounded = arguments("algorithm 'grpo'", grpo, {"constraint": {"part": "length", "at_most": 9, "rate": 0.1}})
    assert bounded["constraint"] == Budget("length", at_most=9, rate=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl": {"coefficent": 0.05}}, "algorithm 'grpo': kl: unknown key 'coefficent'"),
        ({"kl": {"coefficient": 0.05, "estimator": "k9"}}, "algorithm 'grpo': kl: estimator: 'k9' does not fit"),
        ({"kl": "much"}, "algorithm 'grpo': kl: 'much' does not fit"),
        ({"constraint": {"part": "length", "at_most": 9}}, "constraint: the key 'rate' is missing"),
        ({"constraint": {"part": "length", "rate": 9}}, "needs one of 'at_most' and 'at_least'"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_by_key(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        arguments("algorithm 'grpo'", grpo, settings)


@pytest.mark.parametrize("method", [grpo, gspo, cispo, reinforce_plus_plus, partial(ppo, standardise=True)])
def test_an_exact_kl_in_the_reward_is_not_torn_apart(method):
    """Divided by a deviation, the half in the reward would no longer fit the half in the loss."""
    with pytest.raises(ConfigurationError, match="divided by a deviation"):
        method(kl=KL(0.1, place="reward", estimator="exact"))
    assert method(kl=KL(0.1, place="reward", estimator="k1")).penalties == (KLReward(0.1),)
    assert method(kl=KL(0.1, place="loss", estimator="exact")).regularisers == (KLPenalty(0.1, "exact"),)
