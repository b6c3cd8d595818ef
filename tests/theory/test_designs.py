"""Trees that fork: Monte-Carlo credit in the middle of a rollout is exact, also where forking depends on the draw."""

import numpy as np
import pytest

from laurel.credit import GeneralisedAdvantage, LeaveOneOut, SiblingMean, Standardised, TotalReward, WholeReturn
from laurel.credit import segment_values as values_below
from laurel.errors import ConfigurationError
from laurel.objectives import ConstantLength, PolicyGradient, PromptMean, SequenceMean, TokenMean
from laurel.theory import (
    World,
    example_dialogue,
    example_logits,
    example_world,
    expected_return,
    forking,
    gradient_distribution,
    groups,
    history_values,
    return_gradient,
    single_turn,
    token_values,
)

WORLDS = {
    "single turn": single_turn(vocabulary=2, horizon=2, score=lambda answer: answer[0] + 2.0 * (answer == (0, 1))),
    "two lengths": example_world(),
    "dialogue": example_dialogue(),
}
WIDTHS = {
    "everywhere twice": lambda history: 2 if len(history) < 2 else 1,
    "where the draw says": lambda history: 2 if len(history) == 0 or (history[0] == 1 and len(history) < 4) else 1,
}


@pytest.fixture(params=WORLDS)
def world(request) -> World:
    return WORLDS[request.param]


def run(world: World, width, credit, reduction=None, prompts: int = 1):
    logits = example_logits(world)
    return gradient_distribution(
        forking(world, logits, width, prompts=prompts),
        logits,
        credit=credit,
        losses=(PolicyGradient(),),
        reduction=reduction or ConstantLength(),
    )


def test_probabilities_sum_to_one_and_forks_are_where_they_should(world):
    batches = list(forking(world, example_logits(world), WIDTHS["where the draw says"]))
    assert sum(batch.probability for batch in batches) == pytest.approx(1, abs=1e-12)
    widths = {len(tree.rollouts) for batch in batches for tree in batch.trees}
    assert min(widths) == 2 and max(widths) > 2
    for batch in batches:
        assert len(batch.states) == int(batch.trees[0].flat.policy.sum())


def test_without_forks_it_is_the_group_design(world):
    logits = example_logits(world)
    given = run(world, lambda history: 1 if history else 2, LeaveOneOut())
    same = gradient_distribution(
        groups(world, logits, 2), logits, credit=LeaveOneOut(), losses=(PolicyGradient(),), reduction=ConstantLength()
    )
    np.testing.assert_allclose(given.mean, same.mean, atol=1e-12)
    assert given.variance == pytest.approx(same.variance)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_the_value_of_the_root_is_unbiased_and_the_mean_over_leaves_is_not(world, width):
    exact = expected_return(world, example_logits(world)).item()
    by_fans = by_leaves = 0.0
    for batch in forking(world, example_logits(world), width):
        returns = TotalReward()(batch.trees[0])
        by_fans += batch.probability * values_below(batch.trees[0], returns)[0]
        by_leaves += batch.probability * returns.mean()
    assert by_fans == pytest.approx(exact, abs=1e-10)
    if width is WIDTHS["where the draw says"]:
        assert abs(by_leaves - exact) > 1e-3


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
@pytest.mark.parametrize("credit", [WholeReturn(), LeaveOneOut()], ids=str)
def test_credit_from_the_leaves_below_is_exact(world, width, credit):
    given = run(world, width, credit)
    np.testing.assert_allclose(given.mean, return_gradient(world, example_logits(world)), atol=1e-10)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_the_sibling_mean_is_short_by_half_at_every_fork_of_two(world, width):
    given = run(world, width, SiblingMean())
    np.testing.assert_allclose(given.mean, 0.5 * return_gradient(world, example_logits(world)), atol=1e-10)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_a_critic_reads_forks_as_means(world, width, decay):
    known = history_values(world, example_logits(world))

    def credit(trees):
        values = [np.nan_to_num(token_values(tree, known)) for tree in trees]
        return GeneralisedAdvantage(decay=decay)(trees, values)

    given = run(world, width, credit)
    np.testing.assert_allclose(given.mean, return_gradient(world, example_logits(world)), atol=1e-10)


@pytest.mark.parametrize(
    ("reduction", "length"), [(ConstantLength(), 1), (SequenceMean(), 2), (TokenMean(), 2), (PromptMean(), 2)], ids=str
)
def test_several_prompts_that_fork_as_they_like_keep_the_gradient_exact(reduction, length):
    # All rollouts have two tokens, so every reduction is the exact gradient over a constant.
    world = WORLDS["single turn"]
    given = run(world, WIDTHS["where the draw says"], LeaveOneOut(), reduction, prompts=2)
    np.testing.assert_allclose(given.mean * length, return_gradient(world, example_logits(world)), atol=1e-10)


def test_forks_pay_where_the_future_is_noisy():
    # Same number of sampled tokens at the last place: forking after the first token estimates its value from two.
    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: answer[0] + 5.0 * (answer[1] - 0.5))
    flat = run(world, lambda history: 1 if history else 2, LeaveOneOut())
    forked = run(world, lambda history: 2, LeaveOneOut())
    assert forked.variance < 0.75 * flat.variance


def test_standardised_forks_stay_finite(world):
    assert np.isfinite(run(world, WIDTHS["where the draw says"], Standardised()).gradients).all()


def test_too_many_batches_say_so(world):
    with pytest.raises(ConfigurationError, match="batches"):
        list(forking(world, example_logits(world), lambda history: 9))
