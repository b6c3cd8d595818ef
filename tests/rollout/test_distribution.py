"""The distribution drawn from, against a slow reference that follows the words of `Sampling`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.rollout.distribution import draw, inverse_cumulative
from laurel.tree import Sampling

SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.6]),
)


def slow_distribution(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """One row, one rule at a time."""
    tempered = np.exp((logits - logits.max()).astype(np.float64) / sampling.temperature)
    tempered /= tempered.sum()
    ranked = sorted(tempered, reverse=True)
    kept = np.ones(len(logits), bool)
    if sampling.top_k is not None:
        kept &= tempered >= ranked[min(sampling.top_k, len(ranked)) - 1]
    if sampling.top_p < 1:
        mass, size = 0.0, 0
        while mass < sampling.top_p and size < len(ranked):
            mass, size = mass + ranked[size], size + 1
        kept &= tempered >= ranked[size - 1]
    kept &= tempered >= sampling.min_p * ranked[0]
    return np.where(kept, tempered, 0) / tempered[kept].sum()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), SETTINGS)
def test_kept_tokens_log_probs_and_token_against_the_slow_reference(seed: int, sampling: Sampling) -> None:
    random = np.random.default_rng(seed)
    logits = (3 * random.standard_normal((4, 13))).astype(np.float32)
    numbers = random.random(4)
    drawn = draw(torch.from_numpy(logits), sampling, torch.from_numpy(numbers))
    for row in range(4):
        expected = slow_distribution(logits[row], sampling)
        token = int(np.searchsorted(np.cumsum(expected), numbers[row], side="right"))
        assert int(drawn.tokens[row]) == token
        assert abs(float(drawn.log_probs[row]) - np.log(expected[token])) < 2e-6
        if sampling.truncates:
            assert drawn.kept is not None
            assert np.array_equal(drawn.kept[row].numpy(), expected > 0)
        else:
            assert drawn.kept is None


def test_by_hand() -> None:
    # Probabilities 0.5 0.3 0.15 0.05.
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    middle = torch.tensor([0.6], dtype=torch.float64)
    assert draw(logits, Sampling(), middle).tokens.tolist() == [1]  # 0.5 < 0.6 < 0.8
    cut = draw(logits, Sampling(top_p=0.6), middle)  # 0.5 alone is less than 0.6: two are kept
    assert cut.kept is not None and cut.kept.tolist() == [[True, True, False, False]]
    assert cut.tokens.tolist() == [0]  # 0.5 / 0.8 = 0.625 > 0.6
    assert cut.log_probs.tolist() == pytest.approx([np.log(0.625)], abs=1e-6)
    smallest = draw(logits, Sampling(min_p=0.29), middle)  # 0.29 * 0.5 = 0.145 < 0.15
    assert smallest.kept is not None and smallest.kept.tolist() == [[True, True, True, False]]


def test_ties_at_a_boundary_are_kept() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    for sampling in (Sampling(top_k=1), Sampling(top_p=0.1), Sampling(min_p=0.9)):
        kept = draw(logits, sampling, torch.tensor([0.5], dtype=torch.float64)).kept
        assert kept is not None and kept.tolist() == [[True, True, False, True]]


@pytest.mark.parametrize("width", [5, 1024, 1025, 3000])
def test_inverse_cumulative_in_one_level_and_in_two(width: int) -> None:
    random = np.random.default_rng(width)
    probabilities = random.dirichlet(np.full(width, 0.05), 64).astype(np.float32)
    numbers = random.random(64)
    tokens = inverse_cumulative(torch.from_numpy(probabilities), torch.from_numpy(numbers)).numpy()
    cumulative = probabilities.astype(np.float64).cumsum(axis=1)
    before = np.concatenate([np.zeros((64, 1)), cumulative], axis=1)[np.arange(64), tokens]
    target = numbers * cumulative[:, -1]
    assert (before <= target + 1e-6).all()
    assert (cumulative[np.arange(64), tokens] > target - 1e-6).all()
    assert (probabilities[np.arange(64), tokens] > 0).all()


@pytest.mark.parametrize("width", [7, 2000])
def test_the_extreme_uniforms_hit_possible_tokens(width: int) -> None:
    probabilities = torch.zeros(2, width)
    probabilities[:, 3] = 0.3
    probabilities[:, 5] = 0.7
    ends = torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64)
    assert inverse_cumulative(probabilities, ends).tolist() == [3, 5]


@pytest.mark.parametrize("width", [4, 2000])
def test_a_number_on_a_boundary_belongs_to_the_token_above_it(width: int) -> None:
    # The sums 0.25 0.5 0.5 1 are exact: the first above 0.25 is token 1, the first above 0.5 token 3.
    probabilities = torch.zeros(2, width)
    probabilities[:, :4] = torch.tensor([0.25, 0.25, 0.0, 0.5])
    assert inverse_cumulative(probabilities, torch.tensor([0.25, 0.5], dtype=torch.float64)).tolist() == [1, 3]
