"""Check C11 by listing every group: the vote raises what is likely, right or wrong; a coin teaches nothing at all."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import laurel
from laurel.algorithms import Algorithm
from laurel.objectives import TokenLoss
from laurel.policy.certainty import kl_from_uniform, negative_entropies
from laurel.rewards import majority_vote, semantic_entropy
from laurel.theory import (
    Experience,
    World,
    example_logits,
    example_world,
    gradient_distribution,
    groups,
    judged_by_coin,
    judged_by_siblings,
    path_log_probs,
    probability_change,
    score_function_gradient,
    single_turn,
    vote_chances,
)
from laurel.tree import FloatArray


def answers(count: int) -> World:
    """Answers of one token each; the world's own score is never read."""
    return single_turn(vocabulary=count, horizon=1, score=lambda answer: 0.0)


def logits_of(probabilities: Iterable[float]) -> torch.Tensor:
    return torch.log(torch.tensor([list(probabilities)], dtype=torch.float64))


def mean_gradient(drawn: Iterable[Experience], logits: torch.Tensor, algorithm: Algorithm) -> FloatArray:
    loss = algorithm.objective
    assert callable(loss)
    losses: tuple[TokenLoss, ...] = (loss,)  # type: ignore[assignment]
    return gradient_distribution(
        drawn,
        logits,
        credit=algorithm.credit,
        losses=losses,
        reduction=algorithm.reduction,  # type: ignore[arg-type]
    ).mean


def voted(probabilities: tuple[float, ...], samples: int, algorithm: Algorithm, *, leave_one_out: bool = False):
    """The exact expected change of the answers' probabilities in one small step under the vote."""
    logits = logits_of(probabilities)
    reward = majority_vote(answer="text", leave_one_out=leave_one_out)
    drawn = judged_by_siblings(groups(answers(len(probabilities)), logits, samples), reward)
    return probability_change(np.array(probabilities), mean_gradient(drawn, logits, algorithm)[0])


METHODS = {
    "reinforce": laurel.reinforce(),
    "rloo": laurel.rloo(),
    "grpo": laurel.grpo(),
    "dr_grpo": laurel.dr_grpo(length=1),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("samples", [3, 4, 5])
def test_the_mode_rises_where_it_is_right_and_where_it_is_wrong(name: str, samples: int) -> None:
    """Two answers: as the mode rises the other one falls, whichever of them is right."""
    change = voted((0.7, 0.3), samples, METHODS[name])
    assert change[0] > 1e-3 and change[0] == pytest.approx(-change[1], abs=1e-15)


@given(st.lists(st.floats(0.02, 1), min_size=2, max_size=4), st.integers(3, 4))
@settings(max_examples=25, deadline=None)
def test_the_mode_rises_whatever_the_probabilities(weights: list[float], samples: int) -> None:
    p = np.array(weights) / np.sum(weights)
    top, second = np.sort(p)[::-1][:2]
    assume(top - second > 0.02)
    for algorithm in (METHODS["reinforce"], METHODS["rloo"]):
        change = voted(tuple(p), samples, algorithm)
        assert change[p.argmax()] > 0 and change[p.argmin()] < 1e-12


def test_two_siblings_teach_nothing() -> None:
    """They agree or not: both score the same, and their difference is 0."""
    np.testing.assert_allclose(voted((0.7, 0.2, 0.1), 2, METHODS["rloo"]), 0, atol=1e-15)


def test_chances_by_hand_and_by_listing() -> None:
    np.testing.assert_allclose(vote_chances(np.array([0.8, 0.2]), 3), [0.96, 0.36], atol=1e-15)
    np.testing.assert_allclose(vote_chances(np.array([0.8, 0.2]), 2, leave_one_out=True), [0.8, 0.2], atol=1e-15)
    for leave_one_out in (False, True):
        p = (0.5, 0.3, 0.2)
        m = vote_chances(np.array(p), 4, leave_one_out=leave_one_out)
        gradient = np.array(p) * (m - np.array(p) @ m)
        listed = voted(p, 4, METHODS["reinforce"], leave_one_out=leave_one_out)
        np.testing.assert_allclose(listed, probability_change(np.array(p), gradient), atol=1e-15)


def test_a_baseline_of_siblings_is_not_free_under_a_vote() -> None:
    """My answer votes in my siblings' rewards too, so that taking these off takes a part of the gradient away: a few
    percent of it, and half of it or a third where my vote counts in their rewards alone.
    """
    p = (0.5, 0.3, 0.2)
    plain, baselined = voted(p, 4, METHODS["reinforce"]), voted(p, 4, METHODS["rloo"])
    assert plain == pytest.approx([0.028341, -0.0148014, -0.0135396], abs=1e-12)
    assert baselined == pytest.approx([0.0276, -0.01404, -0.01356], abs=1e-12)
    for samples, kept in ((3, 1 / 2), (4, 0.6675)):
        alone = voted(p, samples, METHODS["reinforce"], leave_one_out=True)
        lost = voted(p, samples, METHODS["rloo"], leave_one_out=True)
        assert lost[0] / alone[0] == pytest.approx(kept, abs=1e-4)


def test_ascent_leads_to_the_mode_and_accuracy_with_it() -> None:
    """Two prompts, exact steps: from 0.6 for the right answer the vote makes a policy right, from 0.4 wrong."""
    for start, end in ((0.6, 1.0), (0.4, 0.0)):
        p = np.array([start, 1 - start])
        course = [p[0]]
        for _ in range(600):
            m = vote_chances(p, 8)
            scores = np.log(p) + p * (m - p @ m)
            p = np.exp(scores - np.logaddexp.reduce(scores))
            course.append(p[0])
        assert abs(course[-1] - end) < 0.01
        assert (np.diff(course) * (end - start) > 0).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_a_coin_has_no_expected_gradient(name: str, probability: float) -> None:
    """On answers of several tokens, with a baseline or without, standardised or not: exactly 0."""
    for world, logits, samples in ((answers(3), logits_of((0.7, 0.2, 0.1)), 3), (example_world(), None, 2)):
        table = example_logits(world) if logits is None else logits
        drawn = list(judged_by_coin(groups(world, table, samples), probability))
        assert sum(experience.probability for experience in drawn) == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(mean_gradient(drawn, table, METHODS[name]), 0, atol=1e-15)


@pytest.mark.parametrize("samples", [3, 4])
def test_semantic_entropy_climbs_the_sum_of_squares(samples: int) -> None:
    """E(|c| - 1)/(n - 1) = p(c), so without a baseline the gradient is half of that of sum_a p(a)^2, at any n."""
    p = np.array([0.5, 0.3, 0.2])
    logits = logits_of(p)
    reward = semantic_entropy(answer="text", leave_one_out=True)
    drawn = judged_by_siblings(groups(answers(3), logits, samples), reward)
    table = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(0.5 * torch.softmax(table, -1).square().sum(), table)
    np.testing.assert_allclose(mean_gradient(drawn, logits, METHODS["reinforce"]), exact, atol=1e-14)


def certainty_gradient(world: World, logits: torch.Tensor, measure) -> FloatArray:
    """E A grad log pi where A is the mean certainty over the tokens of an answer, less its expectation."""
    rows = measure(logits)
    said = np.array([float(rows[list(path.states)].mean()) for path in world.paths])
    chances = np.asarray(path_log_probs(world, logits).exp())
    said -= chances @ said
    return score_function_gradient(
        world, logits, [[a] * len(path.tokens) for a, path in zip(said, world.paths, strict=True)]
    )


@pytest.mark.parametrize("measure", [kl_from_uniform, negative_entropies])
def test_certainty_says_nothing_of_answers_of_one_token(measure) -> None:
    """All of them are drawn in one state, and are as sure as each other."""
    logits = logits_of((0.7, 0.2, 0.1))
    np.testing.assert_allclose(certainty_gradient(answers(3), logits, measure), 0, atol=1e-15)


@pytest.mark.parametrize("measure", [kl_from_uniform, negative_entropies])
def test_certainty_leads_to_where_the_policy_is_sure(measure) -> None:
    """After token 0 the policy is undecided, after token 1 nearly sure: 1 is paid for, whichever answer is right."""
    world = single_turn(vocabulary=2, horizon=2, score=lambda answer: 0.0)
    logits = torch.tensor([[0.5, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    gradient = certainty_gradient(world, logits, measure)
    assert gradient[0, 1] > 0.01 and gradient[0, 0] == pytest.approx(-gradient[0, 1], abs=1e-15)


def test_self_certainty_reaches_any_height_and_entropy_does_not() -> None:
    sure = torch.tensor([[50.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(kl_from_uniform(sure)[0]) == pytest.approx(50 * 2 / 3 - math.log(3), abs=1e-9)
    assert float(negative_entropies(sure)[0]) == pytest.approx(0, abs=1e-12)
